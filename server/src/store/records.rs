//! Reading whole task records.

use super::{StoreError, secrets, times};
use chrono::{DateTime, Utc};
use prost::Message;
use sqlx::PgExecutor;
use std::collections::BTreeMap;
use taskyard_core::{
    id::{SessionUid, TaskId},
    task::ErrorKind,
};
use taskyard_proto::{
    storage::v1::{RunEnd, TaskContent},
    v1::{
        Exit, InputRequest, Links, Progress, RetryPolicy, SessionTask, TaskError, TaskSpec,
        TaskState,
    },
};
use uuid::Uuid;

/// A task's record, with what the record does not show.
#[derive(Clone, Debug)]
pub struct TaskRecord {
    /// Which task.
    pub id: TaskId,
    /// Number of the owning session.
    pub session_uid: SessionUid,
    /// The record.
    pub task: SessionTask,
    /// The end of its last run; none while it is not terminal.
    pub run_end: Option<RunEnd>,
}

/// The row of the view `task_record`.
struct RecordRow {
    id: Uuid,
    namespace: String,
    session_uid: i64,
    session_id: String,
    ordinal: i64,
    name: Option<String>,
    key: Option<String>,
    kind: String,
    display_name: String,
    spec: Vec<u8>,
    parent_id: Option<Uuid>,
    root_id: Uuid,
    group_name: Option<String>,
    labels: String,
    tags: Vec<String>,
    queue: String,
    executor: String,
    priority: i16,
    start_deadline: Option<DateTime<Utc>>,
    timeout_ms: Option<i64>,
    max_runs: i32,
    initial_backoff_ms: i64,
    max_backoff_ms: i64,
    backoff_multiplier: f64,
    wake_policy: i16,
    group_wake: i16,
    retry_of: Option<Uuid>,
    created_at: DateTime<Utc>,
    state: i16,
    not_before: Option<DateTime<Utc>>,
    hold: bool,
    run: i32,
    attempt: i32,
    generation: i64,
    worker_name: Option<String>,
    heartbeat_at: Option<DateTime<Utc>>,
    cancel_requested_at: Option<DateTime<Utc>>,
    started_at: Option<DateTime<Utc>>,
    finished_at: Option<DateTime<Utc>>,
    updated_at: DateTime<Utc>,
    state_detail: String,
    summary: String,
    progress: Option<Vec<u8>>,
    content: Option<Vec<u8>>,
    error_kind: Option<String>,
    error_message: Option<String>,
    error_retryable: Option<bool>,
    last_exit: Option<Vec<u8>>,
    question: Option<Vec<u8>>,
    run_end: Option<Vec<u8>>,
    secrets: Option<Vec<u8>>,
}

/// Reads records by id, in no particular order; unknown ids are left out.
///
/// # Errors
/// Any [`StoreError`].
pub async fn read_records(
    db: impl PgExecutor<'_>,
    ids: &[TaskId],
) -> Result<Vec<TaskRecord>, StoreError> {
    let ids: Vec<Uuid> = ids.iter().map(|id| Uuid::from_u128(id.0)).collect();
    let rows = sqlx::query_as!(
        RecordRow,
        r#"select id as "id!", namespace as "namespace!", session_uid as "session_uid!", session_id as "session_id!",
             ordinal as "ordinal!", name, key, kind as "kind!", display_name as "display_name!", spec as "spec!", parent_id,
             root_id as "root_id!", group_name, labels as "labels!", tags as "tags!", queue as "queue!",
             executor as "executor!", priority as "priority!", start_deadline, timeout_ms, max_runs as "max_runs!",
             initial_backoff_ms as "initial_backoff_ms!", max_backoff_ms as "max_backoff_ms!",
             backoff_multiplier as "backoff_multiplier!", wake_policy as "wake_policy!",
             group_wake as "group_wake!", retry_of,
             created_at as "created_at!", state as "state!", not_before, hold as "hold!", run as "run!",
             attempt as "attempt!", generation as "generation!", worker_name, heartbeat_at, cancel_requested_at,
             started_at, finished_at, updated_at as "updated_at!", state_detail as "state_detail!", summary as "summary!",
             progress, content, error_kind, error_message, error_retryable, last_exit, question, run_end, secrets
           from task_record where id = any($1)"#,
        &ids
    )
    .fetch_all(db)
    .await?;
    rows.into_iter().map(to_record).collect()
}

