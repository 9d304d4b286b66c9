//! Several tasks from one file, as a batch.

use taskyard_proto::v1::{BatchCreateResult, BatchCreateTasksRequest, SessionTask};
use uuid::Uuid;

use crate::connection::Connection;
use crate::console;
use crate::exit_code::ExitCode;
use crate::failure::Failure;
use crate::task_file::definition::definition;
use crate::task_file::model::TaskFile;

/// What became of a batch.
#[derive(Debug)]
pub struct Batch {
    /// Tasks that are stored, in the order of the file.
    pub tasks: Vec<SessionTask>,
    /// Success, unless one was refused.
    pub exit_code: ExitCode,
}

/// Creates the tasks: all of them or none, or each for itself. Says on standard error which were refused, or were there
/// before.
pub async fn create_batch(
    connection: &Connection,
    session_id: &str,
    files: Vec<TaskFile>,
    atomic: bool,
) -> Result<Batch, Failure> {
    let request = BatchCreateTasksRequest {
        namespace: connection.namespace(),
        session_id: session_id.to_owned(),
        tasks: files
            .into_iter()
            .map(definition)
            .collect::<Result<_, _>>()?,
        atomic,
        request_id: Uuid::new_v4().simple().to_string(),
    };
    let answer = connection
        .call(|| {
            let mut tasks = connection.tasks();
            let request = request.clone();
            async move { tasks.batch_create_tasks(request).await }
        })
        .await?;
    let mut batch = Batch {
        tasks: Vec::with_capacity(answer.results.len()),
        exit_code: ExitCode::Success,
    };
    for (number, result) in (1..).zip(answer.results) {
        match result {
            BatchCreateResult {
                task: Some(task),
                created,
                ..
            } => {
                if !created {
                    console::note(&format!("t{} was there before, by its key", task.ordinal));
                }
                batch.tasks.push(task);
            }
            BatchCreateResult { error, .. } => {
                let error = error.unwrap_or_default();
                let message = console::clean(&error.message);
                console::note(&format!("task {number}: {message} ({})", error.reason));
                batch.exit_code = ExitCode::Refused;
            }
        }
    }
    Ok(batch)
}
