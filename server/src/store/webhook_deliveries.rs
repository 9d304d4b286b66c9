//! What is to be delivered to webhooks: written with the change, handed to one sender at a time, kept for a while.

use super::{StoreError, times, webhook_secret::WebhookSecret, webhooks};
use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgExecutor};
use std::time::Duration;
use taskyard_core::{
    id::{SessionUid, TaskId},
    webhook::WebhookEvent,
};
use taskyard_proto::v1::{self as wire, WebhookDelivery, WebhookDeliveryState};
use uuid::Uuid;

/// A change that webhooks may be called for.
#[derive(Clone, Debug)]
pub struct Happening {
    /// Number of the task's namespace.
    pub namespace_id: i32,
    /// Number of its session.
    pub session: SessionUid,
    /// The task.
    pub task: TaskId,
    /// What happened.
    pub event: WebhookEvent,
    /// What receivers are told, as JSON, but for what the delivery row holds beside.
    pub body: String,
    /// When it happened.
    pub at: DateTime<Utc>,
}

/// A delivery that is to be tried now.
#[derive(Clone, Debug)]
pub struct DueDelivery {
    /// Its id.
    pub id: i64,
    /// Its webhook.
    pub webhook: u128,
    /// Number of this try; its outcome must name it.
    pub attempt: i32,
    /// Tries that are left after this one.
    pub tries_left: i16,
    /// Where to.
    pub url: String,
    /// Key of the signature.
    pub secret: Option<WebhookSecret>,
    /// What happened.
    pub event: WebhookEvent,
    /// As in [`Happening`].
    pub body: String,
    /// The task's session.
    pub session_id: String,
    /// The task's name for people.
    pub display_name: String,
    /// The task's kind.
    pub kind: String,
}

/// How a try ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TryOutcome {
    /// HTTP status; 0: there was no answer.
    pub status: u16,
    /// Why it failed; empty: it did not.
    pub error: String,
    /// When to try again; none: not again.
    pub retry_in: Option<Duration>,
}

/// Writes a delivery for each webhook that a change matches.
///
/// # Errors
/// Any [`StoreError`].
pub async fn insert_matching(
    db: &mut PgConnection,
    happenings: &[Happening],
    tries: i16,
) -> Result<u64, StoreError> {
    let done = sqlx::query!(
        r#"insert into webhook_delivery (webhook_id, task_id, event, body, session_id, display_name, kind, created_at,
             tries_left, next_attempt_at)
           select w.id, h.task_id, h.event, h.body, s.id, t.display_name, r.kind, h.at, $7, h.at
           from unnest($1::int[], $2::bigint[], $3::uuid[], $4::smallint[], $5::text[], $6::timestamptz[])
             with ordinality h(namespace_id, session_uid, task_id, event, body, at, nr)
           join webhook w on w.namespace_id = h.namespace_id and (w.session_uid is null or w.session_uid = h.session_uid)
             and (w.task_id is null or w.task_id = h.task_id) and w.events & h.event <> 0
           join task t on t.id = h.task_id join session s on s.uid = h.session_uid join route r on r.id = t.route_id
           order by h.nr"#,
        &happenings.iter().map(|happening| happening.namespace_id).collect::<Vec<_>>(),
        &happenings.iter().map(|happening| happening.session.0).collect::<Vec<_>>(),
        &happenings.iter().map(|happening| Uuid::from_u128(happening.task.0)).collect::<Vec<_>>(),
        &happenings.iter().map(|happening| happening.event.bit()).collect::<Vec<_>>(),
        &happenings.iter().map(|happening| happening.body.clone()).collect::<Vec<_>>(),
        &happenings.iter().map(|happening| happening.at).collect::<Vec<_>>(),
        tries
    )
    .execute(db)
    .await?;
    Ok(done.rows_affected())
}

/// Takes deliveries that are due, at most `limit` and `per_webhook` of each webhook, none of `busy` ones. If nothing is
/// heard of a try for `lease`, another begins.
///
/// # Errors
/// Any [`StoreError`].
pub async fn take_due(
    db: impl PgExecutor<'_>,
    busy: &[u128],
    per_webhook: i64,
    limit: i64,
    lease: Duration,
) -> Result<Vec<DueDelivery>, StoreError> {
    // now() and not clock_timestamp(), so that the indexes serve; the first condition is all that an idle look costs
    let rows = sqlx::query!(
        r#"with due as materialized (
             select f.id from webhook w cross join lateral (
               select d.id, d.next_attempt_at from webhook_delivery d
               where d.webhook_id = w.id and d.state = 1 and d.next_attempt_at <= now()
               order by d.next_attempt_at, d.id limit $2 for update skip locked) f
             where exists (select 1 from webhook_delivery where state = 1 and next_attempt_at <= now())
               and w.id <> all($1::uuid[])
             order by f.next_attempt_at, f.id limit $3)
           update webhook_delivery d set attempts = d.attempts + 1, tries_left = greatest(d.tries_left - 1, 0),
             next_attempt_at = clock_timestamp() + $4::bigint * interval '1 ms'
           from due, webhook w where d.id = due.id and w.id = d.webhook_id
           returning d.id, d.webhook_id, d.attempts, d.tries_left, w.url, w.secret, d.event, d.body, d.session_id,
             d.display_name, d.kind"#,
        &busy.iter().map(|id| Uuid::from_u128(*id)).collect::<Vec<_>>(),
        per_webhook,
        limit,
        milliseconds(lease)
    )
    .fetch_all(db)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(DueDelivery {
                id: row.id,
                webhook: row.webhook_id.as_u128(),
                attempt: row.attempts,
                tries_left: row.tries_left,
                url: row.url,
                secret: row.secret.map(WebhookSecret::from_column),
                event: read_event(row.event)?,
                body: row.body,
                session_id: row.session_id,
                display_name: row.display_name,
                kind: row.kind,
            })
        })
        .collect()
}

