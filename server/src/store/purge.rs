//! Deleting tasks and sessions for good, in bounded steps.

use super::{StoreError, batch, usage};
use chrono::{DateTime, Utc};
use prost::Message as _;
use sqlx::{Connection as _, PgConnection, PgExecutor};
use taskyard_core::id::{SessionUid, TaskId};
use taskyard_proto::{
    storage::v1::{LogPage, LoggedEvent},
    v1::SessionEventType,
};
use uuid::Uuid;

/// A session that is being deleted.
#[derive(Clone, Copy, Debug)]
pub struct DeletedSession {
    /// Its number.
    pub session: SessionUid,
    /// Tasks that have not ended yet.
    pub open_tasks: i64,
    /// How long ago it was deleted, in milliseconds.
    pub age_ms: i64,
}

/// Marks a session deleted and logs it, in one transaction: its id is free again, its log says so. Answers with its number
/// and its open tasks; none: there is no such session.
///
/// # Errors
/// Any [`StoreError`].
pub async fn mark_session_deleted(
    db: &mut PgConnection,
    namespace_id: i32,
    session_id: &str,
) -> Result<Option<(SessionUid, i64)>, StoreError> {
    let mut transaction = db.begin().await?;
    let row = sqlx::query!(
        r#"update session set deleted_at = clock_timestamp(), next_seq = next_seq + 1, updated_at = clock_timestamp()
           where namespace_id = $1 and id = $2 and deleted_at is null
           returning uid, open_tasks, next_seq - 1 as "seq!", deleted_at as "at!""#,
        namespace_id,
        session_id
    )
    .fetch_optional(&mut *transaction)
    .await?;
    let Some(row) = row else {
        return Ok(None);
    };
    let session = SessionUid(row.uid);
    let event = LoggedEvent {
        r#type: SessionEventType::SessionDeleted.into(),
        ..LoggedEvent::default()
    };
    log_events(&mut transaction, session, row.seq, row.at, vec![event]).await?;
    transaction.commit().await?;
    Ok(Some((session, row.open_tasks)))
}

/// Sessions that are being deleted, oldest first.
///
/// # Errors
/// Any [`StoreError`].
pub async fn list_deleted_sessions(
    db: impl PgExecutor<'_>,
    limit: i64,
) -> Result<Vec<DeletedSession>, StoreError> {
    let rows = sqlx::query!(
        r#"select uid, open_tasks,
             (extract(epoch from clock_timestamp() - deleted_at) * 1000)::bigint as "age_ms!"
           from session where deleted_at is not null order by uid limit $1"#,
        limit
    )
    .fetch_all(db)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| DeletedSession {
            session: SessionUid(row.uid),
            open_tasks: row.open_tasks,
            age_ms: row.age_ms,
        })
        .collect())
}

/// Live tasks of a session of which no cancel was asked for.
///
/// # Errors
/// Any [`StoreError`].
pub async fn list_uncanceled(
    db: impl PgExecutor<'_>,
    session: SessionUid,
    limit: i64,
) -> Result<Vec<TaskId>, StoreError> {
    let ids = sqlx::query_scalar!(
        "select id from task_live where session_uid = $1 and cancel_requested_at is null order by id limit $2",
        session.0,
        limit
    )
    .fetch_all(db)
    .await?;
    Ok(ids.into_iter().map(|id| TaskId(id.as_u128())).collect())
}

