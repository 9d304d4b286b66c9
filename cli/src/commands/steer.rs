//! Asking for a cancel.

use std::time::Duration;

use taskyard_proto::v1::{CancelOutcome, CancelScope, CancelTaskRequest, SessionTask};

use crate::connection::Connection;
use crate::failure::Failure;
use crate::quantity::to_wire;
use crate::task_reference::TaskReference;

/// Asks for a cancel; without `grace` the task's own counts, with zero it is killed at once. Safe to repeat. Answers with
/// the task as it stands and what the cancel found.
pub async fn cancel_task(
    connection: &Connection,
    task: &TaskReference,
    grace: Option<Duration>,
    scope: CancelScope,
) -> Result<(SessionTask, CancelOutcome), Failure> {
    let answer = connection
        .call(|| {
            let mut tasks = connection.tasks();
            let request = CancelTaskRequest {
                namespace: connection.namespace(),
                session_id: task.session_id.clone(),
                task: task.task.clone(),
                grace: grace.map(to_wire),
                scope: scope.into(),
            };
            async move { tasks.cancel_task(request).await }
        })
        .await?;
    let outcome = answer.outcome();
    let task = answer
        .task
        .ok_or_else(|| Failure::Own("the server answered without a task".to_owned()))?;
    Ok((task, outcome))
}
