//! What is offered to the worker.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use taskyard_telemetry::trace::context::TraceContext;

use super::id::Lease;
use super::terminal::TerminalRequest;
use crate::isolation::IsolationRequest;

/// One task that the worker may run, once a start was applied.
#[derive(Debug, Clone)]
pub struct Offer {
    pub lease: Lease,
    pub session_id: String,
    pub namespace: String,
    pub attempt: i32,
    pub run: i32,
    /// How long the lease lasts beyond the sending of the last acknowledged heartbeat.
    pub lease_duration: Duration,
    /// Longest time the run may take.
    pub timeout: Option<Duration>,
    /// Whether it has secrets, which are to be asked for.
    pub has_secrets: bool,
    /// What the attempt's spans belong below.
    pub trace: TraceContext,
    /// Absent: to be asked for.
    pub work: Option<Work>,
}

/// What is to be run.
#[derive(Debug, Clone)]
pub enum Work {
    Command(Box<CommandWork>),
    /// Something that this worker cannot run, and why.
    Unsupported {
        reason: String,
    },
}

/// A process to run and what is done around it.
#[derive(Clone, Default)]
pub struct CommandWork {
    /// The program and its arguments, or an interpreter with its script.
    pub argv: Vec<String>,
    pub env: BTreeMap<String, String>,
    /// Names of variables to copy from the worker's environment.
    pub inherit_env: Vec<String>,
    /// Absolute, or relative to the task's own directory; empty: that directory.
    pub cwd: String,
    pub stdin: Option<Bytes>,
    /// File of the session for standard input; empty: none.
    pub stdin_file: String,
    /// Standard input is what the control plane brings while the process runs.
    pub stdin_live: bool,
    /// A terminal in place of pipes.
    pub terminal: Option<TerminalRequest>,
    /// Files of the session with variables.
    pub env_files: Vec<String>,
    pub nice: Option<i32>,
    /// Soft and hard limits by the names of resources.
    pub rlimits: BTreeMap<String, (u64, u64)>,
    /// Name or number; empty: the worker's own.
    pub user: String,
    /// Name or number; empty: the user's own.
    pub group: String,
    pub umask: Option<u32>,
    /// Whether it outlives the worker's process.
    pub survives: bool,
    /// Never empty.
    pub success_exit_codes: Vec<i32>,
    /// Time between TERM and KILL.
    pub grace: Duration,
    /// Empty: none.
    pub input_json: String,
    pub result_source: ResultSource,
    /// Files of the session that it finds in its working directory.
    pub files: Vec<InputFile>,
    /// What of its working directory is stored afterwards.
    pub collect: Vec<CollectRule>,
    /// What it may reach and use.
    pub isolation: IsolationRequest,
    /// Bytes kept from the head of each stream.
    pub head_cap: u64,
    /// Bytes kept from the tail of each stream.
    pub tail_cap: u64,
}

/// A file or folder of the session that a run finds in its working directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputFile {
    /// Absolute, in the session's files.
    pub path: String,
    /// Relative to the working directory; empty: under its own name, or, of a folder, in the directory itself.
    pub to: String,
    pub mode: Option<u32>,
}

/// Files of the working directory that are stored in the session's files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CollectRule {
    /// Over paths relative to the working directory.
    pub glob: String,
    /// Absolute folder in the session's files.
    pub to: String,
}

/// Where the structured result comes from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ResultSource {
    /// The file named by `$TASKYARD_RESULT`, if it was written.
    #[default]
    File,
    /// All of standard output.
    Stdout,
}

/// Values of the environment, input and stdin may be confidential and are left out.
impl std::fmt::Debug for CommandWork {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CommandWork")
            .field("argv", &self.argv)
            .field("cwd", &self.cwd)
            .finish_non_exhaustive()
    }
}
