//! How a run is judged. Workers report facts; the verdict is made here, and only here.

use super::{State, Task, TerminalState};
use crate::id::TaskId;

/// What the worker saw of a run's end.
#[derive(Clone, Debug, PartialEq)]
pub struct RunFacts {
    /// Exit code of the root process, if it exited.
    pub exit_code: Option<i32>,
    /// Signal that ended it, if one did.
    pub signal: Option<i32>,
    /// It ran out of memory.
    pub oom_killed: bool,
    /// Why the worker ended it, if it did.
    pub stop_cause: Option<StopCause>,
    /// What went wrong beside the process itself.
    pub error: Option<ReportedError>,
    /// What its structured result is, held against what the task asks for.
    pub result: ResultCheck,
}

/// A run's structured result, held against what its task asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ResultCheck {
    /// It is as it should be, or the task asks for nothing.
    #[default]
    Good,
    /// The task asks for one, and there is none.
    Missing,
    /// It is not what the task's schema asks for.
    Mismatch,
}

/// Why the worker ended a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopCause {
    /// A cancel reached it before it had exited.
    Canceled,
    /// Its timeout passed.
    TimedOut,
    /// Its lease's deadline passed.
    LeaseExpired,
    /// The worker was shut down.
    WorkerShutdown,
}

/// What a worker says went wrong beside the process itself.
#[derive(Clone, Debug, PartialEq)]
pub struct ReportedError {
    /// The kind that it names.
    pub kind: ErrorKind,
    /// Whether running the same work again may help.
    pub retryable: bool,
}

/// Why a task failed; stored and published by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ErrorKind {
    /// The process exited with a code that is no success.
    Exit,
    /// A signal ended the process.
    Signal,
    /// The run's timeout passed.
    Timeout,
    /// The process could not be started.
    StartFailed,
    /// The worker cannot give the isolation that the task asks for.
    IsolationUnavailable,
    /// The run failed, and the kernel killed a process of it for want of memory.
    OomKilled,
    /// The structured result is no valid JSON.
    BadOutput,
    /// The worker could not do its part.
    WorkerError,
    /// Its worker was lost and no run is left.
    Orphaned,
    /// Its worker was lost and the work must not be repeated: whether it was done is not known.
    OutcomeUnknown,
    /// No run had started by the start deadline.
    StartDeadlineExceeded,
    /// A question's time was up.
    QuestionExpired,
    /// The task asks for a structured result, and the run gave none.
    NoResult,
    /// The structured result is not what the task's schema asks for.
    SchemaMismatch,
}

/// A failure, of a run or of the task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Why.
    pub kind: ErrorKind,
    /// Whether running the same work again may help.
    pub retryable: bool,
}

/// The judgement on a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It did what it should.
    Succeeded,
    /// A cancel ended it.
    Canceled,
    /// It failed.
    Failed(Failure),
    /// The shutdown of its worker cut it short.
    CutShort,
    /// What became of it is not known.
    Lost,
}

impl ErrorKind {
    /// Every kind.
    pub const ALL: [Self; 14] = [
        Self::Exit,
        Self::Signal,
        Self::Timeout,
        Self::StartFailed,
        Self::IsolationUnavailable,
        Self::OomKilled,
        Self::BadOutput,
        Self::WorkerError,
        Self::Orphaned,
        Self::OutcomeUnknown,
        Self::StartDeadlineExceeded,
        Self::QuestionExpired,
        Self::NoResult,
        Self::SchemaMismatch,
    ];

