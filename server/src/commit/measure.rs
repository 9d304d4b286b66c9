//! What the metrics learn of a committed batch.

use super::{
    batch::{Answer, Item},
    intent::{Changed, Created, Creation},
};
use crate::store::times;
use std::time::Duration;
use taskyard_core::{
    Timestamp,
    id::TaskId,
    task::{Event, State, TerminalState},
};
use taskyard_telemetry::metrics::table;
use tracing::debug;

/// Counts what a batch did.
pub(super) fn count(items: &[Item<'_>], answers: &[Answer]) {
    let mut created = 0;
    for (item, answer) in items.iter().zip(answers) {
        match (item, answer) {
            (_, Answer::Created(Ok(one))) => {
                created += count_created(item.creations(), std::slice::from_ref(one))
            }
            (_, Answer::CreatedAll(Ok(all))) => created += count_created(item.creations(), all),
            (Item::Change(change), Answer::Changed(changed)) => {
                if let Ok(changed) = changed.as_ref()
                    && !changed.is_repeated
                {
                    count_change(&change.event, changed);
                }
            }
            (_, Answer::Created(Err(_)) | Answer::CreatedAll(Err(_)) | Answer::Changed(_)) => {}
        }
    }
    if created > 0 {
        table::TASKS_CREATED.add(created as u64, &[]);
    }
}

/// How many of these are new.
fn count_created(creations: &[Creation], outcomes: &[Created]) -> usize {
    let all = creations.iter().zip(outcomes);
    let new = all.filter(|(_, outcome)| matches!(outcome, Created::New(_)));
    new.inspect(|(creation, _)| debug!(task.id = %creation.task.id, "a task was created"))
        .count()
}

fn count_change(event: &Event, changed: &Changed) {
    let (before, after) = (&changed.before, &changed.after);
    match (&before.state, &after.task.state) {
        (State::Queued { .. }, State::Running { .. }) => {
            table::RUNS_STARTED.add(1, &[]);
            debug!(task.id = %after.task.id, run = after.task.run, attempt = after.task.attempt, "a run started");
            let now = times::to_core(after.body.updated_at);
            if after.task.run == 1 {
                let created_at = created_at(after.task.id);
                let could_start_at = after.task.policy.not_before.unwrap_or(created_at);
                let waited = since(could_start_at.max(created_at), now);
                table::START_WAIT.record_time(waited, &[]);
            }
            if let Some(offered_at) = after.offered_at {
                let waited = since(times::to_core(offered_at), now);
                table::LEASE_WAIT.record_time(waited, &[]);
            }
        }
        (State::Terminal(_), State::Terminal(_)) => {}
        (_, State::Terminal(state)) => {
            let error = after.body.error.as_ref();
            let kind = match state {
                TerminalState::Failed => error.map_or("", |error| error.kind.as_str()),
                TerminalState::Succeeded | TerminalState::Canceled => "",
            };
            debug!(task.id = %after.task.id, state = state.as_str(), error.kind = kind, "a task ended");
            table::TASKS_ENDED.add(1, &[state.as_str(), kind]);
        }
        (before, State::Queued { .. }) if is_held(before) => {
            let reason = if matches!(event, Event::Lost { .. }) {
                "lost"
            } else if matches!(event, Event::Release(_)) {
                "released"
            } else {
                "failed"
            };
            table::ATTEMPTS_REQUEUED.add(1, &[reason]);
            debug!(task.id = %after.task.id, run = after.task.run, reason, "a task is back in its queue");
        }
        (
            State::Queued { .. }
            | State::Running { .. }
            | State::AwaitingInput { .. }
            | State::Terminal(_),
            State::Queued { .. } | State::Running { .. } | State::AwaitingInput { .. },
        ) => {}
    }
}

fn is_held(state: &State) -> bool {
    match state {
        State::Queued { offer: lease, .. } | State::AwaitingInput { lease, .. } => lease.is_some(),
        State::Running { .. } => true,
        State::Terminal(_) => false,
    }
}

/// Ids say when they were drawn, to the millisecond.
pub(crate) fn created_at(task: TaskId) -> Timestamp {
    let milliseconds = i64::try_from(task.0 >> 80).unwrap_or(i64::MAX);
    Timestamp(milliseconds.saturating_mul(1_000))
}

/// Two clocks may differ by a little; no time is negative.
fn since(then: Timestamp, now: Timestamp) -> Duration {
    Duration::from_micros(u64::try_from(now.0.saturating_sub(then.0)).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use taskyard_core::task::ErrorKind;
    use taskyard_telemetry::metrics::instrument::Metric;
    use uuid::Uuid;

    #[test]
    fn every_end_begins_as_a_series_at_zero() {
        let series = table::TASKS_ENDED.spec().series;
        for kind in ErrorKind::ALL {
            assert!(
                series.contains(&["failed", kind.as_str()].as_slice()),
                "{kind:?}"
            );
        }
        assert_eq!(series.len(), ErrorKind::ALL.len() + 2);
    }

    #[test]
    fn an_id_tells_its_time() {
        let id = TaskId(Uuid::now_v7().as_u128());
        let now = chrono::Utc::now().timestamp_micros();
        assert!((now - created_at(id).0).abs() < 5_000_000);
    }
}
