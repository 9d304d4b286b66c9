//! Writing a batch: set by set, sessions last.

use super::{
    batch::{SessionWork, Work},
    intent::Creation,
    monitors,
};
use crate::store::{
    Connection, StoreError,
    batch::{self, LogRow, SessionChange, SessionNumbers},
    creates,
    new_tasks::{self, NewTask, Placement},
    secrets, task_update, times,
};
use prost::Message;
use std::collections::{BTreeSet, HashMap};
use taskyard_core::{
    id::{SessionUid, TaskId},
    task::State,
};
use taskyard_proto::storage::v1::{LogPage, LoggedEvent};

/// Writes everything, sessions last, and says where the new tasks were placed.
pub(super) async fn write(
    work: &mut Work<'_>,
    db: &mut Connection,
    creations: &[&Creation],
) -> Result<HashMap<TaskId, Placement>, StoreError> {
    write_tasks(work, db).await?;
    work.monitors.write(db).await?;
    work.threads.write(db).await?;
    work.usages.write_runs(db).await?;
    settle_groups(work, db).await?;
    let placements = write_sessions(work, db, creations).await?;
    work.aftermath.has_wakes = work.wakes.write(db).await?;
    work.aftermath.has_deliveries = work.webhooks.write(db).await?;
    Ok(placements)
}

async fn write_tasks(work: &Work<'_>, db: &mut Connection) -> Result<(), StoreError> {
    let (mut live, mut ended, mut enriched) = (Vec::new(), Vec::new(), Vec::new());
    for working in work.rows.values().filter(|working| working.is_changed) {
        match (working.was_live, &working.row.task.state) {
            (true, State::Terminal(_)) => ended.push(&working.row),
            (true, _) => live.push(&working.row),
            (false, _) => enriched.push(&working.row),
        }
    }
    if !live.is_empty() {
        task_update::update_live(db, &live).await?;
    }
    if !ended.is_empty() {
        batch::end_tasks(db, &ended).await?;
    }
    for row in enriched {
        batch::update_ended(db, row).await?;
    }
    let ended_at = times::to_database(work.now);
    for (task, end, exit) in &work.attempts {
        if let Some(working) = work.rows.get(task) {
            batch::insert_attempt(db, *task, end, &working.row.body, exit.as_ref(), ended_at)
                .await?;
        }
    }
    Ok(())
}

/// Adds the events of groups that have ended. The sessions are locked for that a little earlier than otherwise.
async fn settle_groups(work: &mut Work<'_>, db: &mut Connection) -> Result<(), StoreError> {
    let new_groups: BTreeSet<(SessionUid, &str)> = work
        .sessions
        .iter()
        .flat_map(|(session, work)| work.creates.iter().map(|task| (*session, *task)))
        .filter_map(|(session, task): (SessionUid, &NewTask)| {
            Some((session, task.group.as_deref()?))
        })
        .collect();
    let sessions: Vec<SessionUid> = work.sessions.keys().copied().collect();
    let settled = work.wakes.settle_groups(db, &sessions, &new_groups).await?;
    for (session, events) in settled {
        work.sessions
            .entry(session)
            .or_default()
            .events
            .extend(events);
    }
    Ok(())
}

async fn write_sessions(
    work: &mut Work<'_>,
    db: &mut Connection,
    creations: &[&Creation],
) -> Result<HashMap<TaskId, Placement>, StoreError> {
    let mut placements = HashMap::new();
    let usages = &work.usages;
    let changes: Vec<SessionChange> = work
        .sessions
        .iter()
        .map(|(session, work)| SessionChange {
            session: *session,
            events: count(work.events.len()),
            creates: count(work.creates.len()),
            open_delta: work.open_delta,
            ended: work.ended,
            awaiting_delta: work.awaiting_delta,
            virtual_time: work.virtual_time,
            used: usages.of_session(*session),
        })
        .filter(|change| change.events > 0 || change.open_delta != 0)
        .collect();
    if changes.is_empty() {
        return Ok(placements);
    }
    let mut pages = Vec::with_capacity(changes.len());
    let mut new_tasks = Vec::new();
    for numbers in batch::number(db, &changes, work.limits.session_tasks).await? {
        let Some(session) = work.sessions.remove(&numbers.session) else {
            continue;
        };
        for (index, task) in session.creates.iter().enumerate() {
            let placement = Placement {
                ordinal: numbers.first_ordinal + count(index),
                fair_key: numbers.fair_base + index as f64 + 1.0,
                created_at: numbers.at,
            };
            placements.insert(task.id, placement);
            new_tasks.push((*task, placement));
        }
        pages.push(page(session, &numbers));
        work.aftermath.sessions.push(numbers.session);
    }
    if !new_tasks.is_empty() {
        new_tasks::insert_tasks(db, &new_tasks).await?;
        secrets::insert_new(db, new_tasks.iter().map(|(task, _)| *task)).await?;
        monitors::insert_new(db, new_tasks.iter().map(|(task, _)| *task)).await?;
        let requests: Vec<_> = creations
            .iter()
            .filter(|creation| placements.contains_key(&creation.task.id))
            .filter_map(|creation| {
                let (key, fingerprint) = creation.request.as_ref()?;
                Some((key, creation.task.id, *fingerprint))
            })
            .collect();
        if !requests.is_empty() {
            creates::insert_requests(db, &requests).await?;
        }
    }
    batch::append_log(db, &pages).await?;
    work.usages.write_reported(db).await?;
    Ok(placements)
}

/// What one session's log gets.
fn page(session: SessionWork<'_>, numbers: &SessionNumbers) -> LogRow {
    let last_seq = numbers.first_seq + count(session.events.len()) - 1;
    let page = LogPage {
        events: number_new_tasks(session.events, numbers.first_ordinal),
    };
    LogRow {
        session: numbers.session,
        first_seq: numbers.first_seq,
        last_seq,
        at: numbers.at,
        body: page.encode_to_vec(),
    }
}

/// Gives the created tasks of one session their ordinals, in order.
fn number_new_tasks(mut events: Vec<LoggedEvent>, first_ordinal: i64) -> Vec<LoggedEvent> {
    let new = events.iter_mut().filter(|logged| logged.created.is_some());
    for (ordinal, logged) in (first_ordinal..).zip(new) {
        logged.ordinal = ordinal;
    }
    events
}

fn count(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}
