//! What every event makes of a task in every state, as one table.
//!
//! Columns are states, rows are events. A cell is either a refusal:
//!
//! | cell | refusal | | cell | refusal |
//! |---|---|---|---|---|
//! | `dup` | already applied | | `noq` | no such question is pending |
//! | `lost` | the lease is lost | | `bad` | wrong state |
//! | `over` | the task has ended | | `moot` | nothing to do |
//!
//! or the next state (named as in the columns, an offer as `o`, failures with the first letters of their kind), followed
//! by what follows: `+` / `-` a run was counted / uncounted, `!` announced, `a` / `f` the attempt ended and gets its row,
//! without / with a failure, `c` the worker is told to cancel, `d` to drop the lease, `.` the task ended.
//! What holds for every cell whatever it says is checked beside it.

use std::{collections::BTreeSet, time::Duration};
use taskyard_core::{
    Timestamp,
    id::{Epoch, LeaseId, QuestionId, TaskId, WorkerSessionId},
    task::{
        Cancel, Effect, ErrorKind, Event, Failure, Fence, Gate, Lease, Loss, Order, Policy,
        Question, Rejected, ReportedError, RetryPolicy, RunFacts, SettledLease, State, StopCause,
        Task, TerminalState, Transition, apply,
    },
};

/// States: `O` queued and open, `U` queued until now, after a first run, `H` held; each also with an offer (`o`).
/// `R` running, `A` asking with its process waiting, each with one run in all, and `r` with runs left, `s` with none
/// left, `x` with a cancel requested (and runs left). `N` asking unattended. `S`, `F`, `C` ended.
///
/// Reports name the held (or last) lease and the next number. `.dup` repeats the last number, `.stale` names another
/// epoch or another id, `.old` is a repeated report of the lease before. `.late` comes after start deadline and grace
/// of the question, `.early` before them; all else right at them.
const TABLE: &str = "
event          O     Oo    U     Uo    H     Ho    R     Rr    Rs    Rx    A     Ar    As    Ax    N     S     F     C
start          lost  R+!   lost  R+!   lost  R+!   bad   bad   bad   bad   bad   bad   bad   bad   lost  over  over  over
start.late     lost  Fs!d. lost  R+!   lost  Fs!d. bad   bad   bad   bad   bad   bad   bad   bad   lost  over  over  over
start.dup      lost  dup   lost  dup   lost  dup   dup   dup   dup   dup   dup   dup   dup   dup   lost  over  over  over
start.stale    lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  over  over  over
start.old      lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  over  over  over
progress       lost  bad   lost  bad   lost  bad   R     R     R     R     A     A     A     A     lost  over  over  over
progress.dup   lost  dup   dup   dup   lost  dup   dup   dup   dup   dup   dup   dup   dup   dup   dup   dup   dup   dup
progress.stale lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  over  over  over
artifact       lost  bad   lost  bad   lost  bad   R!    R!    R!    R!    A!    A!    A!    A!    lost  over  over  over
artifact.dup   lost  dup   dup   dup   lost  dup   dup   dup   dup   dup   dup   dup   dup   dup   dup   dup   dup   dup
artifact.stale lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  over  over  over
ask            lost  bad   lost  bad   lost  bad   A!    A!    A!    A!    bad   bad   bad   bad   lost  over  over  over
ask.dup        lost  dup   dup   dup   lost  dup   dup   dup   dup   dup   dup   dup   dup   dup   dup   dup   dup   dup
ask.stale      lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  over  over  over
finish.well    lost  bad   lost  bad   lost  bad   S!.   S!.   S!.   S!.   S!.   S!.   S!.   S!.   lost  over  over  over
finish.exit    lost  bad   lost  bad   lost  bad   Fe!.  U!f   Fe!.  Fe!.  Fe!.  U!f   Fe!.  Fe!.  lost  over  over  over
finish.timeout lost  bad   lost  bad   lost  bad   Ft!.  U!f   Ft!.  Ft!.  Ft!.  U!f   Ft!.  Ft!.  lost  over  over  over
finish.lasting lost  bad   lost  bad   lost  bad   Fb!.  Fb!.  Fb!.  Fb!.  Fb!.  Fb!.  Fb!.  Fb!.  lost  over  over  over
finish.cancel  lost  bad   lost  bad   lost  bad   Fw!.  U!f   Fw!.  C!.   Fw!.  U!f   Fw!.  C!.   lost  over  over  over
finish.expired lost  bad   lost  bad   lost  bad   Fu!.  U!a   Fo!.  Fu!.  Fu!.  N!a   Fo!.  Fu!.  lost  over  over  over
finish.dup     lost  dup   dup   dup   lost  dup   dup   dup   dup   dup   dup   dup   dup   dup   dup   dup   dup   dup
finish.stale   lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  over  over  over
finish.old     lost  dup   lost  dup   lost  dup   dup   dup   dup   dup   dup   dup   dup   dup   lost  over  over  over
release        lost  O     lost  U     lost  H     O-!a  O-!a  O-!a  C-!.  bad   bad   bad   bad   lost  over  over  over
release.dup    lost  dup   dup   dup   lost  dup   dup   dup   dup   dup   dup   dup   dup   dup   dup   dup   dup   dup
release.stale  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  over  over  over
answer         noq   noq   noq   noq   noq   noq   noq   noq   noq   noq   R!    R!    R!    R!    O!    noq   noq   noq
answer.wrong   noq   noq   noq   noq   noq   noq   noq   noq   noq   noq   noq   noq   noq   noq   noq   noq   noq   noq
lapse          noq   noq   noq   noq   noq   noq   noq   noq   noq   noq   R!    R!    R!    R!    Fq!.  noq   noq   noq
lapse.early    noq   noq   noq   noq   noq   noq   noq   noq   noq   noq   moot  moot  moot  moot  moot  noq   noq   noq
lapse.wrong    noq   noq   noq   noq   noq   noq   noq   noq   noq   noq   noq   noq   noq   noq   noq   noq   noq   noq
cancel         C!.   C!d.  C!.   C!d.  C!.   C!d.  R!c   R!c   R!c   R     A!c   A!c   A!c   A     C!.   over  over  over
cancel.grace   C!.   C!d.  C!.   C!d.  C!.   C!d.  R!c   R!c   R!c   Rc    A!c   A!c   A!c   Ac    C!.   over  over  over
cancel.longer  C!.   C!d.  C!.   C!d.  C!.   C!d.  R!c   R!c   R!c   R     A!c   A!c   A!c   A     C!.   over  over  over
enrich         O!    Oo!   U!    Uo!   H!    Ho!   R!    R!    R!    R!    A!    A!    A!    A!    N!    S!    F!    C!
hold           H!    H!d   H!    H!d   moot  moot  bad   bad   bad   bad   bad   bad   bad   bad   bad   over  over  over
unhold         moot  moot  moot  moot  O!    O!d   bad   bad   bad   bad   bad   bad   bad   bad   bad   over  over  over
unhold.early   moot  moot  moot  moot  U!    U!d   bad   bad   bad   bad   bad   bad   bad   bad   bad   over  over  over
lost.gone      moot  O     moot  U     moot  H     Fu!.  U!a   Fo!.  Fu!.  Fu!.  N!a   Fo!.  Fu!.  moot  moot  moot  moot
lost.unstarted moot  O     moot  U     moot  H     O-!a  O-!a  O-!a  C-!.  Fu!.  N!a   Fo!.  Fu!.  moot  moot  moot  moot
lost.stale     moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot
due            moot  moot  O     Oo    moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot
due.early      moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot
deadline       moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot
deadline.late  Fs!.  Fs!d. moot  moot  Fs!.  Fs!d. moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot
";

