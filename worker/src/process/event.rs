//! What happens to a process, in the order in which the shim tells it.

use serde::{Deserialize, Serialize};

use super::signal::signal_name;

/// One thing that happened. The order is `Started`, any number of `Output`, `Exited`, more `Output` while the pipes
/// drain, and `Ended`, which is last and always comes unless the shim is lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProcessEvent {
    /// The program was executed. `pid` is the root of the tree, and its session and process group too.
    Started { pid: u32 },
    /// More output lies in the spools. Totals are bytes since the start and only grow; steps may be left out, the last
    /// totals are in [`ProcessEvent::Ended`].
    Output {
        stdout_total: u64,
        stderr_total: u64,
    },
    /// So many bytes of live input in all were written to the process, or dropped because it reads no more. It follows
    /// each call of [`super::Process::write_input`] once all of its bytes are.
    InputTaken { total: u64 },
    /// The root process is over. Descendants and output may still follow.
    Exited(ExitStatus),
    /// Nothing of the process is left, or what is left cannot be killed.
    Ended(ProcessEnd),
}

/// How the root process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExitStatus {
    /// It exited by itself with this code, 0 to 255.
    Code(i32),
    /// It was ended by the signal with this number.
    Signal(i32),
}

impl ExitStatus {
    pub fn exit_code(self) -> Option<i32> {
        match self {
            ExitStatus::Code(code) => Some(code),
            ExitStatus::Signal(_) => None,
        }
    }

    pub fn signal(self) -> Option<i32> {
        match self {
            ExitStatus::Code(_) => None,
            ExitStatus::Signal(number) => Some(number),
        }
    }

    /// Such as `SIGKILL`.
    pub fn signal_name(self) -> Option<String> {
        self.signal().map(signal_name)
    }
}

/// The end of a process and of everything that it started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessEnd {
    /// How the root ended; absent only when the root itself could not be killed.
    pub exit: Option<ExitStatus>,
    pub stdout: StreamEnd,
    pub stderr: StreamEnd,
    /// Descendants that outlived the root and were killed after it. Zero when the tree was killed on request.
    pub leftover_killed: u32,
    /// Processes that were still there at the end of the sweep, for instance in an uninterruptible sleep.
    pub unkillable: u32,
    /// User and system time of the whole tree, in milliseconds, as far as its processes were reaped.
    pub cpu_ms: u64,
    /// The largest resident set of any one process of the tree, in bytes. Never below the few MiB of the shim, from
    /// which the root was forked.
    pub max_rss_bytes: u64,
    /// The tree was killed because the deadline passed without being extended.
    pub deadline_exceeded: bool,
}

/// The end of one output stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamEnd {
    /// Bytes that were read from the pipe, kept or not.
    pub total: u64,
    pub capture: Capture,
    /// The first failure to write the spool. Bytes from its offset on were counted but not kept.
    pub spool_failure: Option<SpoolFailure>,
}

/// Whether all of a stream was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Capture {
    /// End of file was reached: this is all there ever was.
    Drained,
    /// Descendants held the pipe beyond the root's exit; they were killed, and end of file followed.
    Leaked,
    /// Something out of reach still holds the pipe; reading was given up.
    Abandoned,
}

/// A spool write that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpoolFailure {
    /// The stream offset of the first byte that was not kept.
    pub offset: u64,
    /// The operating system's error number, such as `ENOSPC`.
    pub errno: i32,
}
