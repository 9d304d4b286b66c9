//! The threads of tasks.

use super::{StoreError, records::decode, times};
use chrono::{DateTime, Utc};
use prost::Message as _;
use sqlx::{PgConnection, PgExecutor};
use taskyard_core::id::{SessionUid, TaskId};
use taskyard_proto::{
    storage::v1::MessageBody,
    v1::{MessageDirection, TaskMessage},
};
use uuid::Uuid;

/// A message to be stored, with the number that its task gave it.
#[derive(Clone, Debug)]
pub struct MessageRow {
    /// The message.
    pub message: TaskMessage,
    /// Its task.
    pub task: TaskId,
    /// Its id.
    pub id: u128,
    /// The poster's own name for it.
    pub request_id: Option<String>,
    /// When it was posted.
    pub at: DateTime<Utc>,
}

/// How a repeated post is recognised.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PostKey {
    /// By the poster's own name for it.
    Request(TaskId, MessageDirection, String),
    /// By the id that this very post got.
    Id(TaskId, u128),
}

/// The standing of a task's thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ThreadStanding {
    /// Number of the newest message.
    pub newest: i64,
    /// Up to where the inbound messages were handed to the work; the newest, once the task has ended.
    pub delivered: i64,
}

/// What every shown message id starts with.
const PREFIX: &str = "tmsg_";

/// A message's id as it is shown.
#[must_use]
pub fn show_message_id(id: u128) -> String {
    format!("{PREFIX}{id:032x}")
}

/// The id behind a shown one.
#[must_use]
pub fn read_message_id(shown: &str) -> Option<u128> {
    let digits = shown.strip_prefix(PREFIX)?;
    (digits.len() == 32)
        .then(|| u128::from_str_radix(digits, 16).ok())
        .flatten()
}

