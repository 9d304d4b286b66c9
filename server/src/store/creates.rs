//! What a create must know before it inserts: whether it was made before, and whether its name is free.

use super::{StoreError, new_tasks::Ancestry, times};
use sqlx::{PgConnection, PgExecutor};
use std::collections::HashMap;
use taskyard_core::id::{SessionUid, TaskId};
use uuid::Uuid;

/// How long an answer to a `request_id` is kept, in hours.
pub const REQUEST_HOURS: i32 = 24;

/// A call that carried a `request_id`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RequestKey {
    /// Namespace.
    pub namespace_id: i32,
    /// Which method.
    pub method: RequestMethod,
    /// The id.
    pub request_id: String,
}

/// Methods that take a `request_id`; each has ids of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RequestMethod {
    /// CreateTask.
    Create = 1,
    /// RetryTask.
    Retry = 2,
    /// BatchCreateTasks; each task has an id of its own.
    BatchCreate = 3,
    /// CloneTask.
    Clone = 4,
}

/// A task's idempotency name and where it counts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TaskKey {
    /// Session.
    pub session: SessionUid,
    /// Parent, if it has one.
    pub parent: Option<TaskId>,
    /// The name.
    pub key: String,
}

/// What was created before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Earlier {
    /// The task.
    pub task: TaskId,
    /// SHA-256 of what was asked for then.
    pub fingerprint: [u8; 32],
}

/// Earlier calls with these ids, in the order of `keys`.
///
/// # Errors
/// Any [`StoreError`].
pub async fn find_requests(
    db: impl PgExecutor<'_>,
    keys: &[&RequestKey],
) -> Result<Vec<Option<Earlier>>, StoreError> {
    let (namespaces, methods, ids) = request_columns(keys);
    let rows = sqlx::query!(
        r#"select w.nr as "nr!", r.fingerprint as "fingerprint!", r.task_id as "task_id!"
           from unnest($1::int[], $2::smallint[], $3::text[]) with ordinality w(namespace_id, method, request_id, nr)
           join request r on r.namespace_id = w.namespace_id and r.method = w.method and r.request_id = w.request_id
           where r.at > clock_timestamp() - make_interval(hours => $4)"#,
        &namespaces,
        &methods,
        &ids,
        REQUEST_HOURS
    )
    .fetch_all(db)
    .await?;
    let found = rows
        .into_iter()
        .map(|row| (row.nr, row.task_id, row.fingerprint));
    place(keys.len(), found)
}

/// Tasks with these keys, in the order of `keys`.
///
/// # Errors
/// Any [`StoreError`].
pub async fn find_keys(
    db: impl PgExecutor<'_>,
    keys: &[&TaskKey],
) -> Result<Vec<Option<Earlier>>, StoreError> {
    let rows = sqlx::query!(
        r#"select w.nr as "nr!", t.fingerprint as "fingerprint!", t.id as "id!"
           from unnest($1::bigint[], $2::uuid[], $3::text[]) with ordinality w(session_uid, parent_id, key, nr)
           join task t on t.session_uid = w.session_uid and t.key = w.key
             and coalesce(t.parent_id, '00000000-0000-0000-0000-000000000000') = w.parent_id"#,
        &keys.iter().map(|key| key.session.0).collect::<Vec<_>>(),
        &keys.iter().map(|key| Uuid::from_u128(key.parent.map_or(0, |id| id.0))).collect::<Vec<_>>(),
        &keys.iter().map(|key| key.key.clone()).collect::<Vec<_>>()
    )
    .fetch_all(db)
    .await?;
    let found = rows
        .into_iter()
        .map(|row| (row.nr, row.id, row.fingerprint));
    place(keys.len(), found)
}

