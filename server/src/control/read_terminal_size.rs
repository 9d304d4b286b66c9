//! `ReadTerminalSize`: the holder of a lease learns how large the terminal of its run is to be.

use super::{holder_wait::HolderWait, refusal::Refusal};
use crate::{app::App, store::task_terminal};
use taskyard_proto::v1::{ReadTerminalSizeRequest, ReadTerminalSizeResponse};

/// The newest size, as soon as there is one that is newer than what the worker knows.
///
/// # Errors
/// [`Refusal::InvalidField`], [`Refusal::LeaseLost`], [`Refusal::ShuttingDown`], [`Refusal::Store`].
pub async fn read_terminal_size(
    app: &App,
    request: &ReadTerminalSizeRequest,
) -> Result<ReadTerminalSizeResponse, Refusal> {
    let (lease, wait) = (request.lease.as_ref(), request.wait.as_ref());
    let mut waiting = HolderWait::begin(app, lease, request.run, wait)?;
    let task = waiting.lease.task;
    loop {
        let worker = waiting.holder().await?;
        let found = task_terminal::find_size(app.store.pool(), task, request.after).await?;
        if let Some(size) = found {
            return Ok(ReadTerminalSizeResponse {
                number: size.number,
                rows: u32::from(size.rows.unsigned_abs()),
                columns: u32::from(size.columns.unsigned_abs()),
            });
        }
        if waiting.is_over() {
            return Ok(ReadTerminalSizeResponse::default());
        }
        waiting.next_look(worker).await?;
    }
}
