//! Judgements of firings that have ended, and monitors that are done with theirs.

use super::columns::{definition, stored_state, task_id, uuid};
use crate::store::{StoreError, records};
use sqlx::{PgConnection, PgExecutor};
use taskyard_core::id::{SessionUid, TaskId};
use taskyard_proto::storage::v1::RunEnd;
use taskyard_proto::v1::{TaskDefinition, TaskState};
use uuid::Uuid;

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
    /// Its last run; 0: none.
    pub run: i32,
    /// How it ended.
    pub state: TaskState,
    /// Its summary.
    pub summary: String,
    /// How its last run went.
    pub run_end: RunEnd,
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
             e.run_end as "run_end?", coalesce(e.run, 0) as "run!"
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
                run: row.run,
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