/// Notes how a try ended, unless another has begun meanwhile.
///
/// # Errors
/// Any [`StoreError`].
pub async fn settle(
    db: impl PgExecutor<'_>,
    id: i64,
    attempt: i32,
    outcome: &TryOutcome,
) -> Result<(), StoreError> {
    let state: i16 = match (outcome.error.is_empty(), outcome.retry_in) {
        (true, _) => 2,
        (false, Some(_)) => 1,
        (false, None) => 3,
    };
    sqlx::query!(
        "update webhook_delivery set state = $3, last_status = $4, last_error = $5, last_attempt_at = clock_timestamp(),
           next_attempt_at = case when $3::smallint = 1 then clock_timestamp() + $6::bigint * interval '1 ms' end
         where id = $1 and attempts = $2 and state = 1",
        id,
        attempt,
        state,
        outcome.status.cast_signed(),
        outcome.error,
        milliseconds(outcome.retry_in.unwrap_or_default())
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Makes a delivery pending again, to be tried at once, with `tries` tries.
///
/// # Errors
/// Any [`StoreError`].
pub async fn redeliver(
    db: impl PgExecutor<'_>,
    webhook: u128,
    id: i64,
    tries: i16,
) -> Result<Option<WebhookDelivery>, StoreError> {
    let row = sqlx::query_as!(
        DeliveryRow,
        "update webhook_delivery set state = 1, tries_left = $3, next_attempt_at = clock_timestamp()
         where webhook_id = $1 and id = $2
         returning id, webhook_id, task_id, event, state, attempts, last_status, last_error, created_at, last_attempt_at,
           next_attempt_at",
        Uuid::from_u128(webhook),
        id,
        tries
    )
    .fetch_optional(db)
    .await?;
    row.map(DeliveryRow::into_delivery).transpose()
}

/// Deliveries of a webhook, newest first, with ids below `before`; 0 as state: in any.
///
/// # Errors
/// Any [`StoreError`].
pub async fn list(
    db: impl PgExecutor<'_>,
    webhook: u128,
    state: WebhookDeliveryState,
    before: i64,
    limit: i64,
) -> Result<Vec<WebhookDelivery>, StoreError> {
    let state = match state {
        WebhookDeliveryState::Unspecified => 0_i16,
        WebhookDeliveryState::Pending => 1,
        WebhookDeliveryState::Delivered => 2,
        WebhookDeliveryState::Failed => 3,
    };
    let rows = sqlx::query_as!(
        DeliveryRow,
        "select id, webhook_id, task_id, event, state, attempts, last_status, last_error, created_at, last_attempt_at,
           next_attempt_at
         from webhook_delivery where webhook_id = $1 and id < $3 and ($2::smallint = 0 or state = $2)
         order by id desc limit $4",
        Uuid::from_u128(webhook),
        state,
        before,
        limit
    )
    .fetch_all(db)
    .await?;
    rows.into_iter().map(DeliveryRow::into_delivery).collect()
}

/// Forgets deliveries that are older than `age`, whatever became of them, at most `limit`.
///
/// # Errors
/// Any [`StoreError`].
pub async fn forget_old(
    db: impl PgExecutor<'_>,
    age: Duration,
    limit: i64,
) -> Result<(), StoreError> {
    sqlx::query!(
        "delete from webhook_delivery where id in (
           select id from webhook_delivery where created_at < now() - $1::bigint * interval '1 ms'
           order by created_at limit $2)",
        milliseconds(age),
        limit
    )
    .execute(db)
    .await?;
    Ok(())
}

fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn read_event(bit: i16) -> Result<WebhookEvent, StoreError> {
    WebhookEvent::ALL
        .into_iter()
        .find(|event| event.bit() == bit)
        .ok_or_else(|| StoreError::corrupt("webhook event", bit))
}

struct DeliveryRow {
    id: i64,
    webhook_id: Uuid,
    task_id: Uuid,
    event: i16,
    state: i16,
    attempts: i32,
    last_status: i16,
    last_error: String,
    created_at: DateTime<Utc>,
    last_attempt_at: Option<DateTime<Utc>>,
    next_attempt_at: Option<DateTime<Utc>>,
}

impl DeliveryRow {
    fn into_delivery(self) -> Result<WebhookDelivery, StoreError> {
        let event: wire::WebhookEvent = webhooks::wire_event(read_event(self.event)?);
        Ok(WebhookDelivery {
            id: self.id,
            webhook_id: webhooks::show_webhook_id(self.webhook_id.as_u128()),
            task_id: TaskId(self.task_id.as_u128()).to_string(),
            event: event.into(),
            state: i32::from(self.state),
            attempts: self.attempts,
            last_status: i32::from(self.last_status),
            last_error: self.last_error,
            created_at: Some(times::to_proto(self.created_at)),
            last_attempt_at: self.last_attempt_at.map(times::to_proto),
            next_attempt_at: self.next_attempt_at.map(times::to_proto),
        })
    }
}
