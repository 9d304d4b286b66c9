//! DeleteSession: the id is free at once, the tasks are canceled; the rest is removed in the background.

use super::{
    namespace,
    refusal::{Refusal, Resource},
    wire_time::duration_field,
};
use crate::{
    app::App,
    commit::{Change, CommitError, Content},
    limits::turns,
    store::purge,
};
use std::time::Duration;
use taskyard_core::{id::SessionUid, task::Event};
use taskyard_proto::v1::{DeleteSessionRequest, DeleteSessionResponse};

/// Longest grace.
const MAX_GRACE: Duration = Duration::from_secs(10 * 60);
/// Tasks of which a cancel is asked for at once.
const CANCEL_PAGE: i64 = 500;

/// Deletes a session.
///
/// # Errors
/// [`Refusal::InvalidField`], [`Refusal::NotFound`], [`Refusal::Store`].
pub async fn delete_session(
    app: &App,
    request: DeleteSessionRequest,
) -> Result<DeleteSessionResponse, Refusal> {
    let grace = duration_field("grace", request.grace.as_ref(), Duration::ZERO, MAX_GRACE)?;
    namespace::check_session_id(&request.session_id)?;
    let namespace_id = namespace::find_namespace(app, &request.namespace).await?;
    let mut connection = app.store.pool().acquire().await?;
    let deleted =
        purge::mark_session_deleted(&mut connection, namespace_id, &request.session_id).await?;
    drop(connection);
    app.names.forget_session(namespace_id, &request.session_id);
    let Some((session, open_tasks)) = deleted else {
        return Err(Refusal::NotFound {
            resource: Resource::Session,
            name: request.session_id,
        });
    };
    app.events.session_touched(session);
    cancel_open(app, session, grace).await?;
    Ok(DeleteSessionResponse { open_tasks })
}

/// Asks for a cancel of all tasks of a deleted session, which gets no new ones.
///
/// # Errors
/// [`Refusal::Overloaded`], [`Refusal::ShuttingDown`], [`Refusal::Store`]; the background goes on then.
pub async fn cancel_open(
    app: &App,
    session: SessionUid,
    grace: Option<Duration>,
) -> Result<(), Refusal> {
    loop {
        let open = purge::list_uncanceled(app.store.pool(), session, CANCEL_PAGE).await?;
        if open.is_empty() {
            return Ok(());
        }
        let _turns = turns::changes(open.len()).await?;
        let mut answers = Vec::with_capacity(open.len());
        for task in open {
            let change = Change::new(
                task,
                Event::Cancel {
                    grace,
                    signal: None,
                },
                Content::None,
            );
            answers.push(app.commits.change_later(session, change)?);
        }
        for answer in answers {
            match answer.await {
                // it has ended meanwhile
                Ok(Ok(_) | Err(CommitError::Rejected { .. } | CommitError::NotFound)) => {}
                Ok(Err(error)) => return Err(error.into()),
                Err(_) => return Err(Refusal::ShuttingDown),
            }
        }
    }
}
