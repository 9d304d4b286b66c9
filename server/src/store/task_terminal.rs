//! Sizes of terminals: what clients want, until the worker that holds the task has it.

use super::StoreError;
use sqlx::PgExecutor;
use taskyard_core::id::TaskId;
use uuid::Uuid;

/// The size of a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TerminalSize {
    /// Which change it was; the highest number counts.
    pub number: i64,
    /// Lines.
    pub rows: i16,
    /// Characters in a line.
    pub columns: i16,
}

/// Notes the newest size of a task's terminal; its number.
///
/// # Errors
/// Any [`StoreError`].
pub async fn store_size(
    db: impl PgExecutor<'_>,
    task: TaskId,
    rows: i16,
    columns: i16,
) -> Result<i64, StoreError> {
    let number = sqlx::query_scalar!(
        "insert into task_terminal as t (task_id, rows, columns) values ($1, $2, $3)
         on conflict (task_id) do update set rows = $2, columns = $3, number = t.number + 1
         returning number",
        Uuid::from_u128(task.0),
        rows,
        columns
    )
    .fetch_one(db)
    .await?;
    Ok(number)
}

/// The newest size of a task's terminal, if it is newer than the one with the number `after`.
///
/// # Errors
/// Any [`StoreError`].
pub async fn find_size(
    db: impl PgExecutor<'_>,
    task: TaskId,
    after: i64,
) -> Result<Option<TerminalSize>, StoreError> {
    let size = sqlx::query_as!(
        TerminalSize,
        "select number, rows, columns from task_terminal where task_id = $1 and number > $2",
        Uuid::from_u128(task.0),
        after
    )
    .fetch_optional(db)
    .await?;
    Ok(size)
}

/// Forgets sizes of tasks that have ended, at most `limit` of them.
///
/// # Errors
/// Any [`StoreError`].
pub async fn forget_sizes(db: impl PgExecutor<'_>, limit: i64) -> Result<(), StoreError> {
    sqlx::query!(
        "delete from task_terminal where task_id in (
           select t.task_id from task_terminal t
           where not exists (select 1 from task_live l where l.id = t.task_id) limit $1)",
        limit
    )
    .execute(db)
    .await?;
    Ok(())
}
