//! The exec shim: one small program per task, between the worker and the task's process tree.
//!
//! It is the worker's own binary, run again with [`ARGUMENT`]. It has no runtime, no configuration and no environment; all
//! that it knows comes over the control socket on its standard input. (Further arguments name the task and the lease, for
//! a later boot that looks for it.) It
//!
//! - is the subreaper of the tree, so no descendant can leave it, whatever it forks or detaches;
//! - owns the output pipes, or the terminal, and writes the spools, so the worker's memory does not depend on what a task prints;
//! - keeps the deadline, so a worker that is frozen or cut off cannot overrun its lease;
//! - kills everything at once when the control socket ends, so no process outlives its worker; but for one that is to
//!   survive it, for which it waits for the worker's next boot as long as the deadline allows.
//!
//! Reading order: [`main`] in `entry`, `supervise` (the loop), `ending` (sweep and last words), `wiring` (pipes or a terminal), `child` (fork and exec), `successor`
//! (outliving the worker), `tree`.

mod capture;
mod child;
mod control;
mod ending;
mod entry;
mod input;
pub(crate) mod message;
mod root;
mod successor;
mod supervise;
mod terminal;
pub(crate) mod tree;
mod wiring;

pub use entry::{ARGUMENT, main};
