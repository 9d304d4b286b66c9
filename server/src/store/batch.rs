//! The set-based writes of one group commit: ends, attempts, new tasks, and last the sessions with their logs.

use super::{
    StoreError,
    task_row::{TaskRow, column, encode, encode_content, last_item_no},
    times,
    usage::UsedDelta,
};
use chrono::{DateTime, Utc};
use prost::Message;
use sqlx::{Connection, PgConnection, Postgres, Transaction};
use taskyard_core::{
    id::{SessionUid, TaskId},
    output::{Retention, Stored},
    task::{AttemptEnd, State, TerminalState},
};
use taskyard_proto::v1::Exit;
use uuid::Uuid;

/// Begins the transaction of one batch.
///
/// # Errors
/// Any [`StoreError`].
pub async fn begin(db: &mut PgConnection) -> Result<Transaction<'_, Postgres>, StoreError> {
    Ok(db.begin().await?)
}

/// Commits it.
///
/// # Errors
/// Any [`StoreError`]; after one of them it is not known whether the batch was committed.
pub async fn commit(transaction: Transaction<'_, Postgres>) -> Result<(), StoreError> {
    Ok(transaction.commit().await?)
}

/// What a batch does to one session.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SessionChange {
    /// The session.
    pub session: SessionUid,
    /// Events to number.
    pub events: i64,
    /// New tasks to number.
    pub creates: i64,
    /// Live tasks more or less.
    pub open_delta: i64,
    /// Tasks that ended so.
    pub ended: EndedTasks,
    /// Tasks with a pending question more or less.
    pub awaiting_delta: i64,
    /// Virtual time of the new tasks' queue.
    pub virtual_time: f64,
    /// What the runs that ended used.
    pub used: UsedDelta,
}

/// How many tasks ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EndedTasks {
    /// Succeeded.
    pub succeeded: i64,
    /// Failed.
    pub failed: i64,
    /// Canceled.
    pub canceled: i64,
}

/// What a session numbered.
#[derive(Clone, Copy, Debug)]
pub struct SessionNumbers {
    /// The session.
    pub session: SessionUid,
    /// Number of the first event.
    pub first_seq: i64,
    /// Ordinal of the first new task.
    pub first_ordinal: i64,
    /// Virtual time after which the new tasks are placed, one apart.
    pub fair_base: f64,
    /// The time of the commit's events.
    pub at: DateTime<Utc>,
}

/// One session's events of one commit.
#[derive(Clone, Debug)]
pub struct LogRow {
    /// The session.
    pub session: SessionUid,
    /// Number of the first event.
    pub first_seq: i64,
    /// Number of the last event.
    pub last_seq: i64,
    /// Their time.
    pub at: DateTime<Utc>,
    /// Encoded `LogPage`.
    pub body: Vec<u8>,
}

/// What is stored of one stream of one run.
#[derive(Clone, Copy, Debug)]
pub struct StreamRow {
    /// The task.
    pub task: TaskId,
    /// The run.
    pub run: i32,
    /// 1 stdout, 2 stderr.
    pub stream: i16,
    /// What is stored.
    pub stored: Stored,
    /// What is kept.
    pub retention: Retention,
}

