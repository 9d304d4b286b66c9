//! Signals on their way from clients to the workers that hold the tasks.

use super::StoreError;
use sqlx::PgExecutor;
use std::time::Duration;
use taskyard_core::id::{Epoch, LeaseId, TaskId, WorkerSessionId};
use uuid::Uuid;

/// A signal that was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredSignal {
    /// Its number.
    pub number: i64,
    /// The run that it is for.
    pub run: i32,
    /// The worker that holds it.
    pub worker: WorkerSessionId,
}

/// A signal to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PendingSignal {
    /// Its number.
    pub number: i64,
    /// The task.
    pub task: TaskId,
    /// Epoch of the lease.
    pub epoch: Epoch,
    /// Id of the lease.
    pub lease_id: LeaseId,
    /// Number of the signal.
    pub signal: i16,
    /// To the root of the tree alone.
    pub root_only: bool,
}

/// What became of a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was sent to the process.
    Delivered = 1,
    /// There was no process.
    NotRunning = 2,
}

/// Stores a signal for whoever holds the task; none: it does not run.
///
/// # Errors
/// Any [`StoreError`].
pub async fn store_signal(
    db: impl PgExecutor<'_>,
    task: TaskId,
    signal: i16,
    root_only: bool,
) -> Result<Option<StoredSignal>, StoreError> {
    let row = sqlx::query!(
        "insert into task_signal (task_id, run, epoch, lease_id, worker_session, signal, root_only)
         select id, run, epoch, lease_id, worker_session, $2, $3 from task_live
         where id = $1 and state <> 0 and worker_session is not null
         returning id, run, worker_session",
        Uuid::from_u128(task.0),
        signal,
        root_only
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| StoredSignal {
        number: row.id,
        run: row.run,
        worker: WorkerSessionId(row.worker_session),
    }))
}

/// Signals for a worker that are not older than `age`, oldest first, at most `limit`.
///
/// # Errors
/// Any [`StoreError`].
pub async fn list_signals(
    db: impl PgExecutor<'_>,
    worker: WorkerSessionId,
    age: Duration,
    limit: i64,
) -> Result<Vec<PendingSignal>, StoreError> {
    let rows = sqlx::query!(
        "select id, task_id, epoch, lease_id, signal, root_only from task_signal
         where worker_session = $1 and outcome is null and at > clock_timestamp() - make_interval(secs => $2)
         order by id limit $3",
        worker.0,
        age.as_secs_f64(),
        limit
    )
    .fetch_all(db)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| PendingSignal {
            number: row.id,
            task: TaskId(row.task_id.as_u128()),
            epoch: Epoch(row.epoch),
            lease_id: LeaseId(row.lease_id.as_u128()),
            signal: row.signal,
            root_only: row.root_only,
        })
        .collect())
}

/// Notes what became of a signal; says whose it was, if it is still waited for.
///
/// # Errors
/// Any [`StoreError`].
pub async fn confirm_signal(
    db: impl PgExecutor<'_>,
    number: i64,
    lease_id: LeaseId,
    outcome: Outcome,
) -> Result<Option<WorkerSessionId>, StoreError> {
    let worker = sqlx::query_scalar!(
        "update task_signal set outcome = coalesce(outcome, $3) where id = $1 and lease_id = $2 returning worker_session",
        number,
        Uuid::from_u128(lease_id.0),
        outcome as i16
    )
    .fetch_optional(db)
    .await?;
    Ok(worker.map(WorkerSessionId))
}

/// What became of a signal; none: nothing is known yet.
///
/// # Errors
/// Any [`StoreError`].
pub async fn find_outcome(
    db: impl PgExecutor<'_>,
    number: i64,
) -> Result<Option<Outcome>, StoreError> {
    let outcome = sqlx::query_scalar!("select outcome from task_signal where id = $1", number)
        .fetch_optional(db)
        .await?;
    match outcome.flatten() {
        None => Ok(None),
        Some(1) => Ok(Some(Outcome::Delivered)),
        Some(2) => Ok(Some(Outcome::NotRunning)),
        Some(other) => Err(StoreError::corrupt("outcome of a signal", other)),
    }
}

/// Takes a signal back.
///
/// # Errors
/// Any [`StoreError`].
pub async fn remove_signal(db: impl PgExecutor<'_>, number: i64) -> Result<(), StoreError> {
    sqlx::query!("delete from task_signal where id = $1", number)
        .execute(db)
        .await?;
    Ok(())
}

/// Forgets signals that nobody waits for any more, at most `limit`.
///
/// # Errors
/// Any [`StoreError`].
pub async fn forget_signals(
    db: impl PgExecutor<'_>,
    age: Duration,
    limit: i64,
) -> Result<(), StoreError> {
    sqlx::query!(
        "delete from task_signal where id in (
           select id from task_signal where at < clock_timestamp() - make_interval(secs => $1) limit $2)",
        age.as_secs_f64(),
        limit
    )
    .execute(db)
    .await?;
    Ok(())
}
