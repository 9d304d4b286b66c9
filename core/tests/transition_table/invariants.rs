//! What holds for every cell, whatever it says.

use taskyard_core::{
    Timestamp,
    task::{Effect, Event, Lease, Order, State, Task, TerminalState, Transition},
};

pub fn check_what_always_holds(
    before: &Task,
    event: &Event,
    now: Timestamp,
    transition: &Transition,
) {
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
    let next = match event {
        Event::Reattach { next, .. } => Some(*next),
        _ => None,
    };
    assert_eq!(
        after.attempt,
        before.attempt + u32::from(is_start || next.is_some()),
        "{context}"
    );
    assert!(
        (before.forgiven..=before.forgiven + 1).contains(&after.forgiven)
            && after.forgiven <= after.run,
        "{context}"
    );
    let started_at = match after.run {
        0 => None,
        _ => before.started_at.or(Some(now)),
    };
    assert_eq!(after.started_at, started_at, "{context}");

    let requested_at = before.cancel.map(|cancel| cancel.requested_at);
    match event {
        Event::Cancel { grace, signal } => {
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
            let named = before.cancel.and_then(|cancel| cancel.signal).or(*signal);
            assert_eq!(cancel.signal, named, "{context}");
        }
        _ => assert_eq!(after.cancel, before.cancel, "{context}"),
    }

    let item_no = match event {
        Event::Start(fence)
        | Event::Progress(fence)
        | Event::Artifact(fence)
        | Event::Ask(fence, _)
        | Event::Post(fence)
        | Event::Receive(fence)
        | Event::Record(fence)
        | Event::Finish(fence, _)
        | Event::Release(fence) => fence.item_no,
        _ => None,
    };
    let held = before.lease().map(|lease| Lease {
        item_no: item_no.unwrap_or(lease.item_no),
        ..*lease
    });
    match after.lease() {
        Some(lease) if next.is_some() => {
            assert_eq!(Some(*lease), next, "{context}");
            assert_eq!(after.settled, held.map(|lease| lease.settle()), "{context}");
        }
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
                assert_eq!(Some(*lease), next.or(held), "{context}");
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
