//! Tasks and questions whose time has come.

use super::StoreError;
use sqlx::PgExecutor;
use taskyard_core::id::{QuestionId, SessionUid, TaskId};
use uuid::Uuid;

/// Tasks whose gate was closed until a time that has passed, earliest first, at most `limit`.
///
/// # Errors
/// Any [`StoreError`].
pub async fn list_due(
    db: impl PgExecutor<'_>,
    limit: i64,
) -> Result<Vec<(TaskId, SessionUid)>, StoreError> {
    let rows = sqlx::query!(
        "select id, session_uid from task_live where gate = 1 and not_before <= clock_timestamp() order by not_before limit $1",
        limit
    )
    .fetch_all(db)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| found(row.id, row.session_uid))
        .collect())
}

/// Tasks that have not started and whose start deadline has passed, at most `limit`.
///
/// # Errors
/// Any [`StoreError`].
pub async fn list_past_start_deadline(
    db: impl PgExecutor<'_>,
    limit: i64,
) -> Result<Vec<(TaskId, SessionUid)>, StoreError> {
    let rows = sqlx::query!(
        "select id, session_uid from task_live
         where start_deadline is not null and state = 0 and run = 0 and start_deadline < clock_timestamp()
         order by start_deadline limit $1",
        limit
    )
    .fetch_all(db)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| found(row.id, row.session_uid))
        .collect())
}

/// Pending questions whose time is up, earliest first, at most `limit`.
///
/// # Errors
/// Any [`StoreError`].
pub async fn list_expired_questions(
    db: impl PgExecutor<'_>,
    limit: i64,
) -> Result<Vec<(TaskId, SessionUid, QuestionId)>, StoreError> {
    let rows = sqlx::query!(
        r#"select id, session_uid, question_id as "question_id!" from task_live
           where question_expires_at <= clock_timestamp() and question_id is not null
           order by question_expires_at limit $1"#,
        limit
    )
    .fetch_all(db)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let (task, session) = found(row.id, row.session_uid);
            (task, session, QuestionId(row.question_id.as_u128()))
        })
        .collect())
}

fn found(id: Uuid, session_uid: i64) -> (TaskId, SessionUid) {
    (TaskId(id.as_u128()), SessionUid(session_uid))
}
