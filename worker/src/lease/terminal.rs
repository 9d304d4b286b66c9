//! The terminal that a process is given.

use serde::{Deserialize, Serialize};

/// A terminal and what TERM says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TerminalRequest {
    pub size: TerminalSize,
    pub term: String,
}

/// How large a terminal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalSize {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub columns: u16,
}