/// Which of these names a live task of their session has.
///
/// # Errors
/// Any [`StoreError`].
pub async fn find_taken_names(
    db: &mut PgConnection,
    names: &[(SessionUid, String)],
) -> Result<Vec<(SessionUid, String)>, StoreError> {
    let rows = sqlx::query!(
        r#"select l.session_uid, l.name as "name!" from unnest($1::bigint[], $2::text[]) w(session_uid, name)
           join task_live l on l.session_uid = w.session_uid and l.name = w.name"#,
        &names.iter().map(|(session, _)| session.0).collect::<Vec<_>>(),
        &names.iter().map(|(_, name)| name.clone()).collect::<Vec<_>>()
    )
    .fetch_all(db)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| (SessionUid(row.session_uid), row.name))
        .collect())
}

/// Which of these tasks exist already.
///
/// # Errors
/// Any [`StoreError`].
pub async fn find_existing(
    db: &mut PgConnection,
    ids: &[TaskId],
) -> Result<Vec<TaskId>, StoreError> {
    let ids: Vec<Uuid> = ids.iter().map(|id| Uuid::from_u128(id.0)).collect();
    let found = sqlx::query_scalar!("select id from task where id = any($1)", &ids)
        .fetch_all(db)
        .await?;
    Ok(found.into_iter().map(|id| TaskId(id.as_u128())).collect())
}

/// Remembers calls; each key at most once in `requests`.
///
/// # Errors
/// [`StoreError::Conflict`] if another server remembered one of them meanwhile; any other [`StoreError`].
pub async fn insert_requests(
    db: &mut PgConnection,
    requests: &[(&RequestKey, TaskId, [u8; 32])],
) -> Result<(), StoreError> {
    let keys: Vec<&RequestKey> = requests.iter().map(|(key, _, _)| *key).collect();
    let (namespaces, methods, ids) = request_columns(&keys);
    let inserted = sqlx::query!(
        r#"insert into request (namespace_id, method, request_id, task_id, fingerprint, at)
           select v.*, clock_timestamp() from unnest($1::int[], $2::smallint[], $3::text[], $4::uuid[], $5::bytea[]) v
           on conflict (namespace_id, method, request_id) do update
             set task_id = excluded.task_id, fingerprint = excluded.fingerprint, at = excluded.at
             where request.at <= clock_timestamp() - make_interval(hours => $6)"#,
        &namespaces,
        &methods,
        &ids,
        &requests.iter().map(|(_, task, _)| Uuid::from_u128(task.0)).collect::<Vec<_>>(),
        &requests.iter().map(|(_, _, fingerprint)| fingerprint.to_vec()).collect::<Vec<_>>(),
        REQUEST_HOURS
    )
    .execute(db)
    .await?;
    if inserted.rows_affected() != requests.len() as u64 {
        return Err(StoreError::Conflict(sqlx::Error::RowNotFound));
    }
    Ok(())
}

/// Forgets at most `limit` calls that are older than 24 hours; says how many.
///
/// # Errors
/// Any [`StoreError`].
pub async fn forget_requests(db: impl PgExecutor<'_>, limit: i64) -> Result<u64, StoreError> {
    let done = sqlx::query!(
        "delete from request where (namespace_id, method, request_id) in (
           select namespace_id, method, request_id from request
           where at <= clock_timestamp() - make_interval(hours => $1) order by at limit $2)",
        REQUEST_HOURS,
        limit
    )
    .execute(db)
    .await?;
    Ok(done.rows_affected())
}

/// Session of a parent, and where a task that is created below it is in the tree.
///
/// # Errors
/// Any [`StoreError`].
pub async fn find_ancestry(
    db: impl PgExecutor<'_>,
    parent: TaskId,
) -> Result<Option<(SessionUid, Ancestry)>, StoreError> {
    let row = sqlx::query!(
        "select session_uid, root_id, depth from task where id = $1",
        Uuid::from_u128(parent.0)
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| {
        let ancestry = Ancestry {
            parent,
            root: TaskId(row.root_id.as_u128()),
            depth: row.depth.saturating_add(1),
        };
        (SessionUid(row.session_uid), ancestry)
    }))
}