/// Replaces the live rows of tasks that have ended by end rows.
///
/// # Errors
/// Any [`StoreError`].
pub async fn end_tasks(db: &mut PgConnection, rows: &[&TaskRow]) -> Result<(), StoreError> {
    let ids: Vec<Uuid> = rows
        .iter()
        .map(|row| Uuid::from_u128(row.task.id.0))
        .collect();
    // the values of their secrets go with them
    let deleted = sqlx::query!(
        "with erased as (delete from task_secret where task_id = any($1)) delete from task_live where id = any($1)",
        &ids
    )
    .execute(&mut *db)
    .await?;
    if deleted.rows_affected() != ids.len() as u64 {
        return Err(StoreError::Conflict(sqlx::Error::RowNotFound));
    }
    let each = |value: fn(&TaskRow) -> Option<Vec<u8>>| {
        rows.iter().map(|row| value(row)).collect::<Vec<_>>()
    };
    let error = |row: &TaskRow| {
        row.body
            .error
            .clone()
            .filter(|_| row.task.state == State::Terminal(TerminalState::Failed))
    };
    sqlx::query!(
        r#"insert into task_end (id, state, run, attempt, generation, epoch, lease_id, item_no, worker_name,
             cancel_requested_at, started_at, finished_at, updated_at, state_detail, summary, progress, content, error_kind,
             error_message, error_retryable, run_end)
           select * from unnest($1::uuid[], $2::smallint[], $3::int[], $4::int[], $5::bigint[], $6::bigint[], $7::uuid[],
             $8::bigint[], $9::text[], $10::timestamptz[], $11::timestamptz[], $12::timestamptz[], $13::timestamptz[],
             $14::text[], $15::text[], $16::bytea[], $17::bytea[], $18::text[], $19::text[], $20::boolean[], $21::bytea[])"#,
        &ids,
        &rows.iter().map(|row| end_state(row)).collect::<Vec<_>>(),
        &rows.iter().map(|row| column(row.task.run)).collect::<Vec<_>>(),
        &rows.iter().map(|row| column(row.task.attempt)).collect::<Vec<_>>(),
        &rows.iter().map(|row| row.task.generation.cast_signed()).collect::<Vec<_>>(),
        &rows.iter().map(|row| row.task.settled.map_or(0, |lease| lease.epoch.0)).collect::<Vec<_>>(),
        &rows.iter().map(|row| row.task.settled.map(|lease| Uuid::from_u128(lease.id.0))).collect::<Vec<_>>() as _,
        &rows.iter().map(|row| last_item_no(&row.task)).collect::<Vec<_>>(),
        &rows.iter().map(|row| row.body.worker_name.clone()).collect::<Vec<_>>() as _,
        &rows.iter().map(|row| row.task.cancel.map(|cancel| times::to_database(cancel.requested_at))).collect::<Vec<_>>() as _,
        &rows.iter().map(|row| row.task.started_at.map(times::to_database)).collect::<Vec<_>>() as _,
        &rows.iter().map(|row| row.end.as_ref().map_or(row.body.updated_at, |end| end.finished_at)).collect::<Vec<_>>(),
        &rows.iter().map(|row| row.body.updated_at).collect::<Vec<_>>(),
        &rows.iter().map(|row| row.body.state_detail.clone()).collect::<Vec<_>>(),
        &rows.iter().map(|row| row.body.summary.clone()).collect::<Vec<_>>(),
        &each(|row| encode(row.body.progress.as_ref())) as _,
        &each(|row| encode_content(&row.body)) as _,
        &rows.iter().map(|row| error(row).map(|error| error.kind.as_str().to_owned())).collect::<Vec<_>>() as _,
        &rows.iter().map(|row| error(row).map(|error| error.message)).collect::<Vec<_>>() as _,
        &rows.iter().map(|row| error(row).map(|error| error.retryable)).collect::<Vec<_>>() as _,
        &each(|row| row.end.as_ref().map(|end| end.run_end.encode_to_vec())) as _
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Writes what enriched a task after its end.
///
/// # Errors
/// Any [`StoreError`].
pub async fn update_ended(db: &mut PgConnection, row: &TaskRow) -> Result<(), StoreError> {
    sqlx::query!(
        "update task_end set generation = $2, updated_at = $3, state_detail = $4, summary = $5, content = $6 where id = $1",
        Uuid::from_u128(row.task.id.0),
        row.task.generation.cast_signed(),
        row.body.updated_at,
        row.body.state_detail,
        row.body.summary,
        encode_content(&row.body)
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Stores an attempt that ended without ending its task.
///
/// # Errors
/// Any [`StoreError`].
pub async fn insert_attempt(
    db: &mut PgConnection,
    task: TaskId,
    end: &AttemptEnd,
    body: &super::task_row::Body,
    exit: Option<&Exit>,
    ended_at: DateTime<Utc>,
) -> Result<(), StoreError> {
    sqlx::query!(
        "insert into attempt (task_id, attempt, run, epoch, lease_id, item_no, worker_name, ended_at, error_kind, error_message, exit)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        Uuid::from_u128(task.0),
        column(end.attempt),
        column(end.run),
        end.lease.epoch.0,
        Uuid::from_u128(end.lease.id.0),
        end.lease.item_no,
        body.worker_name,
        ended_at,
        end.failure.map(|failure| failure.kind.as_str()),
        match end.goes_on {
            true => Some("the worker was restarted; the run went on"),
            false => end.failure.and(body.error.as_ref()).map(|error| error.message.as_str()),
        },
        encode(exit)
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Takes the sessions' locks, in order and last of all locks, and numbers what the batch adds to them. None that gets new
/// tasks has more than `most_open` live ones then; none: any number.
///
/// # Errors
/// Any [`StoreError`]; [`StoreError::SessionDeleted`] if a session that gets new tasks is being deleted or gone;
/// [`StoreError::Conflict`] if one would have too many, since others created some after the batch had looked.
pub async fn number(
    db: &mut PgConnection,
    changes: &[SessionChange],
    most_open: Option<u64>,
) -> Result<Vec<SessionNumbers>, StoreError> {
    let rows = sqlx::query!(
        r#"with wanted as (
             select * from unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::float8[], $6::bigint[],
                 $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[])
               as w(uid, events, creates, open_delta, virtual_time, succeeded, failed, canceled, awaiting_delta, used_tasks,
                 used_runs, used_cpu_ms, used_max_rss_bytes)),
           locked as materialized (
             select s.uid from session s where s.uid in (select uid from wanted) order by s.uid for no key update of s)
           update session s set next_seq = s.next_seq + w.events, next_ordinal = s.next_ordinal + w.creates,
             open_tasks = s.open_tasks + w.open_delta, succeeded_tasks = s.succeeded_tasks + w.succeeded,
             failed_tasks = s.failed_tasks + w.failed, canceled_tasks = s.canceled_tasks + w.canceled,
             awaiting_input_tasks = s.awaiting_input_tasks + w.awaiting_delta,
             used_tasks = s.used_tasks + w.used_tasks, used_runs = s.used_runs + w.used_runs,
             used_cpu_ms = s.used_cpu_ms + w.used_cpu_ms,
             used_max_rss_bytes = greatest(s.used_max_rss_bytes, w.used_max_rss_bytes),
             fair_last = case when w.creates > 0 then greatest(s.fair_last, w.virtual_time) + w.creates else s.fair_last end,
             updated_at = clock_timestamp()
           from wanted w join locked on locked.uid = w.uid where s.uid = w.uid
           returning s.uid, s.next_seq - w.events as "first_seq!", s.next_ordinal - w.creates as "first_ordinal!",
             s.fair_last - w.creates as "fair_base!", s.updated_at as "at!",
             s.deleted_at is not null and w.creates > 0 as "creates_in_deleted!",
             s.open_tasks > $14 and w.creates > 0 as "is_overfull!""#,
        &changes.iter().map(|change| change.session.0).collect::<Vec<_>>(),
        &changes.iter().map(|change| change.events).collect::<Vec<_>>(),
        &changes.iter().map(|change| change.creates).collect::<Vec<_>>(),
        &changes.iter().map(|change| change.open_delta).collect::<Vec<_>>(),
        &changes.iter().map(|change| change.virtual_time).collect::<Vec<_>>(),
        &changes.iter().map(|change| change.ended.succeeded).collect::<Vec<_>>(),
        &changes.iter().map(|change| change.ended.failed).collect::<Vec<_>>(),
        &changes.iter().map(|change| change.ended.canceled).collect::<Vec<_>>(),
        &changes.iter().map(|change| change.awaiting_delta).collect::<Vec<_>>(),
        &changes.iter().map(|change| change.used.tasks).collect::<Vec<_>>(),
        &changes.iter().map(|change| change.used.runs).collect::<Vec<_>>(),
        &changes.iter().map(|change| change.used.cpu_ms).collect::<Vec<_>>(),
        &changes.iter().map(|change| change.used.max_rss_bytes).collect::<Vec<_>>(),
        most_open.map_or(i64::MAX, |most| i64::try_from(most).unwrap_or(i64::MAX))
    )
    .fetch_all(db)
    .await?;
    if rows.iter().any(|row| row.creates_in_deleted) {
        return Err(StoreError::SessionDeleted);
    }
    if rows.iter().any(|row| row.is_overfull) {
        return Err(StoreError::Conflict(sqlx::Error::RowNotFound));
    }
    if rows.len() != changes.len() {
        // a session whose last task ends is removed later, so a missing one has new tasks
        return Err(StoreError::SessionDeleted);
    }
    Ok(rows
        .into_iter()
        .map(|row| SessionNumbers {
            session: SessionUid(row.uid),
            first_seq: row.first_seq,
            first_ordinal: row.first_ordinal,
            fair_base: row.fair_base,
            at: row.at,
        })
        .collect())
}

/// Appends to the sessions' logs.
///
/// # Errors
/// Any [`StoreError`].
pub async fn append_log(db: &mut PgConnection, rows: &[LogRow]) -> Result<(), StoreError> {
    sqlx::query!(
        r#"insert into session_log (session_uid, last_seq, first_seq, at, body)
           select * from unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::timestamptz[], $5::bytea[])"#,
        &rows.iter().map(|row| row.session.0).collect::<Vec<_>>(),
        &rows.iter().map(|row| row.last_seq).collect::<Vec<_>>(),
        &rows.iter().map(|row| row.first_seq).collect::<Vec<_>>(),
        &rows.iter().map(|row| row.at).collect::<Vec<_>>(),
        &rows.iter().map(|row| row.body.clone()).collect::<Vec<_>>()
    )
    .execute(db)
    .await?;
    Ok(())
}

/// What is stored of the output of these runs.
///
/// # Errors
/// Any [`StoreError`].
pub async fn read_streams(
    db: &mut PgConnection,
    runs: &[(TaskId, u32)],
) -> Result<Vec<StreamRow>, StoreError> {
    let rows = sqlx::query!(
        r#"select s.task_id, s.run, s.stream, s.durable_end, s.contiguous_from, s.head_bytes, s.tail_bytes
           from unnest($1::uuid[], $2::int[]) r(task_id, run) join output_stream s on s.task_id = r.task_id and s.run = r.run"#,
        &runs.iter().map(|(task, _)| Uuid::from_u128(task.0)).collect::<Vec<_>>(),
        &runs.iter().map(|(_, run)| column(*run)).collect::<Vec<_>>()
    )
    .fetch_all(db)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| StreamRow {
            task: TaskId(row.task_id.as_u128()),
            run: row.run,
            stream: row.stream,
            stored: Stored {
                durable_end: row.durable_end.cast_unsigned(),
                contiguous_from: row.contiguous_from.cast_unsigned(),
            },
            retention: Retention {
                head: row.head_bytes.cast_unsigned(),
                tail: row.tail_bytes.cast_unsigned(),
            },
        })
        .collect())
}

