//! How much is out of a process's reach.

use serde::{Deserialize, Serialize};

/// The levels, each with less reach than the one before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IsolationLevel {
    /// Whatever the worker's user may do.
    #[default]
    None,
    /// Its own directory and named paths, the system's programs, no privileges.
    Restricted,
}

impl IsolationLevel {
    /// The stable word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            IsolationLevel::None => "none",
            IsolationLevel::Restricted => "restricted",
        }
    }
}
