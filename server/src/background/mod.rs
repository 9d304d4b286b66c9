//! Duties that nobody asks for: recovering what lost workers held, opening gates, firing monitors, telling workers,
//! calling webhooks, forgetting, removing what was deleted and objects that nobody uses. Each takes no input, is safe to run on every server
//! at once, and looks at bounded pages.

mod duties;
mod gauges;
mod monitors;
mod object_sweeper;
mod orders;
mod reaper;
mod remover;
mod sweeper;
pub(crate) mod webhooks;

pub use duties::start;
