//! One task as the group commit handles it: locked, changed in memory, written back.

use super::{StoreError, records::decode, times};
use chrono::{DateTime, Utc};
use prost::Message;
use sqlx::PgConnection;
use std::time::Duration;
use taskyard_core::{
    Timestamp,
    id::{Epoch, LeaseId, QuestionId, SessionUid, TaskId, WorkerSessionId},
    output::Retention,
    task::{
        Cancel, ErrorKind, Gate, Lease, Policy, Question, RetryPolicy, SettledLease, State, Task, TerminalState,
    },
};
use taskyard_proto::{
    storage::v1::{RunEnd, TaskContent},
    v1::{Exit, InputRequest, Progress, TaskSpec},
};
use uuid::Uuid;

/// A locked task.
#[derive(Clone, Debug)]
pub struct TaskRow {
    /// What the state machine decides on.
    pub task: Task,
    /// What it carries beside.
    pub body: Body,
    /// Number of the owning session.
    pub session: SessionUid,
    /// Its ordinal.
    pub ordinal: i64,
    /// When the offer was made; set exactly while it is offered.
    pub offered_at: Option<DateTime<Utc>>,
    /// How much of its output is kept.
    pub retention: Retention,
    /// Name of the worker that holds its lease.
    pub holder_name: Option<String>,
    /// When that worker was last heard.
    pub holder_renewed_at: Option<DateTime<Utc>>,
    /// What the end row holds beside; none while the task is live.
    pub end: Option<EndRow>,
}

/// The parts of a task that decide nothing.
#[derive(Clone, Debug, Default)]
pub struct Body {
    /// A few words about the state.
    pub state_detail: String,
    /// One line about the outcome.
    pub summary: String,
    /// Latest progress.
    pub progress: Option<Progress>,
    /// When it was reported.
    pub progress_at: Option<DateTime<Utc>>,
    /// Artifacts and links.
    pub content: TaskContent,
    /// Why the task, or the run before, failed.
    pub error: Option<StoredError>,
    /// How the last run's process ended.
    pub last_exit: Option<Exit>,
    /// The pending question.
    pub question: Option<InputRequest>,
    /// Name of the worker that holds the task, or held it last.
    pub worker_name: Option<String>,
    /// The task that this one repeats; part of the links that a reader sees.
    pub retry_of: Option<TaskId>,
    /// When the generation last grew.
    pub updated_at: DateTime<Utc>,
}

/// An error as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredError {
    /// Its kind.
    pub kind: ErrorKind,
    /// One sentence.
    pub message: String,
    /// Whether running the same work again may help.
    pub retryable: bool,
}

/// What only an ended task has.
#[derive(Clone, Debug)]
pub struct EndRow {
    /// When it ended.
    pub finished_at: DateTime<Utc>,
    /// How its last run went.
    pub run_end: RunEnd,
}

/// What a lock found: the rows, and the database's time right after the lock.
#[derive(Debug)]
pub struct Locked {
    /// The rows, live ones and ended ones, in no particular order.
    pub rows: Vec<TaskRow>,
    /// The database's clock.
    pub now: Timestamp,
}

