//! What of a process outlives its worker, and is found by the worker's next boot.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::event::ProcessEnd;
use crate::boot_time::BootTime;
use crate::lease::StopCause;

/// Makes a process outlive its worker, until its deadline. It takes effect with the first [`super::Process::keep`].
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Survival {
    /// Of the run, for this user only: the shim listens in it for the next boot, and leaves its last words in it.
    pub directory: PathBuf,
    /// What the next boot must say, so that nobody takes over another's process by mistake.
    pub token: String,
}

/// What the shim keeps beside the process itself. The worker tells it anew with each change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// When the program was started.
    pub launched_at: BootTime,
    /// When the time of the run is up; absent: never, or it stands still. While no worker is there, the shim ends the
    /// run then.
    pub runs_out_at: Option<BootTime>,
    /// What was left of the run's time when it came to stand still.
    pub left: Option<Duration>,
    /// Between TERM and KILL, where the time is up.
    pub grace: Duration,
    /// Why the process is being ended, if it is.
    pub stop: Option<StopCause>,
}

/// How a process ended. The shim leaves it for a worker that is not there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastWords {
    pub pid: i32,
    pub end: ProcessEnd,
    /// When the root was over.
    pub exited_at: Option<BootTime>,
    pub kept: Kept,
}

impl Survival {
    /// The shim's socket.
    pub(crate) fn socket(directory: &Path) -> PathBuf {
        directory.join("shim.socket")
    }

    /// Where the [`LastWords`] are.
    pub(crate) fn last_words(&self) -> PathBuf {
        self.directory.join("shim.end")
    }
}

/// The token is left out.
impl fmt::Debug for Survival {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Survival")
            .field("directory", &self.directory)
            .finish_non_exhaustive()
    }
}
