//! The questions that tasks asked, and what became of them.

use super::{StoreError, records::decode};
use prost::Message as _;
use sqlx::{PgConnection, PgExecutor};
use taskyard_core::id::{Epoch, LeaseId, QuestionId, SessionUid, TaskId};
use taskyard_proto::v1::{InputRequest, QuestionStatus};
use uuid::Uuid;

/// What every shown question id starts with.
const PREFIX: &str = "ques_";

/// A question's id as it is shown: `ques_` and 32 hexadecimal digits.
#[must_use]
pub fn show_question_id(id: QuestionId) -> String {
    format!("{PREFIX}{:032x}", id.0)
}

/// The id behind a shown one.
#[must_use]
pub fn read_question_id(shown: &str) -> Option<QuestionId> {
    let digits = shown.strip_prefix(PREFIX)?;
    let id = u128::from_str_radix(digits, 16).ok();
    id.filter(|_| digits.len() == 32).map(QuestionId)
}

/// Who asks: a run that is held by the lease it names.
#[derive(Clone, Copy, Debug)]
pub struct Asker {
    /// Its session.
    pub session: SessionUid,
    /// The run.
    pub run: i32,
    /// Its pending question.
    pub pending: Option<QuestionId>,
}

/// A question as stored.
#[derive(Clone, Debug)]
pub struct StoredQuestion {
    /// Which one.
    pub id: QuestionId,
    /// What was asked.
    pub request: InputRequest,
    /// The run that asked.
    pub run: i32,
    /// What became of it.
    pub status: QuestionStatus,
    /// Number of the answer in the task's thread.
    pub answer_number: Option<i64>,
}

/// A question to be stored.
#[derive(Clone, Debug)]
pub struct NewQuestion {
    /// Which one.
    pub id: QuestionId,
    /// Its task.
    pub task: TaskId,
    /// The run that asks.
    pub run: i32,
    /// What is asked.
    pub request: InputRequest,
}

/// A question that is pending no more.
#[derive(Clone, Copy, Debug)]
pub struct ClosedQuestion {
    /// Which one.
    pub id: QuestionId,
    /// Number of its answer; none: it expired.
    pub answer_number: Option<i64>,
}

/// Stores questions and closes others, those of the same batch included.
///
/// # Errors
/// Any [`StoreError`].
pub async fn write_questions(
    db: &mut PgConnection,
    asked: &[NewQuestion],
    closed: &[ClosedQuestion],
) -> Result<(), StoreError> {
    if !asked.is_empty() {
        sqlx::query!(
            r#"insert into question (id, task_id, key, body, run, status)
               select v.*, 1 from unnest($1::uuid[], $2::uuid[], $3::text[], $4::bytea[], $5::int[]) v"#,
            &asked.iter().map(|question| Uuid::from_u128(question.id.0)).collect::<Vec<_>>(),
            &asked.iter().map(|question| Uuid::from_u128(question.task.0)).collect::<Vec<_>>(),
            &asked.iter().map(|question| question.request.key.clone()).collect::<Vec<_>>(),
            &asked.iter().map(|question| question.request.encode_to_vec()).collect::<Vec<_>>(),
            &asked.iter().map(|question| question.run).collect::<Vec<_>>()
        )
        .execute(&mut *db)
        .await?;
    }
    if !closed.is_empty() {
        sqlx::query!(
            r#"update question q set status = case when v.number is null then 3 else 2 end, answer_number = v.number
               from unnest($1::uuid[], $2::bigint[]) v(id, number) where q.id = v.id"#,
            &closed.iter().map(|question| Uuid::from_u128(question.id.0)).collect::<Vec<_>>(),
            &closed.iter().map(|question| question.answer_number).collect::<Vec<_>>() as _
        )
        .execute(db)
        .await?;
    }
    Ok(())
}

/// The run that a lease holds; none: the lease is lost.
///
/// # Errors
/// Any [`StoreError`].
pub async fn read_asker(
    db: impl PgExecutor<'_>,
    task: TaskId,
    epoch: Epoch,
    lease_id: LeaseId,
) -> Result<Option<Asker>, StoreError> {
    let row = sqlx::query!(
        "select session_uid, run, question_id from task_live
         where id = $1 and epoch = $2 and lease_id = $3 and worker_session is not null and state in (1, 2)",
        Uuid::from_u128(task.0),
        epoch.0,
        Uuid::from_u128(lease_id.0)
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| Asker {
        session: SessionUid(row.session_uid),
        run: row.run,
        pending: row.question_id.map(|id| QuestionId(id.as_u128())),
    }))
}

/// The newest question of a task with this key.
///
/// # Errors
/// Any [`StoreError`].
pub async fn find_by_key(
    db: impl PgExecutor<'_>,
    task: TaskId,
    key: &str,
) -> Result<Option<StoredQuestion>, StoreError> {
    let row = sqlx::query_as!(
        QuestionRow,
        "select id, body, run, status, answer_number from question where task_id = $1 and key = $2
         order by id desc limit 1",
        Uuid::from_u128(task.0),
        key
    )
    .fetch_optional(db)
    .await?;
    row.map(QuestionRow::into_question).transpose()
}

/// A question of a task by its id.
///
/// # Errors
/// Any [`StoreError`].
pub async fn find_by_id(
    db: impl PgExecutor<'_>,
    task: TaskId,
    id: QuestionId,
) -> Result<Option<StoredQuestion>, StoreError> {
    let row = sqlx::query_as!(
        QuestionRow,
        "select id, body, run, status, answer_number from question where id = $1 and task_id = $2",
        Uuid::from_u128(id.0),
        Uuid::from_u128(task.0)
    )
    .fetch_optional(db)
    .await?;
    row.map(QuestionRow::into_question).transpose()
}

struct QuestionRow {
    id: Uuid,
    body: Vec<u8>,
    run: i32,
    status: i16,
    answer_number: Option<i64>,
}

impl QuestionRow {
    fn into_question(self) -> Result<StoredQuestion, StoreError> {
        Ok(StoredQuestion {
            id: QuestionId(self.id.as_u128()),
            request: decode("question", Some(&self.body))?.unwrap_or_default(),
            run: self.run,
            status: QuestionStatus::try_from(i32::from(self.status))
                .map_err(|_| StoreError::corrupt("question status", self.status))?,
            answer_number: self.answer_number,
        })
    }
}
