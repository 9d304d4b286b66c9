//! The terminal here, as the screen and the keys of a task that has a terminal of its own: `raw` (its modes, given back on
//! every way out), `size` (told to the task as it changes), `keys` (what is typed), `escape` (the keys that leave).

pub mod escape;
pub mod keys;
pub mod raw;
pub mod size;
