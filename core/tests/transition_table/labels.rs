//! What the labels of the table stand for: tasks in each state, and events with their time.

use std::time::Duration;
use taskyard_core::{
    Timestamp,
    id::{Epoch, LeaseId, QuestionId, TaskId, WorkerSessionId},
    task::{
        Cancel, ErrorKind, Event, Fence, Gate, Lease, Loss, Policy, Question, ReportedError,
        ResultCheck, RetryPolicy, RunFacts, SettledLease, State, StopCause, Task, TerminalState,
    },
};

const EARLY: Timestamp = Timestamp(999_999);
const NOW: Timestamp = Timestamp(1_000_000);
const LATE: Timestamp = Timestamp(1_000_001);
const STARTED: Timestamp = Timestamp(500_000);
const REQUESTED: Timestamp = Timestamp(600_000);
const HELD: Gate = Gate::Held { until: None };
const GRACE: Duration = Duration::from_secs(5);
const QUESTION: Question = Question {
    id: QuestionId(7),
    expires_at: Some(NOW),
};
/// The lease that is held or, where none is, the last one that ended.
const LEASE: Lease = Lease {
    worker: WorkerSessionId(1),
    epoch: Epoch(3),
    id: LeaseId(33),
    item_no: 5,
};
/// The lease under which a newer boot of the worker goes on.
const NEXT: Lease = Lease {
    worker: WorkerSessionId(2),
    epoch: Epoch(4),
    id: LeaseId(44),
    item_no: 0,
};
/// The lease before it.
const OLD: SettledLease = SettledLease {
    epoch: Epoch(2),
    id: LeaseId(22),
    item_no: 9,
};

pub fn task_in(label: &str) -> Task {
    let queued = |gate, offer| State::Queued { gate, offer };
    let asking = |lease| State::AwaitingInput {
        question: QUESTION,
        lease,
    };
    let running = State::Running { lease: LEASE };
    // State, runs so far, runs in all, cancel requested.
    let (state, run, max_runs, is_canceled) = match label {
        "O" => (queued(Gate::Open, None), 0, 1, false),
        "Oo" => (queued(Gate::Open, Some(LEASE)), 0, 1, false),
        "U" => (queued(Gate::Until(NOW), None), 1, 3, false),
        "Uo" => (queued(Gate::Until(NOW), Some(LEASE)), 1, 3, false),
        "H" => (queued(HELD, None), 0, 1, false),
        "Ho" => (queued(HELD, Some(LEASE)), 0, 1, false),
        "B" => (queued(Gate::Held { until: Some(LATE) }, None), 0, 1, false),
        "R" => (running, 1, 1, false),
        "Rr" => (running, 1, 3, false),
        "Rs" => (running, 3, 3, false),
        "Rx" => (running, 1, 3, true),
        "A" => (asking(Some(LEASE)), 1, 1, false),
        "Ar" => (asking(Some(LEASE)), 1, 3, false),
        "As" => (asking(Some(LEASE)), 3, 3, false),
        "Ax" => (asking(Some(LEASE)), 1, 3, true),
        "N" => (asking(None), 1, 3, false),
        "M" => (queued(Gate::Monitor, None), 0, 1, false),
        "Mh" => (queued(Gate::Held { until: None }, None), 0, 1, false),
        "S" => (State::Terminal(TerminalState::Succeeded), 1, 3, false),
        "F" => (State::Terminal(TerminalState::Failed), 3, 3, false),
        "C" => (State::Terminal(TerminalState::Canceled), 1, 3, true),
        _ => panic!("no state is named {label}"),
    };
    let is_leased =
        matches!(label, "Oo" | "Uo" | "Ho") || matches!(label.as_bytes()[0], b'R' | b'A');
    Task {
        id: TaskId(1),
        policy: Policy {
            retry: RetryPolicy {
                max_runs,
                ..RetryPolicy::NEVER
            },
            not_before: Some(NOW),
            start_deadline: Some(NOW),
            success_exit_codes: vec![0, 75],
            is_monitor: matches!(label, "M" | "Mh"),
        },
        state,
        cancel: is_canceled.then_some(Cancel {
            requested_at: REQUESTED,
            grace: Some(GRACE),
            signal: None,
        }),
        run,
        forgiven: 0,
        attempt: run + 1,
        generation: 10,
        started_at: (run > 0).then_some(STARTED),
        settled: match label {
            "O" | "H" | "B" | "M" | "Mh" => None,
            _ if is_leased => Some(OLD),
            _ => Some(LEASE.settle()),
        },
    }
}

