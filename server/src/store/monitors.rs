//! Monitors: what is due and what has ended. Firings and judgements are written by the group commit
//! under the lock of the monitor's task.

use super::{StoreError, records};
use chrono::{DateTime, Utc};
use prost::Message as _;
use sqlx::{PgConnection, PgExecutor};
use std::collections::BTreeSet;
use taskyard_core::id::{SessionUid, TaskId};
use taskyard_proto::{
    storage::v1::RunEnd,
    v1::{TaskDefinition, TaskState},
};
use uuid::Uuid;

/// What makes a new task part of a monitor.
#[derive(Clone, Debug)]
pub enum MonitorPart {
    /// It is a monitor.
    Monitor(Box<NewMonitor>),
    /// It is a firing of its parent.
    Firing(Firing),
}

/// What a new monitor has beside its task.
#[derive(Clone, Debug)]
pub struct NewMonitor {
    /// The definition of its firings, with the schedule.
    pub definition: TaskDefinition,
    /// What happens while an earlier firing runs, as on the wire.
    pub overlap: i16,
    /// Ended firings that are kept.
    pub keep_firings: i32,
    /// The first firing.
    pub next: NextFiring,
}

/// When a monitor fires next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextFiring {
    /// What the schedule says.
    pub slot_at: DateTime<Utc>,
    /// When it is made, which may be a little later.
    pub at: DateTime<Utc>,
}

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

/// How one firing ended.
#[derive(Clone, Debug)]
pub struct Judgement {
    /// The monitor.
    pub monitor: TaskId,
    /// The firing's number.
    pub number: i64,
    /// The firing that was judged before it; 0: none.
    pub after: i64,
    /// The firing.
    pub firing: TaskId,
    /// How it ended.
    pub state: TaskState,
    /// Its summary.
    pub summary: String,
    /// What came of it; none: leave what is there.
    pub digest: Option<[u8; 32]>,
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

/// A firing that has ended and was not judged.
#[derive(Clone, Debug)]
pub struct EndedFiring {
    /// The monitor.
    pub monitor: TaskId,
    /// Number of its session.
    pub session: SessionUid,
    /// The definition of its firings, with the schedule.
    pub definition: TaskDefinition,
    /// The firing that was judged last; 0: none.
    pub judged: i64,
    /// What came of the newest firing that was judged and not canceled.
    pub last_digest: Option<[u8; 32]>,
    /// Its number.
    pub number: i64,
    /// The firing.
    pub firing: TaskId,
    /// How it ended.
    pub state: TaskState,
    /// Its summary.
    pub summary: String,
    /// How its last run went.
    pub run_end: RunEnd,
}

/// Stores new monitors, whose tasks are stored in the same transaction.
///
/// # Errors
/// Any [`StoreError`].
pub async fn insert_monitors(
    db: &mut PgConnection,
    monitors: &[(TaskId, i32, SessionUid, &NewMonitor)],
) -> Result<(), StoreError> {
    sqlx::query!(
        r#"insert into monitor (task_id, namespace_id, session_uid, definition, overlap, keep_firings, slot_at, next_at)
           select * from unnest($1::uuid[], $2::int[], $3::bigint[], $4::bytea[], $5::smallint[], $6::int[],
             $7::timestamptz[], $8::timestamptz[])"#,
        &monitors.iter().map(|(task, ..)| uuid(*task)).collect::<Vec<_>>(),
        &monitors.iter().map(|(_, namespace_id, ..)| *namespace_id).collect::<Vec<_>>(),
        &monitors.iter().map(|(_, _, session, _)| session.0).collect::<Vec<_>>(),
        &monitors.iter().map(|(.., new)| new.definition.encode_to_vec()).collect::<Vec<_>>(),
        &monitors.iter().map(|(.., new)| new.overlap).collect::<Vec<_>>(),
        &monitors.iter().map(|(.., new)| new.keep_firings).collect::<Vec<_>>(),
        &monitors.iter().map(|(.., new)| new.next.slot_at).collect::<Vec<_>>(),
        &monitors.iter().map(|(.., new)| new.next.at).collect::<Vec<_>>()
    )
    .execute(db)
    .await?;
    Ok(())
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

/// Notes judgements, in order.
///
/// # Errors
/// Any [`StoreError`].
pub async fn note_judgements(
    db: &mut PgConnection,
    judgements: &[Judgement],
) -> Result<(), StoreError> {
    let monitors: Vec<Uuid> = judgements
        .iter()
        .map(|judged| uuid(judged.monitor))
        .collect();
    let numbers: Vec<i64> = judgements.iter().map(|judged| judged.number).collect();
    sqlx::query!(
        "delete from monitor_firing f using unnest($1::uuid[], $2::bigint[]) as v(task_id, number)
         where f.task_id = v.task_id and f.number = v.number",
        &monitors,
        &numbers
    )
    .execute(&mut *db)
    .await?;
    // one by one: a batch may hold several of one monitor, and the last of them stands
    for judged in judgements {
        sqlx::query!(
            r#"update monitor set judged = $2, last_task = $3, last_state = $4, last_summary = $5,
                 last_digest = coalesce($6, last_digest)
               where task_id = $1"#,
            uuid(judged.monitor),
            judged.number,
            uuid(judged.firing),
            stored_state(judged.state),
            judged.summary,
            judged.digest.as_ref().map(|digest| digest.as_slice())
        )
        .execute(&mut *db)
        .await?;
    }
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

/// Firings that have ended and were not judged, by monitor and number. One that was deleted before counts as canceled, so
/// that its monitor does not wait for it.
///
/// # Errors
/// Any [`StoreError`].
pub async fn list_ended_firings(
    db: impl PgExecutor<'_>,
    limit: i64,
) -> Result<Vec<EndedFiring>, StoreError> {
    let rows = sqlx::query!(
        r#"select m.task_id, m.session_uid, m.definition, m.judged, m.last_digest, f.number, f.firing_id,
             coalesce(e.state, 5::smallint) as "state!", coalesce(e.summary, 'deleted before it was judged') as "summary!",
             e.run_end as "run_end?"
           from monitor_firing f
           join monitor m on m.task_id = f.task_id
           left join task_end e on e.id = f.firing_id
           where exists (select from task_live l where l.id = m.task_id)
             and not exists (select from task_live fl where fl.id = f.firing_id)
           order by f.task_id, f.number limit $1"#,
        limit
    )
    .fetch_all(db)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(EndedFiring {
                monitor: task_id(row.task_id),
                session: SessionUid(row.session_uid),
                definition: definition(&row.definition)?,
                judged: row.judged,
                last_digest: row
                    .last_digest
                    .map(|digest| {
                        <[u8; 32]>::try_from(digest.as_slice())
                            .map_err(|error| StoreError::corrupt("digest", error))
                    })
                    .transpose()?,
                number: row.number,
                firing: task_id(row.firing_id),
                state: records::task_state(row.state)?,
                summary: row.summary,
                run_end: records::decode("run end", row.run_end.as_deref())?.unwrap_or_default(),
            })
        })
        .collect()
}

/// Live monitors that will not fire again and whose firings were all judged, with their firings and the end of the last.
///
/// # Errors
/// Any [`StoreError`].
pub async fn list_complete(
    db: impl PgExecutor<'_>,
    limit: i64,
) -> Result<Vec<(TaskId, SessionUid, i64, TaskState)>, StoreError> {
    let rows = sqlx::query!(
        r#"select m.task_id, m.session_uid, m.firings, m.last_state as "last_state!" from monitor m
           join task_live l on l.id = m.task_id
           where m.next_at is null and m.last_state is not null
             and not exists (select from monitor_firing f where f.task_id = m.task_id)
           order by m.task_id limit $1"#,
        limit
    )
    .fetch_all(db)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok((
                task_id(row.task_id),
                SessionUid(row.session_uid),
                row.firings,
                records::task_state(row.last_state)?,
            ))
        })
        .collect()
}

