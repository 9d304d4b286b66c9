//! Reading the output of runs.

use super::{StoreError, records};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use sqlx::PgExecutor;
use taskyard_core::id::TaskId;
use taskyard_proto::{
    storage::v1::RunEnd,
    v1::{Exit, TaskState},
};
use uuid::Uuid;

/// Most chunks of one stream that one read gives.
pub const MAX_CHUNKS: i64 = 256;

/// What is stored of one stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoredStream {
    /// Everything retained before this offset is stored.
    pub durable_end: i64,
    /// Everything from here to `durable_end` is stored.
    pub contiguous_from: i64,
    /// Bytes written so far, as far as is known.
    pub total: i64,
}

/// A task and one of its runs, at one moment.
#[derive(Clone, Debug)]
pub struct RunStanding {
    /// The task's state.
    pub state: TaskState,
    /// Its latest run; 0: none.
    pub latest_run: i32,
    /// Whether a worker holds the task.
    pub is_held: bool,
    /// Whether its session was deleted: everything of it goes soon.
    pub is_session_deleted: bool,
    /// How its last run ended; set exactly when it is terminal and a run was reported to its end.
    pub run_end: Option<RunEnd>,
    /// How the process of the run before a backoff ended.
    pub last_exit: Option<Exit>,
    /// Standard output of the run that was asked for.
    pub stdout: StoredStream,
    /// Standard error of it.
    pub stderr: StoredStream,
}

/// Some stored bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredChunk {
    /// 1 stdout, 2 stderr.
    pub stream: i16,
    /// Offset of the first byte.
    pub start: i64,
    /// The bytes.
    pub data: Bytes,
    /// When the worker read them.
    pub at: DateTime<Utc>,
    /// Order among the chunks of both streams.
    pub order: i64,
}

/// How a task and one of its runs stand; none if there is no such task.
///
/// # Errors
/// Any [`StoreError`].
pub async fn run_standing(
    db: impl PgExecutor<'_>,
    task: TaskId,
    run: i32,
) -> Result<Option<RunStanding>, StoreError> {
    let row = sqlx::query!(
        r#"select coalesce(l.state, e.state) as "state!", coalesce(l.run, e.run) as "run!",
             (l.worker_session is not null) as "is_held!", (s.deleted_at is not null) as "is_session_deleted!", e.run_end as "run_end?", l.last_exit as "last_exit?",
             coalesce(o.durable_end, 0) as "stdout_durable!", coalesce(o.contiguous_from, 0) as "stdout_from!",
             coalesce(o.total, 0) as "stdout_total!", coalesce(r.durable_end, 0) as "stderr_durable!",
             coalesce(r.contiguous_from, 0) as "stderr_from!", coalesce(r.total, 0) as "stderr_total!"
           from task t
           join session s on s.uid = t.session_uid
           left join task_live l on l.id = t.id
           left join task_end e on e.id = t.id
           left join output_stream o on o.task_id = t.id and o.run = $2 and o.stream = 1
           left join output_stream r on r.task_id = t.id and r.run = $2 and r.stream = 2
           where t.id = $1"#,
        Uuid::from_u128(task.0),
        run
    )
    .fetch_optional(db)
    .await?;
    row.map(|row| {
        Ok(RunStanding {
            state: records::task_state(row.state)?,
            latest_run: row.run,
            is_held: row.is_held,
            is_session_deleted: row.is_session_deleted,
            run_end: records::decode("run end", row.run_end.as_deref())?,
            last_exit: records::decode("exit", row.last_exit.as_deref())?,
            stdout: StoredStream {
                durable_end: row.stdout_durable,
                contiguous_from: row.stdout_from,
                total: row.stdout_total,
            },
            stderr: StoredStream {
                durable_end: row.stderr_durable,
                contiguous_from: row.stderr_from,
                total: row.stderr_total,
            },
        })
    })
    .transpose()
}

/// How the process of an earlier run ended; none if that is not known.
///
/// # Errors
/// Any [`StoreError`].
pub async fn earlier_exit(
    db: impl PgExecutor<'_>,
    task: TaskId,
    run: i32,
) -> Result<Option<Exit>, StoreError> {
    let exit = sqlx::query_scalar!(
        "select exit from attempt where task_id = $1 and run = $2 order by attempt desc limit 1",
        Uuid::from_u128(task.0),
        run
    )
    .fetch_optional(db)
    .await?
    .flatten();
    records::decode("exit", exit.as_deref())
}

