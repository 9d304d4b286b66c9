//! Storing the output of runs: chunks of many tasks in one transaction, fenced and in order.

mod append;
mod writer;

pub use append::{Appended, Chunk, Push, PushResult};
pub use writer::OutputWriters;