/// How many children each of these tasks has, ended ones included.
///
/// # Errors
/// Any [`StoreError`].
pub async fn count_children(
    db: impl PgExecutor<'_>,
    parents: &[TaskId],
) -> Result<HashMap<TaskId, u64>, StoreError> {
    let rows = sqlx::query!(
        r#"select parent_id as "parent!", count(*) as "children!" from task where parent_id = any($1) group by parent_id"#,
        &parents.iter().map(|parent| Uuid::from_u128(parent.0)).collect::<Vec<_>>()
    )
    .fetch_all(db)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| (TaskId(row.parent.as_u128()), row.children.unsigned_abs()))
        .collect())
}

/// The number of a route, which is made if it does not exist. `worker_labels_json` is a JSON object.
///
/// # Errors
/// Any [`StoreError`].
pub async fn ensure_route(
    db: impl PgExecutor<'_>,
    queue: &str,
    kind: &str,
    executor: &str,
    worker_labels_json: &str,
) -> Result<i32, StoreError> {
    let id = sqlx::query_scalar!(
        r#"with made as (
             insert into route (queue, kind, executor, worker_labels) values ($1, $2, $3, $4::text::jsonb)
             on conflict (queue, kind, executor, worker_labels) do nothing returning id)
           select id as "id!" from made union all
           select id from route where queue = $1 and kind = $2 and executor = $3 and worker_labels = $4::text::jsonb limit 1"#,
        queue,
        kind,
        executor,
        worker_labels_json
    )
    .fetch_optional(db)
    .await?;
    id.ok_or_else(|| StoreError::Conflict(sqlx::Error::RowNotFound))
}

/// How many live tasks these sessions have, those that are gone left out; and the time by the database's clock.
///
/// # Errors
/// Any [`StoreError`].
pub async fn count_open_tasks(
    db: impl PgExecutor<'_>,
    sessions: &[SessionUid],
) -> Result<(Vec<(SessionUid, u64)>, taskyard_core::Timestamp), StoreError> {
    // one row at least, for the time
    let rows = sqlx::query!(
        r#"select clock_timestamp() as "now!", s.uid as "uid?", s.open_tasks as "open_tasks?"
           from (values (1)) as always (one) left join session s on s.uid = any($1)"#,
        &sessions.iter().map(|session| session.0).collect::<Vec<_>>()
    )
    .fetch_all(db)
    .await?;
    let now = rows.first().map(|row| times::to_core(row.now));
    let now = now.ok_or_else(|| StoreError::Conflict(sqlx::Error::RowNotFound))?;
    let open = rows.into_iter().filter_map(|row| {
        let open = u64::try_from(row.open_tasks?).unwrap_or(0);
        Some((SessionUid(row.uid?), open))
    });
    Ok((open.collect(), now))
}

/// The database's clock.
///
/// # Errors
/// Any [`StoreError`].
pub async fn now(db: impl PgExecutor<'_>) -> Result<taskyard_core::Timestamp, StoreError> {
    let now = sqlx::query_scalar!(r#"select clock_timestamp() as "now!""#)
        .fetch_one(db)
        .await?;
    Ok(times::to_core(now))
}

fn request_columns(keys: &[&RequestKey]) -> (Vec<i32>, Vec<i16>, Vec<String>) {
    (
        keys.iter().map(|key| key.namespace_id).collect(),
        keys.iter().map(|key| key.method as i16).collect(),
        keys.iter().map(|key| key.request_id.clone()).collect(),
    )
}

/// Puts what was found, numbered from 1, where it was looked for.
fn place(
    count: usize,
    found: impl Iterator<Item = (i64, Uuid, Vec<u8>)>,
) -> Result<Vec<Option<Earlier>>, StoreError> {
    let mut placed = vec![None; count];
    for (nr, task, fingerprint) in found {
        let fingerprint = <[u8; 32]>::try_from(fingerprint.as_slice())
            .map_err(|error| StoreError::corrupt("fingerprint", error))?;
        if let Some(slot) = usize::try_from(nr - 1)
            .ok()
            .and_then(|index| placed.get_mut(index))
        {
            *slot = Some(Earlier {
                task: TaskId(task.as_u128()),
                fingerprint,
            });
        }
    }
    Ok(placed)
}
