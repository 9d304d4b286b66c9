//! A signal that a client wants sent to a running process.

use tokio::time::Instant;

/// One signal. It may come more than once, and is sent once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignalOrder {
    /// Grows from one signal of a lease to the next.
    pub number: i64,
    /// Number of the signal on this machine.
    pub signal: i32,
    /// When it came.
    pub received_at: Instant,
    /// To the root of the tree alone, else to its process group.
    pub root_only: bool,
}