/// Locks tasks in the order of their ids: their live rows, or the end rows of those that have ended.
///
/// # Errors
/// Any [`StoreError`].
pub async fn lock_tasks(db: &mut PgConnection, ids: &[TaskId]) -> Result<Locked, StoreError> {
    let wanted: Vec<Uuid> = ids.iter().map(|id| Uuid::from_u128(id.0)).collect();
    let live = sqlx::query!(
        r#"select l.id, l.session_uid, t.ordinal, l.state, l.gate, l.not_before, t.not_before as first_not_before,
             l.start_deadline, l.run, l.attempt, l.generation, l.epoch, l.lease_id, l.item_no, l.worker_session,
             l.offered_at, l.worker_name, l.cancel_requested_at, l.cancel_grace_ms, l.started_at, l.updated_at,
             l.state_detail, l.summary, l.progress, l.progress_at, l.content, l.error_kind, l.error_message, l.last_exit,
             l.question_id, l.question, l.question_expires_at, t.max_runs, t.initial_backoff_ms, t.max_backoff_ms,
             t.backoff_multiplier, t.spec, t.retry_of, w.name as "holder_name?",
             w.renewed_at as "holder_renewed_at?"
           from task_live l join task t on t.id = l.id left join worker_session w on w.id = l.worker_session
           where l.id = any($1) order by l.id for no key update of l"#,
        &wanted
    )
    .fetch_all(&mut *db)
    .await?;
    let missing: Vec<Uuid> = wanted
        .iter()
        .copied()
        .filter(|id| live.iter().all(|row| row.id != *id))
        .collect();
    let mut rows = Vec::with_capacity(wanted.len());
    for row in live {
        let held = row.worker_session.zip(row.lease_id).map(|(worker, lease_id)| Lease {
            worker: WorkerSessionId(worker),
            epoch: Epoch(row.epoch),
            id: LeaseId(lease_id.as_u128()),
            item_no: row.item_no,
        });
        let state = match (row.state, held) {
            (0, offer) => State::Queued {
                gate: match (row.gate, row.not_before) {
                    (0, _) => Gate::Open,
                    (1, Some(due)) => Gate::Until(times::to_core(due)),
                    (2, _) => Gate::Held,
                    (gate, _) => return Err(StoreError::corrupt("gate", gate)),
                },
                offer,
            },
            (1, Some(lease)) => State::Running { lease },
            (2, lease) => State::AwaitingInput {
                question: Question {
                    id: QuestionId(row.question_id.unwrap_or_default().as_u128()),
                    expires_at: row.question_expires_at.map(times::to_core),
                },
                lease,
            },
            (state, _) => return Err(StoreError::corrupt("live state", state)),
        };
        let settled = match (held, row.lease_id) {
            (None, Some(lease_id)) => Some(SettledLease {
                epoch: Epoch(row.epoch),
                id: LeaseId(lease_id.as_u128()),
                item_no: row.item_no,
            }),
            (Some(_), _) | (None, None) => None,
        };
        let spec = decode::<TaskSpec>("spec", Some(&row.spec))?.unwrap_or_default();
        let policy = Policy {
            retry: retry_policy(row.max_runs, row.initial_backoff_ms, row.max_backoff_ms, row.backoff_multiplier),
            not_before: row.first_not_before.map(times::to_core),
            start_deadline: row.start_deadline.map(times::to_core),
            success_exit_codes: success_exit_codes(&spec),
        };
        rows.push(TaskRow {
            task: Task {
                id: TaskId(row.id.as_u128()),
                policy,
                state,
                cancel: row.cancel_requested_at.map(|at| Cancel {
                    requested_at: times::to_core(at),
                    grace: row.cancel_grace_ms.map(from_ms),
                }),
                run: counter(row.run)?,
                attempt: counter(row.attempt)?,
                generation: u64::try_from(row.generation)
                    .map_err(|error| StoreError::corrupt("generation", error))?,
                started_at: row.started_at.map(times::to_core),
                settled,
            },
            body: Body {
                state_detail: row.state_detail,
                summary: row.summary,
                progress: decode("progress", row.progress.as_deref())?,
                progress_at: row.progress_at,
                content: decode("task content", row.content.as_deref())?.unwrap_or_default(),
                error: stored_error(row.error_kind, row.error_message, Some(true))?,
                last_exit: decode("exit", row.last_exit.as_deref())?,
                question: decode("question", row.question.as_deref())?,
                worker_name: row.worker_name,
                retry_of: row.retry_of.map(|id| TaskId(id.as_u128())),
                updated_at: row.updated_at,
            },
            session: SessionUid(row.session_uid),
            ordinal: row.ordinal,
            offered_at: row.offered_at,
            retention: retention(&spec),
            holder_name: row.holder_name,
            holder_renewed_at: row.holder_renewed_at,
            end: None,
        });
    }
    if !missing.is_empty() {
        lock_ended(db, &missing, &mut rows).await?;
    }
    let now = sqlx::query_scalar!(r#"select clock_timestamp() as "now!""#).fetch_one(db).await?;
    Ok(Locked {
        rows,
        now: times::to_core(now),
    })
}

async fn lock_ended(db: &mut PgConnection, ids: &[Uuid], rows: &mut Vec<TaskRow>) -> Result<(), StoreError> {
    let ended = sqlx::query!(
        r#"select e.id, t.session_uid, t.ordinal, e.state, e.run, e.attempt, e.generation, e.epoch, e.lease_id, e.item_no,
             e.worker_name, e.cancel_requested_at, e.started_at, e.finished_at, e.updated_at, e.state_detail, e.summary,
             e.progress, e.content, e.error_kind, e.error_message, e.error_retryable, e.run_end, t.retry_of
           from task_end e join task t on t.id = e.id
           where e.id = any($1) order by e.id for no key update of e"#,
        ids
    )
    .fetch_all(db)
    .await?;
    for row in ended {
        let state = match row.state {
            3 => TerminalState::Succeeded,
            4 => TerminalState::Failed,
            5 => TerminalState::Canceled,
            other => return Err(StoreError::corrupt("end state", other)),
        };
        let run_end: RunEnd = decode("run end", row.run_end.as_deref())?.unwrap_or_default();
        rows.push(TaskRow {
            task: Task {
                id: TaskId(row.id.as_u128()),
                policy: Policy {
                    retry: RetryPolicy::NEVER,
                    not_before: None,
                    start_deadline: None,
                    success_exit_codes: Vec::new(),
                },
                state: State::Terminal(state),
                cancel: row.cancel_requested_at.map(|at| Cancel {
                    requested_at: times::to_core(at),
                    grace: None,
                }),
                run: counter(row.run)?,
                attempt: counter(row.attempt)?,
                generation: u64::try_from(row.generation)
                    .map_err(|error| StoreError::corrupt("generation", error))?,
                started_at: row.started_at.map(times::to_core),
                settled: row.lease_id.map(|lease_id| SettledLease {
                    epoch: Epoch(row.epoch),
                    id: LeaseId(lease_id.as_u128()),
                    item_no: row.item_no,
                }),
            },
            body: Body {
                state_detail: row.state_detail,
                summary: row.summary,
                progress: decode("progress", row.progress.as_deref())?,
                progress_at: None,
                content: decode("task content", row.content.as_deref())?.unwrap_or_default(),
                error: stored_error(row.error_kind, row.error_message, row.error_retryable)?,
                last_exit: run_end.exit.clone(),
                question: None,
                worker_name: row.worker_name,
                retry_of: row.retry_of.map(|id| TaskId(id.as_u128())),
                updated_at: row.updated_at,
            },
            session: SessionUid(row.session_uid),
            ordinal: row.ordinal,
            offered_at: None,
            retention: Retention::of(Retention::DEFAULT_BYTES),
            holder_name: None,
            holder_renewed_at: None,
            end: Some(EndRow {
                finished_at: row.finished_at,
                run_end,
            }),
        });
    }
    Ok(())
}

/// Writes live rows back. The one place that writes a task's state.
///
/// # Errors
/// Any [`StoreError`].
pub async fn update_live(db: &mut PgConnection, rows: &[&TaskRow]) -> Result<(), StoreError> {
    let mut columns = LiveColumns::default();
    for row in rows {
        columns.push(row);
    }
    sqlx::query!(
        r#"update task_live l set
             state = v.state, gate = v.gate, not_before = v.not_before, run = v.run, attempt = v.attempt,
             generation = v.generation, item_no = v.item_no, worker_session = v.worker_session,
             attach_no = case when v.worker_session is null then null else l.attach_no end, offered_at = v.offered_at,
             worker_name = v.worker_name, cancel_requested_at = v.cancel_requested_at, cancel_grace_ms = v.cancel_grace_ms,
             started_at = v.started_at, updated_at = v.updated_at, state_detail = v.state_detail, summary = v.summary,
             progress = v.progress, progress_at = v.progress_at, content = v.content, error_kind = v.error_kind,
             error_message = v.error_message, last_exit = v.last_exit, question_id = v.question_id, question = v.question,
             question_expires_at = v.question_expires_at
           from unnest($1::uuid[], $2::smallint[], $3::smallint[], $4::timestamptz[], $5::int[], $6::int[], $7::bigint[],
             $8::bigint[], $9::bigint[], $10::timestamptz[], $11::text[], $12::timestamptz[], $13::bigint[],
             $14::timestamptz[], $15::timestamptz[], $16::text[], $17::text[], $18::bytea[], $19::timestamptz[],
             $20::bytea[], $21::text[], $22::text[], $23::bytea[], $24::uuid[], $25::bytea[], $26::timestamptz[])
             as v(id, state, gate, not_before, run, attempt, generation, item_no, worker_session, offered_at, worker_name,
               cancel_requested_at, cancel_grace_ms, started_at, updated_at, state_detail, summary, progress, progress_at,
               content, error_kind, error_message, last_exit, question_id, question, question_expires_at)
           where l.id = v.id"#,
        &columns.id,
        &columns.state,
        &columns.gate,
        &columns.not_before as _,
        &columns.run,
        &columns.attempt,
        &columns.generation,
        &columns.item_no,
        &columns.worker_session as _,
        &columns.offered_at as _,
        &columns.worker_name as _,
        &columns.cancel_requested_at as _,
        &columns.cancel_grace_ms as _,
        &columns.started_at as _,
        &columns.updated_at,
        &columns.state_detail,
        &columns.summary,
        &columns.progress as _,
        &columns.progress_at as _,
        &columns.content as _,
        &columns.error_kind as _,
        &columns.error_message as _,
        &columns.last_exit as _,
        &columns.question_id as _,
        &columns.question as _,
        &columns.question_expires_at as _
    )
    .execute(db)
    .await?;
    Ok(())
}

/// The columns of [`update_live`], one array each.
#[derive(Default)]
struct LiveColumns {
    id: Vec<Uuid>,
    state: Vec<i16>,
    gate: Vec<i16>,
    not_before: Vec<Option<DateTime<Utc>>>,
    run: Vec<i32>,
    attempt: Vec<i32>,
    generation: Vec<i64>,
    item_no: Vec<i64>,
    worker_session: Vec<Option<i64>>,
    offered_at: Vec<Option<DateTime<Utc>>>,
    worker_name: Vec<Option<String>>,
    cancel_requested_at: Vec<Option<DateTime<Utc>>>,
    cancel_grace_ms: Vec<Option<i64>>,
    started_at: Vec<Option<DateTime<Utc>>>,
    updated_at: Vec<DateTime<Utc>>,
    state_detail: Vec<String>,
    summary: Vec<String>,
    progress: Vec<Option<Vec<u8>>>,
    progress_at: Vec<Option<DateTime<Utc>>>,
    content: Vec<Option<Vec<u8>>>,
    error_kind: Vec<Option<String>>,
    error_message: Vec<Option<String>>,
    last_exit: Vec<Option<Vec<u8>>>,
    question_id: Vec<Option<Uuid>>,
    question: Vec<Option<Vec<u8>>>,
    question_expires_at: Vec<Option<DateTime<Utc>>>,
}

impl LiveColumns {
    fn push(&mut self, row: &TaskRow) {
        let task = &row.task;
        let (state, gate, not_before, question) = match &task.state {
            State::Queued { gate, .. } => match gate {
                Gate::Open => (0, 0, None, None),
                Gate::Until(due) => (0, 1, Some(times::to_database(*due)), None),
                Gate::Held => (0, 2, None, None),
            },
            State::Running { .. } => (1, 0, None, None),
            State::AwaitingInput { question, .. } => (2, 0, None, Some(*question)),
            // never written to the live table: an ended task has left it
            State::Terminal(_) => return,
        };
        let lease = task.lease();
        let is_offered = matches!(task.state, State::Queued { offer: Some(_), .. });
        self.id.push(Uuid::from_u128(task.id.0));
        self.state.push(state);
        self.gate.push(gate);
        self.not_before
            .push(not_before.or_else(|| task.policy.not_before.map(times::to_database)));
        self.run.push(column(task.run));
        self.attempt.push(column(task.attempt));
        self.generation.push(task.generation.cast_signed());
        self.item_no.push(last_item_no(task));
        self.worker_session.push(lease.map(|lease| lease.worker.0));
        self.offered_at
            .push(row.offered_at.filter(|_| is_offered));
        self.worker_name.push(row.body.worker_name.clone());
        self.cancel_requested_at
            .push(task.cancel.map(|cancel| times::to_database(cancel.requested_at)));
        self.cancel_grace_ms
            .push(task.cancel.and_then(|cancel| cancel.grace).map(to_ms));
        self.started_at.push(task.started_at.map(times::to_database));
        self.updated_at.push(row.body.updated_at);
        self.state_detail.push(row.body.state_detail.clone());
        self.summary.push(row.body.summary.clone());
        self.progress.push(encode(row.body.progress.as_ref()));
        self.progress_at.push(row.body.progress_at);
        self.content.push(encode_content(&row.body.content));
        self.error_kind
            .push(row.body.error.as_ref().map(|error| error.kind.as_str().to_owned()));
        self.error_message
            .push(row.body.error.as_ref().map(|error| error.message.clone()));
        self.last_exit.push(encode(row.body.last_exit.as_ref()));
        self.question_id
            .push(question.map(|question| Uuid::from_u128(question.id.0)));
        self.question.push(encode(row.body.question.as_ref().filter(|_| question.is_some())));
        self.question_expires_at
            .push(question.and_then(|question| question.expires_at).map(times::to_database));
    }
}

/// Number of the last report applied under the lease that is held, or was held last.
pub(super) fn last_item_no(task: &Task) -> i64 {
    match (task.lease(), task.settled) {
        (Some(lease), _) => lease.item_no,
        (None, Some(settled)) => settled.item_no,
        (None, None) => 0,
    }
}

pub(super) fn encode<M: Message>(message: Option<&M>) -> Option<Vec<u8>> {
    message.map(Message::encode_to_vec)
}

/// Most tasks have neither artifacts nor links: nothing is stored for them.
pub(super) fn encode_content(content: &TaskContent) -> Option<Vec<u8>> {
    (*content != TaskContent::default()).then(|| content.encode_to_vec())
}

pub(super) fn column(count: u32) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// Milliseconds, as stored.
pub(super) fn to_ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn from_ms(milliseconds: i64) -> Duration {
    Duration::from_millis(u64::try_from(milliseconds).unwrap_or(0))
}

fn counter(stored: i32) -> Result<u32, StoreError> {
    u32::try_from(stored).map_err(|error| StoreError::corrupt("counter", error))
}

fn retry_policy(max_runs: i32, initial_backoff_ms: i64, max_backoff_ms: i64, multiplier: f64) -> RetryPolicy {
    RetryPolicy {
        max_runs: u32::try_from(max_runs).unwrap_or(1),
        initial_backoff: from_ms(initial_backoff_ms),
        max_backoff: from_ms(max_backoff_ms),
        multiplier,
    }
}

/// How much of a task's output is kept, by its spec.
#[must_use]
pub fn retention(spec: &TaskSpec) -> Retention {
    let bytes = spec.output_limits.map_or(Retention::DEFAULT_BYTES, |limits| {
        u64::try_from(limits.max_bytes_per_stream).unwrap_or(0)
    });
    Retention::of(bytes)
}

/// Exit codes that count as success, by a task's spec.
#[must_use]
pub fn success_exit_codes(spec: &TaskSpec) -> Vec<i32> {
    match &spec.command {
        Some(command) if !command.success_exit_codes.is_empty() => command.success_exit_codes.clone(),
        Some(_) | None => vec![0],
    }
}

fn stored_error(
    kind: Option<String>,
    message: Option<String>,
    retryable: Option<bool>,
) -> Result<Option<StoredError>, StoreError> {
    let Some(kind) = kind else { return Ok(None) };
    Ok(Some(StoredError {
        kind: ErrorKind::parse(&kind).ok_or_else(|| StoreError::corrupt("error kind", &kind))?,
        message: message.unwrap_or_default(),
        retryable: retryable.unwrap_or(false),
    }))
}