/// Deletes ended tasks of one session with everything of them but wakes that nobody has acknowledged, and logs it, in one
/// transaction. Those that another server deletes at this moment, or that are gone, are left out. Says which were deleted.
///
/// # Errors
/// Any [`StoreError`].
pub async fn delete_ended(
    db: &mut PgConnection,
    session: SessionUid,
    tasks: &[TaskId],
) -> Result<Vec<TaskId>, StoreError> {
    let mut transaction = db.begin().await?;
    let ids: Vec<Uuid> = tasks.iter().map(|task| Uuid::from_u128(task.0)).collect();
    let locked = sqlx::query!(
        r#"select e.id, t.ordinal, e.generation from task_end e join task t on t.id = e.id
           where e.id = any($1) and t.session_uid = $2 order by e.id for update of e skip locked"#,
        &ids,
        session.0
    )
    .fetch_all(&mut *transaction)
    .await?;
    if locked.is_empty() {
        return Ok(Vec::new());
    }
    let found: Vec<Uuid> = locked.iter().map(|row| row.id).collect();
    // whoever sleeps until a wake must get it, whatever became of the task
    sqlx::query!(
        "update wake set task_deleted_at = clock_timestamp() where session_uid = $1 and task_id = any($2)",
        session.0,
        &found
    )
    .execute(&mut *transaction)
    .await?;
    let roots = delete_task_rows(&mut transaction, session, &found).await?;
    let events: Vec<LoggedEvent> = locked
        .iter()
        .map(|row| LoggedEvent {
            task_id: bytes::Bytes::copy_from_slice(row.id.as_bytes()),
            r#type: SessionEventType::TaskDeleted.into(),
            ordinal: row.ordinal,
            generation: row.generation,
            ..LoggedEvent::default()
        })
        .collect();
    let count = i64::try_from(events.len()).unwrap_or(i64::MAX);
    let numbers = sqlx::query!(
        r#"update session set next_seq = next_seq + $2, updated_at = clock_timestamp() where uid = $1
           returning next_seq - $2 as "first_seq!", updated_at as "at!""#,
        session.0,
        count
    )
    .fetch_one(&mut *transaction)
    .await?;
    // Under the session's lock, so that of a root and its child, deleted on two servers, one sees the other gone.
    usage::forget_runs(&mut transaction, &roots).await?;
    log_events(
        &mut transaction,
        session,
        numbers.first_seq,
        numbers.at,
        events,
    )
    .await?;
    transaction.commit().await?;
    Ok(found.into_iter().map(|id| TaskId(id.as_u128())).collect())
}

/// Removes one step of a deleted session without open tasks: some of its tasks, or some of its files, or last its log and
/// itself. Whether anything is left to remove. Servers that meet leave it to the one that came first.
///
/// # Errors
/// Any [`StoreError`].
pub async fn remove_session_step(
    db: &mut PgConnection,
    session: SessionUid,
    limit: i64,
    log_too: bool,
) -> Result<bool, StoreError> {
    let mut transaction = db.begin().await?;
    let is_ours = sqlx::query_scalar!(
        r#"select pg_try_advisory_xact_lock(hashtextextended('remove session ' || $1::bigint::text, 0)) as "is_ours!""#,
        session.0
    )
    .fetch_one(&mut *transaction)
    .await?;
    if !is_ours {
        return Ok(false);
    }
    let tasks: Vec<Uuid> = sqlx::query_scalar!(
        "select id from task where session_uid = $1 order by ordinal limit $2",
        session.0,
        limit
    )
    .fetch_all(&mut *transaction)
    .await?;
    let has_more = if !tasks.is_empty() {
        sqlx::query!(
            "delete from wake where session_uid = $1 and task_id = any($2)",
            session.0,
            &tasks
        )
        .execute(&mut *transaction)
        .await?;
        let roots = delete_task_rows(&mut transaction, session, &tasks).await?;
        usage::forget_runs(&mut transaction, &roots).await?;
        true
    } else if delete_files(&mut transaction, session, limit).await? > 0 {
        true
    } else if log_too {
        delete_session_row(&mut transaction, session, limit).await?
    } else {
        false
    };
    transaction.commit().await?;
    Ok(has_more)
}

