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

/// For what of a group the end of one of its tasks wakes the owner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupReasons {
    /// It is the first of the group that failed.
    pub failed: bool,
    /// No task of the group is left.
    pub done: bool,
}

/// How a group stands when one of its tasks has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupEnd {
    /// No task of the group is left.
    pub is_last: bool,
    /// A task of the group had failed earlier.
    pub has_failed_before: bool,
    /// A task of the group, not only the one that ended, wants its owner woken when none is left.
    pub is_end_awaited: bool,
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

/// What the end of one task of a group is a reason for. `ended` is how it ended, `policy` and `group_wake` are its own. A
/// failure wakes by the word of the task that failed; the end of all by that of any task of the group, since which one
/// ends last is chance.
#[must_use]
pub fn group_reasons(
    policy: WakePolicy,
    group_wake: GroupWake,
    ended: TerminalState,
    group: GroupEnd,
) -> GroupReasons {
    let is_loud = policy != WakePolicy::Silent;
    let is_first_failure = ended == TerminalState::Failed && !group.has_failed_before;
    GroupReasons {
        failed: is_loud && group_wake == GroupWake::FirstFailed && is_first_failure,
        done: group.is_last && (group.is_end_awaited || (is_loud && group_wake != GroupWake::Each)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        id::{Epoch, LeaseId, QuestionId, TaskId, WorkerSessionId},
        task::{Gate, Lease, Policy, Question, RetryPolicy},
    };
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
    fn a_group_wakes_for_its_first_failure_and_for_its_end_by_whoever_asked() {
        use GroupWake::{AllDone, Each, FirstFailed};
        use WakePolicy::{OnTerminal, Silent};
        let failed = TerminalState::Failed;
        let well = TerminalState::Succeeded;
        let none = GroupReasons::default();
        let done = GroupReasons { done: true, ..none };
        let first = GroupReasons {
            failed: true,
            ..none
        };
        let both = GroupReasons {
            failed: true,
            done: true,
        };
        // policy, group_wake, ended, is_last, has_failed_before, is_end_awaited
        for (policy, wake, ended, is_last, has_failed_before, is_end_awaited, expected) in [
            (OnTerminal, Each, failed, true, false, false, none),
            (OnTerminal, AllDone, failed, false, false, true, none),
            (OnTerminal, AllDone, well, true, true, true, done),
            (OnTerminal, FirstFailed, well, false, false, true, none),
            (OnTerminal, FirstFailed, failed, false, false, true, first),
            (OnTerminal, FirstFailed, failed, false, true, true, none),
            (OnTerminal, FirstFailed, failed, true, false, true, both),
            // one that is silent, or has no word of its own, ends last
            (Silent, AllDone, well, true, false, true, done),
            (Silent, Each, well, true, false, true, done),
            (Silent, AllDone, well, true, false, false, none),
            (Silent, FirstFailed, failed, false, false, true, none),
        ] {
            let group = GroupEnd {
                is_last,
                has_failed_before,
                is_end_awaited,
            };
            assert_eq!(
                group_reasons(policy, wake, ended, group),
                expected,
                "{policy:?} {wake:?} {ended:?} {group:?}"
            );
        }
    }
}
