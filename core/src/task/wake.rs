//! Whether what happened to a task is a reason to wake its owner.

use super::{State, Task, TerminalState};

/// When an owner wants to be woken for a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WakePolicy {
    /// Never.
    Silent,
    /// When it has ended.
    OnTerminal,
    /// When it has ended, at each question and at each message of the work.
    OnActivity,
}

/// How the ends of a group's tasks wake the owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupWake {
    /// Each for itself.
    Each,
    /// The end after which none is left.
    AllDone,
    /// The first failure, and the end after which none is left.
    FirstFailed,
}

/// Why an owner is woken for a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WakeReason {
    /// It has ended.
    Terminal,
    /// It asks a question.
    Question,
    /// Its work sent a message.
    Message,
}

/// Why an owner is woken for a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupReason {
    /// All of its tasks have ended.
    Done,
    /// Its first task has failed.
    Failed,
}

/// What one change of a task is a reason for: its own transition only, never one that another writer made before.
#[must_use]
pub fn wake_reason(
    policy: WakePolicy,
    before: &Task,
    after: &Task,
    is_message: bool,
) -> Option<WakeReason> {
    let is_asking = |task: &Task| matches!(task.state, State::AwaitingInput { .. });
    let reason = if after.is_terminal() && !before.is_terminal() {
        WakeReason::Terminal
    } else if is_asking(after) && !is_asking(before) {
        WakeReason::Question
    } else if is_message {
        WakeReason::Message
    } else {
        return None;
    };
    let wakes = match policy {
        WakePolicy::Silent => false,
        WakePolicy::OnTerminal => reason == WakeReason::Terminal,
        WakePolicy::OnActivity => true,
    };
    wakes.then_some(reason)
}

/// What the end of one task of a group is a reason for. `ended` is how it ended, `is_last` whether no task of the group is
/// left, `has_failed_before` whether one had failed earlier.
#[must_use]
pub fn group_reason(
    group_wake: GroupWake,
    ended: TerminalState,
    is_last: bool,
    has_failed_before: bool,
) -> Option<GroupReason> {
    let is_first_failure = ended == TerminalState::Failed && !has_failed_before;
    match group_wake {
        GroupWake::Each => None,
        GroupWake::AllDone | GroupWake::FirstFailed if is_last => Some(GroupReason::Done),
        GroupWake::FirstFailed if is_first_failure => Some(GroupReason::Failed),
        GroupWake::AllDone | GroupWake::FirstFailed => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        id::{Epoch, LeaseId, QuestionId, TaskId, WorkerSessionId},
        task::{Gate, Lease, Policy, Question, RetryPolicy},
    };
    use GroupReason::{Done, Failed};
    use WakeReason::{Message, Question as Asks, Terminal};

    const LEASE: Lease = Lease {
        worker: WorkerSessionId(1),
        epoch: Epoch(1),
        id: LeaseId(1),
        item_no: 0,
    };

    fn task(state: State) -> Task {
        Task {
            id: TaskId(1),
            policy: Policy {
                retry: RetryPolicy::NEVER,
                not_before: None,
                start_deadline: None,
                success_exit_codes: vec![0],
                is_monitor: false,
            },
            state,
            cancel: None,
            run: 1,
            forgiven: 0,
            attempt: 1,
            generation: 1,
            started_at: None,
            settled: None,
        }
    }

    #[test]
    fn only_ones_own_transition_wakes_and_only_whom_it_should() {
        let queued = task(State::Queued {
            gate: Gate::Open,
            offer: None,
        });
        let running = task(State::Running { lease: LEASE });
        let question = Question {
            id: QuestionId(1),
            expires_at: None,
        };
        let asking = task(State::AwaitingInput {
            question,
            lease: Some(LEASE),
        });
        let unattended = task(State::AwaitingInput {
            question,
            lease: None,
        });
        let ended = task(State::Terminal(TerminalState::Failed));
        let cases = [
            (&queued, &running, false, [None, None, None]),
            (&running, &running, false, [None, None, None]),
            (&running, &running, true, [None, None, Some(Message)]),
            (&running, &asking, false, [None, None, Some(Asks)]),
            // the worker is lost, the question stays: it has woken before
            (&asking, &unattended, false, [None, None, None]),
            (&asking, &running, false, [None, None, None]),
            (
                &asking,
                &ended,
                false,
                [None, Some(Terminal), Some(Terminal)],
            ),
            (
                &queued,
                &ended,
                false,
                [None, Some(Terminal), Some(Terminal)],
            ),
            // enriching an ended task
            (&ended, &ended, false, [None, None, None]),
        ];
        let policies = [
            WakePolicy::Silent,
            WakePolicy::OnTerminal,
            WakePolicy::OnActivity,
        ];
        for (before, after, is_message, expected) in cases {
            let seen = policies.map(|policy| wake_reason(policy, before, after, is_message));
            assert_eq!(seen, expected, "{:?} to {:?}", before.state, after.state);
        }
    }

    #[test]
    fn a_group_wakes_once_for_its_end_and_where_asked_for_its_first_failure() {
        let failed = TerminalState::Failed;
        let well = TerminalState::Succeeded;
        for (wake, ended, is_last, has_failed_before, expected) in [
            (GroupWake::Each, failed, true, false, None),
            (GroupWake::AllDone, failed, false, false, None),
            (GroupWake::AllDone, well, true, true, Some(Done)),
            (GroupWake::FirstFailed, well, false, false, None),
            (GroupWake::FirstFailed, failed, false, false, Some(Failed)),
            (GroupWake::FirstFailed, failed, false, true, None),
            (GroupWake::FirstFailed, failed, true, false, Some(Done)),
        ] {
            assert_eq!(
                group_reason(wake, ended, is_last, has_failed_before),
                expected,
                "{wake:?} {ended:?} {is_last} {has_failed_before}"
            );
        }
    }
}
