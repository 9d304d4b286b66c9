//! The exit codes of every verb, in one table.

use taskyard_proto::v1::{SessionTask, TaskState};

/// How the program ends.
///
/// | code | meaning |
/// |---|---|
/// | 0 | done; for `run`, the command's own 0 |
/// | 1 | refused by the server, not found, or (for `wait` and `submit --wait`) a task did not succeed |
/// | 2 | usage: an argument, or the task file, makes no sense |
/// | 3 | `wait`: a question is pending; `self ask`: the question expired |
/// | 4 | `wait`, `wakes`, `self inbox`: the wait expired; the work goes on |
/// | 124 | `run`: the task ran out of time |
/// | 125 | lost work, an unreachable server, or a failure of Taskyard itself |
/// | 130 | interrupted, or `run`: the task was canceled |
/// | 128 + n | `run`: signal n ended the command |
/// | any other | `run`: the command's own exit code |
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitCode {
    Success,
    Refused,
    Usage,
    QuestionPending,
    QuestionExpired,
    WaitExpired,
    TimedOut,
    Failure,
    Interrupted,
    /// Standard output was closed by its reader, as for a program that SIGPIPE ends.
    BrokenPipe,
    /// The number of the signal that ended a task's process.
    Signal(i32),
    /// The exit code of a task's process.
    Task(i32),
}

impl ExitCode {
    /// The number for the operating system.
    pub fn number(self) -> i32 {
        match self {
            ExitCode::Success => 0,
            ExitCode::Refused => 1,
            ExitCode::Usage => 2,
            ExitCode::QuestionPending | ExitCode::QuestionExpired => 3,
            ExitCode::WaitExpired => 4,
            ExitCode::TimedOut => 124,
            ExitCode::Failure => 125,
            ExitCode::Interrupted => 130,
            ExitCode::BrokenPipe => 141,
            ExitCode::Signal(signal) => 128 + (signal & 0x7f),
            ExitCode::Task(code) => code & 0xff,
        }
    }

    /// The code with which `run` ends for a task as it stands.
    pub fn of_task(task: &SessionTask) -> ExitCode {
        let exit = task.exit.as_ref();
        match task.state() {
            TaskState::Succeeded => match exit.and_then(|exit| exit.exit_code) {
                Some(code) => ExitCode::Task(code),
                None => ExitCode::Success,
            },
            TaskState::Canceled => ExitCode::Interrupted,
            TaskState::Failed => ExitCode::of_failed_task(task),
            // The task was left behind before its end.
            TaskState::Unspecified
            | TaskState::Queued
            | TaskState::Running
            | TaskState::AwaitingInput => ExitCode::Failure,
        }
    }

    fn of_failed_task(task: &SessionTask) -> ExitCode {
        let kind = task.error.as_ref().map_or("", |error| error.kind.as_str());
        match kind {
            "timeout" | "start_deadline_exceeded" => return ExitCode::TimedOut,
            "orphaned" | "outcome_unknown" | "worker_error" | "start_failed" => {
                return ExitCode::Failure;
            }
            _ => {}
        }
        let Some(exit) = &task.exit else {
            return ExitCode::Refused;
        };
        if exit.timed_out {
            return ExitCode::TimedOut;
        }
        match (exit.exit_code, exit.signal) {
            (Some(code), _) if code & 0xff != 0 => ExitCode::Task(code),
            (_, Some(signal)) => ExitCode::Signal(signal),
            // A process that ended with 0 in a task that failed (`bad_output`, for one) must not look like success.
            (Some(_), None) | (None, None) => ExitCode::Refused,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use taskyard_proto::v1::{Exit, TaskError};

    fn ended(
        state: TaskState,
        exit_code: Option<i32>,
        signal: Option<i32>,
        kind: &str,
    ) -> SessionTask {
        let mut task = SessionTask {
            exit: (exit_code.is_some() || signal.is_some()).then(|| Exit {
                exit_code,
                signal,
                ..Exit::default()
            }),
            error: (!kind.is_empty()).then(|| TaskError {
                kind: kind.to_owned(),
                ..TaskError::default()
            }),
            ..SessionTask::default()
        };
        task.set_state(state);
        task
    }

    #[test]
    fn run_passes_what_the_task_did() {
        let cases = [
            (TaskState::Succeeded, Some(0), None, "", 0),
            (TaskState::Succeeded, Some(7), None, "", 7),
            (TaskState::Failed, Some(3), None, "exit", 3),
            (TaskState::Failed, None, Some(9), "signal", 137),
            (TaskState::Failed, None, Some(15), "timeout", 124),
            (TaskState::Failed, Some(0), None, "timeout", 124),
            (
                TaskState::Failed,
                None,
                None,
                "start_deadline_exceeded",
                124,
            ),
            (TaskState::Failed, None, None, "orphaned", 125),
            (TaskState::Failed, None, None, "outcome_unknown", 125),
            (TaskState::Failed, None, None, "worker_error", 125),
            (TaskState::Failed, None, None, "start_failed", 125),
            (TaskState::Failed, Some(0), None, "bad_output", 1),
            (TaskState::Failed, None, None, "question_expired", 1),
            (TaskState::Canceled, None, Some(15), "", 130),
            (TaskState::Canceled, None, None, "", 130),
            (TaskState::Running, None, None, "", 125),
        ];
        for (state, exit_code, signal, kind, expected) in cases {
            let task = ended(state, exit_code, signal, kind);
            let code = ExitCode::of_task(&task).number();
            assert_eq!(code, expected, "{state:?} {exit_code:?} {signal:?} {kind}");
        }
    }
}
