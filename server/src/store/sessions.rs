//! Namespaces and sessions.

use super::{StoreError, times};
use crate::identity::reach::NameRanges;
use chrono::{DateTime, Utc};
use prost_types::Timestamp;
use sqlx::PgExecutor;
use taskyard_core::id::SessionUid;

/// One session, for a listing.
#[derive(Clone, Debug)]
pub struct SessionRow {
    /// Its number.
    pub uid: SessionUid,
    /// Its id.
    pub id: String,
    /// Tasks that are not terminal.
    pub open_tasks: i64,
    /// Tasks created so far.
    pub total_tasks: i64,
    /// Tasks that have succeeded so far.
    pub succeeded_tasks: i64,
    /// Tasks that have failed so far.
    pub failed_tasks: i64,
    /// Tasks that were canceled so far.
    pub canceled_tasks: i64,
    /// Open tasks that wait for an answer.
    pub awaiting_input_tasks: i64,
    /// Number of its newest event; 0: none.
    pub last_seq: i64,
    /// When it was first used.
    pub created_at: Timestamp,
    /// When its newest event was committed.
    pub updated_at: Option<Timestamp>,
    /// Bytes of its files.
    pub file_bytes: i64,
    /// Its files.
    pub files: i64,
}

/// The number of a namespace.
///
/// # Errors
/// Any [`StoreError`].
pub async fn find_namespace(
    db: impl PgExecutor<'_>,
    name: &str,
) -> Result<Option<i32>, StoreError> {
    Ok(
        sqlx::query_scalar!("select id from namespace where name = $1", name)
            .fetch_optional(db)
            .await?,
    )
}

/// The number of a namespace, which is made if it does not exist. The name must be valid.
///
/// # Errors
/// [`StoreError::Conflict`] if another transaction has just made it; the next look finds it. Any other [`StoreError`].
pub async fn ensure_namespace(db: impl PgExecutor<'_>, name: &str) -> Result<i32, StoreError> {
    sqlx::query_scalar!(
        r#"with made as (insert into namespace (name) values ($1) on conflict (name) do nothing returning id)
           select id as "id!" from made union all select id from namespace where name = $1 limit 1"#,
        name
    )
    .fetch_optional(db)
    .await?
    .ok_or_else(|| StoreError::Conflict(sqlx::Error::RowNotFound))
}

/// Numbers of those of these sessions that exist, in no order.
///
/// # Errors
/// Any [`StoreError`].
pub async fn find_sessions(
    db: impl PgExecutor<'_>,
    namespace_id: i32,
    ids: &[String],
) -> Result<Vec<SessionUid>, StoreError> {
    let uids = sqlx::query_scalar!(
        "select uid from session where namespace_id = $1 and id = any($2) and deleted_at is null",
        namespace_id,
        ids
    )
    .fetch_all(db)
    .await?;
    Ok(uids.into_iter().map(SessionUid).collect())
}

/// What a session is called; none: it was deleted.
///
/// # Errors
/// Any [`StoreError`].
pub async fn name_of(
    db: impl PgExecutor<'_>,
    session: SessionUid,
) -> Result<Option<String>, StoreError> {
    Ok(sqlx::query_scalar!(
        "select id from session where uid = $1 and deleted_at is null",
        session.0
    )
    .fetch_optional(db)
    .await?)
}

/// The number of a session.
///
/// # Errors
/// Any [`StoreError`].
pub async fn find_session(
    db: impl PgExecutor<'_>,
    namespace_id: i32,
    id: &str,
) -> Result<Option<SessionUid>, StoreError> {
    Ok(sqlx::query_scalar!(
        "select uid from session where namespace_id = $1 and id = $2 and deleted_at is null",
        namespace_id,
        id
    )
    .fetch_optional(db)
    .await?
    .map(SessionUid))
}

/// The number of a session, which is made if it does not exist. The id must be valid.
///
/// # Errors
/// Any [`StoreError`].
pub async fn ensure_session(
    db: impl PgExecutor<'_>,
    namespace_id: i32,
    id: &str,
) -> Result<SessionUid, StoreError> {
    let uid = sqlx::query_scalar!(
        r#"with made as (insert into session (namespace_id, id) values ($1, $2) 
             on conflict (namespace_id, id) where deleted_at is null do nothing returning uid)
           select uid as "uid!" from made union all
           select uid from session where namespace_id = $1 and id = $2 and deleted_at is null limit 1"#,
        namespace_id,
        id
    )
    .fetch_optional(db)
    .await?;
    // Between the insert that met another's row and the select, both of one snapshot, that row may not be visible yet.
    uid.map(SessionUid)
        .ok_or_else(|| StoreError::Conflict(sqlx::Error::RowNotFound))
}

