//! The group commit: every change of a task goes through here.
//!
//! Callers queue intents. A session belongs to one of a few committers, each with a connection of its own, which takes
//! all that is waiting and runs it as one transaction: lock, decide each intent in memory with
//! [`taskyard_core::task::apply`], write the results set by set, number and log the events, commit, answer each caller.
//! Idle, a change waits for nobody; under load the batches grow.
//!
//! [`intent`] says what can be asked for, [`batch`] decides and [`flush`] writes the transaction, [`thread`] and [`wakes`]
//! are what it does to messages and wakes, [`webhooks`] what it tells them, [`ending`] what a task's end row holds,
//! [`usage`] what is counted of the runs that end, and [`committer`] the loop with its retries. `measure` counts what was
//! committed.

pub mod batch;
mod committer;
mod content;
mod creation;
pub mod ending;
mod event;
mod flush;
pub mod intent;
mod measure;
mod monitors;
mod thread;
pub mod usage;
mod wakes;
mod webhooks;

pub use batch::CreationLimits;
pub use committer::Commits;
pub use intent::{
    Change, Changed, CommitError, Content, Created, Creation, FinishContent, Judged, Patch, Post,
    RefusedCreation, StreamFacts,
};
