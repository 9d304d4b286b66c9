//! Writing live rows back.

use super::{
    StoreError,
    task_row::{TaskRow, column, encode, encode_content, last_item_no, to_ms},
    times,
};
use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use taskyard_core::task::{Gate, State};
use uuid::Uuid;

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
             attach_no = case when v.worker_session is null then null
               when v.worker_session = l.worker_session then l.attach_no
               -- taken over by the worker's next boot
               else (select w.attach_no from worker_session w where w.id = v.worker_session) end,
             epoch = coalesce(v.epoch, l.epoch), lease_id = coalesce(v.lease_id, l.lease_id),
             forgiven_runs = v.forgiven_runs, offered_at = v.offered_at,
             worker_name = v.worker_name, cancel_requested_at = v.cancel_requested_at, cancel_grace_ms = v.cancel_grace_ms,
             cancel_signal = v.cancel_signal,
             started_at = v.started_at, updated_at = v.updated_at, state_detail = v.state_detail, summary = v.summary,
             progress = v.progress, progress_at = v.progress_at, content = v.content, error_kind = v.error_kind,
             error_message = v.error_message, last_exit = v.last_exit, question_id = v.question_id, question = v.question,
             question_expires_at = v.question_expires_at, messages = v.messages, delivered = v.delivered,
             delivered_run = v.delivered_run
           from unnest($1::uuid[], $2::smallint[], $3::smallint[], $4::timestamptz[], $5::int[], $6::int[], $7::bigint[],
             $8::bigint[], $9::bigint[], $10::timestamptz[], $11::text[], $12::timestamptz[], $13::bigint[],
             $14::timestamptz[], $15::timestamptz[], $16::text[], $17::text[], $18::bytea[], $19::timestamptz[],
             $20::bytea[], $21::text[], $22::text[], $23::bytea[], $24::uuid[], $25::bytea[], $26::timestamptz[],
             $27::bigint[], $28::bigint[], $29::int[], $30::bigint[], $31::uuid[], $32::int[], $33::smallint[])
             as v(id, state, gate, not_before, run, attempt, generation, item_no, worker_session, offered_at, worker_name,
               cancel_requested_at, cancel_grace_ms, started_at, updated_at, state_detail, summary, progress, progress_at,
               content, error_kind, error_message, last_exit, question_id, question, question_expires_at, messages, delivered,
               delivered_run, epoch, lease_id, forgiven_runs, cancel_signal)
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
        &columns.question_expires_at as _,
        &columns.messages,
        &columns.delivered,
        &columns.delivered_run,
        &columns.epoch as _,
        &columns.lease_id as _,
        &columns.forgiven_runs,
        &columns.cancel_signal as _
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
    cancel_signal: Vec<Option<i16>>,
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
    messages: Vec<i64>,
    delivered: Vec<i64>,
    delivered_run: Vec<i32>,
    epoch: Vec<Option<i64>>,
    lease_id: Vec<Option<Uuid>>,
    forgiven_runs: Vec<i32>,
}

impl LiveColumns {
    fn push(&mut self, row: &TaskRow) {
        let task = &row.task;
        let (state, gate, not_before, question) = match &task.state {
            State::Queued { gate, .. } => match gate {
                Gate::Open => (0, 0, None, None),
                Gate::Until(due) => (0, 1, Some(times::to_database(*due)), None),
                Gate::Held { until } => (0, 2, until.map(times::to_database), None),
                Gate::Monitor => (0, 3, None, None),
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
        self.epoch.push(lease.map(|lease| lease.epoch.0));
        self.lease_id
            .push(lease.map(|lease| Uuid::from_u128(lease.id.0)));
        self.forgiven_runs.push(column(task.forgiven));
        self.offered_at.push(row.offered_at.filter(|_| is_offered));
        self.worker_name.push(row.body.worker_name.clone());
        self.cancel_requested_at.push(
            task.cancel
                .map(|cancel| times::to_database(cancel.requested_at)),
        );
        self.cancel_grace_ms
            .push(task.cancel.and_then(|cancel| cancel.grace).map(to_ms));
        self.cancel_signal
            .push(task.cancel.and_then(|cancel| cancel.signal));
        self.started_at
            .push(task.started_at.map(times::to_database));
        self.updated_at.push(row.body.updated_at);
        self.state_detail.push(row.body.state_detail.clone());
        self.summary.push(row.body.summary.clone());
        self.progress.push(encode(row.body.progress.as_ref()));
        self.progress_at.push(row.body.progress_at);
        self.content.push(encode_content(&row.body));
        self.error_kind.push(
            row.body
                .error
                .as_ref()
                .map(|error| error.kind.as_str().to_owned()),
        );
        self.error_message
            .push(row.body.error.as_ref().map(|error| error.message.clone()));
        self.last_exit.push(encode(row.body.last_exit.as_ref()));
        self.question_id
            .push(question.map(|question| Uuid::from_u128(question.id.0)));
        self.question.push(encode(
            row.body.question.as_ref().filter(|_| question.is_some()),
        ));
        self.messages.push(row.thread.newest);
        self.delivered.push(row.thread.delivered);
        self.delivered_run.push(row.thread.delivered_run);
        self.question_expires_at.push(
            question
                .and_then(|question| question.expires_at)
                .map(times::to_database),
        );
    }
}
