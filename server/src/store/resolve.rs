//! From what a client calls a task to the task.

use super::StoreError;
use sqlx::PgExecutor;
use taskyard_core::id::{SessionUid, TaskId};
use uuid::Uuid;

/// A task that was found, and whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundTask {
    /// The task.
    pub id: TaskId,
    /// Its session.
    pub session: SessionUid,
}

/// By whole id, within a namespace.
///
/// # Errors
/// Any [`StoreError`].
pub async fn find_by_id(
    db: impl PgExecutor<'_>,
    namespace_id: i32,
    id: TaskId,
) -> Result<Option<FoundTask>, StoreError> {
    let uid = sqlx::query_scalar!(
        "select t.session_uid from task t join session s on s.uid = t.session_uid and s.deleted_at is null
         where t.id = $1 and t.namespace_id = $2",
        Uuid::from_u128(id.0),
        namespace_id
    )
    .fetch_optional(db)
    .await?;
    Ok(uid.map(|uid| FoundTask {
        id,
        session: SessionUid(uid),
    }))
}

/// By ordinal.
///
/// # Errors
/// Any [`StoreError`].
pub async fn find_by_ordinal(
    db: impl PgExecutor<'_>,
    session: SessionUid,
    ordinal: i64,
) -> Result<Option<FoundTask>, StoreError> {
    let id = sqlx::query_scalar!(
        "select id from task where session_uid = $1 and ordinal = $2",
        session.0,
        ordinal
    )
    .fetch_optional(db)
    .await?;
    Ok(id.map(|id| FoundTask {
        id: TaskId(id.as_u128()),
        session,
    }))
}

/// By the name of a live task.
///
/// # Errors
/// Any [`StoreError`].
pub async fn find_by_name(
    db: impl PgExecutor<'_>,
    session: SessionUid,
    name: &str,
) -> Result<Option<FoundTask>, StoreError> {
    let id = sqlx::query_scalar!(
        "select id from task_live where session_uid = $1 and name = $2",
        session.0,
        name
    )
    .fetch_optional(db)
    .await?;
    Ok(id.map(|id| FoundTask {
        id: TaskId(id.as_u128()),
        session,
    }))
}

/// All tasks of a session whose ids lie in a range, both ends included; at most `limit`.
///
/// # Errors
/// Any [`StoreError`].
pub async fn find_by_id_range(
    db: impl PgExecutor<'_>,
    session: SessionUid,
    range: (TaskId, TaskId),
    limit: i64,
) -> Result<Vec<FoundTask>, StoreError> {
    let ids = sqlx::query_scalar!(
        "select id from task where id between $1 and $2 and session_uid = $3 order by id limit $4",
        Uuid::from_u128(range.0.0),
        Uuid::from_u128(range.1.0),
        session.0,
        limit
    )
    .fetch_all(db)
    .await?;
    Ok(ids
        .into_iter()
        .map(|id| FoundTask {
            id: TaskId(id.as_u128()),
            session,
        })
        .collect())
}

/// Which of these tasks are below `ancestor`, however far.
///
/// # Errors
/// Any [`StoreError`].
pub async fn find_descendants(
    db: impl PgExecutor<'_>,
    ancestor: TaskId,
    tasks: &[TaskId],
) -> Result<Vec<TaskId>, StoreError> {
    let below = sqlx::query_scalar!(
        r#"with recursive above as (
             select id as task, parent_id from task where id = any($1)
             union all
             select above.task, t.parent_id from above join task t on t.id = above.parent_id)
           select distinct task as "task!" from above where parent_id = $2"#,
        &tasks
            .iter()
            .map(|task| Uuid::from_u128(task.0))
            .collect::<Vec<_>>(),
        Uuid::from_u128(ancestor.0)
    )
    .fetch_all(db)
    .await?;
    Ok(below.into_iter().map(|id| TaskId(id.as_u128())).collect())
}
