//! Firings: which are due, and noting that they were made or left out. The group commit writes them under the lock of the
//! monitor's task.

use super::columns::{definition, task_id, uuid};
use super::new_monitors::NextFiring;
use crate::store::StoreError;
use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgExecutor};
use std::collections::BTreeSet;
use taskyard_core::id::{SessionUid, TaskId};
use taskyard_proto::v1::TaskDefinition;
use uuid::Uuid;

/// One firing, with what must hold for it to be made.
#[derive(Clone, Copy, Debug)]
pub struct Firing {
    /// Its number, from 1: one more than the firings so far.
    pub number: i64,
    /// For when it was due: the monitor's next firing so far.
    pub due_at: DateTime<Utc>,
    /// The firing after it; none: it is the last.
    pub next: Option<NextFiring>,
}

/// What the group commit must know of a monitor, read under the lock of its task.
#[derive(Clone, Debug, Default)]
pub struct MonitorState {
    /// Firings so far.
    pub firings: i64,
    /// When it fires next.
    pub next_at: Option<DateTime<Utc>>,
    /// The firing that was judged last.
    pub judged: i64,
    /// Firings that were not judged.
    pub open: BTreeSet<i64>,
}

/// A monitor whose time has come.
#[derive(Clone, Debug)]
pub struct DueMonitor {
    /// Its task.
    pub task: TaskId,
    /// Number of its session.
    pub session: SessionUid,
    /// Id of its session.
    pub session_id: String,
    /// Number of its namespace.
    pub namespace_id: i32,
    /// Name of its namespace.
    pub namespace: String,
    /// The definition of its firings, with the schedule.
    pub definition: TaskDefinition,
    /// What happens while an earlier firing runs, as on the wire.
    pub overlap: i16,
    /// Firings so far.
    pub firings: i64,
    /// What was due.
    pub next: NextFiring,
    /// Firings that have not ended.
    pub open: i64,
    /// The database's clock.
    pub now: DateTime<Utc>,
}

/// What the group commit must know of monitors. The caller holds the locks of their tasks.
///
/// # Errors
/// Any [`StoreError`].
pub async fn read_states(
    db: &mut PgConnection,
    monitors: &[TaskId],
) -> Result<Vec<(TaskId, MonitorState)>, StoreError> {
    let rows = sqlx::query!(
        r#"select task_id, firings, next_at, judged,
             array(select f.number from monitor_firing f where f.task_id = m.task_id) as "open!"
           from monitor m where task_id = any($1) order by task_id for no key update"#,
        &monitors.iter().map(|task| uuid(*task)).collect::<Vec<_>>()
    )
    .fetch_all(db)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let state = MonitorState {
                firings: row.firings,
                next_at: row.next_at,
                judged: row.judged,
                open: row.open.into_iter().collect(),
            };
            (task_id(row.task_id), state)
        })
        .collect())
}

/// Notes firings, each with its monitor and its task, and when the next ones are.
///
/// # Errors
/// Any [`StoreError`].
pub async fn note_firings(
    db: &mut PgConnection,
    firings: &[(TaskId, TaskId, Firing)],
) -> Result<(), StoreError> {
    let monitors: Vec<Uuid> = firings.iter().map(|(monitor, ..)| uuid(*monitor)).collect();
    let numbers: Vec<i64> = firings.iter().map(|(.., firing)| firing.number).collect();
    let slots: Vec<Option<DateTime<Utc>>> = firings
        .iter()
        .map(|(.., firing)| firing.next.map(|next| next.slot_at))
        .collect();
    let nexts: Vec<Option<DateTime<Utc>>> = firings
        .iter()
        .map(|(.., firing)| firing.next.map(|next| next.at))
        .collect();
    sqlx::query!(
        r#"update monitor m set firings = v.number, slot_at = v.slot_at, next_at = v.next_at
           from unnest($1::uuid[], $2::bigint[], $3::timestamptz[], $4::timestamptz[]) as v(task_id, number, slot_at, next_at)
           where m.task_id = v.task_id"#,
        &monitors,
        &numbers,
        &slots as _,
        &nexts as _
    )
    .execute(&mut *db)
    .await?;
    sqlx::query!(
        "insert into monitor_firing (task_id, number, firing_id) select * from unnest($1::uuid[], $2::bigint[], $3::uuid[])",
        &monitors,
        &numbers,
        &firings.iter().map(|(_, task, _)| uuid(*task)).collect::<Vec<_>>()
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Monitors whose time has come and that are not held, the one that waits longest first. One that queues behind a firing
/// that has not ended is left out.
///
/// # Errors
/// Any [`StoreError`].
pub async fn list_due(db: impl PgExecutor<'_>, limit: i64) -> Result<Vec<DueMonitor>, StoreError> {
    let rows = sqlx::query!(
        r#"select m.task_id, m.session_uid, s.id as session_id, m.namespace_id, n.name as namespace, m.definition, m.overlap,
             m.firings, m.slot_at as "slot_at!", m.next_at as "next_at!", o.open as "open!", clock_timestamp() as "now!"
           from monitor m
           join task_live l on l.id = m.task_id and l.gate = 3
           join session s on s.uid = m.session_uid and s.deleted_at is null
           join namespace n on n.id = m.namespace_id
           cross join lateral (select count(*) as open from monitor_firing f join task_live fl on fl.id = f.firing_id
             where f.task_id = m.task_id) o
           where m.next_at <= clock_timestamp() and (m.overlap <> 2 or o.open = 0)
           order by m.next_at limit $1"#,
        limit
    )
    .fetch_all(db)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(DueMonitor {
                task: task_id(row.task_id),
                session: SessionUid(row.session_uid),
                session_id: row.session_id,
                namespace_id: row.namespace_id,
                namespace: row.namespace,
                definition: definition(&row.definition)?,
                overlap: row.overlap,
                firings: row.firings,
                next: NextFiring {
                    slot_at: row.slot_at,
                    at: row.next_at,
                },
                open: row.open,
                now: row.now,
            })
        })
        .collect()
}

/// Leaves out what was due, unless somebody else has dealt with it.
///
/// # Errors
/// Any [`StoreError`].
pub async fn skip(
    db: impl PgExecutor<'_>,
    monitor: TaskId,
    due_at: DateTime<Utc>,
    next: Option<NextFiring>,
) -> Result<(), StoreError> {
    sqlx::query!(
        "update monitor set slot_at = $3, next_at = $4, skipped = skipped + 1 where task_id = $1 and next_at = $2",
        uuid(monitor),
        due_at,
        next.map(|next| next.slot_at),
        next.map(|next| next.at)
    )
    .execute(db)
    .await?;
    Ok(())
}
