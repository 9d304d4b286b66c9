//! Live tasks of whole trees, for who cancels them from the top down.

use super::StoreError;
use sqlx::PgExecutor;
use taskyard_core::id::{SessionUid, TaskId};
use uuid::Uuid;

/// Live tasks below `ancestor`, however far, whose cancel nobody has asked for; those nearest to it first, at most
/// `limit`. Ended tasks between do not hide what is below them.
///
/// # Errors
/// Any [`StoreError`].
pub async fn list_below(
    db: impl PgExecutor<'_>,
    ancestor: TaskId,
    limit: i64,
) -> Result<Vec<TaskId>, StoreError> {
    let ids = sqlx::query_scalar!(
        r#"with recursive below as (
             select id, depth from task where parent_id = $1
             union all
             select t.id, t.depth from below b join task t on t.parent_id = b.id)
           select l.id from below b join task_live l on l.id = b.id
           where l.cancel_requested_at is null order by b.depth, l.id limit $2"#,
        Uuid::from_u128(ancestor.0),
        limit
    )
    .fetch_all(db)
    .await?;
    Ok(to_ids(ids))
}

/// Live tasks of a session whose cancel nobody has asked for, as far as their roots have ordinals up to `up_to`; those
/// nearest to their roots first, at most `limit`.
///
/// # Errors
/// Any [`StoreError`].
pub async fn list_of_session(
    db: impl PgExecutor<'_>,
    session: SessionUid,
    up_to: i64,
    limit: i64,
) -> Result<Vec<TaskId>, StoreError> {
    let ids = sqlx::query_scalar!(
        "select l.id from task_live l join task t on t.id = l.id join task r on r.id = t.root_id
         where l.session_uid = $1 and l.cancel_requested_at is null and r.ordinal <= $2
         order by t.depth, l.id limit $3",
        session.0,
        up_to,
        limit
    )
    .fetch_all(db)
    .await?;
    Ok(to_ids(ids))
}

/// Live tasks whose cancel nobody has asked for: those of a group with ordinals up to `up_to`, and all below them; those
/// nearest to their roots first, at most `limit`.
///
/// # Errors
/// Any [`StoreError`].
pub async fn list_of_group(
    db: impl PgExecutor<'_>,
    session: SessionUid,
    group: &str,
    up_to: i64,
    limit: i64,
) -> Result<Vec<TaskId>, StoreError> {
    let ids = sqlx::query_scalar!(
        r#"with recursive reached as (
             select id, depth from task where session_uid = $1 and group_name = $2 and ordinal <= $3
             union
             select t.id, t.depth from reached r join task t on t.parent_id = r.id)
           select l.id from reached r join task_live l on l.id = r.id
           where l.cancel_requested_at is null order by r.depth, l.id limit $4"#,
        session.0,
        group,
        up_to,
        limit
    )
    .fetch_all(db)
    .await?;
    Ok(to_ids(ids))
}

/// Whether a task of a group with an ordinal up to `up_to`, or one below such a task, is live.
///
/// # Errors
/// Any [`StoreError`].
pub async fn is_group_live(
    db: impl PgExecutor<'_>,
    session: SessionUid,
    group: &str,
    up_to: i64,
) -> Result<bool, StoreError> {
    let is_live = sqlx::query_scalar!(
        r#"with recursive reached as (
             select id from task where session_uid = $1 and group_name = $2 and ordinal <= $3
             union
             select t.id from reached r join task t on t.parent_id = r.id)
           select exists (select from reached r join task_live l on l.id = r.id) as "is_live!""#,
        session.0,
        group,
        up_to
    )
    .fetch_one(db)
    .await?;
    Ok(is_live)
}

/// Ordinal of the newest task of a session; 0: it has none.
///
/// # Errors
/// Any [`StoreError`].
pub async fn newest_ordinal(
    db: impl PgExecutor<'_>,
    session: SessionUid,
) -> Result<i64, StoreError> {
    let newest = sqlx::query_scalar!(
        r#"select next_ordinal - 1 as "newest!" from session where uid = $1"#,
        session.0
    )
    .fetch_optional(db)
    .await?;
    Ok(newest.unwrap_or(0))
}

fn to_ids(ids: Vec<Uuid>) -> Vec<TaskId> {
    ids.into_iter().map(|id| TaskId(id.as_u128())).collect()
}
