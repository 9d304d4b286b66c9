//! Duties that nobody asks for: recovering what lost workers held, opening gates, telling workers, forgetting, removing
//! unused objects. Each takes no input, is safe to run on every server at once, and looks at bounded pages.

mod duties;
mod object_sweeper;
mod orders;
mod reaper;
mod remover;
mod sweeper;

pub use duties::start;
