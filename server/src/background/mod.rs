//! Duties that nobody asks for: recovering what lost workers held, opening gates, firing monitors, telling workers, forgetting. Each
//! takes no input, is safe to run on every server at once, and looks at bounded pages.

mod duties;
mod monitors;
mod orders;
mod reaper;
mod remover;
mod sweeper;

pub use duties::start;
