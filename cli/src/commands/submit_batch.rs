//! Several tasks from one file, as a batch.

use taskyard_proto::v1::{BatchCreateResult, BatchCreateTasksRequest, SessionTask, TaskDefinition};
use uuid::Uuid;

use crate::connection::Connection;
use crate::console;
use crate::exit_code::ExitCode;
use crate::failure::Failure;
use crate::task_file::definition::definition;
use crate::task_file::parse::Item;
use crate::trace::{self, traced};
use crate::wire_words::in_words_of_task;

/// What became of a batch.
#[derive(Debug)]
pub struct Batch {
    /// Tasks that are stored, in the order of the file.
    pub tasks: Vec<SessionTask>,
    /// Success, unless one was refused.
    pub exit_code: ExitCode,
}

/// Creates the tasks: all of them or none, or each for itself; what makes no sense is not even sent. Says on standard
/// error which were refused, here or there, or were there before.
pub async fn create_batch(
    connection: &Connection,
    session_id: &str,
    items: Vec<Item>,
    atomic: bool,
) -> Result<Batch, Failure> {
    let mut tasks = Vec::new();
    let standing: Vec<Result<(), String>> = items
        .into_iter()
        .map(|item| {
            let file = item?;
            tasks.push(definition(file).map_err(|failure| failure.to_string())?);
            Ok(())
        })
        .collect();
    let mut results = create(connection, session_id, tasks, atomic)
        .await?
        .into_iter();
    let mut batch = Batch {
        tasks: Vec::with_capacity(results.len()),
        exit_code: ExitCode::Success,
    };
    for (number, sent) in (1..).zip(standing) {
        let refused = match sent {
            Err(why) => why,
            Ok(()) => match results.next().unwrap_or_default() {
                BatchCreateResult {
                    task: Some(task),
                    created,
                    ..
                } => {
                    if !created {
                        console::note(&format!("t{} was there before, by its key", task.ordinal));
                    }
                    batch.tasks.push(task);
                    continue;
                }
                BatchCreateResult { error, .. } => {
                    let error = error.unwrap_or_default();
                    format!("{} ({})", in_words_of_task(&error.message), error.reason)
                }
            },
        };
        console::note(&format!("task {number}: {}", console::clean(&refused)));
        batch.exit_code = ExitCode::Refused;
    }
    Ok(batch)
}

async fn create(
    connection: &Connection,
    session_id: &str,
    tasks: Vec<TaskDefinition>,
    atomic: bool,
) -> Result<Vec<BatchCreateResult>, Failure> {
    if tasks.is_empty() {
        return Ok(Vec::new());
    }
    let request = BatchCreateTasksRequest {
        namespace: connection.namespace(),
        session_id: session_id.to_owned(),
        tasks,
        atomic,
        request_id: Uuid::new_v4().simple().to_string(),
    };
    let span = trace::calling("taskyard.v1.SessionTaskService/BatchCreateTasks");
    let answer = connection
        .call(|| {
            let mut tasks = connection.tasks();
            let request = traced(request.clone(), &span);
            async move { tasks.batch_create_tasks(request).await }
        })
        .await?;
    Ok(answer.results)
}
