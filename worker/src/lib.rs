//! The Taskyard worker: it holds leases, runs one process tree per task under an exec shim and captures its output.
//!
//! - `runtime` is the worker as a whole: offers into slots, orders to attempts, an orderly end;
//! - [`access`] is the way to a server that asks who one is;
//! - `link` is everything that is said to the control plane;
//! - `attempt` takes one offer to its acknowledged finish, step by step;
//! - [`process`] is the worker's handle on one shim: spawn, events, commands;
//! - [`shim`] is the small program that runs beside each task: parent of the task's tree, owner of its pipes;
//! - `agent_socket` is where the work itself speaks to the control plane, by way of `link`;
//! - [`output`] is what the shim writes and the worker reads and sends on;
//! - [`isolation`] is what a task may reach and use;
//! - `workspace` is the directory of a run, `ledger` what survives the worker's own end, `recent` what is kept of it
//!   for the case that the store is restored from a copy;
//! - `lease` holds the words that all of them share.
//!
//! Invariants: nothing is launched before its start was applied and noted; no process outlives its lease, its worker or
//! its shim; what was noted as finished is reported until there is a verdict; every queue and buffer has a bound.

pub mod access;
mod agent_socket;
mod attempt;
pub mod boot_time;
mod config;
mod error;
pub mod isolation;
mod lease;
mod ledger;
mod link;
pub mod mask;
pub mod output;
pub mod process;
mod recent;
#[cfg(test)]
mod recorded;
mod runtime;
pub mod shim;
mod workspace;

pub use config::{DEFAULT_DRAIN, DEFAULT_KEEP_RESULTS, WorkerConfig};
pub use error::WorkerError;
pub use runtime::{PreparedWorker, WorkerProbe, prepare, run};
