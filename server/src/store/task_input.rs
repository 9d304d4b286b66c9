//! Live input of runs: accepted from clients, kept until the worker has given it to the process, and the last of it longer,
//! to know a repeated call by.

use super::StoreError;
use bytes::Bytes;
use sqlx::{PgConnection, PgExecutor};
use taskyard_core::{
    id::{Epoch, LeaseId, TaskId, WorkerSessionId},
    input::{Input, KEPT},
};
use uuid::Uuid;

/// A live task as one sees it who writes to its process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LiveTask {
    /// Whether it waits in the queue.
    pub is_queued: bool,
    /// Starts so far.
    pub run: i32,
    /// Who holds it.
    pub worker: Option<WorkerSessionId>,
}

struct LiveRow {
    is_queued: bool,
    run: i32,
    worker_session: Option<i64>,
}

impl From<LiveRow> for LiveTask {
    fn from(row: LiveRow) -> Self {
        Self {
            is_queued: row.is_queued,
            run: row.run,
            worker: row.worker_session.map(WorkerSessionId),
        }
    }
}

/// Locks a task against ending; none: it has ended. The lock is the weakest that a delete waits for.
///
/// # Errors
/// Any [`StoreError`].
pub async fn lock_live(
    db: &mut PgConnection,
    task: TaskId,
) -> Result<Option<LiveTask>, StoreError> {
    let row = sqlx::query_as!(
        LiveRow,
        r#"select state = 0 as "is_queued!", run, worker_session from task_live where id = $1 for key share"#,
        Uuid::from_u128(task.0)
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(LiveTask::from))
}

/// The same without a lock.
///
/// # Errors
/// Any [`StoreError`].
pub async fn find_live(
    db: impl PgExecutor<'_>,
    task: TaskId,
) -> Result<Option<LiveTask>, StoreError> {
    let row = sqlx::query_as!(
        LiveRow,
        r#"select state = 0 as "is_queued!", run, worker_session from task_live where id = $1"#,
        Uuid::from_u128(task.0)
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(LiveTask::from))
}

/// The worker that works on a run under a lease; none: the lease is not held, or for another run.
///
/// # Errors
/// Any [`StoreError`].
pub async fn find_holder(
    db: impl PgExecutor<'_>,
    task: TaskId,
    epoch: Epoch,
    lease_id: LeaseId,
    run: i32,
) -> Result<Option<WorkerSessionId>, StoreError> {
    let worker = sqlx::query_scalar!(
        "select worker_session from task_live
         where id = $1 and epoch = $2 and lease_id = $3 and run = $4 and state <> 0",
        Uuid::from_u128(task.0),
        epoch.0,
        Uuid::from_u128(lease_id.0),
        run
    )
    .fetch_optional(db)
    .await?;
    Ok(worker.flatten().map(WorkerSessionId))
}

/// Locks the input of a run; none: nobody has written to it.
///
/// # Errors
/// Any [`StoreError`].
pub async fn lock_input(
    db: &mut PgConnection,
    task: TaskId,
    run: i32,
) -> Result<Option<Input>, StoreError> {
    let row = sqlx::query!(
        "select accepted, delivered, ended from task_input where task_id = $1 and run = $2 for update",
        Uuid::from_u128(task.0),
        run
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| Input {
        accepted: row.accepted.cast_unsigned(),
        delivered: row.delivered.cast_unsigned(),
        ended: row.ended,
    }))
}

