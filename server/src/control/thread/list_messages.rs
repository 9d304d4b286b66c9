//! ListMessages: the thread, from any number on, waiting for more where that is asked for.

use crate::{
    app::App,
    control::{
        refusal::{Refusal, Resource},
        resolve,
        wire_time::duration_field,
    },
    limits::turns,
    store::messages,
};
use std::time::Duration;
use taskyard_core::id::{SessionUid, TaskId};
use taskyard_proto::v1::{
    ListMessagesRequest, ListMessagesResponse, MessageDirection, TaskMessage,
};
use tokio::time::Instant;

const MAX_PAGE: i32 = 200;
const DEFAULT_PAGE: i32 = 50;
const MAX_WAIT: Duration = Duration::from_secs(60);
/// The thread is read again after this time even if nothing was heard of it.
const POLL_INTERVAL: Duration = Duration::from_secs(2);

/// Which messages are waited for.
#[derive(Clone, Copy, Debug)]
pub struct MessageWait {
    /// The task.
    pub task: TaskId,
    /// Its session.
    pub session: SessionUid,
    /// Only after this number.
    pub after: i64,
    /// Only this direction.
    pub direction: MessageDirection,
    /// Most of them.
    pub limit: i64,
    /// Until when; a time that has passed: one look.
    pub until: Instant,
}

/// Reads a thread.
///
/// # Errors
/// [`Refusal::InvalidField`], [`Refusal::OutOfRange`], [`Refusal::ShuttingDown`], or what resolving says.
pub async fn list_messages(
    app: &App,
    request: ListMessagesRequest,
) -> Result<ListMessagesResponse, Refusal> {
    let wait = duration_field("wait", request.wait.as_ref(), Duration::ZERO, MAX_WAIT)?;
    let limit = page_size("page_size", request.page_size)?;
    let direction = MessageDirection::try_from(request.direction)
        .map_err(|_| Refusal::invalid("direction", "is no known direction"))?;
    let found =
        resolve::resolve(app, &request.namespace, &request.session_id, &request.task).await?;
    let standing = messages::read_standing(app.store.pool(), found.id).await?;
    let after = match request.after {
        None => messages::before_latest(app.store.pool(), found.id, direction, limit).await?,
        Some(after) => check_after(after, standing.newest)?,
    };
    let messages = wait_for_messages(
        app,
        MessageWait {
            task: found.id,
            session: found.session,
            after,
            direction,
            limit,
            until: Instant::now() + wait.unwrap_or_default(),
        },
    )
    .await?;
    let standing = messages::read_standing(app.store.pool(), found.id).await?;
    Ok(ListMessagesResponse {
        next_after: next_after(&messages, after),
        messages,
        newest: standing.newest,
        delivered: standing.delivered,
    })
}

/// The messages, as soon as there are any, or none when the time is up or the task has ended.
///
/// # Errors
/// [`Refusal::NotFound`] once the task is gone, [`Refusal::ShuttingDown`], [`Refusal::Store`].
pub async fn wait_for_messages(app: &App, wait: MessageWait) -> Result<Vec<TaskMessage>, Refusal> {
    // Heard before the first look, so that nothing falls between.
    let mut touches = app.events.subscribe_session(wait.session);
    loop {
        let looked_at = Instant::now();
        // Asked before the look: what was said last is seen.
        let can_grow = messages::can_grow(app.store.pool(), wait.task).await?;
        let found = messages::list_messages(
            app.store.pool(),
            wait.task,
            wait.after,
            wait.direction,
            wait.limit,
        )
        .await?;
        if !found.is_empty() || looked_at >= wait.until {
            return Ok(found);
        }
        let known = super::super::task_sessions::find(app, &[wait.task]).await?;
        if !known.contains_key(&wait.task) {
            return Err(Refusal::NotFound {
                resource: Resource::Task,
                name: wait.task.to_string(),
            });
        }
        if !can_grow {
            return Ok(found);
        }
        turns::rest();
        let next_look = wait.until.min(looked_at + POLL_INTERVAL);
        tokio::select! {
            _ = tokio::time::timeout_at(next_look, touches.touched()) => {}
            () = app.shutdown.cancelled() => return Err(Refusal::ShuttingDown),
        }
    }
}

/// How many messages one answer holds.
pub(crate) fn page_size(field: &str, asked: i32) -> Result<i64, Refusal> {
    match asked {
        0 => Ok(i64::from(DEFAULT_PAGE)),
        1..=MAX_PAGE => Ok(i64::from(asked)),
        _ => Err(Refusal::invalid(field, format!("must be 1 to {MAX_PAGE}"))),
    }
}

/// A reader's cursor, which must not be beyond what there is.
pub(crate) fn check_after(after: i64, newest: i64) -> Result<i64, Refusal> {
    if (0..=newest).contains(&after) {
        return Ok(after);
    }
    Err(Refusal::OutOfRange {
        what: "after",
        offset: after,
        problem: format!("the newest message has the number {newest}"),
    })
}

/// Where the next call goes on.
pub(crate) fn next_after(messages: &[TaskMessage], after: i64) -> i64 {
    messages.last().map_or(after, |message| message.number)
}