/// What a row stands for: the events that it names, each with its time.
pub fn events(label: &str) -> Vec<(Event, Timestamp)> {
    let (verb, variant) = label.split_once('.').unwrap_or((label, ""));
    let now = match variant {
        "early" => EARLY,
        "late" => LATE,
        _ => NOW,
    };
    let right = Fence {
        epoch: LEASE.epoch,
        lease_id: LEASE.id,
        item_no: Some(LEASE.item_no + 1),
    };
    let fences = match variant {
        "dup" => vec![
            Fence {
                item_no: Some(LEASE.item_no),
                ..right
            },
            Fence {
                item_no: Some(LEASE.item_no - 4),
                ..right
            },
        ],
        "stale" => vec![
            Fence {
                epoch: OLD.epoch,
                ..right
            },
            Fence {
                lease_id: OLD.id,
                ..right
            },
            Fence {
                epoch: Epoch(LEASE.epoch.0 + 1),
                ..right
            },
        ],
        "old" => vec![Fence {
            epoch: OLD.epoch,
            lease_id: OLD.id,
            item_no: Some(OLD.item_no),
        }],
        "inside" => vec![Fence {
            item_no: None,
            ..right
        }],
        _ => vec![right],
    };
    let reports = |event: &dyn Fn(Fence) -> Event| -> Vec<_> {
        fences.iter().map(|fence| (event(*fence), now)).collect()
    };
    let lost = |fence: &Fence, loss| Event::Lost {
        epoch: fence.epoch,
        lease_id: fence.lease_id,
        loss,
    };
    let reattach = |fence: &Fence, next| Event::Reattach {
        epoch: fence.epoch,
        lease_id: fence.lease_id,
        next,
    };
    let question = match variant {
        "wrong" => QuestionId(8),
        _ => QUESTION.id,
    };
    match (verb, variant) {
        ("start", _) => reports(&Event::Start),
        ("progress", _) => reports(&Event::Progress),
        ("artifact", _) => reports(&Event::Artifact),
        ("ask", _) => reports(&|fence| Event::Ask(fence, QUESTION)),
        ("post", _) => reports(&Event::Post),
        ("receive", _) => reports(&Event::Receive),
        ("record", _) => reports(&Event::Record),
        ("finish", _) => reports(&|fence| Event::Finish(fence, facts(variant))),
        ("release", _) => reports(&Event::Release),
        ("answer", _) => vec![(Event::Answer(question), now)],
        ("deliver", _) => vec![(Event::Deliver, now)],
        ("lapse", _) => vec![(Event::QuestionExpired(question), now)],
        ("cancel", "") => vec![(
            Event::Cancel {
                grace: None,
                signal: None,
            },
            now,
        )],
        ("cancel", "grace") => vec![(
            Event::Cancel {
                grace: Some(GRACE / 2),
                signal: Some(2),
            },
            now,
        )],
        ("cancel", "longer") => vec![(
            Event::Cancel {
                grace: Some(GRACE * 2),
                signal: None,
            },
            now,
        )],
        ("enrich", _) => vec![(Event::Enrich, now)],
        ("note", _) => vec![(Event::Note, now)],
        ("hold", _) => vec![(Event::SetHold(true), now)],
        ("unhold", _) => vec![(Event::SetHold(false), now)],
        ("lost", "gone") => vec![(lost(&right, Loss::Gone), now)],
        ("lost", "unstarted") => vec![(lost(&right, Loss::NotStarted), now)],
        ("lost", "stale") => fences
            .iter()
            .flat_map(|fence| [Loss::Gone, Loss::NotStarted].map(|loss| (lost(fence, loss), now)))
            .collect(),
        ("reattach", "") => vec![(reattach(&right, NEXT), now)],
        ("reattach", "again") => vec![(
            Event::Reattach {
                epoch: OLD.epoch,
                lease_id: OLD.id,
                next: Lease {
                    item_no: 0,
                    ..LEASE
                },
            },
            now,
        )],
        ("reattach", "stale") => fences
            .iter()
            .map(|fence| (reattach(fence, NEXT), now))
            .collect(),
        ("due", _) => vec![(Event::Due, now)],
        ("complete", _) => vec![(Event::Complete, now)],
        ("deadline", _) => vec![(Event::StartDeadline, now)],
        _ => panic!("no event is named {label}"),
    }
}

fn facts(variant: &str) -> RunFacts {
    let none = RunFacts {
        exit_code: None,
        signal: None,
        oom_killed: false,
        stop_cause: None,
        error: None,
        result: ResultCheck::Good,
    };
    let killed = |cause| RunFacts {
        signal: Some(9),
        stop_cause: Some(cause),
        ..none.clone()
    };
    match variant {
        "exit" => RunFacts {
            exit_code: Some(1),
            ..none
        },
        "empty" => RunFacts {
            exit_code: Some(0),
            result: ResultCheck::Missing,
            ..none
        },
        "other" => RunFacts {
            exit_code: Some(0),
            result: ResultCheck::Mismatch,
            ..none
        },
        "timeout" => killed(StopCause::TimedOut),
        "cancel" => killed(StopCause::Canceled),
        "expired" => killed(StopCause::LeaseExpired),
        "ending" => killed(StopCause::WorkerShutdown),
        "lasting" => RunFacts {
            exit_code: Some(0),
            error: Some(ReportedError {
                kind: ErrorKind::BadOutput,
                retryable: false,
            }),
            ..none
        },
        _ => RunFacts {
            exit_code: Some(75),
            ..none
        },
    }
}
