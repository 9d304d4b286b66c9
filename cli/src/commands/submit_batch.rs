//! Several tasks from one file, as a batch.

use std::time::Duration;

use taskyard_proto::v1::{BatchCreateResult, BatchCreateTasksRequest, SessionTask, TaskDefinition};
use tonic::Code;
use uuid::Uuid;

use crate::backoff::Backoff;
use crate::connection::{Connection, LIMIT_BUDGET};
use crate::console;
use crate::exit_code::ExitCode;
use crate::failure::Failure;
use crate::hint::is_busy;
use crate::quantity::counted;
use crate::task_file::definition::definition;
use crate::task_file::parse::Item;
use crate::trace::{self, traced};
use crate::wire_words::in_words_of_task;

/// Shortest wait before tasks are sent again that were refused for a limit: what there is too much of are live tasks, which
/// take a while to end.
const LIMIT_PAUSE: Duration = Duration::from_secs(1);

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
    let mut results = send(connection, &request).await?;
    let mut backoff = Backoff::within(LIMIT_BUDGET);
    let mut is_told = false;
    while let Some(refused) = results.iter().find_map(refused_for_now) {
        let n_refused = results.iter().filter_map(refused_for_now).count();
        if !is_told {
            is_told = true;
            console::note(&format!(
                "{} of {} refused for now: {}; trying again for up to 5 min",
                counted(n_refused as i64, "task"),
                results.len(),
                console::clean(&in_words_of_task(refused))
            ));
        }
        if !backoff.pause_at_least(LIMIT_PAUSE).await {
            break;
        }
        // The same batch: each task counts by the batch's id and its place in it, so what is stored is answered, children
        // find their parents, and the order stays that of the file.
        match send(connection, &request).await {
            Ok(again) => results = merged(results, again),
            Err(failure) => {
                console::note(&format!("they could not be sent again: {failure}"));
                break;
            }
        }
        if results.iter().filter_map(refused_for_now).count() < n_refused {
            backoff.succeeded();
        }
    }
    Ok(results)
}

/// What the server says of a task that it refused for a limit of which there will be less in a moment; none: something else
/// became of it.
fn refused_for_now(result: &BatchCreateResult) -> Option<&str> {
    let error = result.error.as_ref()?;
    let is_limit = error.code == i32::from(Code::ResourceExhausted) && is_busy(&error.reason);
    is_limit.then_some(error.message.as_str())
}

/// What became of each task after it was sent again: what was stored stays told as it was when that was new.
fn merged(
    results: Vec<BatchCreateResult>,
    again: Vec<BatchCreateResult>,
) -> Vec<BatchCreateResult> {
    let mut again = again.into_iter();
    let one = |before: BatchCreateResult| match again.next() {
        Some(now) if before.task.is_none() => now,
        Some(_) | None => before,
    };
    results.into_iter().map(one).collect()
}

async fn send(
    connection: &Connection,
    request: &BatchCreateTasksRequest,
) -> Result<Vec<BatchCreateResult>, Failure> {
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

#[cfg(test)]
mod tests {
    use taskyard_proto::v1::BatchCreateError;

    use super::*;

    fn stored(ordinal: i64, created: bool) -> BatchCreateResult {
        BatchCreateResult {
            task: Some(SessionTask {
                ordinal,
                ..SessionTask::default()
            }),
            created,
            error: None,
        }
    }

    fn refused(code: Code, reason: &str) -> BatchCreateResult {
        BatchCreateResult {
            error: Some(BatchCreateError {
                code: code.into(),
                reason: reason.to_owned(),
                message: "no".to_owned(),
            }),
            ..BatchCreateResult::default()
        }
    }

    #[test]
    fn only_what_a_limit_refused_is_sent_again() {
        for (code, reason, is_for_now) in [
            (Code::ResourceExhausted, "TOO_MANY_LIVE_TASKS", true),
            (Code::ResourceExhausted, "OVERLOADED", true),
            (Code::ResourceExhausted, "TOO_LARGE", false),
            (Code::FailedPrecondition, "PARENT_REFUSED", false),
            (Code::InvalidArgument, "INVALID_FIELD", false),
        ] {
            let result = refused(code, reason);
            assert_eq!(refused_for_now(&result).is_some(), is_for_now, "{reason}");
        }
        assert_eq!(refused_for_now(&stored(1, true)), None);
    }

    #[test]
    fn what_was_stored_is_told_as_it_was_when_it_was_new() {
        let full = || refused(Code::ResourceExhausted, "TOO_MANY_LIVE_TASKS");
        let first = vec![stored(1, true), full(), full()];
        // the first was deleted meanwhile
        let gone = refused(Code::NotFound, "REQUEST_TASK_DELETED");
        let all = merged(first, vec![gone, stored(2, true), full()]);
        assert_eq!(all, [stored(1, true), stored(2, true), full()]);
        assert_eq!(merged(all.clone(), Vec::new()), all);
    }
}