    /// The stable word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exit => "exit",
            Self::Signal => "signal",
            Self::Timeout => "timeout",
            Self::StartFailed => "start_failed",
            Self::IsolationUnavailable => "isolation_unavailable",
            Self::OomKilled => "oom_killed",
            Self::BadOutput => "bad_output",
            Self::WorkerError => "worker_error",
            Self::Orphaned => "orphaned",
            Self::OutcomeUnknown => "outcome_unknown",
            Self::StartDeadlineExceeded => "start_deadline_exceeded",
            Self::QuestionExpired => "question_expired",
            Self::NoResult => "no_result",
            Self::SchemaMismatch => "schema_mismatch",
        }
    }

    /// The kind with this word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }

    /// What a person can do about a task that failed so.
    #[must_use]
    pub fn hint_for(self, task: TaskId) -> String {
        self.hint().replace("TASK`", &format!("{task}`"))
    }

    /// What a person can do about it; `TASK` stands for the task.
    #[must_use]
    pub fn hint(self) -> &'static str {
        match self {
            Self::Exit => "read the end of stderr: `taskyard logs --stream stderr TASK`",
            Self::Signal => "something killed the process from outside, or it crashed",
            Self::Timeout => "give the task a longer timeout, or make the work shorter",
            Self::StartFailed => {
                "nothing was run: check the program and its permissions, the working directory, and the input files"
            }
            Self::IsolationUnavailable => {
                "`taskyard workers -o wide` shows what each worker can give: ask for less, or start one that can"
            }
            Self::OomKilled => {
                "give the task more memory in `isolation.limits`, or make the work smaller"
            }
            Self::BadOutput => "write one valid JSON value to the file $TASKYARD_RESULT",
            Self::WorkerError => "read the worker's log; running the task again may help",
            Self::Orphaned => {
                "every allowed run lost its worker; look at the workers, then retry the task"
            }
            Self::OutcomeUnknown => {
                "the work may have been done in part: check its effects before you retry the task"
            }
            Self::StartDeadlineExceeded => {
                "no run had started in time: held, not yet due, or no worker was free for it; allow a later start, or add workers"
            }
            Self::QuestionExpired => {
                "nobody answered in time: retry the task when somebody can answer"
            }
            Self::NoResult => {
                "the task has a result schema: write the result to the file $TASKYARD_RESULT"
            }
            Self::SchemaMismatch => "make the result satisfy the task's result schema",
        }
    }
}

impl Failure {
    /// A failure after which another run may help.
    #[must_use]
    pub fn retryable(kind: ErrorKind) -> Self {
        Self {
            kind,
            retryable: true,
        }
    }

    /// A failure that another run would only repeat, or must not repeat.
    #[must_use]
    pub fn lasting(kind: ErrorKind) -> Self {
        Self {
            kind,
            retryable: false,
        }
    }
}

impl TerminalState {
    /// The stable word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
        }
    }
}

impl State {
    /// The stable word for the state.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Queued { .. } => "queued",
            Self::Running { .. } => "running",
            Self::AwaitingInput { .. } => "awaiting_input",
            Self::Terminal(terminal) => terminal.as_str(),
        }
    }
}

/// Judges a run by its facts. What ended the process comes first, then how it exited, then what else went wrong.
/// A worker that ended a run for a cancel that nobody requested did not do its part.
#[must_use]
pub fn judge(task: &Task, facts: &RunFacts) -> Verdict {
    match facts.stop_cause {
        Some(StopCause::Canceled) if task.cancel.is_some() => return Verdict::Canceled,
        Some(StopCause::Canceled) => {
            return Verdict::Failed(Failure::retryable(ErrorKind::WorkerError));
        }
        Some(StopCause::WorkerShutdown) => return Verdict::CutShort,
        Some(StopCause::TimedOut) => {
            return Verdict::Failed(Failure::retryable(ErrorKind::Timeout));
        }
        Some(StopCause::LeaseExpired) => return Verdict::Lost,
        None => {}
    }
    let exited_well = facts
        .exit_code
        .is_some_and(|code| task.policy.success_exit_codes.contains(&code));
    let failed_itself = facts.signal.is_some() || (facts.exit_code.is_some() && !exited_well);
    if facts.oom_killed && failed_itself {
        return Verdict::Failed(Failure::retryable(ErrorKind::OomKilled));
    }
    if facts.signal.is_some() {
        return Verdict::Failed(Failure::retryable(ErrorKind::Signal));
    }
    if facts.exit_code.is_some() && !exited_well {
        return Verdict::Failed(Failure::retryable(ErrorKind::Exit));
    }
    match &facts.error {
        Some(error) => Verdict::Failed(Failure {
            kind: error.kind,
            retryable: error.retryable,
        }),
        None if exited_well => match facts.result {
            ResultCheck::Good => Verdict::Succeeded,
            ResultCheck::Missing => Verdict::Failed(Failure::retryable(ErrorKind::NoResult)),
            ResultCheck::Mismatch => Verdict::Failed(Failure::retryable(ErrorKind::SchemaMismatch)),
        },
        None => Verdict::Failed(Failure::retryable(ErrorKind::WorkerError)),
    }
}
