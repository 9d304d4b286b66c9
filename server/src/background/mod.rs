//! Duties that nobody asks for: recovering what lost workers held, opening gates, telling workers, calling webhooks,
//! forgetting. Each
//! takes no input, is safe to run on every server at once, and looks at bounded pages.

mod duties;
mod orders;
mod reaper;
mod sweeper;
mod webhooks;

pub use duties::start;
