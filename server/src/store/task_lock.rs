//! Locking tasks: their live rows, or the end rows of those that have ended.

use super::{
    StoreError,
    records::decode,
    task_row::{
        Body, EndRow, StoredError, TaskRow, Thread, WakeTerms, retention, success_exit_codes,
    },
    times,
};
use sqlx::PgConnection;
use std::time::Duration;
use taskyard_core::{
    Timestamp,
    id::{Epoch, LeaseId, QuestionId, SessionUid, TaskId, WorkerSessionId},
    output::Retention,
    task::{
        Cancel, ErrorKind, Gate, Lease, Policy, Question, RetryPolicy, SettledLease, State, Task,
        TerminalState,
    },
};
use taskyard_proto::{
    storage::v1::{RunEnd, TaskContent},
    v1::TaskSpec,
};
use uuid::Uuid;

/// What a lock found: the rows, and the database's time right after the lock.
#[derive(Debug)]
pub struct Locked {
    /// The rows, live ones and ended ones, in no particular order.
    pub rows: Vec<TaskRow>,
    /// The database's clock.
    pub now: Timestamp,
    /// Whether there is any webhook.
    pub has_webhooks: bool,
}

/// Locks tasks in the order of their ids: their live rows, or the end rows of those that have ended.
///
/// # Errors
/// Any [`StoreError`].
pub async fn lock_tasks(db: &mut PgConnection, ids: &[TaskId]) -> Result<Locked, StoreError> {
    let wanted: Vec<Uuid> = ids.iter().map(|id| Uuid::from_u128(id.0)).collect();
    let live = sqlx::query!(
        r#"select l.id, l.session_uid, t.root_id, t.ordinal, l.state, l.gate, l.not_before, t.not_before as first_not_before,
             l.start_deadline, l.run, l.forgiven_runs, l.attempt, l.generation, l.epoch, l.lease_id, l.item_no, l.worker_session,
             l.offered_at, l.worker_name, l.cancel_requested_at, l.cancel_grace_ms, l.cancel_signal, l.started_at, l.updated_at,
             l.state_detail, l.summary, l.progress, l.progress_at, l.content, l.error_kind, l.error_message, l.last_exit,
             l.question_id, l.question, l.question_expires_at, t.max_runs, t.initial_backoff_ms, t.max_backoff_ms,
             t.backoff_multiplier, t.spec, t.retry_of, t.namespace_id, t.wake_policy, t.group_wake, t.group_name,
             coalesce(nullif(t.display_name, ''), t.name, '') as "title!", l.messages, l.delivered, l.delivered_run, l.is_monitor,
             w.name as "holder_name?",
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
        let held = row
            .worker_session
            .zip(row.lease_id)
            .map(|(worker, lease_id)| Lease {
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
                    (2, until) => Gate::Held {
                        until: until.map(times::to_core),
                    },
                    (3, _) => Gate::Monitor,
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
            retry: retry_policy(
                row.max_runs,
                row.initial_backoff_ms,
                row.max_backoff_ms,
                row.backoff_multiplier,
            ),
            not_before: row.first_not_before.map(times::to_core),
            start_deadline: row.start_deadline.map(times::to_core),
            success_exit_codes: success_exit_codes(&spec),
            is_monitor: row.is_monitor,
        };
        let content: TaskContent =
            decode("task content", row.content.as_deref())?.unwrap_or_default();
        let reason = content.error_reason.clone();
        rows.push(TaskRow {
            task: Task {
                id: TaskId(row.id.as_u128()),
                policy,
                state,
                cancel: row.cancel_requested_at.map(|at| Cancel {
                    requested_at: times::to_core(at),
                    grace: row.cancel_grace_ms.map(from_ms),
                    signal: row.cancel_signal,
                }),
                run: counter(row.run)?,
                forgiven: counter(row.forgiven_runs)?,
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
                content,
                error: stored_error(row.error_kind, row.error_message, Some(true), reason)?,
                last_exit: decode("exit", row.last_exit.as_deref())?,
                question: decode("question", row.question.as_deref())?,
                worker_name: row.worker_name,
                retry_of: row.retry_of.map(|id| TaskId(id.as_u128())),
                updated_at: row.updated_at,
            },
            session: SessionUid(row.session_uid),
            root: TaskId(row.root_id.as_u128()),
            ordinal: row.ordinal,
            offered_at: row.offered_at,
            retention: retention(&spec),
            holder_name: row.holder_name,
            holder_renewed_at: row.holder_renewed_at,
            thread: Thread {
                newest: row.messages,
                delivered: row.delivered,
                delivered_run: row.delivered_run,
            },
            wake: WakeTerms {
                namespace_id: row.namespace_id,
                policy: wire_enum("wake policy", row.wake_policy)?,
                group_wake: wire_enum("group wake", row.group_wake)?,
                group: row.group_name,
                title: row.title,
            },
            end: None,
        });
    }
    if !missing.is_empty() {
        lock_ended(db, &missing, &mut rows).await?;
    }
    let moment = sqlx::query!(
        r#"select clock_timestamp() as "now!", exists (select 1 from webhook) as "has_webhooks!""#
    )
    .fetch_one(db)
    .await?;
    Ok(Locked {
        rows,
        now: times::to_core(moment.now),
        has_webhooks: moment.has_webhooks,
    })
}

async fn lock_ended(
    db: &mut PgConnection,
    ids: &[Uuid],
    rows: &mut Vec<TaskRow>,
) -> Result<(), StoreError> {
    let ended = sqlx::query!(
        r#"select e.id, t.session_uid, t.root_id, t.ordinal, e.state, e.run, e.attempt, e.generation, e.epoch, e.lease_id, e.item_no,
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
        let content: TaskContent =
            decode("task content", row.content.as_deref())?.unwrap_or_default();
        let reason = content.error_reason.clone();
        rows.push(TaskRow {
            task: Task {
                id: TaskId(row.id.as_u128()),
                policy: Policy {
                    retry: RetryPolicy::NEVER,
                    not_before: None,
                    start_deadline: None,
                    success_exit_codes: Vec::new(),
                    is_monitor: false,
                },
                state: State::Terminal(state),
                cancel: row.cancel_requested_at.map(|at| Cancel {
                    requested_at: times::to_core(at),
                    grace: None,
                    signal: None,
                }),
                run: counter(row.run)?,
                forgiven: 0,
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
                content,
                error: stored_error(
                    row.error_kind,
                    row.error_message,
                    row.error_retryable,
                    reason,
                )?,
                last_exit: run_end.exit.clone(),
                question: None,
                worker_name: row.worker_name,
                retry_of: row.retry_of.map(|id| TaskId(id.as_u128())),
                updated_at: row.updated_at,
            },
            session: SessionUid(row.session_uid),
            root: TaskId(row.root_id.as_u128()),
            ordinal: row.ordinal,
            offered_at: None,
            retention: Retention::of(Retention::DEFAULT_BYTES),
            holder_name: None,
            holder_renewed_at: None,
            // nothing is posted to an ended task, and its end has woken whom it should
            thread: Thread::default(),
            wake: WakeTerms::default(),
            end: Some(EndRow {
                finished_at: row.finished_at,
                run_end,
            }),
        });
    }
    Ok(())
}

fn from_ms(milliseconds: i64) -> Duration {
    Duration::from_millis(u64::try_from(milliseconds).unwrap_or(0))
}

fn counter(stored: i32) -> Result<u32, StoreError> {
    u32::try_from(stored).map_err(|error| StoreError::corrupt("counter", error))
}

fn wire_enum<T: TryFrom<i32>>(what: &'static str, stored: i16) -> Result<T, StoreError> {
    T::try_from(i32::from(stored)).map_err(|_| StoreError::corrupt(what, stored))
}

fn retry_policy(
    max_runs: i32,
    initial_backoff_ms: i64,
    max_backoff_ms: i64,
    multiplier: f64,
) -> RetryPolicy {
    RetryPolicy {
        max_runs: u32::try_from(max_runs).unwrap_or(1),
        initial_backoff: from_ms(initial_backoff_ms),
        max_backoff: from_ms(max_backoff_ms),
        multiplier,
    }
}

fn stored_error(
    kind: Option<String>,
    message: Option<String>,
    retryable: Option<bool>,
    reason: String,
) -> Result<Option<StoredError>, StoreError> {
    let Some(kind) = kind else { return Ok(None) };
    Ok(Some(StoredError {
        kind: ErrorKind::parse(&kind).ok_or_else(|| StoreError::corrupt("error kind", &kind))?,
        message: message.unwrap_or_default(),
        retryable: retryable.unwrap_or(false),
        reason,
    }))
}
