//! ReceiveMessages: the work takes what its owner sent. What it has handled is noted for its run; another run starts
//! with the first message again.

use super::{Caller, caller::refused};
use crate::{
    app::App,
    commit::Content,
    control::{
        refusal::Refusal,
        thread::{MessageWait, check_after, next_after, page_size, wait_for_messages},
        wire_time::duration_field,
    },
    store::messages,
};
use std::time::Duration;
use taskyard_core::task::Event;
use taskyard_proto::v1::{MessageDirection, ReceiveMessagesRequest, ReceiveMessagesResponse};
use tokio::time::Instant;

const MAX_WAIT: Duration = Duration::from_secs(10 * 60);
/// Whether the lease is still held is looked at this often while nothing comes.
const PATIENCE: Duration = Duration::from_secs(5);

/// Hands out the owner's messages.
///
/// # Errors
/// [`Refusal::InvalidField`], [`Refusal::OutOfRange`], [`Refusal::LeaseLost`], [`Refusal::ShuttingDown`], or what
/// storing says.
pub async fn receive_messages(
    app: &App,
    caller: &Caller,
    request: ReceiveMessagesRequest,
) -> Result<ReceiveMessagesResponse, Refusal> {
    let wait = duration_field("wait", request.wait.as_ref(), Duration::ZERO, MAX_WAIT)?;
    let limit = page_size("max_messages", request.max_messages)?;
    let ends_at = Instant::now() + wait.unwrap_or_default();
    let (_, mark) = messages::read_inbox_mark(app.store.pool(), caller.task())
        .await?
        .ok_or(Refusal::LeaseLost)?;
    let after = match request.after {
        None => mark,
        Some(after) => {
            let standing = messages::read_standing(app.store.pool(), caller.task()).await?;
            let after = check_after(after, standing.newest)?;
            if after > mark {
                caller
                    .change(
                        app,
                        Event::Receive(caller.fence()),
                        Content::Received(after),
                    )
                    .await
                    .map_err(refused)?;
            }
            after
        }
    };
    loop {
        let until = ends_at.min(Instant::now() + PATIENCE);
        let messages = wait_for_messages(
            app,
            MessageWait {
                task: caller.task(),
                session: caller.session(),
                after,
                direction: MessageDirection::Inbound,
                limit,
                until,
            },
        )
        .await?;
        if !messages.is_empty() || until >= ends_at {
            return Ok(ReceiveMessagesResponse {
                next_after: next_after(&messages, after),
                messages,
            });
        }
        Caller::admit(app, caller.lease()).await?;
    }
}
