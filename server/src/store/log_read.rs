//! Reading session logs, and what a snapshot of a session is made of.

use super::{
    Store, StoreError, records, records::TaskRecord, shared_pool::SharedTransaction, times,
};
use bytes::Bytes;
use prost::Message;
use sqlx::PgExecutor;
use taskyard_core::id::{SessionUid, TaskId};
use taskyard_proto::{
    storage::v1::LogPage,
    v1::{Progress, SessionEvent},
};
use uuid::Uuid;

/// The events of one session in one commit.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionPage {
    /// Whose events.
    pub session: SessionUid,
    /// Number of the first.
    pub first_seq: i64,
    /// Number of the last.
    pub last_seq: i64,
    /// The events, in order.
    pub events: Vec<SessionEvent>,
}

/// A session that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundSession {
    /// Its namespace.
    pub namespace_id: i32,
    /// Its id.
    pub id: String,
    /// Its number.
    pub uid: SessionUid,
}

/// Latest progress of one task.
#[derive(Clone, Debug)]
pub struct StoredProgress {
    /// Its session.
    pub session: SessionUid,
    /// The task.
    pub task: TaskId,
    /// The progress.
    pub progress: Progress,
    /// When it was stored, in microseconds since 1970.
    pub at_micros: i64,
}

/// Which tasks of a session to read. Every list that is not empty must have the task's own.
#[derive(Clone, Debug, Default)]
pub struct TaskSelection {
    /// Ids; empty: all.
    pub ids: Vec<TaskId>,
    /// Kinds; empty: all.
    pub kinds: Vec<String>,
    /// Groups; empty: all, and those of none.
    pub groups: Vec<String>,
}

/// What never changes of a task and watches ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskTraits {
    /// Its kind.
    pub kind: String,
    /// Its group; empty: none.
    pub group: String,
}

/// Where a session's log begins and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogBounds {
    /// Number of the first event that is kept; `next_seq` if none is.
    pub first_seq: i64,
    /// Number that the next event will have.
    pub next_seq: i64,
}

/// Numbers of those of the sessions that exist, in no particular order.
///
/// # Errors
/// Any [`StoreError`].
pub async fn find_sessions(
    db: impl PgExecutor<'_>,
    wanted: &[(i32, String)],
) -> Result<Vec<FoundSession>, StoreError> {
    let namespaces: Vec<i32> = wanted
        .iter()
        .map(|(namespace_id, _)| *namespace_id)
        .collect();
    let ids: Vec<String> = wanted.iter().map(|(_, id)| id.clone()).collect();
    let rows = sqlx::query!(
        r#"select s.namespace_id, s.id, s.uid
           from unnest($1::integer[], $2::text[]) w(namespace_id, id)
           join session s on s.namespace_id = w.namespace_id and s.id = w.id collate "C" and s.deleted_at is null"#,
        &namespaces,
        &ids
    )
    .fetch_all(db)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| FoundSession {
            namespace_id: row.namespace_id,
            id: row.id,
            uid: SessionUid(row.uid),
        })
        .collect())
}

/// Pages that follow the given event of each session, at most `limit` a session; in order within a session.
///
/// # Errors
/// Any [`StoreError`].
pub async fn read_pages(
    db: impl PgExecutor<'_>,
    after: &[(SessionUid, i64)],
    limit: i64,
) -> Result<Vec<SessionPage>, StoreError> {
    let uids: Vec<i64> = after.iter().map(|(uid, _)| uid.0).collect();
    let seqs: Vec<i64> = after.iter().map(|(_, seq)| *seq).collect();
    let rows = sqlx::query!(
        r#"select l.session_uid, l.first_seq, l.last_seq, l.at, l.body
           from unnest($1::bigint[], $2::bigint[]) w(uid, after)
           cross join lateral (
               select * from session_log
               where session_uid = w.uid and last_seq > w.after
               order by last_seq limit $3
           ) l
           order by l.session_uid, l.last_seq"#,
        &uids,
        &seqs,
        limit
    )
    .fetch_all(db)
    .await?;
    rows.into_iter()
        .map(|row| {
            let at = times::to_proto(row.at);
            decode_page(
                SessionUid(row.session_uid),
                (row.first_seq, row.last_seq),
                at,
                row.body,
            )
        })
        .collect()
}

/// Where the log of a session begins and ends; none if the session does not exist.
///
/// # Errors
/// Any [`StoreError`].
pub async fn log_bounds(
    db: impl PgExecutor<'_>,
    session: SessionUid,
) -> Result<Option<LogBounds>, StoreError> {
    let row = sqlx::query!(
        r#"select s.next_seq,
             (select l.first_seq from session_log l where l.session_uid = s.uid order by l.last_seq limit 1) as first_seq
           from session s where s.uid = $1"#,
        session.0
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| LogBounds {
        first_seq: row.first_seq.unwrap_or(row.next_seq),
        next_seq: row.next_seq,
    }))
}

/// Progress that was stored for live tasks of the sessions after the given time.
///
/// # Errors
/// Any [`StoreError`].
pub async fn read_progress(
    db: impl PgExecutor<'_>,
    sessions: &[SessionUid],
    after_micros: i64,
    limit: i64,
) -> Result<Vec<StoredProgress>, StoreError> {
    let uids: Vec<i64> = sessions.iter().map(|uid| uid.0).collect();
    let rows = sqlx::query!(
        r#"select session_uid, id, progress as "progress!", progress_at as "progress_at!" from task_live
           where session_uid = any($1) and progress is not null and progress_at > $2
           order by progress_at limit $3"#,
        &uids,
        times::to_database(taskyard_core::Timestamp(after_micros)),
        limit
    )
    .fetch_all(db)
    .await?;
    rows.into_iter()
        .map(|row| {
            let progress = records::decode::<Progress>("progress", Some(&row.progress))?;
            Ok(StoredProgress {
                session: SessionUid(row.session_uid),
                task: TaskId(row.id.as_u128()),
                progress: progress.unwrap_or_default(),
                at_micros: row.progress_at.timestamp_micros(),
            })
        })
        .collect()
}

