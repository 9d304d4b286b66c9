//! Which run a transition ended, so that each is counted once.

use super::{State, Task};

/// The run of `before` or `after` that ended between them; none: no run did. A run ends when it is over, whether or not the
/// task goes on; not when another boot of its worker takes it over, nor when it turns out never to have begun.
#[must_use]
pub fn ended_run(before: &Task, after: &Task) -> Option<u32> {
    match (present_run(before), present_run(after)) {
        (_, Some(_)) => None,
        // It began and ended in one step.
        (None, None) => (after.run > before.run).then_some(after.run),
        // What never ran is counted back.
        (Some(run), None) => (after.run == run).then_some(run),
    }
}

/// The run that a process is at; an unattended question has none.
fn present_run(task: &Task) -> Option<u32> {
    match &task.state {
        State::Running { .. } | State::AwaitingInput { lease: Some(_), .. } => Some(task.run),
        State::Queued { .. } | State::AwaitingInput { lease: None, .. } | State::Terminal(_) => {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        id::{Epoch, LeaseId, QuestionId, TaskId, WorkerSessionId},
        task::{Gate, Lease, Policy, Question, RetryPolicy, TerminalState},
    };

    fn task(state: State, run: u32) -> Task {
        Task {
            id: TaskId(1),
            policy: Policy {
                retry: RetryPolicy::NEVER,
                not_before: None,
                start_deadline: None,
                success_exit_codes: Vec::new(),
                is_monitor: false,
            },
            state,
            cancel: None,
            run,
            forgiven: 0,
            attempt: run,
            generation: 1,
            started_at: None,
            settled: None,
        }
    }

    fn lease() -> Lease {
        Lease {
            worker: WorkerSessionId(1),
            epoch: Epoch(1),
            id: LeaseId(1),
            item_no: 0,
        }
    }

    fn queued() -> State {
        State::Queued {
            gate: Gate::Open,
            offer: None,
        }
    }

    fn running() -> State {
        State::Running { lease: lease() }
    }

    fn asking(lease: Option<Lease>) -> State {
        State::AwaitingInput {
            question: Question {
                id: QuestionId(1),
                expires_at: None,
            },
            lease,
        }
    }

    #[test]
    fn a_run_ends_once_however_the_task_goes_on() {
        let ended = State::Terminal(TerminalState::Failed);
        for (before, after, expected) in [
            (task(running(), 2), task(ended.clone(), 2), Some(2)),
            (task(running(), 1), task(queued(), 1), Some(1)),
            (
                task(asking(Some(lease())), 1),
                task(asking(None), 1),
                Some(1),
            ),
            (task(queued(), 0), task(ended.clone(), 1), Some(1)),
            // Not an end: a start, a question, a take-over, a start that was none.
            (task(queued(), 0), task(running(), 1), None),
            (task(running(), 1), task(asking(Some(lease())), 1), None),
            (task(running(), 1), task(running(), 1), None),
            (task(running(), 1), task(queued(), 0), None),
            (task(running(), 1), task(ended.clone(), 0), None),
            // It had ended before.
            (task(queued(), 1), task(ended.clone(), 1), None),
            (task(asking(None), 1), task(queued(), 1), None),
            (task(ended.clone(), 1), task(ended, 1), None),
        ] {
            assert_eq!(ended_run(&before, &after), expected, "{before:?} {after:?}");
        }
    }
}
