//! CancelTasks: all tasks of a session or of a group, with everything below them.

use super::{
    cancel_task::read_grace,
    cancel_walk::{self, Reach, Tally},
    definition, namespace,
    refusal::{Refusal, Resource},
};
use crate::{app::App, store::trees};
use taskyard_proto::v1::{CancelTasksRequest, CancelTasksResponse};

/// Asks for the cancel of all tasks that are there when the call begins, and of everything below them, whatever is
/// created there meanwhile included. What others create meanwhile, below none of them, is left alone.
///
/// # Errors
/// [`Refusal::InvalidField`], [`Refusal::NotFound`] for the namespace, the session, or a group of which nothing is live,
/// or what storing says. A call that broke off can be repeated.
pub async fn cancel_tasks(
    app: &App,
    request: CancelTasksRequest,
) -> Result<CancelTasksResponse, Refusal> {
    let grace = read_grace(request.grace.as_ref())?;
    definition::check_text("group", &request.group, definition::MAX_GROUP)?;
    if request.session_id.is_empty() {
        return Err(Refusal::invalid("session_id", "is required"));
    }
    let session = namespace::find_session(app, &request.namespace, &request.session_id).await?;
    let up_to = trees::newest_ordinal(app.store.pool(), session).await?;
    let reach = match request.group.as_str() {
        "" => Reach::Session { up_to },
        group => Reach::Group { group, up_to },
    };
    let tally = cancel_walk::cancel_all(app, session, &reach, grace, None).await?;
    if let Reach::Group { group, up_to } = reach
        && tally == Tally::default()
        && !trees::is_group_live(app.store.pool(), session, group, up_to).await?
    {
        return Err(Refusal::NotFound {
            resource: Resource::Group,
            name: group.to_owned(),
        });
    }
    Ok(CancelTasksResponse {
        canceled: tally.canceled,
        requested: tally.requested,
    })
}
