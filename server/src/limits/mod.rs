//! What one caller may take of a server, so that it leaves the rest to others.
//!
//! [`token_bucket`] is the arithmetic of a rate, [`settings`] has the numbers, [`measure`] says what each method counts
//! as, [`callers`] counts, and [`connections`] counts what was not even asked yet who it is. [`turns`] are each caller's share
//! of what a server has few of, and [`places`] the rest of it. How many tasks there may be
//! is decided where they are stored: `commit::creation` for a session, `control::namespace_room` for a namespace.

pub mod callers;
pub mod connections;
pub mod measure;
pub mod places;
pub mod settings;
pub mod token_bucket;
pub mod turns;
