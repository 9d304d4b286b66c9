//! Asking for a cancel.

use std::time::Duration;

use taskyard_proto::v1::{CancelTaskRequest, CancelTaskResponse};

use crate::connection::Connection;
use crate::failure::Failure;
use crate::quantity::to_wire;
use crate::task_reference::TaskReference;

/// Asks for a cancel; without `grace` the task's own counts, with zero it is killed at once. Safe to repeat.
pub async fn cancel_task(
    connection: &Connection,
    task: &TaskReference,
    grace: Option<Duration>,
) -> Result<CancelTaskResponse, Failure> {
    connection
        .call(|| {
            let mut tasks = connection.tasks();
            let request = CancelTaskRequest {
                namespace: connection.namespace(),
                session_id: task.session_id.clone(),
                task: task.task.clone(),
                grace: grace.map(to_wire),
            };
            async move { tasks.cancel_task(request).await }
        })
        .await
}
