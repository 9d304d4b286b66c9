//! What a task asks for.

use super::level::IsolationLevel;

/// What of the worker's machine a task may reach and use, as it asks for it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IsolationRequest {
    pub level: RequestedLevel,
    /// No sockets but unix sockets.
    pub without_network: bool,
    /// Absolute, or relative to the working directory.
    pub writable: Vec<String>,
    /// Absolute, or relative to the working directory.
    pub readable: Vec<String>,
    pub limits: Limits,
}

/// The level that a task asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestedLevel {
    Known(IsolationLevel),
    /// A level, or another word of isolation, that only a newer worker knows.
    Unknown,
}

impl Default for RequestedLevel {
    fn default() -> RequestedLevel {
        RequestedLevel::Known(IsolationLevel::None)
    }
}

/// What all processes of a run may use together. Absent: as much as there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Memory, page cache included, without swap.
    pub memory_bytes: Option<u64>,
    /// Thousandths of one processor.
    pub cpu_millis: Option<u32>,
    /// Processes and threads at a time.
    pub processes: Option<u32>,
}

impl Limits {
    /// Nothing is limited.
    pub fn is_empty(&self) -> bool {
        *self == Limits::default()
    }
}
