//! CancelTask: a durable flag; what no process holds settles at once.

use super::{get_task, refusal::Refusal, resolve, wire_time::duration_field};
use crate::{
    app::App,
    commit::{Change, CommitError, Content},
};
use std::time::Duration;
use taskyard_core::task::{Event, Rejected};
use taskyard_proto::v1::{CancelOutcome, CancelTaskRequest, CancelTaskResponse};

/// Longest grace.
const MAX_GRACE: Duration = Duration::from_secs(10 * 60);

/// Asks for a cancel.
///
/// # Errors
/// What resolving and storing say. Cancelling what has ended, or what is being cancelled, is no error.
pub async fn cancel_task(
    app: &App,
    request: CancelTaskRequest,
) -> Result<CancelTaskResponse, Refusal> {
    let grace = duration_field("grace", request.grace.as_ref(), Duration::ZERO, MAX_GRACE)?;
    let found =
        resolve::resolve(app, &request.namespace, &request.session_id, &request.task).await?;
    let change = Change::new(found.id, Event::Cancel { grace }, Content::None);
    let outcome = match app.commits.change(found.session, change).await {
        Ok(changed) if changed.after.task.is_terminal() => CancelOutcome::Canceled,
        Ok(changed) if changed.before.cancel.is_some() => CancelOutcome::AlreadyRequested,
        Ok(_) => CancelOutcome::Requested,
        Err(CommitError::Rejected {
            rejected: Rejected::Terminal,
            ..
        }) => CancelOutcome::AlreadyTerminal,
        Err(error) => return Err(error.into()),
    };
    Ok(CancelTaskResponse {
        descendants: 0,
        task: Some(get_task::read_task(app, found.id).await?.task),
        outcome: outcome.into(),
    })
}
