//! The Taskyard worker: it holds leases, runs one process tree per task under an exec shim and captures its output.
//!
//! - [`shim`] is the small program that runs beside each task: parent of the task's tree, owner of its pipes;
//! - [`process`] is the worker's handle on one shim: spawn, events, commands;
//! - [`output`] is what the shim writes and the worker reads and sends on.

pub mod output;
pub mod process;
pub mod shim;
