//! How much of what has ended is kept, and which tasks are beyond that.

use super::StoreError;
use sqlx::PgExecutor;
use std::time::Duration;
use taskyard_core::id::{SessionUid, TaskId};
use uuid::Uuid;

/// How much is kept; none: no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Age of ended tasks.
    pub ended_task_ttl: Option<Duration>,
    /// Ended tasks of a session.
    pub max_ended_tasks: Option<i64>,
    /// Bytes of a session's ended tasks: output, and the files in their folders.
    pub max_ended_bytes: Option<i64>,
}

/// An ended task that is beyond the limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Surplus {
    /// The task.
    pub task: TaskId,
    /// Its session.
    pub session: SessionUid,
    /// Bytes of its output that are kept, and of the files in its folder.
    pub bytes: i64,
}

/// Sets the limits of a namespace, or of one session.
///
/// # Errors
/// Any [`StoreError`].
pub async fn set(
    db: impl PgExecutor<'_>,
    namespace_id: i32,
    session: Option<SessionUid>,
    limits: Limits,
) -> Result<(), StoreError> {
    sqlx::query!(
        "insert into retention (namespace_id, session_uid, ended_task_ttl_ms, max_ended_tasks, max_ended_bytes)
         values ($1, $2, $3, $4, $5)
         on conflict (namespace_id, coalesce(session_uid, 0)) do update set ended_task_ttl_ms = $3, max_ended_tasks = $4,
           max_ended_bytes = $5, updated_at = clock_timestamp()",
        namespace_id,
        session.map(|session| session.0),
        limits.ended_task_ttl.map(milliseconds),
        limits.max_ended_tasks,
        limits.max_ended_bytes
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Removes the limits of a namespace, or of one session.
///
/// # Errors
/// Any [`StoreError`].
pub async fn remove(
    db: impl PgExecutor<'_>,
    namespace_id: i32,
    session: Option<SessionUid>,
) -> Result<(), StoreError> {
    sqlx::query!(
        "delete from retention where namespace_id = $1 and coalesce(session_uid, 0) = $2",
        namespace_id,
        session.map_or(0, |session| session.0)
    )
    .execute(db)
    .await?;
    Ok(())
}

/// The limits of a namespace, or of one session, of its own.
///
/// # Errors
/// Any [`StoreError`].
pub async fn get(
    db: impl PgExecutor<'_>,
    namespace_id: i32,
    session: Option<SessionUid>,
) -> Result<Option<Limits>, StoreError> {
    let row = sqlx::query!(
        "select ended_task_ttl_ms, max_ended_tasks, max_ended_bytes from retention
         where namespace_id = $1 and coalesce(session_uid, 0) = $2",
        namespace_id,
        session.map_or(0, |session| session.0)
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| Limits {
        ended_task_ttl: row
            .ended_task_ttl_ms
            .map(|ms| Duration::from_millis(ms.unsigned_abs())),
        max_ended_tasks: row.max_ended_tasks,
        max_ended_bytes: row.max_ended_bytes,
    }))
}

/// Namespaces in which there is any limit.
///
/// # Errors
/// Any [`StoreError`].
pub async fn list_namespaces(db: impl PgExecutor<'_>) -> Result<Vec<i32>, StoreError> {
    Ok(
        sqlx::query_scalar!("select distinct namespace_id from retention order by namespace_id")
            .fetch_all(db)
            .await?,
    )
}

/// Ended tasks of a namespace, or of one session of it, that are older than their limit allows, oldest first.
///
/// # Errors
/// Any [`StoreError`].
pub async fn find_aged(
    db: impl PgExecutor<'_>,
    namespace_id: i32,
    session: Option<SessionUid>,
    limit: i64,
) -> Result<Vec<Surplus>, StoreError> {
    let rows = sqlx::query_file!(
        "src/store/sql/aged_tasks.sql",
        namespace_id,
        session.map(|session| session.0),
        limit
    )
    .fetch_all(db)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Surplus {
            task: TaskId(row.id.as_u128()),
            session: SessionUid(row.session_uid),
            bytes: row.bytes,
        })
        .collect())
}

/// Sessions whose number or size of ended tasks is limited, after one of them, in the order of their numbers.
///
/// # Errors
/// Any [`StoreError`].
pub async fn list_limited_sessions(
    db: impl PgExecutor<'_>,
    namespace_id: i32,
    session: Option<SessionUid>,
    after: SessionUid,
    limit: i64,
) -> Result<Vec<(SessionUid, Limits)>, StoreError> {
    let rows = sqlx::query!(
        r#"select s.uid, r.max_ended_tasks, r.max_ended_bytes
           from session s cross join lateral (
             select max_ended_tasks, max_ended_bytes from retention
             where namespace_id = $1 and (session_uid = s.uid or session_uid is null)
             order by session_uid nulls last limit 1) r
           where s.namespace_id = $1 and s.uid > $2 and ($3::bigint is null or s.uid = $3) and s.deleted_at is null
             and (r.max_ended_tasks is not null or r.max_ended_bytes is not null)
           order by s.uid limit $4"#,
        namespace_id,
        after.0,
        session.map(|session| session.0),
        limit
    )
    .fetch_all(db)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let limits = Limits {
                ended_task_ttl: None,
                max_ended_tasks: row.max_ended_tasks,
                max_ended_bytes: row.max_ended_bytes,
            };
            (SessionUid(row.uid), limits)
        })
        .collect())
}

/// The oldest ended tasks of a session beyond its limits of number and size. Costs a look at each ended task that is kept.
///
/// # Errors
/// Any [`StoreError`].
pub async fn find_surplus(
    db: impl PgExecutor<'_>,
    session: SessionUid,
    limits: Limits,
    limit: i64,
) -> Result<Vec<Surplus>, StoreError> {
    let rows = sqlx::query_file!(
        "src/store/sql/surplus_tasks.sql",
        session.0,
        limits.max_ended_tasks,
        limits.max_ended_bytes,
        limit
    )
    .fetch_all(db)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Surplus {
            task: TaskId(Uuid::as_u128(&row.id)),
            session,
            bytes: row.bytes,
        })
        .collect())
}

fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
