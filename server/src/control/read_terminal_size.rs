//! `ReadTerminalSize`: the holder of a lease learns how large the terminal of its run is to be.

use super::{lease_ref::LeaseRef, refusal::Refusal, wire_time::duration_field};
use crate::{
    app::App,
    events::Touched,
    store::{task_input, task_terminal},
};
use std::time::Duration;
use taskyard_core::id::WorkerSessionId;
use taskyard_proto::v1::{ReadTerminalSizeRequest, ReadTerminalSizeResponse};
use tokio::time::{Instant, timeout};

/// Longest wait.
const MAX_WAIT: Duration = Duration::from_secs(30);
/// How often is looked where nothing was heard.
const POLL: Duration = Duration::from_secs(1);

/// The newest size, as soon as there is one that is newer than what the worker knows.
///
/// # Errors
/// [`Refusal::InvalidField`], [`Refusal::LeaseLost`], [`Refusal::ShuttingDown`], [`Refusal::Store`].
pub async fn read_terminal_size(
    app: &App,
    request: &ReadTerminalSizeRequest,
) -> Result<ReadTerminalSizeResponse, Refusal> {
    let wait = duration_field("wait", request.wait.as_ref(), Duration::ZERO, MAX_WAIT)?
        .unwrap_or_default();
    let lease = request
        .lease
        .as_ref()
        .ok_or_else(|| Refusal::invalid("lease", "is required"))?;
    let lease = LeaseRef::try_from(lease)?;
    let until = Instant::now() + wait;
    // before the first look, so that nothing is missed in between
    let mut touches = app.events.subscribe_workers();
    loop {
        let worker = holder(app, lease, request.run).await?;
        let found = task_terminal::find_size(app.store.pool(), lease.task, request.after).await?;
        if let Some(size) = found {
            return Ok(ReadTerminalSizeResponse {
                number: size.number,
                rows: u32::from(size.rows.unsigned_abs()),
                columns: u32::from(size.columns.unsigned_abs()),
            });
        }
        if Instant::now() >= until {
            return Ok(ReadTerminalSizeResponse::default());
        }
        let next_look = until.min(Instant::now() + POLL);
        let touched = async {
            loop {
                match touches.touched().await {
                    Touched::One(touched) if touched != worker => {}
                    Touched::One(_) | Touched::All => return,
                }
            }
        };
        tokio::select! {
            () = app.shutdown.cancelled() => return Err(Refusal::ShuttingDown),
            // either way it is looked again
            _ = timeout(next_look.saturating_duration_since(Instant::now()), touched) => {}
        }
    }
}

async fn holder(app: &App, lease: LeaseRef, run: i32) -> Result<WorkerSessionId, Refusal> {
    let (task, epoch, lease_id) = (lease.task, lease.epoch, lease.lease_id);
    task_input::find_holder(app.store.pool(), task, epoch, lease_id, run)
        .await?
        .ok_or(Refusal::LeaseLost)
}