/// Traits of those of the tasks that are stored, in no particular order.
///
/// # Errors
/// Any [`StoreError`].
pub async fn read_traits(
    db: impl PgExecutor<'_>,
    ids: &[TaskId],
) -> Result<Vec<(TaskId, TaskTraits)>, StoreError> {
    let ids: Vec<Uuid> = ids.iter().map(|id| Uuid::from_u128(id.0)).collect();
    let rows = sqlx::query!(
        r#"select t.id, coalesce(t.group_name, '') as "group_name!",
             (select r.kind from route r where r.id = t.route_id) as "kind!"
           from task t where t.id = any($1)"#,
        &ids
    )
    .fetch_all(db)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let traits = TaskTraits {
                kind: row.kind,
                group: row.group_name,
            };
            (TaskId(row.id.as_u128()), traits)
        })
        .collect())
}

/// Several reads that see the store at one moment. Dropped when done; it writes nothing.
pub struct Moment {
    transaction: SharedTransaction,
}

impl Moment {
    /// Begins at the first read.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn begin(store: &Store) -> Result<Self, StoreError> {
        let transaction = store
            .begin("begin isolation level repeatable read read only")
            .await?;
        Ok(Self { transaction })
    }

    /// As [`log_bounds`].
    ///
    /// # Errors
    /// Any [`StoreError`].
    pub async fn log_bounds(
        &mut self,
        session: SessionUid,
    ) -> Result<Option<LogBounds>, StoreError> {
        log_bounds(&mut *self.transaction, session).await
    }

    /// As [`read_pages`], of one session.
    ///
    /// # Errors
    /// Any [`StoreError`].
    pub async fn read_pages(
        &mut self,
        session: SessionUid,
        after: i64,
        limit: i64,
    ) -> Result<Vec<SessionPage>, StoreError> {
        read_pages(&mut *self.transaction, &[(session, after)], limit).await
    }

    /// Selected tasks of a session by ordinal, those above `after` only.
    ///
    /// # Errors
    /// Any [`StoreError`].
    pub async fn tasks_by_ordinal(
        &mut self,
        session: SessionUid,
        selection: &TaskSelection,
        after: i64,
        limit: i64,
    ) -> Result<Vec<TaskRecord>, StoreError> {
        let wanted: Vec<Uuid> = selection
            .ids
            .iter()
            .map(|id| Uuid::from_u128(id.0))
            .collect();
        let ids = sqlx::query_scalar!(
            r#"select t.id from task t where t.session_uid = $1 and t.ordinal > $2
                 and (cardinality($4::uuid[]) = 0 or t.id = any($4))
                 and (cardinality($5::text[]) = 0 or (select r.kind from route r where r.id = t.route_id) = any($5))
                 and (cardinality($6::text[]) = 0 or t.group_name = any($6))
               order by t.ordinal limit $3"#,
            session.0,
            after,
            limit,
            &wanted,
            &selection.kinds,
            &selection.groups
        )
        .fetch_all(&mut *self.transaction)
        .await?;
        let ids: Vec<TaskId> = ids.into_iter().map(|id| TaskId(id.as_u128())).collect();
        self.tasks(&ids).await
    }

    /// The tasks with these ids, by ordinal.
    ///
    /// # Errors
    /// Any [`StoreError`].
    pub async fn tasks(&mut self, ids: &[TaskId]) -> Result<Vec<TaskRecord>, StoreError> {
        let mut tasks = records::read_records(&mut *self.transaction, ids).await?;
        tasks.sort_by_key(|record| record.task.ordinal);
        Ok(tasks)
    }
}

fn decode_page(
    session: SessionUid,
    (first_seq, last_seq): (i64, i64),
    at: prost_types::Timestamp,
    body: Vec<u8>,
) -> Result<SessionPage, StoreError> {
    let page = LogPage::decode(Bytes::from(body))
        .map_err(|error| StoreError::corrupt("page of a session's log", error))?;
    let events: Vec<SessionEvent> = (first_seq..)
        .zip(page.events)
        .map(|(seq, logged)| {
            // that the session is deleted is no task's event
            let task_id = if logged.task_id.is_empty() {
                String::new()
            } else {
                let id = Uuid::from_slice(&logged.task_id)
                    .map_err(|error| StoreError::corrupt("task id in a session's log", error))?;
                TaskId(id.as_u128()).to_string()
            };
            Ok(SessionEvent {
                seq,
                r#type: logged.r#type,
                at: Some(at),
                task_id,
                ordinal: logged.ordinal,
                generation: logged.generation,
                change: logged.change,
                created: logged.created,
                message: logged.message,
                wake: logged.wake,
            })
        })
        .collect::<Result<_, StoreError>>()?;
    if i64::try_from(events.len()) != Ok(last_seq - first_seq + 1) {
        let problem = format!(
            "{} events under the numbers {first_seq} to {last_seq}",
            events.len()
        );
        return Err(StoreError::corrupt("page of a session's log", problem));
    }
    Ok(SessionPage {
        session,
        first_seq,
        last_seq,
        events,
    })
}
