//! Creating a task so that a lost answer makes no second one.

use taskyard_proto::v1::{CreateTaskRequest, SessionTask, TaskDefinition};
use uuid::Uuid;

use crate::connection::Connection;
use crate::failure::Failure;
use crate::trace::{self, traced};

/// Creates the task, or finds the one with its key. True: it is new.
pub async fn create_task(
    connection: &Connection,
    session_id: &str,
    definition: TaskDefinition,
) -> Result<(SessionTask, bool), Failure> {
    let request = CreateTaskRequest {
        namespace: connection.namespace(),
        session_id: session_id.to_owned(),
        task: Some(definition),
        request_id: Uuid::new_v4().simple().to_string(),
        wait: None,
    };
    let span = trace::calling("taskyard.v1.SessionTaskService/CreateTask");
    let answer = connection
        .call(|| {
            let mut tasks = connection.tasks();
            let request = request.clone();
            let request = traced(request, &span);
            async move { tasks.create_task(request).await }
        })
        .await?;
    let task = answer
        .task
        .ok_or_else(|| Failure::Own("the server answered without a task".to_owned()))?;
    Ok((task, answer.created))
}