/// Stores messages.
///
/// # Errors
/// [`StoreError::Duplicate`] where another server stored one of them meanwhile; any other [`StoreError`].
pub async fn insert_messages(db: &mut PgConnection, rows: &[MessageRow]) -> Result<(), StoreError> {
    let messages = || rows.iter().map(|row| &row.message);
    sqlx::query!(
        r#"insert into message (task_id, number, id, direction, body, in_reply_to, run, request_id, created_at)
           select v.task_id, v.number, v.id, v.direction, v.body, nullif(v.in_reply_to, ''), v.run, v.request_id, v.at
           from unnest($1::uuid[], $2::bigint[], $3::uuid[], $4::smallint[], $5::bytea[], $6::text[], $7::int[], $8::text[],
             $9::timestamptz[]) v(task_id, number, id, direction, body, in_reply_to, run, request_id, at)"#,
        &rows.iter().map(|row| Uuid::from_u128(row.task.0)).collect::<Vec<_>>(),
        &messages().map(|message| message.number).collect::<Vec<_>>(),
        &rows.iter().map(|row| Uuid::from_u128(row.id)).collect::<Vec<_>>(),
        &messages().map(|message| direction_column(message.direction())).collect::<Vec<_>>(),
        &messages().map(|message| MessageBody { parts: message.parts.clone() }.encode_to_vec()).collect::<Vec<_>>(),
        &messages().map(|message| message.in_reply_to.clone()).collect::<Vec<_>>(),
        &messages().map(|message| message.run).collect::<Vec<_>>(),
        &rows.iter().map(|row| row.request_id.clone()).collect::<Vec<_>>() as _,
        &rows.iter().map(|row| row.at).collect::<Vec<_>>()
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Whether a post of this name is stored already.
///
/// # Errors
/// Any [`StoreError`].
pub async fn is_posted(
    db: impl PgExecutor<'_>,
    task: TaskId,
    direction: MessageDirection,
    request_id: &str,
) -> Result<bool, StoreError> {
    let found = sqlx::query_scalar!(
        r#"select exists (select 1 from message where task_id = $1 and direction = $2 and request_id = $3) as "found!""#,
        Uuid::from_u128(task.0),
        direction_column(direction),
        request_id
    )
    .fetch_one(db)
    .await?;
    Ok(found)
}

/// Which of these posts are stored already, each with its message.
///
/// # Errors
/// Any [`StoreError`].
pub async fn find_posted(
    db: &mut PgConnection,
    keys: &[PostKey],
) -> Result<Vec<(PostKey, TaskMessage)>, StoreError> {
    let mut found = Vec::new();
    for key in keys {
        let (task, id, direction, request_id) = match key {
            PostKey::Request(task, direction, request_id) => (
                task,
                None,
                Some(direction_column(*direction)),
                Some(request_id),
            ),
            PostKey::Id(task, id) => (task, Some(Uuid::from_u128(*id)), None, None),
        };
        let row = sqlx::query_as!(
            StoredMessage,
            r#"select task_id, number, id, direction, body, in_reply_to, run, created_at from message
               where task_id = $1 and (id = $2 or (direction = $3 and request_id = $4))"#,
            Uuid::from_u128(task.0),
            id,
            direction,
            request_id.map(String::as_str)
        )
        .fetch_optional(&mut *db)
        .await?;
        if let Some(row) = row {
            found.push((key.clone(), row.into_message()?));
        }
    }
    Ok(found)
}

/// At most `limit` messages of a task after a number, oldest first, of one direction or both.
///
/// # Errors
/// Any [`StoreError`].
pub async fn list_messages(
    db: impl PgExecutor<'_>,
    task: TaskId,
    after: i64,
    direction: MessageDirection,
    limit: i64,
) -> Result<Vec<TaskMessage>, StoreError> {
    let rows = sqlx::query_as!(
        StoredMessage,
        r#"select task_id, number, id, direction, body, in_reply_to, run, created_at from message
           where task_id = $1 and number > $2 and ($3::smallint = 0 or direction = $3) order by number limit $4"#,
        Uuid::from_u128(task.0),
        after,
        direction_column(direction),
        limit
    )
    .fetch_all(db)
    .await?;
    rows.into_iter().map(StoredMessage::into_message).collect()
}

/// Number of the message before the latest `count` of a task; 0: there are no more than these.
///
/// # Errors
/// Any [`StoreError`].
pub async fn before_latest(
    db: impl PgExecutor<'_>,
    task: TaskId,
    direction: MessageDirection,
    count: i64,
) -> Result<i64, StoreError> {
    let number = sqlx::query_scalar!(
        r#"select number from message where task_id = $1 and ($2::smallint = 0 or direction = $2)
           order by number desc offset $3 limit 1"#,
        Uuid::from_u128(task.0),
        direction_column(direction),
        count
    )
    .fetch_optional(db)
    .await?;
    Ok(number.unwrap_or(0))
}

/// One message by its id.
///
/// # Errors
/// Any [`StoreError`].
pub async fn find_message(
    db: impl PgExecutor<'_>,
    task: TaskId,
    id: u128,
) -> Result<Option<TaskMessage>, StoreError> {
    let row = sqlx::query_as!(
        StoredMessage,
        r#"select task_id, number, id, direction, body, in_reply_to, run, created_at from message
           where task_id = $1 and id = $2"#,
        Uuid::from_u128(task.0),
        Uuid::from_u128(id)
    )
    .fetch_optional(db)
    .await?;
    row.map(StoredMessage::into_message).transpose()
}

/// How a task's thread stands.
///
/// # Errors
/// Any [`StoreError`].
pub async fn read_standing(
    db: impl PgExecutor<'_>,
    task: TaskId,
) -> Result<ThreadStanding, StoreError> {
    let row = sqlx::query!(
        r#"select coalesce(l.messages, (select max(number) from message where task_id = $1), 0) as "newest!",
             coalesce(l.delivered, (select max(number) from message where task_id = $1), 0) as "delivered!"
           from (select 1) one left join task_live l on l.id = $1"#,
        Uuid::from_u128(task.0)
    )
    .fetch_one(db)
    .await?;
    Ok(ThreadStanding {
        newest: row.newest,
        delivered: row.delivered,
    })
}

/// Session, run and delivery mark of a live task for the run that holds it: what a reader inside the task goes by.
///
/// # Errors
/// Any [`StoreError`].
pub async fn read_inbox_mark(
    db: impl PgExecutor<'_>,
    task: TaskId,
) -> Result<Option<(SessionUid, i64)>, StoreError> {
    let row = sqlx::query!(
        r#"select session_uid, case when delivered_run = run then delivered else 0 end as "mark!"
           from task_live where id = $1"#,
        Uuid::from_u128(task.0)
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| (SessionUid(row.session_uid), row.mark)))
}

struct StoredMessage {
    task_id: Uuid,
    number: i64,
    id: Uuid,
    direction: i16,
    body: Vec<u8>,
    in_reply_to: Option<String>,
    run: i32,
    created_at: DateTime<Utc>,
}

impl StoredMessage {
    fn into_message(self) -> Result<TaskMessage, StoreError> {
        let body: MessageBody = decode("message", Some(&self.body))?.unwrap_or_default();
        Ok(TaskMessage {
            id: show_message_id(self.id.as_u128()),
            task_id: TaskId(self.task_id.as_u128()).to_string(),
            number: self.number,
            direction: i32::from(self.direction),
            parts: body.parts,
            in_reply_to: self.in_reply_to.unwrap_or_default(),
            run: self.run,
            created_at: Some(times::to_proto(self.created_at)),
        })
    }
}

fn direction_column(direction: MessageDirection) -> i16 {
    match direction {
        MessageDirection::Unspecified => 0,
        MessageDirection::Inbound => 1,
        MessageDirection::Outbound => 2,
    }
}