const EARLY: Timestamp = Timestamp(999_999);
const NOW: Timestamp = Timestamp(1_000_000);
const LATE: Timestamp = Timestamp(1_000_001);
const STARTED: Timestamp = Timestamp(500_000);
const REQUESTED: Timestamp = Timestamp(600_000);
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
/// The lease before it.
const OLD: SettledLease = SettledLease {
    epoch: Epoch(2),
    id: LeaseId(22),
    item_no: 9,
};

/// Names every variant once: in a match that a new variant breaks, and in a list that the table must cover.
macro_rules! variants {
    ($function:ident, $list:ident, $enum:ident: $($variant:ident)*) => {
        fn $function(value: &$enum) -> &'static str {
            match value {
                $($enum::$variant { .. } => stringify!($variant),)*
            }
        }
        const $list: &[&str] = &[$(stringify!($variant)),*];
    };
}

variants!(event_name, EVENTS, Event: Start Progress Artifact Ask Finish Release Answer QuestionExpired Cancel Enrich
    SetHold Lost Due StartDeadline);
variants!(state_name, STATES, State: Queued Running AwaitingInput Terminal);
variants!(gate_name, GATES, Gate: Open Until Held);
variants!(ending_name, ENDINGS, TerminalState: Succeeded Failed Canceled);
variants!(loss_name, LOSSES, Loss: NotStarted Gone);
variants!(stop_name, STOPS, StopCause: Canceled TimedOut LeaseExpired);

