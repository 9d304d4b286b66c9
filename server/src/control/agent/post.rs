//! Post: the work tells its owner something.

use super::{Caller, caller::refused};
use crate::{
    app::App,
    commit::{CommitError, Content, Post},
    control::{
        get_task,
        refusal::Refusal,
        thread::{
            check_files, check_parts, check_reply, check_request_id, find_schema_violation,
            is_repeated, post_refused,
        },
    },
};
use taskyard_core::task::Event;
use taskyard_proto::v1::{MessageDirection, PostRequest, PostResponse};
use uuid::Uuid;

/// Stores a message for the owner.
///
/// # Errors
/// [`Refusal::InvalidField`], [`Refusal::Within`] for a file that is not there, [`Refusal::SchemaMismatch`],
/// [`Refusal::LimitReached`], [`Refusal::RequestIdConflict`], [`Refusal::LeaseLost`], or what storing says.
pub async fn post(
    app: &App,
    caller: &Caller,
    request: PostRequest,
) -> Result<PostResponse, Refusal> {
    check_parts(&request.parts)?;
    let request_id = check_request_id(request.request_id)?;
    check_reply(app, caller.task(), &request.in_reply_to).await?;
    let record = get_task::read_task(app, caller.task()).await?;
    let schema = record.task.spec.unwrap_or_default().message_schema_json;
    if let Some(problem) = find_schema_violation(&request.parts, &schema) {
        return Err(Refusal::SchemaMismatch {
            field: "parts",
            problem,
        });
    }
    let direction = MessageDirection::Outbound;
    if let Err(refusal) = check_files(app, caller.session(), &request.parts).await
        && !is_repeated(app, caller.task(), direction, request_id.as_deref()).await?
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
    let content = Content::Message(Box::new(post));
    let stored = caller
        .change(app, Event::Post(caller.fence()), content)
        .await;
    let changed = stored.map_err(|error| match error {
        CommitError::RequestIdConflict => post_refused(error, &name),
        error => refused(error),
    })?;
    Ok(PostResponse {
        created: !changed.is_repeated,
        message: changed.message,
    })
}
