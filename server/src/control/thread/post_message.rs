//! PostMessage: the owner tells the work something.

use super::{check_files, check_parts, check_request_id};
use crate::{
    app::App,
    commit::{Change, CommitError, Content, Post},
    control::{refusal::Refusal, resolve},
    store::messages::{self, read_message_id},
};
use taskyard_core::{id::TaskId, task::Event};
use taskyard_proto::v1::{MessageDirection, PostMessageRequest, PostMessageResponse};
use uuid::Uuid;

/// Stores a message for the work of a task; it is delivered when the work takes it.
///
/// # Errors
/// [`Refusal::InvalidField`], [`Refusal::Within`] for a file that is not there, [`Refusal::TaskTerminal`],
/// [`Refusal::MonitorNeverRuns`], [`Refusal::LimitReached`], [`Refusal::RequestIdConflict`], or what resolving and storing say.
pub async fn post_message(
    app: &App,
    request: PostMessageRequest,
) -> Result<PostMessageResponse, Refusal> {
    check_parts(&request.parts)?;
    let request_id = check_request_id(request.request_id)?;
    let found =
        resolve::resolve(app, &request.namespace, &request.session_id, &request.task).await?;
    check_reply(app, found.id, &request.in_reply_to).await?;
    let direction = MessageDirection::Inbound;
    if let Err(refusal) = check_files(app, found.session, &request.parts).await
        && !is_repeated(app, found.id, direction, request_id.as_deref()).await?
    {
        return Err(refusal);
    }
    let name = request_id.clone().unwrap_or_default();
    let post = Post {
        id: Uuid::now_v7().as_u128(),
        direction,
        parts: request.parts,
        in_reply_to: request.in_reply_to,
        request_id,
    };
    let change = Change::new(found.id, Event::Deliver, Content::Message(Box::new(post)));
    let stored = app.commits.change(found.session, change).await;
    let changed = stored.map_err(|error| post_refused(error, &name))?;
    let created = !changed.is_repeated;
    Ok(PostMessageResponse {
        message: changed.message,
        created,
    })
}

/// What the commit of a post refused; `request_id` is that of the post.
pub(crate) fn post_refused(error: CommitError, request_id: &str) -> Refusal {
    match Refusal::from(error) {
        Refusal::RequestIdConflict { .. } => Refusal::RequestIdConflict {
            request_id: request_id.to_owned(),
        },
        refusal => refusal,
    }
}

/// Whether a post repeats an earlier one, which is answered with that one whatever became of its files since.
///
/// # Errors
/// [`Refusal::Store`].
pub async fn is_repeated(
    app: &App,
    task: TaskId,
    direction: MessageDirection,
    request_id: Option<&str>,
) -> Result<bool, Refusal> {
    let Some(request_id) = request_id else {
        return Ok(false);
    };
    let posted = messages::find_by_request(app.store.pool(), task, direction, request_id).await?;
    Ok(posted.is_some())
}

/// Checks that a message answers one of the same task.
///
/// # Errors
/// [`Refusal::InvalidField`].
pub async fn check_reply(app: &App, task: TaskId, in_reply_to: &str) -> Result<(), Refusal> {
    if in_reply_to.is_empty() {
        return Ok(());
    }
    let no_message = || {
        Refusal::invalid(
            "in_reply_to",
            "is no message of this task; a question is answered with AnswerTask",
        )
    };
    let id = read_message_id(in_reply_to).ok_or_else(no_message)?;
    let found = messages::find_message(app.store.pool(), task, id).await?;
    found.map(drop).ok_or_else(no_message)
}
