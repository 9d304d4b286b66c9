//! Asking for a cancel.

use std::time::Duration;

use taskyard_proto::v1::{
    CancelOutcome, CancelScope, CancelTaskRequest, CancelTasksRequest, CancelTasksResponse,
    SessionTask,
};

use crate::connection::{CALL_LIMIT, Connection, RETRY_BUDGET};
use crate::failure::Failure;
use crate::quantity::to_wire;
use crate::task_reference::TaskReference;

/// What a cancel of many tasks may take.
const WALK_LIMIT: Duration = Duration::from_secs(5 * 60);

/// What a cancel found.
#[derive(Debug)]
pub struct Canceled {
    /// The task as it stands.
    pub task: SessionTask,
    pub outcome: CancelOutcome,
    /// Tasks below it that were canceled or told so; 0 unless the whole tree was meant.
    pub descendants: i32,
}

/// How a task is to be cancelled.
#[derive(Debug, Clone)]
pub struct Cancel {
    /// Absent: the task's own; zero: it is killed at once.
    pub grace: Option<Duration>,
    /// Signal to begin with; empty: TERM.
    pub signal: String,
    pub scope: CancelScope,
}

impl Cancel {
    /// One task, by TERM.
    pub fn of_task(grace: Option<Duration>) -> Cancel {
        Cancel {
            grace,
            signal: String::new(),
            scope: CancelScope::Task,
        }
    }
}

/// Asks for a cancel. Safe to repeat.
pub async fn cancel_task(
    connection: &Connection,
    task: &TaskReference,
    how: Cancel,
) -> Result<Canceled, Failure> {
    let Cancel {
        grace,
        signal,
        scope,
    } = how;
    let limit = match scope {
        CancelScope::Tree => WALK_LIMIT,
        CancelScope::Task | CancelScope::Unspecified => CALL_LIMIT,
    };
    let answer = connection
        .call_within(limit, RETRY_BUDGET, || {
            let mut tasks = connection.tasks();
            let request = CancelTaskRequest {
                namespace: connection.namespace(),
                session_id: task.session_id.clone(),
                task: task.task.clone(),
                grace: grace.map(to_wire),
                scope: scope.into(),
                signal: signal.clone(),
            };
            async move { tasks.cancel_task(request).await }
        })
        .await?;
    Ok(Canceled {
        outcome: answer.outcome(),
        descendants: answer.descendants,
        task: answer
            .task
            .ok_or_else(|| Failure::Own("the server answered without a task".to_owned()))?,
    })
}

/// Asks for the cancel of all tasks of a session, or of a group of it. Safe to repeat.
pub async fn cancel_tasks(
    connection: &Connection,
    session_id: &str,
    group: &str,
    grace: Option<Duration>,
) -> Result<CancelTasksResponse, Failure> {
    connection
        .call_within(WALK_LIMIT, RETRY_BUDGET, || {
            let mut tasks = connection.tasks();
            let request = CancelTasksRequest {
                namespace: connection.namespace(),
                session_id: session_id.to_owned(),
                group: group.to_owned(),
                grace: grace.map(to_wire),
            };
            async move { tasks.cancel_tasks(request).await }
        })
        .await
}
