//! What monitors leave behind: work to be canceled, rows to be removed.

use super::columns::task_id;
use crate::store::StoreError;
use sqlx::PgExecutor;
use taskyard_core::id::{SessionUid, TaskId};

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
