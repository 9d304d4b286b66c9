//! Everything that is said to the control plane. It knows leases and bytes, and nothing of processes.
//!
//! - [`control`] holds the control link: hello, slots and heartbeats up, offers and orders down;
//! - `stream` is one stream of it, [`earlier`] what its hello says of earlier boots, `trouble` why there is none;
//! - [`reports`] sends reports in batches and brings each its verdict;
//! - [`output`] pushes output on a connection of its own;
//! - [`files`] fetches large specs and writes files of a lease;
//! - [`interaction`] fetches live input and confirms signals;
//! - [`lease_calls`] passes on what the work itself says;
//! - `convert` is where wire and words meet, `isolation` those about what a task may reach.

pub mod control;
mod convert;
pub mod earlier;
mod endpoint;
pub mod file_reading;
pub mod files;
pub mod interaction;
mod isolation;
pub mod lease_calls;
pub mod output;
pub mod reports;
mod stream;
mod trouble;

mod backoff;

pub use backoff::Backoff;
pub use endpoint::Endpoint;
