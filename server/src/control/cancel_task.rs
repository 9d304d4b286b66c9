//! CancelTask: a durable flag; what no process holds settles at once.

use super::{
    cancel_walk::{self, Reach},
    get_task,
    refusal::Refusal,
    resolve,
    signal_name::Signal,
    wire_time::duration_field,
};
use crate::{
    app::App,
    commit::{Change, CommitError, Content},
};
use std::time::Duration;
use taskyard_core::task::{Event, Rejected};
use taskyard_proto::v1::{CancelOutcome, CancelScope, CancelTaskRequest, CancelTaskResponse};

/// Longest grace.
const MAX_GRACE: Duration = Duration::from_secs(10 * 60);

/// Asks for a cancel of a task, or of it and everything below it.
///
/// # Errors
/// What resolving and storing say. Cancelling what has ended, or what is being cancelled, is no error.
pub async fn cancel_task(
    app: &App,
    request: CancelTaskRequest,
) -> Result<CancelTaskResponse, Refusal> {
    let grace = read_grace(request.grace.as_ref())?;
    let signal = Signal::parse_first_of_a_cancel(&request.signal)?.map(Signal::number);
    let is_tree = match CancelScope::try_from(request.scope) {
        Ok(CancelScope::Tree) => true,
        Ok(CancelScope::Task | CancelScope::Unspecified) => false,
        Err(_) => return Err(Refusal::invalid("scope", "is no known scope")),
    };
    let found =
        resolve::resolve(app, &request.namespace, &request.session_id, &request.task).await?;
    let change = Change::new(found.id, Event::Cancel { grace, signal }, Content::None);
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
    let descendants = if is_tree {
        let below = Reach::Below(found.id);
        let tally = cancel_walk::cancel_all(app, found.session, &below, grace, signal).await?;
        tally.canceled + tally.requested
    } else {
        0
    };
    Ok(CancelTaskResponse {
        task: Some(get_task::read_task(app, found.id).await?.task),
        outcome: outcome.into(),
        descendants,
    })
}

/// The time between TERM and KILL that a request asks for.
pub(super) fn read_grace(
    grace: Option<&prost_types::Duration>,
) -> Result<Option<Duration>, Refusal> {
    duration_field("grace", grace, Duration::ZERO, MAX_GRACE)
}