fn to_record(row: RecordRow) -> Result<TaskRecord, StoreError> {
    let content: TaskContent = decode("task content", row.content.as_deref())?.unwrap_or_default();
    let run_end: Option<RunEnd> = decode("run end", row.run_end.as_deref())?;
    let last_exit: Option<Exit> = decode("exit", row.last_exit.as_deref())?;
    let labels: BTreeMap<String, String> = serde_json::from_str(&row.labels)
        .map_err(|error| StoreError::corrupt("label set", error))?;
    let id = TaskId(row.id.as_u128());
    let state = task_state(row.state)?;
    let is_terminal = row.state >= FIRST_TERMINAL_STATE;
    let mut links: Links = content.links.unwrap_or_default();
    links.retry_of = row.retry_of.map(show_id).unwrap_or_default();
    let error = row.error_kind.map(|kind| TaskError {
        message: row.error_message.unwrap_or_default(),
        retryable: row.error_retryable.unwrap_or(false),
        hint: ErrorKind::parse(&kind)
            .map(|kind| kind.hint_for(id))
            .unwrap_or_default(),
        reason: content.error_reason,
        kind,
    });
    let task = SessionTask {
        id: id.to_string(),
        namespace: row.namespace,
        session_id: row.session_id,
        ordinal: row.ordinal,
        name: row.name.unwrap_or_default(),
        key: row.key.unwrap_or_default(),
        kind: row.kind,
        display_name: row.display_name,
        spec: decode::<TaskSpec>("spec", Some(&row.spec))?,
        state: state.into(),
        state_detail: row.state_detail,
        progress: decode::<Progress>("progress", row.progress.as_deref())?,
        input_request: decode::<InputRequest>("question", row.question.as_deref())?,
        cancel_requested_at: row.cancel_requested_at.map(times::to_proto),
        summary: row.summary,
        result_path: if is_terminal {
            result_path(id)
        } else {
            String::new()
        },
        artifacts: content.artifacts,
        error,
        attempt: row.attempt,
        run: row.run,
        worker_id: row.worker_name.unwrap_or_default(),
        heartbeat_at: row.heartbeat_at.map(times::to_proto),
        links: (links != Links::default()).then_some(links),
        wake_policy: i32::from(row.wake_policy),
        created_at: Some(times::to_proto(row.created_at)),
        started_at: row.started_at.map(times::to_proto),
        finished_at: row.finished_at.map(times::to_proto),
        updated_at: Some(times::to_proto(row.updated_at)),
        parent_task_id: row.parent_id.map(show_id).unwrap_or_default(),
        root_task_id: show_id(row.root_id),
        group: row.group_name.unwrap_or_default(),
        labels,
        tags: row.tags,
        queue: row.queue,
        executor: row.executor,
        priority: i32::from(row.priority),
        not_before: row.not_before.map(times::to_proto),
        start_deadline: row.start_deadline.map(times::to_proto),
        timeout: row.timeout_ms.map(duration_from_ms),
        retry: Some(RetryPolicy {
            max_runs: row.max_runs,
            initial_backoff: Some(duration_from_ms(row.initial_backoff_ms)),
            max_backoff: Some(duration_from_ms(row.max_backoff_ms)),
            multiplier: row.backoff_multiplier,
        }),
        hold: row.hold,
        exit: run_end
            .as_ref()
            .and_then(|end| end.exit.clone())
            .or(last_exit),
        usage: run_end.as_ref().and_then(|end| end.usage.clone()),
        generation: row.generation,
        group_wake: i32::from(row.group_wake),
        secrets: secrets::references(row.secrets.as_deref())?,
        isolation: run_end
            .as_ref()
            .map(|end| end.isolation.clone())
            .unwrap_or_default(),
    };
    Ok(TaskRecord {
        id,
        session_uid: SessionUid(row.session_uid),
        task,
        run_end,
    })
}

/// Where a task's result.json lies.
#[must_use]
pub fn result_path(id: TaskId) -> String {
    format!("/.tasks/{id}/result.json")
}

/// Stored states from this one on are terminal.
pub const FIRST_TERMINAL_STATE: i16 = 3;

/// The published state behind a stored one.
///
/// # Errors
/// [`StoreError::Corrupt`] for a number that is no state.
pub fn task_state(stored: i16) -> Result<TaskState, StoreError> {
    Ok(match stored {
        0 => TaskState::Queued,
        1 => TaskState::Running,
        2 => TaskState::AwaitingInput,
        3 => TaskState::Succeeded,
        4 => TaskState::Failed,
        5 => TaskState::Canceled,
        other => return Err(StoreError::corrupt("task state", other)),
    })
}

/// The wire's shape of a number of milliseconds.
#[must_use]
pub fn duration_from_ms(milliseconds: i64) -> prost_types::Duration {
    prost_types::Duration {
        seconds: milliseconds.div_euclid(1_000),
        nanos: i32::try_from(milliseconds.rem_euclid(1_000) * 1_000_000).unwrap_or(0),
    }
}

/// Decodes a stored message, if there is one.
pub(crate) fn decode<M: Message + Default>(
    what: &'static str,
    bytes: Option<&[u8]>,
) -> Result<Option<M>, StoreError> {
    bytes
        .map(|bytes| M::decode(bytes).map_err(|error| StoreError::corrupt(what, error)))
        .transpose()
}

fn show_id(id: Uuid) -> String {
    TaskId(id.as_u128()).to_string()
}
