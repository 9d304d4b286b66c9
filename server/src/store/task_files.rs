//! What the files below `/.tasks` are made of.

use super::{StoreError, times};
use sqlx::PgExecutor;
use std::ops::Range;
use taskyard_core::id::{SessionUid, TaskId};
use uuid::Uuid;

/// What decides which files a task's folder has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TaskFolder {
    /// Starts of its process so far.
    pub run: i32,
    /// Whether the task has ended.
    pub is_terminal: bool,
    /// When its generation last grew.
    pub updated_at: prost_types::Timestamp,
}

/// What is stored of one stream of one run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StoredStream {
    /// Bytes that were written, as far as the worker has said.
    pub total: u64,
    /// The whole ranges of what is stored, in order; no two of them touch.
    pub ranges: Vec<Range<u64>>,
    /// When the worker read the newest stored bytes; none where nothing is stored.
    pub newest_at: Option<prost_types::Timestamp>,
}

/// A stream of a run, as it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamKey {
    /// The task.
    pub task: TaskId,
    /// The run, from 1.
    pub run: i32,
    /// 1 stdout, 2 stderr.
    pub stream: i16,
}

/// The folder of a task, if the session has that task.
///
/// # Errors
/// Any [`StoreError`].
pub async fn find_task_folder(
    db: impl PgExecutor<'_>,
    session: SessionUid,
    task: TaskId,
) -> Result<Option<TaskFolder>, StoreError> {
    let row = sqlx::query!(
        r#"select coalesce(l.run, e.run) as "run!", e.id is not null as "is_terminal!",
             coalesce(l.updated_at, e.updated_at) as "updated_at!"
           from task t left join task_live l on l.id = t.id left join task_end e on e.id = t.id
           where t.id = $1 and t.session_uid = $2"#,
        Uuid::from_u128(task.0),
        session.0
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| TaskFolder {
        run: row.run,
        is_terminal: row.is_terminal,
        updated_at: times::to_proto(row.updated_at),
    }))
}

/// Tasks of a session above an ordinal, oldest first, with their ordinals. Ids grow with the ordinals.
///
/// # Errors
/// Any [`StoreError`].
pub async fn list_task_folders(
    db: impl PgExecutor<'_>,
    session: SessionUid,
    after_ordinal: i64,
    limit: i64,
) -> Result<Vec<(i64, TaskId)>, StoreError> {
    let rows = sqlx::query!(
        "select ordinal, id from task where session_uid = $1 and ordinal > $2 order by ordinal limit $3",
        session.0,
        after_ordinal,
        limit
    )
    .fetch_all(db)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| (row.ordinal, TaskId(row.id.as_u128())))
        .collect())
}

/// Which bytes of a stream are stored at this moment; nothing for a stream that does not exist.
///
/// # Errors
/// Any [`StoreError`].
pub async fn find_stored_stream(
    db: impl PgExecutor<'_>,
    key: StreamKey,
) -> Result<StoredStream, StoreError> {
    let rows = sqlx::query!(
        r#"with chunk as (
             select start_offset, end_offset, at,
               lag(end_offset) over (order by start_offset) is distinct from start_offset as starts_a_range
             from output_chunk where task_id = $1 and run = $2 and stream = $3),
           numbered as (
             select *, count(*) filter (where starts_a_range) over (order by start_offset) as range_no from chunk),
           range as (
             select min(start_offset) as start_offset, max(end_offset) as end_offset, max(at) as newest_at
             from numbered group by range_no)
           select s.total as "total!", r.start_offset as "start_offset?", r.end_offset as "end_offset?", r.newest_at as "newest_at?"
           from output_stream s left join range r on true
           where s.task_id = $1 and s.run = $2 and s.stream = $3 order by r.start_offset"#,
        Uuid::from_u128(key.task.0),
        key.run,
        key.stream
    )
    .fetch_all(db)
    .await?;
    let mut stored = StoredStream::default();
    let mut newest_at = None;
    for row in rows {
        stored.total = to_offset(row.total)?;
        if let (Some(start), Some(end)) = (row.start_offset, row.end_offset) {
            stored.ranges.push(to_offset(start)?..to_offset(end)?);
        }
        newest_at = newest_at.max(row.newest_at);
    }
    stored.newest_at = newest_at.map(times::to_proto);
    Ok(stored)
}

/// The stored bytes of a range of a stream; fewer than the range has where they are not, or no longer, stored.
///
/// # Errors
/// Any [`StoreError`].
pub async fn read_stored_range(
    db: impl PgExecutor<'_>,
    key: StreamKey,
    range: Range<u64>,
) -> Result<Vec<u8>, StoreError> {
    let (from, to) = (from_offset(range.start), from_offset(range.end));
    let parts = sqlx::query_scalar!(
        r#"select substr(data, greatest($4 - start_offset, 0)::integer + 1,
             (least(end_offset, $5) - greatest(start_offset, $4))::integer) as "part!"
           from output_chunk
           where task_id = $1 and run = $2 and stream = $3 and start_offset < $5 and end_offset > $4
             and start_offset >= coalesce((select max(b.start_offset) from output_chunk b
               where b.task_id = $1 and b.run = $2 and b.stream = $3 and b.start_offset <= $4), 0)
           order by start_offset"#,
        Uuid::from_u128(key.task.0),
        key.run,
        key.stream,
        from,
        to
    )
    .fetch_all(db)
    .await?;
    Ok(parts.concat())
}

fn to_offset(stored: i64) -> Result<u64, StoreError> {
    u64::try_from(stored).map_err(|_| StoreError::corrupt("offset", stored))
}

fn from_offset(offset: u64) -> i64 {
    i64::try_from(offset).unwrap_or(i64::MAX)
}