/// Deletes the chunks between the kept head and the kept tail of a stream; says how many bytes stay stored.
///
/// # Errors
/// Any [`StoreError`].
pub async fn trim_stream(
    db: &mut PgConnection,
    task: TaskId,
    run: u32,
    stream: i16,
    head: u64,
    tail_start: u64,
) -> Result<i64, StoreError> {
    let (task, run) = (Uuid::from_u128(task.0), column(run));
    sqlx::query!(
        "delete from output_chunk where task_id = $1 and run = $2 and stream = $3 and start_offset >= $4 and end_offset <= $5",
        task,
        run,
        stream,
        head.cast_signed(),
        tail_start.cast_signed()
    )
    .execute(&mut *db)
    .await?;
    let stored = sqlx::query_scalar!(
        r#"select coalesce(sum(end_offset - start_offset), 0)::bigint as "stored!" from output_chunk
           where task_id = $1 and run = $2 and stream = $3"#,
        task,
        run,
        stream
    )
    .fetch_one(db)
    .await?;
    Ok(stored)
}

impl EndedTasks {
    /// One more that ended so.
    pub fn add(&mut self, state: TerminalState) {
        *match state {
            TerminalState::Succeeded => &mut self.succeeded,
            TerminalState::Failed => &mut self.failed,
            TerminalState::Canceled => &mut self.canceled,
        } += 1;
    }
}

fn end_state(row: &TaskRow) -> i16 {
    match &row.task.state {
        State::Terminal(TerminalState::Succeeded) => 3,
        State::Terminal(TerminalState::Failed) => 4,
        State::Terminal(TerminalState::Canceled) => 5,
        // the table's CHECK refuses it: only ended tasks come here
        State::Queued { .. } | State::Running { .. } | State::AwaitingInput { .. } => 0,
    }
}