#[test]
fn every_event_in_every_state_does_what_the_table_says() {
    let mut wrong = Vec::new();
    let mut accepted = Vec::new();
    for (event_label, cells) in rows() {
        for (state_label, expected) in state_labels().into_iter().zip(cells) {
            let task = task_in(state_label);
            for (event, now) in events(event_label) {
                let verdict = apply(&task, event.clone(), now);
                let seen = describe(&task, &verdict);
                if seen != expected {
                    wrong.push(format!(
                        "{state_label} + {event_label}: {seen}, not {expected} ({event:?})"
                    ));
                }
                if let Ok(transition) = verdict {
                    accepted.push((task.clone(), event, now, transition));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for (task, event, now, transition) in &accepted {
        check_what_always_holds(task, event, *now, transition);
    }
}

#[test]
fn the_table_has_every_cell_once() {
    let columns = state_labels();
    for (label, cells) in rows() {
        assert_eq!(cells.len(), columns.len(), "row {label}");
    }
    let labels: Vec<_> = rows().into_iter().map(|(label, _)| label).collect();
    for names in [&columns, &labels] {
        let distinct: BTreeSet<_> = names.iter().collect();
        assert_eq!(distinct.len(), names.len(), "a name is used twice");
    }
}

#[test]
fn the_table_leaves_no_variant_out() {
    let tasks: Vec<_> = state_labels().into_iter().map(task_in).collect();
    let all_events: Vec<_> = rows()
        .into_iter()
        .flat_map(|(label, _)| events(label))
        .map(|(event, _)| event)
        .collect();

    assert_covers("events", EVENTS, all_events.iter().map(event_name));
    assert_covers(
        "states",
        STATES,
        tasks.iter().map(|task| state_name(&task.state)),
    );
    let queued = tasks.iter().filter_map(|task| match &task.state {
        State::Queued { gate, offer } => Some((gate_name(gate), offer.is_some())),
        State::Running { .. } | State::AwaitingInput { .. } | State::Terminal(_) => None,
    });
    let queued: BTreeSet<_> = queued.collect();
    for gate in GATES {
        assert!(
            queued.contains(&(gate, true)) && queued.contains(&(gate, false)),
            "{gate}"
        );
    }
    let endings = tasks.iter().filter_map(|task| match &task.state {
        State::Terminal(ending) => Some(ending_name(ending)),
        State::Queued { .. } | State::Running { .. } | State::AwaitingInput { .. } => None,
    });
    assert_covers("endings", ENDINGS, endings);
    let losses = all_events.iter().filter_map(|event| match event {
        Event::Lost { loss, .. } => Some(loss_name(loss)),
        _ => None,
    });
    assert_covers("losses", LOSSES, losses);
    let stops = all_events.iter().filter_map(|event| match event {
        Event::Finish(_, facts) => facts.stop_cause.as_ref().map(stop_name),
        _ => None,
    });
    assert_covers("stop causes", STOPS, stops);
}

fn assert_covers(what: &str, all: &[&'static str], seen: impl Iterator<Item = &'static str>) {
    let seen: BTreeSet<_> = seen.collect();
    let all: BTreeSet<_> = all.iter().copied().collect();
    assert_eq!(seen, all, "{what}");
}

fn state_labels() -> Vec<&'static str> {
    TABLE
        .trim()
        .lines()
        .next()
        .into_iter()
        .flat_map(|header| header.split_whitespace().skip(1))
        .collect()
}

fn rows() -> Vec<(&'static str, Vec<&'static str>)> {
    TABLE
        .trim()
        .lines()
        .skip(1)
        .map(|line| {
            let mut words = line.split_whitespace();
            (words.next().unwrap_or_default(), words.collect())
        })
        .collect()
}

fn task_in(label: &str) -> Task {
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
        "H" => (queued(Gate::Held, None), 0, 1, false),
        "Ho" => (queued(Gate::Held, Some(LEASE)), 0, 1, false),
        "R" => (running, 1, 1, false),
        "Rr" => (running, 1, 3, false),
        "Rs" => (running, 3, 3, false),
        "Rx" => (running, 1, 3, true),
        "A" => (asking(Some(LEASE)), 1, 1, false),
        "Ar" => (asking(Some(LEASE)), 1, 3, false),
        "As" => (asking(Some(LEASE)), 3, 3, false),
        "Ax" => (asking(Some(LEASE)), 1, 3, true),
        "N" => (asking(None), 1, 3, false),
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
        },
        state,
        cancel: is_canceled.then_some(Cancel {
            requested_at: REQUESTED,
            grace: Some(GRACE),
        }),
        run,
        attempt: run + 1,
        generation: 10,
        started_at: (run > 0).then_some(STARTED),
        settled: match label {
            "O" | "H" => None,
            _ if is_leased => Some(OLD),
            _ => Some(LEASE.settle()),
        },
    }
}

/// What a row stands for: the events that it names, each with its time.
fn events(label: &str) -> Vec<(Event, Timestamp)> {
    let (verb, variant) = label.split_once('.').unwrap_or((label, ""));
    let now = match variant {
        "early" => EARLY,
        "late" => LATE,
        _ => NOW,
    };
    let right = Fence {
        epoch: LEASE.epoch,
        lease_id: LEASE.id,
        item_no: LEASE.item_no + 1,
    };
    let fences = match variant {
        "dup" => vec![
            Fence {
                item_no: LEASE.item_no,
                ..right
            },
            Fence {
                item_no: LEASE.item_no - 4,
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
            item_no: OLD.item_no,
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
    let question = match variant {
        "wrong" => QuestionId(8),
        _ => QUESTION.id,
    };
    match (verb, variant) {
        ("start", _) => reports(&Event::Start),
        ("progress", _) => reports(&Event::Progress),
        ("artifact", _) => reports(&Event::Artifact),
        ("ask", _) => reports(&|fence| Event::Ask(fence, QUESTION)),
        ("finish", _) => reports(&|fence| Event::Finish(fence, facts(variant))),
        ("release", _) => reports(&Event::Release),
        ("answer", _) => vec![(Event::Answer(question), now)],
        ("lapse", _) => vec![(Event::QuestionExpired(question), now)],
        ("cancel", "") => vec![(Event::Cancel { grace: None }, now)],
        ("cancel", "grace") => vec![(
            Event::Cancel {
                grace: Some(GRACE / 2),
            },
            now,
        )],
        ("cancel", "longer") => vec![(
            Event::Cancel {
                grace: Some(GRACE * 2),
            },
            now,
        )],
        ("enrich", _) => vec![(Event::Enrich, now)],
        ("hold", _) => vec![(Event::SetHold(true), now)],
        ("unhold", _) => vec![(Event::SetHold(false), now)],
        ("lost", "gone") => vec![(lost(&right, Loss::Gone), now)],
        ("lost", "unstarted") => vec![(lost(&right, Loss::NotStarted), now)],
        ("lost", "stale") => fences
            .iter()
            .flat_map(|fence| [Loss::Gone, Loss::NotStarted].map(|loss| (lost(fence, loss), now)))
            .collect(),
        ("due", _) => vec![(Event::Due, now)],
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
        "timeout" => killed(StopCause::TimedOut),
        "cancel" => killed(StopCause::Canceled),
        "expired" => killed(StopCause::LeaseExpired),
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

/// The verdict as the table writes it.
fn describe(before: &Task, verdict: &Result<Transition, Rejected>) -> String {
    let transition = match verdict {
        Ok(transition) => transition,
        Err(rejected) => {
            return match rejected {
                Rejected::AlreadyApplied => "dup",
                Rejected::LeaseLost => "lost",
                Rejected::Terminal => "over",
                Rejected::NotPending => "noq",
                Rejected::WrongState => "bad",
                Rejected::Moot => "moot",
            }
            .to_owned();
        }
    };
    let mut text = match &transition.task.state {
        State::Queued { gate, offer } => {
            let gate = match gate {
                Gate::Open => "O",
                Gate::Until(_) => "U",
                Gate::Held => "H",
            };
            format!("{gate}{}", if offer.is_some() { "o" } else { "" })
        }
        State::Running { .. } => "R".to_owned(),
        State::AwaitingInput { lease: Some(_), .. } => "A".to_owned(),
        State::AwaitingInput { lease: None, .. } => "N".to_owned(),
        State::Terminal(TerminalState::Succeeded) => "S".to_owned(),
        State::Terminal(TerminalState::Failed) => format!("F{}", failure_letter(transition)),
        State::Terminal(TerminalState::Canceled) => "C".to_owned(),
    };
    match i64::from(transition.task.run) - i64::from(before.run) {
        0 => {}
        1 => text.push('+'),
        -1 => text.push('-'),
        other => text.push_str(&format!("[{other} runs]")),
    }
    for effect in &transition.effects {
        text.push(match effect {
            Effect::Announce => '!',
            Effect::EndAttempt(end) if end.failure.is_some() => 'f',
            Effect::EndAttempt(_) => 'a',
            Effect::End { .. } => '.',
            Effect::Tell(_, Order::Cancel { .. }) => 'c',
            Effect::Tell(_, Order::Drop) => 'd',
        });
    }
    text
}

fn failure_letter(transition: &Transition) -> &'static str {
    let failure = transition.effects.iter().find_map(|effect| match effect {
        Effect::End { failure, .. } => failure.map(|Failure { kind, .. }| kind),
        Effect::Announce | Effect::EndAttempt(_) | Effect::Tell(..) => None,
    });
    match failure {
        None => "",
        Some(ErrorKind::Exit) => "e",
        Some(ErrorKind::Signal) => "g",
        Some(ErrorKind::Timeout) => "t",
        Some(ErrorKind::StartFailed) => "f",
        Some(ErrorKind::BadOutput) => "b",
        Some(ErrorKind::WorkerError) => "w",
        Some(ErrorKind::Orphaned) => "o",
        Some(ErrorKind::OutcomeUnknown) => "u",
        Some(ErrorKind::StartDeadlineExceeded) => "s",
        Some(ErrorKind::QuestionExpired) => "q",
    }
}

fn check_what_always_holds(before: &Task, event: &Event, now: Timestamp, transition: &Transition) {
    let after = &transition.task;
    let effects = &transition.effects;
    let context = format!("{before:?}\n{event:?}\n{transition:?}");

    assert_eq!(
        (after.id, &after.policy),
        (before.id, &before.policy),
        "{context}"
    );
    let announced = effects
        .iter()
        .filter(|effect| **effect == Effect::Announce)
        .count();
    assert_eq!(
        after.generation,
        before.generation + announced as u64,
        "{context}"
    );
    assert!(announced <= 1, "{context}");

    let is_start = before.run < after.run;
    assert_eq!(
        after.attempt,
        before.attempt + u32::from(is_start),
        "{context}"
    );
    let started_at = match after.run {
        0 => None,
        _ => before.started_at.or(Some(now)),
    };
    assert_eq!(after.started_at, started_at, "{context}");

    let requested_at = before.cancel.map(|cancel| cancel.requested_at);
    match event {
        Event::Cancel { grace } => {
            let cancel = after.cancel.expect("a cancel that was accepted is noted");
            assert_eq!(
                cancel.requested_at,
                requested_at.unwrap_or(now),
                "{context}"
            );
            let shortest = [before.cancel.and_then(|cancel| cancel.grace), *grace];
            assert_eq!(
                cancel.grace,
                shortest.into_iter().flatten().min(),
                "{context}"
            );
        }
        _ => assert_eq!(after.cancel, before.cancel, "{context}"),
    }

    let item_no = match event {
        Event::Start(fence)
        | Event::Progress(fence)
        | Event::Artifact(fence)
        | Event::Ask(fence, _)
        | Event::Finish(fence, _)
        | Event::Release(fence) => Some(fence.item_no),
        _ => None,
    };
    let held = before.lease().map(|lease| Lease {
        item_no: item_no.unwrap_or(lease.item_no),
        ..*lease
    });
    match after.lease() {
        Some(lease) => {
            assert_eq!(Some(*lease), held, "{context}");
            assert_eq!(after.settled, before.settled, "{context}");
        }
        None => assert_eq!(
            after.settled,
            held.map(|lease| lease.settle()).or(before.settled),
            "{context}"
        ),
    }

    for effect in effects {
        match effect {
            Effect::Announce => {}
            Effect::Tell(lease, Order::Cancel { grace }) => {
                assert_eq!(Some(*lease), held, "{context}");
                assert_eq!(
                    Some(*grace),
                    after.cancel.map(|cancel| cancel.grace),
                    "{context}"
                );
            }
            Effect::Tell(lease, Order::Drop) => assert_eq!(Some(*lease), held, "{context}"),
            Effect::EndAttempt(end) => {
                assert!(!after.is_terminal(), "{context}");
                assert_eq!(Some(end.lease), held, "{context}");
                assert_eq!(
                    (end.attempt, end.run),
                    (before.attempt, before.run),
                    "{context}"
                );
            }
            Effect::End { state, failure } => {
                assert_eq!(after.state, State::Terminal(*state), "{context}");
                assert_eq!(
                    failure.is_some(),
                    *state == TerminalState::Failed,
                    "{context}"
                );
            }
        }
    }
    let ends = effects
        .iter()
        .filter(|effect| matches!(effect, Effect::End { .. }))
        .count();
    assert_eq!(
        ends == 1,
        after.is_terminal() && !before.is_terminal(),
        "{context}"
    );
}
