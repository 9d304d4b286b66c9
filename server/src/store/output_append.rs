//! Appending output: fenced by the lease, compare-and-set on what is durable.

use super::StoreError;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgExecutor};
use taskyard_core::{
    id::{Epoch, LeaseId, TaskId},
    output::{Retention, Stored},
};
use uuid::Uuid;

/// Whether a lease may append to a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseStanding {
    /// It is held and the run is the current one.
    Held,
    /// Another one is, or none.
    Lost,
    /// The task has ended.
    Terminal,
}

/// Which lease wants to append to which run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appender {
    /// The task.
    pub task: TaskId,
    /// Epoch of the lease.
    pub epoch: Epoch,
    /// Id of the lease.
    pub lease_id: LeaseId,
    /// The run.
    pub run: i32,
}

/// One stream of one run, as it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamState {
    /// The task.
    pub task: TaskId,
    /// The run.
    pub run: i32,
    /// 1 stdout, 2 stderr.
    pub stream: i16,
    /// What is stored.
    pub stored: Stored,
    /// What the worker says was written so far.
    pub total: u64,
    /// What is kept.
    pub retention: Retention,
}

/// A piece of output to store.
#[derive(Clone, Debug)]
pub struct NewChunk {
    /// The task.
    pub task: TaskId,
    /// The run.
    pub run: i32,
    /// 1 stdout, 2 stderr.
    pub stream: i16,
    /// Offset of its first byte.
    pub offset: u64,
    /// Order among the chunks of both streams.
    pub order: i64,
    /// When it was read.
    pub at: DateTime<Utc>,
    /// The bytes.
    pub data: Bytes,
}

/// Locks the tasks against ending and says how each lease stands. The lock is the weakest that a delete waits for, so
/// that progress and cancels of the same task go on.
///
/// # Errors
/// Any [`StoreError`].
pub async fn check_leases(
    db: &mut PgConnection,
    appenders: &[Appender],
) -> Result<Vec<LeaseStanding>, StoreError> {
    let ids: Vec<Uuid> = appenders
        .iter()
        .map(|appender| Uuid::from_u128(appender.task.0))
        .collect();
    let rows = sqlx::query!(
        r#"select id, epoch, lease_id, run, state <> 0 and worker_session is not null as "is_held!"
           from task_live where id = any($1) order by id for key share"#,
        &ids
    )
    .fetch_all(db)
    .await?;
    Ok(appenders
        .iter()
        .map(|appender| {
            let id = Uuid::from_u128(appender.task.0);
            match rows.iter().find(|row| row.id == id) {
                None => LeaseStanding::Terminal,
                Some(row)
                    if row.is_held
                        && row.epoch == appender.epoch.0
                        && row.lease_id == Some(Uuid::from_u128(appender.lease_id.0))
                        && row.run == appender.run =>
                {
                    LeaseStanding::Held
                }
                Some(_) => LeaseStanding::Lost,
            }
        })
        .collect())
}

/// Locks the streams of runs and reads how they stand; streams without a row are left out.
///
/// # Errors
/// Any [`StoreError`].
pub async fn lock_streams(
    db: &mut PgConnection,
    runs: &[(TaskId, i32)],
) -> Result<Vec<StreamState>, StoreError> {
    let rows = sqlx::query!(
        r#"select task_id, run, stream, durable_end, contiguous_from, total, head_bytes, tail_bytes from output_stream
           where (task_id, run) in (select * from unnest($1::uuid[], $2::int[])) order by task_id, run, stream for update"#,
        &runs.iter().map(|(task, _)| Uuid::from_u128(task.0)).collect::<Vec<_>>(),
        &runs.iter().map(|(_, run)| *run).collect::<Vec<_>>()
    )
    .fetch_all(db)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| StreamState {
            task: TaskId(row.task_id.as_u128()),
            run: row.run,
            stream: row.stream,
            stored: Stored {
                durable_end: row.durable_end.cast_unsigned(),
                contiguous_from: row.contiguous_from.cast_unsigned(),
            },
            total: row.total.cast_unsigned(),
            retention: Retention {
                head: row.head_bytes.cast_unsigned(),
                tail: row.tail_bytes.cast_unsigned(),
            },
        })
        .collect())
}

/// Stores how streams stand now.
///
/// # Errors
/// Any [`StoreError`].
pub async fn save_streams(
    db: &mut PgConnection,
    streams: &[StreamState],
) -> Result<(), StoreError> {
    let column = |value: fn(&StreamState) -> u64| {
        streams
            .iter()
            .map(|state| value(state).cast_signed())
            .collect::<Vec<_>>()
    };
    sqlx::query!(
        "insert into output_stream (task_id, run, stream, durable_end, contiguous_from, total, head_bytes, tail_bytes)
         select * from unnest($1::uuid[], $2::int[], $3::smallint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[])
         on conflict (task_id, run, stream) do update
           set durable_end = excluded.durable_end, contiguous_from = excluded.contiguous_from, total = excluded.total",
        &streams.iter().map(|state| Uuid::from_u128(state.task.0)).collect::<Vec<_>>(),
        &streams.iter().map(|state| state.run).collect::<Vec<_>>(),
        &streams.iter().map(|state| state.stream).collect::<Vec<_>>(),
        &column(|state| state.stored.durable_end),
        &column(|state| state.stored.contiguous_from),
        &column(|state| state.total),
        &column(|state| state.retention.head),
        &column(|state| state.retention.tail)
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Stores chunks.
///
/// # Errors
/// Any [`StoreError`].
pub async fn insert_chunks(db: &mut PgConnection, chunks: &[NewChunk]) -> Result<(), StoreError> {
    let ends = |chunk: &NewChunk| {
        chunk.offset.cast_signed() + i64::try_from(chunk.data.len()).unwrap_or(i64::MAX)
    };
    sqlx::query!(
        "insert into output_chunk (task_id, run, stream, start_offset, end_offset, chunk_order, at, data)
         select * from unnest($1::uuid[], $2::int[], $3::smallint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::timestamptz[], $8::bytea[])",
        &chunks.iter().map(|chunk| Uuid::from_u128(chunk.task.0)).collect::<Vec<_>>(),
        &chunks.iter().map(|chunk| chunk.run).collect::<Vec<_>>(),
        &chunks.iter().map(|chunk| chunk.stream).collect::<Vec<_>>(),
        &chunks.iter().map(|chunk| chunk.offset.cast_signed()).collect::<Vec<_>>(),
        &chunks.iter().map(ends).collect::<Vec<_>>(),
        &chunks.iter().map(|chunk| chunk.order).collect::<Vec<_>>(),
        &chunks.iter().map(|chunk| chunk.at).collect::<Vec<_>>(),
        &chunks.iter().map(|chunk| &chunk.data[..]).collect::<Vec<_>>() as _
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Deletes the chunks of a stream that lie wholly in `[from, to)`.
///
/// # Errors
/// Any [`StoreError`].
pub async fn delete_chunks(
    db: impl PgExecutor<'_>,
    state: &StreamState,
    from: u64,
    to: u64,
) -> Result<(), StoreError> {
    sqlx::query!(
        "delete from output_chunk where task_id = $1 and run = $2 and stream = $3 and start_offset >= $4 and end_offset <= $5",
        Uuid::from_u128(state.task.0),
        state.run,
        state.stream,
        from.cast_signed(),
        to.cast_signed()
    )
    .execute(db)
    .await?;
    Ok(())
}
