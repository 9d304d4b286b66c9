//! The unix socket of an attempt, `$TASKYARD_SOCKET`: what runs inside a task speaks to the control plane through it.
//!
//! It is a gate, not a second implementation: a call is looked at, named by the attempt's lease
//! ([`crate::link::lease_calls`]) and passed on as it is.
//!
//! - [`place`] is where sockets lie, [`socket`] one of them, from before the spawn to the end of the tree;
//! - `peer` knows who may use it, `connection` is one caller, admitted or turned away;
//! - `masked_request` takes the values of the task's secrets out of what is said;
//! - `gate` decides on each call, `guarded_body` ends its answer when the lease is lost;
//! - [`waits`] counts the calls for whose time the attempt gives back its slot;
//! - `refusal` has the answers that the worker gives itself.

mod connection;
mod gate;
mod guarded_body;
mod masked_request;
mod peer;
mod place;
mod refusal;
mod socket;
#[cfg(test)]
mod tests;
mod waits;

pub use place::SocketPlace;
pub use socket::{AgentSocket, SocketUse};
pub use waits::{WaitingAttempts, Waits};