/// As [`list_sessions`], but only those with these names. What it costs depends on how many of these there are, not on
/// what else the namespace has.
///
/// # Errors
/// Any [`StoreError`].
pub async fn list_named_sessions(
    db: impl PgExecutor<'_>,
    namespace_id: i32,
    named: &NameRanges,
    before: Option<SessionUid>,
    limit: i64,
) -> Result<Vec<SessionRow>, StoreError> {
    // each arm is a look into the index of names; an `or`, or `like any`, would be a walk through the namespace
    let rows = sqlx::query_as!(
        ListedRow,
        r#"with own as materialized (
             select uid from session where namespace_id = $1 and id = any($2) and deleted_at is null
             union
             select found.uid from unnest($3::text[], $4::text[]) span(low, high)
               cross join lateral (select uid from session where namespace_id = $1 and id >= span.low
                 and id < span.high and deleted_at is null offset 0) found
             union
             select found.uid from unnest($3::text[], $4::text[]) span(low, high)
               cross join lateral (select uid from session where namespace_id = $1 and id >= span.low
                 and deleted_at is null offset 0) found
               where span.high is null),
           page as materialized (select uid from own where uid < $5 order by uid desc limit $6)
           select session.uid, id, open_tasks, next_ordinal - 1 as "total_tasks!", succeeded_tasks, failed_tasks,
             canceled_tasks, awaiting_input_tasks, next_seq - 1 as "last_seq!", created_at, updated_at,
             coalesce(u.bytes, 0) as "file_bytes!", coalesce(u.files, 0) as "files!"
           from page join session using (uid) left join file_usage u on u.session_uid = session.uid
           where deleted_at is null order by session.uid desc"#,
        namespace_id,
        &named.names,
        &named.starts,
        &named.ends as &[Option<String>],
        before.map_or(i64::MAX, |uid| uid.0),
        limit
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(SessionRow::from).collect())
}

/// Sessions of a namespace, newest first, below `before`.
///
/// # Errors
/// Any [`StoreError`].
pub async fn list_sessions(
    db: impl PgExecutor<'_>,
    namespace_id: i32,
    before: Option<SessionUid>,
    limit: i64,
) -> Result<Vec<SessionRow>, StoreError> {
    let rows = sqlx::query_as!(
        ListedRow,
        r#"select uid, id, open_tasks, next_ordinal - 1 as "total_tasks!", succeeded_tasks, failed_tasks, canceled_tasks,
             awaiting_input_tasks, next_seq - 1 as "last_seq!", created_at, updated_at,
             coalesce(u.bytes, 0) as "file_bytes!", coalesce(u.files, 0) as "files!"
           from session left join file_usage u on u.session_uid = session.uid
           where session.namespace_id = $1 and uid < $2 and deleted_at is null order by uid desc limit $3"#,
        namespace_id,
        before.map_or(i64::MAX, |uid| uid.0),
        limit
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(SessionRow::from).collect())
}

/// A session as the database tells it.
struct ListedRow {
    uid: i64,
    id: String,
    open_tasks: i64,
    total_tasks: i64,
    succeeded_tasks: i64,
    failed_tasks: i64,
    canceled_tasks: i64,
    awaiting_input_tasks: i64,
    last_seq: i64,
    created_at: DateTime<Utc>,
    updated_at: Option<DateTime<Utc>>,
    file_bytes: i64,
    files: i64,
}

impl From<ListedRow> for SessionRow {
    fn from(row: ListedRow) -> Self {
        Self {
            uid: SessionUid(row.uid),
            id: row.id,
            open_tasks: row.open_tasks,
            total_tasks: row.total_tasks,
            succeeded_tasks: row.succeeded_tasks,
            failed_tasks: row.failed_tasks,
            canceled_tasks: row.canceled_tasks,
            awaiting_input_tasks: row.awaiting_input_tasks,
            last_seq: row.last_seq,
            created_at: times::to_proto(row.created_at),
            updated_at: row.updated_at.map(times::to_proto),
            file_bytes: row.file_bytes,
            files: row.files,
        }
    }
}

/// What the sessions of a namespace have together.
#[derive(Clone, Copy, Debug)]
pub struct NamespaceRow {
    /// Sessions, at most as many as were asked for.
    pub sessions: i64,
    /// Tasks that are not terminal.
    pub open_tasks: i64,
    /// Open tasks that ask.
    pub awaiting_input_tasks: i64,
    /// Tasks that have succeeded so far.
    pub succeeded_tasks: i64,
    /// Tasks that have failed so far.
    pub failed_tasks: i64,
    /// Tasks that were canceled so far.
    pub canceled_tasks: i64,
    /// When it was counted.
    pub counted_at: DateTime<Utc>,
}

/// Adds up the counts of a namespace's sessions, of at most `limit` of them. No task is looked at.
///
/// # Errors
/// Any [`StoreError`].
pub async fn count_namespace(
    db: impl PgExecutor<'_>,
    namespace_id: i32,
    limit: i64,
) -> Result<NamespaceRow, StoreError> {
    Ok(sqlx::query_as!(
        NamespaceRow,
        r#"select count(*) as "sessions!", coalesce(sum(open_tasks), 0)::bigint as "open_tasks!",
             coalesce(sum(awaiting_input_tasks), 0)::bigint as "awaiting_input_tasks!",
             coalesce(sum(succeeded_tasks), 0)::bigint as "succeeded_tasks!",
             coalesce(sum(failed_tasks), 0)::bigint as "failed_tasks!",
             coalesce(sum(canceled_tasks), 0)::bigint as "canceled_tasks!", clock_timestamp() as "counted_at!"
           from (select * from session where namespace_id = $1 and deleted_at is null limit $2) counted"#,
        namespace_id,
        limit
    )
    .fetch_one(db)
    .await?)
}

/// How many tasks of a session have not ended; 0 for one that is gone.
///
/// # Errors
/// Any [`StoreError`].
pub async fn count_open_tasks(
    db: impl PgExecutor<'_>,
    session: SessionUid,
) -> Result<i64, StoreError> {
    let open = sqlx::query_scalar!("select open_tasks from session where uid = $1", session.0)
        .fetch_optional(db)
        .await?;
    Ok(open.unwrap_or(0))
}