/// Stored bytes of streams that end after the given offsets, in the order of the chunks: of each stream at least one
/// chunk if there is one, and no more chunks once `max_bytes` are reached. The first one may begin before the offset.
///
/// # Errors
/// Any [`StoreError`].
pub async fn read_chunks(
    db: impl PgExecutor<'_>,
    task: TaskId,
    run: i32,
    from: &[(i16, i64)],
    max_bytes: i64,
) -> Result<Vec<StoredChunk>, StoreError> {
    let streams: Vec<i16> = from.iter().map(|(stream, _)| *stream).collect();
    let offsets: Vec<i64> = from.iter().map(|(_, offset)| *offset).collect();
    // The chunk that holds an offset begins at the greatest one up to it. Bytes are fetched only where they are sent,
    // since the running sum needs none of them.
    let rows = sqlx::query!(
        r#"select w.stream as "stream!", c.start_offset as "start_offset!", c.chunk_order as "chunk_order!",
             c.at as "at!", c.data as "data!"
           from unnest($3::smallint[], $4::bigint[]) w(stream, from_offset)
           cross join lateral (
               select start_offset, chunk_order, at, data
               from (
                   select start_offset, end_offset, chunk_order, at, data,
                       (sum(end_offset - start_offset) over (order by start_offset))::bigint as bytes
                   from (
                       select start_offset, end_offset, chunk_order, at, data from output_chunk
                       where task_id = $1 and run = $2 and stream = w.stream
                         and start_offset >= coalesce((
                             select start_offset from output_chunk
                             where task_id = $1 and run = $2 and stream = w.stream and start_offset <= w.from_offset
                             order by start_offset desc limit 1), 0)
                         and end_offset > w.from_offset
                       order by start_offset limit $6
                   ) near
               ) summed
               where bytes - (end_offset - start_offset) < $5
           ) c
           order by c.chunk_order, c.start_offset"#,
        Uuid::from_u128(task.0),
        run,
        &streams,
        &offsets,
        max_bytes,
        MAX_CHUNKS
    )
    .fetch_all(db)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| StoredChunk {
            stream: row.stream,
            start: row.start_offset,
            data: Bytes::from(row.data),
            at: row.at,
            order: row.chunk_order,
        })
        .collect())
}

/// Where what was captured at `since` or later begins in a stream: at its first such chunk, or at the bytes that are
/// missing right before it. None: nothing stored is.
///
/// # Errors
/// Any [`StoreError`].
pub async fn captured_since(
    db: impl PgExecutor<'_>,
    task: TaskId,
    run: i32,
    stream: i16,
    since: DateTime<Utc>,
) -> Result<Option<i64>, StoreError> {
    Ok(sqlx::query_scalar!(
        r#"select coalesce((
               select end_offset from output_chunk
               where task_id = $1 and run = $2 and stream = $3 and start_offset < f.start_offset
               order by start_offset desc limit 1), 0) as "start!"
           from (
               select start_offset from output_chunk
               where task_id = $1 and run = $2 and stream = $3 and at >= $4
               order by start_offset limit 1) f"#,
        Uuid::from_u128(task.0),
        run,
        stream,
        since
    )
    .fetch_optional(db)
    .await?)
}

/// Stored bytes of one stream before `end`, last chunk first: at least one chunk if there is one, and no more once
/// `max_bytes` are reached.
///
/// # Errors
/// Any [`StoreError`].
pub async fn read_back(
    db: impl PgExecutor<'_>,
    task: TaskId,
    run: i32,
    stream: i16,
    end: i64,
    max_bytes: i64,
) -> Result<Vec<StoredChunk>, StoreError> {
    let rows = sqlx::query!(
        r#"select start_offset as "start_offset!", chunk_order as "chunk_order!", at as "at!", data as "data!"
           from (
               select start_offset, end_offset, chunk_order, at, data,
                   (sum(end_offset - start_offset) over (order by start_offset desc))::bigint as bytes
               from (
                   select start_offset, end_offset, chunk_order, at, data from output_chunk
                   where task_id = $1 and run = $2 and stream = $3 and start_offset < $4
                   order by start_offset desc limit $6
               ) near
           ) summed
           where bytes - (end_offset - start_offset) < $5
           order by start_offset desc"#,
        Uuid::from_u128(task.0),
        run,
        stream,
        end,
        max_bytes,
        MAX_CHUNKS
    )
    .fetch_all(db)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| StoredChunk {
            stream,
            start: row.start_offset,
            data: Bytes::from(row.data),
            at: row.at,
            order: row.chunk_order,
        })
        .collect())
}

/// How far one stream of a task's newest run is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamMark {
    /// The task.
    pub task: TaskId,
    /// Whether the task has ended.
    pub has_ended: bool,
    /// Its newest run; 0: none.
    pub run: i32,
    /// 1 stdout, 2 stderr.
    pub stream: i16,
    /// Everything retained before this offset is stored.
    pub durable_end: i64,
}

/// How far the streams of the tasks' newest runs are stored, both of each task that exists, at one moment.
///
/// # Errors
/// Any [`StoreError`].
pub async fn stream_marks(
    db: impl PgExecutor<'_>,
    tasks: &[TaskId],
) -> Result<Vec<StreamMark>, StoreError> {
    let ids: Vec<Uuid> = tasks.iter().map(|id| Uuid::from_u128(id.0)).collect();
    let rows = sqlx::query!(
        r#"select w.id as "id!", (e.id is not null) as "has_ended!", coalesce(l.run, e.run) as "run!",
             n.stream as "stream!", coalesce(o.durable_end, 0) as "durable_end!"
           from unnest($1::uuid[]) w(id)
           cross join (values (1::smallint), (2::smallint)) n(stream)
           left join task_live l on l.id = w.id
           left join task_end e on e.id = w.id
           left join output_stream o on o.task_id = w.id and o.run = coalesce(l.run, e.run) and o.stream = n.stream
           where l.id is not null or e.id is not null"#,
        &ids
    )
    .fetch_all(db)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| StreamMark {
            task: TaskId(row.id.as_u128()),
            has_ended: row.has_ended,
            run: row.run,
            stream: row.stream,
            durable_end: row.durable_end,
        })
        .collect())
}