/// Says the roots of the deleted tasks' trees.
async fn delete_task_rows(
    db: &mut PgConnection,
    session: SessionUid,
    tasks: &[Uuid],
) -> Result<Vec<Uuid>, StoreError> {
    sqlx::query!("delete from output_chunk where task_id = any($1)", tasks)
        .execute(&mut *db)
        .await?;
    sqlx::query!("delete from output_stream where task_id = any($1)", tasks)
        .execute(&mut *db)
        .await?;
    sqlx::query!("delete from message where task_id = any($1)", tasks)
        .execute(&mut *db)
        .await?;
    sqlx::query!("delete from question where task_id = any($1)", tasks)
        .execute(&mut *db)
        .await?;
    sqlx::query!("delete from run_report where task_id = any($1)", tasks)
        .execute(&mut *db)
        .await?;
    sqlx::query!("delete from attempt where task_id = any($1)", tasks)
        .execute(&mut *db)
        .await?;
    let folders: Vec<String> = tasks
        .iter()
        .map(|id| format!("/.tasks/{}/", TaskId(id.as_u128())))
        .collect();
    for folder in folders {
        // `0` comes right after `/`: everything that begins with the folder lies between
        let end = format!("{}0", folder.trim_end_matches('/'));
        sqlx::query!(
            "delete from file_chunk where session_uid = $1 and path > $2 and path < $3",
            session.0,
            folder,
            end
        )
        .execute(&mut *db)
        .await?;
        sqlx::query!(
            "delete from file where session_uid = $1 and path > $2 and path < $3",
            session.0,
            folder,
            end
        )
        .execute(&mut *db)
        .await?;
    }
    sqlx::query!("delete from task_end where id = any($1)", tasks)
        .execute(&mut *db)
        .await?;
    let roots: Vec<Uuid> = sqlx::query_scalar!(
        "delete from task where id = any($1) returning root_id",
        tasks
    )
    .fetch_all(db)
    .await?;
    Ok(roots)
}

async fn delete_files(
    db: &mut PgConnection,
    session: SessionUid,
    limit: i64,
) -> Result<u64, StoreError> {
    let chunks = sqlx::query!(
        "delete from file_chunk where (session_uid, path, version, chunk_no) in (
           select session_uid, path, version, chunk_no from file_chunk where session_uid = $1 limit $2)",
        session.0,
        limit
    )
    .execute(&mut *db)
    .await?;
    let files = sqlx::query!(
        "delete from file where (session_uid, path) in (select session_uid, path from file where session_uid = $1 limit $2)",
        session.0,
        limit
    )
    .execute(db)
    .await?;
    Ok(chunks.rows_affected() + files.rows_affected())
}

/// Whether some of its log is left.
async fn delete_session_row(
    db: &mut PgConnection,
    session: SessionUid,
    limit: i64,
) -> Result<bool, StoreError> {
    let pages = sqlx::query!(
        "delete from session_log where session_uid = $1 and last_seq in (
           select last_seq from session_log where session_uid = $1 order by last_seq limit $2)",
        session.0,
        limit
    )
    .execute(&mut *db)
    .await?;
    if pages.rows_affected() > 0 {
        return Ok(true);
    }
    sqlx::query!("delete from wake where session_uid = $1", session.0)
        .execute(&mut *db)
        .await?;
    sqlx::query!(
        "delete from webhook_delivery where webhook_id in (
           select w.id from webhook w join session s on s.namespace_id = w.namespace_id and s.uid = w.session_uid
           where s.uid = $1)",
        session.0
    )
    .execute(&mut *db)
    .await?;
    sqlx::query!(
        "delete from webhook w using session s
         where s.uid = $1 and w.namespace_id = s.namespace_id and w.session_uid = s.uid",
        session.0
    )
    .execute(&mut *db)
    .await?;
    usage::forget_session(db, session).await?;
    sqlx::query!("delete from retention where session_uid = $1", session.0)
        .execute(&mut *db)
        .await?;
    sqlx::query!(
        "delete from session where uid = $1 and deleted_at is not null",
        session.0
    )
    .execute(db)
    .await?;
    Ok(false)
}

async fn log_events(
    db: &mut PgConnection,
    session: SessionUid,
    first_seq: i64,
    at: DateTime<Utc>,
    events: Vec<LoggedEvent>,
) -> Result<(), StoreError> {
    let count = i64::try_from(events.len()).unwrap_or(i64::MAX);
    let row = batch::LogRow {
        session,
        first_seq,
        last_seq: first_seq + count - 1,
        at,
        body: LogPage { events }.encode_to_vec(),
    };
    batch::append_log(db, &[row]).await
}
