//! How a run ended: facts only, the control plane judges. They are kept in the ledger until they are acknowledged.

use serde::{Deserialize, Serialize};

use crate::isolation::IsolationLevel;

/// Everything that is told about the end of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finish {
    /// Absent: the process never started, or its end was not seen.
    pub exit: Option<ExitFacts>,
    /// Why the worker ended it, if it did.
    pub stop_cause: Option<StopCause>,
    pub error: Option<ErrorFacts>,
    /// From launch to exit; absent where nothing was launched.
    pub duration_ms: Option<u64>,
    pub output: StructuredOutput,
    pub cpu_ms: u64,
    pub max_rss_bytes: u64,
    pub stdout: StreamFacts,
    pub stderr: StreamFacts,
    /// What was really put on the process.
    #[serde(default)]
    pub isolation: IsolationLevel,
    /// The kernel killed a process of the run for want of memory.
    #[serde(default)]
    pub oom_killed: bool,
    /// The worker gave up pushing the retained output.
    pub accept_incomplete: bool,
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExitFacts {
    Code(i32),
    Signal { number: i32, name: String },
}

/// Why the worker ended a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum StopCause {
    Canceled,
    TimedOut,
    LeaseExpired,
    WorkerShutdown,
}

/// Why a run could not be started, be watched to its end or give a result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorFacts {
    pub kind: ErrorKind,
    /// One sentence for people.
    pub message: String,
    pub retryable: bool,
    /// What to do about it; empty: nothing to say.
    pub hint: String,
    /// What exactly it was, in one word for programs; empty: nothing more is known.
    #[serde(default)]
    pub reason: String,
}

/// Why work would fail to start anywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartFault {
    /// The program does not exist.
    NoProgram,
    /// The interpreter that the program names does not exist.
    NoInterpreter,
    /// The program may not be executed.
    NotExecutable,
    /// The program is none.
    NoFormat,
    /// The system does not execute the program for another reason, which its number tells.
    NotStartable,
    /// Arguments and environment are too long.
    TooLong,
    /// The working directory cannot be entered, or lies elsewhere.
    Cwd,
    /// The user or group does not exist, or the worker may not become it.
    User,
    /// A limit is not known or cannot be set.
    Rlimit,
    /// The priority cannot be set.
    Nice,
    /// A variable, or a file with variables.
    Env,
    /// The file for standard input.
    Stdin,
    /// A file that the task asks for.
    Input,
    /// A secret that is not there or not allowed.
    Secret,
    /// A path that the task names for its isolation.
    Path,
    /// No program, or a NUL byte in what it is to be given.
    Command,
    /// This worker cannot run such tasks.
    Unsupported,
}

/// Kinds of error that a worker can find.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ErrorKind {
    StartFailed,
    IsolationUnavailable,
    BadOutput,
    WorkerError,
}

/// The work's own JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum StructuredOutput {
    None,
    Inline(String),
    /// Too large for a report: it goes up as a file.
    InFile,
}

/// One output stream at the end.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamFacts {
    pub total_bytes: u64,
    pub capture: CaptureFacts,
    /// The last bytes, at most 2 KiB.
    pub tail: Vec<u8>,
}

/// How surely a stream was captured to its end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum CaptureFacts {
    /// Nothing ran.
    #[default]
    Unspecified,
    Drained,
    Leaked,
    Abandoned,
    Incomplete,
}

/// A file of the working directory that is to be stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CollectedFile {
    /// Relative to the working directory.
    pub from: String,
    /// Absolute, in the session's files.
    pub to: String,
}

/// A file of the working directory that should be stored and is not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkippedFile {
    /// Relative to the working directory.
    pub from: String,
    pub reason: String,
}

/// What of a working directory is stored after a run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collection {
    /// The working directory, relative to the task's own.
    pub cwd: String,
    pub files: Vec<CollectedFile>,
    /// The first of what is left out.
    pub skipped: Vec<SkippedFile>,
    /// How many are left out in all.
    pub skipped_count: u64,
}

impl Finish {
    /// The end of a run of which no process is known.
    pub fn without_process(stop_cause: Option<StopCause>, error: Option<ErrorFacts>) -> Finish {
        Finish {
            exit: None,
            stop_cause,
            error,
            duration_ms: None,
            output: StructuredOutput::None,
            cpu_ms: 0,
            max_rss_bytes: 0,
            stdout: StreamFacts::default(),
            stderr: StreamFacts::default(),
            isolation: IsolationLevel::None,
            oom_killed: false,
            accept_incomplete: false,
        }
    }

    /// Says that retained output of these streams is missing and will not come.
    pub fn give_up_output(&mut self, [stdout, stderr]: [bool; 2]) {
        self.accept_incomplete = true;
        if stdout {
            self.stdout.capture = CaptureFacts::Incomplete;
        }
        if stderr {
            self.stderr.capture = CaptureFacts::Incomplete;
        }
    }
}

impl StartFault {
    /// The stable word for it.
    pub fn word(self) -> &'static str {
        match self {
            StartFault::NoProgram => "ENOENT",
            StartFault::NoInterpreter => "NO_INTERPRETER",
            StartFault::NotExecutable => "EACCES",
            StartFault::NoFormat => "ENOEXEC",
            StartFault::NotStartable => "EXEC_FAILED",
            StartFault::TooLong => "E2BIG",
            StartFault::Cwd => "BAD_CWD",
            StartFault::User => "BAD_USER",
            StartFault::Rlimit => "BAD_RLIMIT",
            StartFault::Nice => "BAD_NICE",
            StartFault::Env => "BAD_ENV",
            StartFault::Stdin => "BAD_STDIN",
            StartFault::Input => "BAD_INPUT",
            StartFault::Secret => "BAD_SECRET",
            StartFault::Path => "BAD_PATH",
            StartFault::Command => "BAD_COMMAND",
            StartFault::Unsupported => "UNSUPPORTED",
        }
    }
}

impl ErrorFacts {
    /// A trouble of this worker or its machine, which another run may not meet.
    pub fn of_worker(message: String, hint: &str) -> ErrorFacts {
        ErrorFacts {
            kind: ErrorKind::WorkerError,
            message,
            retryable: true,
            hint: hint.to_owned(),
            reason: String::new(),
        }
    }

    /// Work that would fail to start anywhere.
    pub fn start_failed(fault: StartFault, message: String) -> ErrorFacts {
        ErrorFacts {
            kind: ErrorKind::StartFailed,
            message,
            retryable: false,
            hint: String::new(),
            reason: fault.word().to_owned(),
        }
    }

    /// With the word that says what exactly it was, if there is one.
    pub fn because(self, reason: Option<&str>) -> ErrorFacts {
        match reason {
            Some(reason) => ErrorFacts {
                reason: reason.to_owned(),
                ..self
            },
            None => self,
        }
    }

    /// Work that asks for more isolation than this worker can give.
    pub fn isolation_unavailable(message: String, hint: &str) -> ErrorFacts {
        ErrorFacts {
            kind: ErrorKind::IsolationUnavailable,
            message,
            retryable: false,
            hint: hint.to_owned(),
            reason: String::new(),
        }
    }

    /// A structured result that is not what it should be.
    pub fn bad_output(message: String, hint: &str) -> ErrorFacts {
        ErrorFacts {
            kind: ErrorKind::BadOutput,
            message,
            retryable: false,
            hint: hint.to_owned(),
            reason: String::new(),
        }
    }
}
