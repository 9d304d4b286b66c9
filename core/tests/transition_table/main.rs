//! What every event makes of a task in every state, held against one table.

mod invariants;
mod labels;
mod table;

use invariants::check_what_always_holds;
use labels::{events, task_in};
use std::collections::BTreeSet;
use table::{describe, rows, state_labels};
use taskyard_core::task::{Event, Gate, Loss, State, StopCause, TerminalState, apply};

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

variants!(event_name, EVENTS, Event: Start Progress Artifact Ask Post Receive Record Finish Release Answer Deliver
    QuestionExpired Cancel Enrich Note SetHold Lost Reattach Due StartDeadline Complete);
variants!(state_name, STATES, State: Queued Running AwaitingInput Terminal);
variants!(gate_name, GATES, Gate: Open Until Held Monitor);
variants!(ending_name, ENDINGS, TerminalState: Succeeded Failed Canceled);
variants!(loss_name, LOSSES, Loss: NotStarted Gone);
variants!(stop_name, STOPS, StopCause: Canceled TimedOut LeaseExpired WorkerShutdown);

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
        // a monitor is never offered
        let is_offered = *gate != gate_name(&Gate::Monitor);
        assert!(
            queued.contains(&(gate, true)) == is_offered && queued.contains(&(gate, false)),
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