/// Firings of monitors that have ended, and everything below them, that are live and of which no cancel was asked for.
///
/// # Errors
/// Any [`StoreError`].
pub async fn list_left_behind(
    db: impl PgExecutor<'_>,
    limit: i64,
) -> Result<Vec<(TaskId, SessionUid)>, StoreError> {
    let rows = sqlx::query!(
        r#"with recursive below as (
             select f.firing_id as id from monitor m join monitor_firing f on f.task_id = m.task_id
             where not exists (select from task_live l where l.id = m.task_id)
             union all
             select t.id from task t join below on t.parent_id = below.id)
           select l.id, l.session_uid from below join task_live l on l.id = below.id
           where l.cancel_requested_at is null limit $1"#,
        limit
    )
    .fetch_all(db)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| (task_id(row.id), SessionUid(row.session_uid)))
        .collect())
}

/// Forgets monitors that have ended and have left nothing behind.
///
/// # Errors
/// Any [`StoreError`].
pub async fn forget_ended(db: impl PgExecutor<'_>, limit: i64) -> Result<(), StoreError> {
    sqlx::query!(
        r#"delete from monitor where task_id in (
             select m.task_id from monitor m
             where not exists (select from task_live l where l.id = m.task_id)
               and not exists (select from monitor_firing f join task_live l on l.id = f.firing_id
                 where f.task_id = m.task_id and l.cancel_requested_at is null)
             limit $1 for update skip locked)"#,
        limit
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Judged firings beyond those that their monitors keep, oldest first.
///
/// # Errors
/// Any [`StoreError`].
pub async fn list_surplus(
    db: impl PgExecutor<'_>,
    limit: i64,
) -> Result<Vec<(SessionUid, TaskId)>, StoreError> {
    let rows = sqlx::query!(
        r#"select m.session_uid, old.id as "id!" from monitor m
           cross join lateral (select t.id from task t join task_end e on e.id = t.id
             where t.parent_id = m.task_id and t.key is not null
               and not exists (select from monitor_firing f where f.task_id = m.task_id and f.firing_id = t.id)
             order by t.id desc offset m.keep_firings) old
           where m.firings > m.keep_firings
           order by m.session_uid, old.id limit $1"#,
        limit
    )
    .fetch_all(db)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| (SessionUid(row.session_uid), task_id(row.id)))
        .collect())
}

pub(super) fn definition(bytes: &[u8]) -> Result<TaskDefinition, StoreError> {
    TaskDefinition::decode(bytes).map_err(|error| StoreError::corrupt("definition", error))
}

/// The terminal states as they are stored.
fn stored_state(state: TaskState) -> i16 {
    match state {
        TaskState::Succeeded => 3,
        TaskState::Canceled => 5,
        TaskState::Failed
        | TaskState::Unspecified
        | TaskState::Queued
        | TaskState::Running
        | TaskState::AwaitingInput => 4,
    }
}

pub(super) fn uuid(task: TaskId) -> Uuid {
    Uuid::from_u128(task.0)
}

pub(super) fn task_id(id: Uuid) -> TaskId {
    TaskId(id.as_u128())
}
