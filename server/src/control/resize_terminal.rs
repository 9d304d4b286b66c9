//! `ResizeTerminal`: the size of a task's terminal, kept here and fetched by its worker. The newest counts.

use super::{
    refusal::{Refusal, Resource},
    resolve,
};
use crate::{
    app::App,
    store::{claim, task_input, task_terminal},
};
use taskyard_core::id::TaskId;
use taskyard_proto::v1::{ResizeTerminalRequest, ResizeTerminalResponse};

/// Most lines, and most characters in a line.
pub(super) const MAX_SIZE: u32 = 1_000;

/// Notes the size for the run that is, and for those that follow.
///
/// # Errors
/// What resolving says; [`Refusal::InvalidField`]; [`Refusal::TaskTerminal`]; [`Refusal::NoPty`]; [`Refusal::Store`].
pub async fn resize_terminal(
    app: &App,
    request: ResizeTerminalRequest,
) -> Result<ResizeTerminalResponse, Refusal> {
    let rows = dimension("rows", request.rows)?;
    let columns = dimension("columns", request.columns)?;
    let found =
        resolve::resolve(app, &request.namespace, &request.session_id, &request.task).await?;
    let mut transaction = app.store.begin("begin").await?;
    let live = task_input::lock_live(&mut transaction, found.id)
        .await?
        .ok_or(Refusal::TaskTerminal)?;
    check_has_pty(app, found.id).await?;
    let number = task_terminal::store_size(&mut *transaction, found.id, rows, columns).await?;
    transaction.commit().await?;
    if let Some(worker) = live.worker {
        app.events.worker_touched(worker);
    }
    Ok(ResizeTerminalResponse {
        run: live.run + i32::from(live.is_queued),
        number,
    })
}

/// A number of lines or characters, from 1 to [`MAX_SIZE`].
///
/// # Errors
/// [`Refusal::InvalidField`].
pub(super) fn dimension(field: &str, value: u32) -> Result<i16, Refusal> {
    let is_bounded = (1..=MAX_SIZE).contains(&value);
    i16::try_from(value)
        .ok()
        .filter(|_| is_bounded)
        .ok_or_else(|| Refusal::invalid(field, format!("must be from 1 to {MAX_SIZE}")))
}

async fn check_has_pty(app: &App, task: TaskId) -> Result<(), Refusal> {
    let spec = claim::find_spec(app.store.pool(), task)
        .await?
        .ok_or_else(|| Refusal::NotFound {
            resource: Resource::Task,
            name: task.to_string(),
        })?;
    let pty = spec.command.and_then(|command| command.pty);
    pty.map(|_| ()).ok_or(Refusal::NoPty)
}
