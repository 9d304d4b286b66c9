//! The worker as a whole: offers into slots, orders to attempts, and an orderly end.

mod attempts;
mod descriptors;
mod isolation;
mod standing;
mod survivors;
mod worker;

pub use standing::WorkerProbe;
pub use worker::{PreparedWorker, prepare, run};
