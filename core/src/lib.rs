//! The domain: what a session task is, what can happen to it, and what follows.
//!
//! Nothing here does I/O or reads a clock; time comes in as [`Timestamp`], and what must be done goes out as a list of
//! [`task::Effect`]s. Every path that changes a task (a client's call, a worker's report, the reaper, a schedule) goes
//! through [`task::apply`].
//!
//! Reading order: [`id`], [`time`], [`task::state`], [`task::event`], [`task::transition`]; then [`task::outcome`]
//! (how a run is judged), [`task::retry`] (when it runs again), [`output`] (which bytes are kept), [`vfs`] (which
//! paths exist) and [`webhook`] (which addresses are called, and when again).
//!
//! What always holds:
//! 1. A terminal task stays in its terminal state.
//! 2. At most one lease is held at a time, and epochs only grow.
//! 3. A worker's write changes nothing unless it names the epoch and the id of the lease that is held.
//! 4. The generation grows by exactly one per announced change, and every announced change grows it.
//! 5. `cancel` is set by a cancel request only and never unset.

pub mod id;
pub mod input;
pub mod output;
pub mod task;
pub mod time;
pub mod vfs;
pub mod webhook;

pub use time::Timestamp;