/// Begins the input of a run, unless somebody else has.
///
/// # Errors
/// Any [`StoreError`].
pub async fn begin_input(
    db: impl PgExecutor<'_>,
    task: TaskId,
    run: i32,
) -> Result<(), StoreError> {
    sqlx::query!(
        "insert into task_input (task_id, run) values ($1, $2) on conflict do nothing",
        Uuid::from_u128(task.0),
        run
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Stores how a locked input stands now, with `data` as its last bytes.
///
/// # Errors
/// Any [`StoreError`].
pub async fn append_input(
    db: &mut PgConnection,
    task: TaskId,
    run: i32,
    after: Input,
    data: &[u8],
) -> Result<(), StoreError> {
    let id = Uuid::from_u128(task.0);
    sqlx::query!(
        "update task_input set accepted = $3, ended = $4 where task_id = $1 and run = $2",
        id,
        run,
        after.accepted.cast_signed(),
        after.ended
    )
    .execute(&mut *db)
    .await?;
    if !data.is_empty() {
        let start = after.accepted.saturating_sub(data.len() as u64);
        sqlx::query!(
            "insert into task_input_chunk (task_id, run, start_offset, data) values ($1, $2, $3, $4)",
            id,
            run,
            start.cast_signed(),
            data
        )
        .execute(db)
        .await?;
    }
    Ok(())
}

/// The accepted bytes from `from` up to `to`, as far as they are kept: whole chunks, each with the offset of its first
/// byte. The input must be locked.
///
/// # Errors
/// Any [`StoreError`].
pub async fn read_kept(
    db: &mut PgConnection,
    task: TaskId,
    run: i32,
    from: u64,
    to: u64,
) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
    // The lower bound is for the index: no chunk is longer than a call.
    let rows = sqlx::query!(
        "select start_offset, data from task_input_chunk
         where task_id = $1 and run = $2 and start_offset > $3::bigint - 65536 and start_offset < $4
           and start_offset + octet_length(data) > $3
         order by start_offset",
        Uuid::from_u128(task.0),
        run,
        from.cast_signed(),
        to.cast_signed()
    )
    .fetch_all(db)
    .await?;
    let chunks = rows
        .into_iter()
        .map(|row| (row.start_offset.cast_unsigned(), row.data));
    Ok(chunks.collect())
}

/// Notes that all before `offset` was given to the process, and forgets it but for the last [`KEPT`] bytes.
///
/// # Errors
/// Any [`StoreError`].
pub async fn acknowledge(
    db: impl PgExecutor<'_>,
    task: TaskId,
    run: i32,
    offset: u64,
) -> Result<(), StoreError> {
    sqlx::query!(
        "with taken as (
           update task_input set delivered = least($3, accepted)
           where task_id = $1 and run = $2 and delivered < least($3, accepted))
         delete from task_input_chunk c using task_input i
         where i.task_id = $1 and i.run = $2 and c.task_id = $1 and c.run = $2
           and c.start_offset < least($3, i.accepted - $4)
           and c.start_offset + octet_length(c.data) <= least($3, i.accepted - $4)",
        Uuid::from_u128(task.0),
        run,
        offset.cast_signed(),
        KEPT.cast_signed()
    )
    .execute(db)
    .await?;
    Ok(())
}

/// The input of a run, and the chunks with what follows `offset`, at most `limit`: each with the offset of its first byte.
///
/// # Errors
/// Any [`StoreError`].
pub async fn read_input(
    db: &mut PgConnection,
    task: TaskId,
    run: i32,
    offset: u64,
    limit: i64,
) -> Result<(Input, Vec<(u64, Bytes)>), StoreError> {
    let id = Uuid::from_u128(task.0);
    // Chunks first: what is accepted in between is only not seen yet, and no end before it either.
    let chunks = sqlx::query!(
        "select start_offset, data from task_input_chunk
         where task_id = $1 and run = $2 and start_offset + octet_length(data) > $3 order by start_offset limit $4",
        id,
        run,
        offset.cast_signed(),
        limit
    )
    .fetch_all(&mut *db)
    .await?;
    let row = sqlx::query!(
        "select accepted, delivered, ended from task_input where task_id = $1 and run = $2",
        id,
        run
    )
    .fetch_optional(db)
    .await?;
    let input = row.map_or_else(Input::default, |row| Input {
        accepted: row.accepted.cast_unsigned(),
        delivered: row.delivered.cast_unsigned(),
        ended: row.ended,
    });
    let chunks = chunks
        .into_iter()
        .map(|row| (row.start_offset.cast_unsigned(), Bytes::from(row.data)));
    Ok((input, chunks.collect()))
}

/// Forgets inputs of runs that are over, at most `limit` of them.
///
/// # Errors
/// Any [`StoreError`].
pub async fn forget_inputs(db: impl PgExecutor<'_>, limit: i64) -> Result<(), StoreError> {
    sqlx::query!(
        "with over as (
           select i.task_id, i.run from task_input i
           where not exists (select 1 from task_live l where l.id = i.task_id and l.run <= i.run) limit $1),
         chunks as (
           delete from task_input_chunk c using over where c.task_id = over.task_id and c.run = over.run)
         delete from task_input i using over where i.task_id = over.task_id and i.run = over.run",
        limit
    )
    .execute(db)
    .await?;
    Ok(())
}
