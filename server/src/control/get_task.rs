//! GetTask: one task, with its spec.

use super::{
    monitors::{list_monitors, plan},
    refusal::{Refusal, Resource},
    resolve, result_json,
};
use crate::{app::App, store::records};
use taskyard_core::id::TaskId;
use taskyard_proto::v1::{GetTaskRequest, GetTaskResponse};

/// Reads a task, how it stands if it is a live monitor, and its result.json if that is asked for and there.
///
/// # Errors
/// As [`resolve::resolve`].
pub async fn get_task(app: &App, request: GetTaskRequest) -> Result<GetTaskResponse, Refusal> {
    let found =
        resolve::resolve(app, &request.namespace, &request.session_id, &request.task).await?;
    let record = read_task(app, found.id).await?;
    let is_terminal = record.task.finished_at.is_some();
    let result_json = if request.include_result && is_terminal {
        result_json::render(&record)?
    } else {
        String::new()
    };
    let monitor = if record.task.kind == plan::MONITOR && !is_terminal {
        list_monitors::find_monitor(app, found.id).await?
    } else {
        None
    };
    Ok(GetTaskResponse {
        task: Some(record.task),
        result_json,
        monitor,
    })
}

/// Reads the record of a task.
///
/// # Errors
/// [`Refusal::NotFound`], [`Refusal::Store`].
pub async fn read_task(app: &App, id: TaskId) -> Result<records::TaskRecord, Refusal> {
    let mut found = records::read_records(app.store.pool(), &[id]).await?;
    found.pop().ok_or_else(|| Refusal::NotFound {
        resource: Resource::Task,
        name: id.to_string(),
    })
}
