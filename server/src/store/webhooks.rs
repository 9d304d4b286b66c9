//! Webhooks: who is called for what.

use super::{StoreError, times, webhook_secret::WebhookSecret};
use crate::store::Store;
use chrono::{DateTime, Utc};
use sqlx::PgExecutor;
use taskyard_core::{
    id::{SessionUid, TaskId},
    webhook::WebhookEvent,
};
use taskyard_proto::v1::{self as wire, Webhook};
use uuid::Uuid;

/// What every shown webhook id starts with.
const PREFIX: &str = "hook_";

/// A webhook's id as it is shown: `hook_` and 32 hexadecimal digits.
#[must_use]
pub fn show_webhook_id(id: u128) -> String {
    format!("{PREFIX}{id:032x}")
}

/// The id behind a shown one.
#[must_use]
pub fn read_webhook_id(shown: &str) -> Option<u128> {
    let digits = shown.strip_prefix(PREFIX)?;
    let id = u128::from_str_radix(digits, 16).ok();
    id.filter(|_| digits.len() == 32)
}

/// An event as it is on the wire.
#[must_use]
pub fn wire_event(event: WebhookEvent) -> wire::WebhookEvent {
    match event {
        WebhookEvent::Terminal => wire::WebhookEvent::Terminal,
        WebhookEvent::Question => wire::WebhookEvent::Question,
        WebhookEvent::Message => wire::WebhookEvent::Message,
    }
}

/// A webhook to be stored.
#[derive(Clone, Debug)]
pub struct NewWebhook {
    /// Its id.
    pub id: u128,
    /// Number of its namespace.
    pub namespace_id: i32,
    /// Only for this session.
    pub session: Option<SessionUid>,
    /// Only for this task.
    pub task: Option<TaskId>,
    /// Where it is delivered.
    pub url: String,
    /// Key of the signature.
    pub secret: Option<WebhookSecret>,
    /// Bits of the events.
    pub events: i16,
}

/// Stores a webhook; none: the namespace has `limit` already. One of a task that has ended does not count.
///
/// # Errors
/// Any [`StoreError`].
pub async fn create(
    store: &Store,
    webhook: &NewWebhook,
    limit: i64,
) -> Result<Option<Webhook>, StoreError> {
    let mut transaction = store.begin("begin").await?;
    // one at a time for each namespace, so that the count is true
    sqlx::query!(
        "select id from namespace where id = $1 for no key update",
        webhook.namespace_id
    )
    .fetch_optional(&mut *transaction)
    .await?;
    let count = sqlx::query_scalar!(
        r#"select count(*) as "count!" from webhook w where w.namespace_id = $1
             and (w.task_id is null or exists (select 1 from task_live l where l.id = w.task_id))"#,
        webhook.namespace_id
    )
    .fetch_one(&mut *transaction)
    .await?;
    if count >= limit {
        return Ok(None);
    }
    sqlx::query!(
        "insert into webhook (id, namespace_id, session_uid, task_id, url, secret, events)
         values ($1, $2, $3, $4, $5, $6, $7)",
        Uuid::from_u128(webhook.id),
        webhook.namespace_id,
        webhook.session.map(|session| session.0),
        webhook.task.map(|task| Uuid::from_u128(task.0)),
        webhook.url,
        webhook.secret.as_ref().map(WebhookSecret::to_column),
        webhook.events
    )
    .execute(&mut *transaction)
    .await?;
    let stored = find(&mut *transaction, webhook.namespace_id, webhook.id).await?;
    transaction.commit().await?;
    Ok(stored)
}

/// The webhooks of a namespace, or of one session of it, oldest first, at most `limit`.
///
/// # Errors
/// Any [`StoreError`].
pub async fn list(
    db: impl PgExecutor<'_>,
    namespace_id: i32,
    session: Option<SessionUid>,
    limit: i64,
) -> Result<Vec<Webhook>, StoreError> {
    let rows = sqlx::query_as!(
        WebhookRow,
        r#"select w.id, n.name as "namespace!", s.id as "session_id?", w.task_id, w.url, w.events,
             w.secret is not null as "has_secret!", w.created_at
           from webhook w join namespace n on n.id = w.namespace_id left join session s on s.uid = w.session_uid
           where w.namespace_id = $1 and ($2::bigint is null or w.session_uid = $2) order by w.id limit $3"#,
        namespace_id,
        session.map(|session| session.0),
        limit
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(WebhookRow::into_webhook).collect())
}

/// One webhook of a namespace.
///
/// # Errors
/// Any [`StoreError`].
pub async fn find(
    db: impl PgExecutor<'_>,
    namespace_id: i32,
    id: u128,
) -> Result<Option<Webhook>, StoreError> {
    let row = sqlx::query_as!(
        WebhookRow,
        r#"select w.id, n.name as "namespace!", s.id as "session_id?", w.task_id, w.url, w.events,
             w.secret is not null as "has_secret!", w.created_at
           from webhook w join namespace n on n.id = w.namespace_id left join session s on s.uid = w.session_uid
           where w.namespace_id = $1 and w.id = $2"#,
        namespace_id,
        Uuid::from_u128(id)
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(WebhookRow::into_webhook))
}

/// Removes a webhook with its deliveries; whether there was one.
///
/// # Errors
/// Any [`StoreError`].
pub async fn delete(
    db: impl PgExecutor<'_>,
    namespace_id: i32,
    id: u128,
) -> Result<bool, StoreError> {
    let done = sqlx::query_scalar!(
        r#"with gone as (delete from webhook where namespace_id = $1 and id = $2 returning id),
             pending as (delete from webhook_delivery d using gone where d.webhook_id = gone.id)
           select count(*) as "count!" from gone"#,
        namespace_id,
        Uuid::from_u128(id)
    )
    .fetch_one(db)
    .await?;
    Ok(done > 0)
}

/// Removes webhooks of tasks that have ended, once nothing is left of their deliveries, at most `limit`.
///
/// # Errors
/// Any [`StoreError`].
pub async fn forget_ended(db: impl PgExecutor<'_>, limit: i64) -> Result<(), StoreError> {
    sqlx::query!(
        "delete from webhook where id in (
           select w.id from webhook w
           where w.task_id is not null and not exists (select 1 from task_live l where l.id = w.task_id)
             and not exists (select 1 from webhook_delivery d where d.webhook_id = w.id)
           limit $1)",
        limit
    )
    .execute(db)
    .await?;
    Ok(())
}

struct WebhookRow {
    id: Uuid,
    namespace: String,
    session_id: Option<String>,
    task_id: Option<Uuid>,
    url: String,
    events: i16,
    has_secret: bool,
    created_at: DateTime<Utc>,
}

impl WebhookRow {
    fn into_webhook(self) -> Webhook {
        let task = |id: Uuid| TaskId(id.as_u128()).to_string();
        Webhook {
            id: show_webhook_id(self.id.as_u128()),
            namespace: self.namespace,
            session_id: self.session_id.unwrap_or_default(),
            task_id: self.task_id.map(task).unwrap_or_default(),
            url: self.url,
            events: WebhookEvent::ALL
                .into_iter()
                .filter(|event| self.events & event.bit() != 0)
                .map(|event| wire_event(event).into())
                .collect(),
            has_secret: self.has_secret,
            created_at: Some(times::to_proto(self.created_at)),
        }
    }
}
