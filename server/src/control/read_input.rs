//! `ReadInput`: the holder of a lease fetches the live input of its run.

use super::{lease_ref::LeaseRef, refusal::Refusal, wire_time::duration_field};
use crate::{
    app::App,
    events::Touched,
    store::{StoreError, task_input},
};
use bytes::BytesMut;
use std::time::Duration;
use taskyard_core::id::WorkerSessionId;
use taskyard_proto::v1::{ReadInputRequest, ReadInputResponse};
use tokio::time::{Instant, timeout};

/// Longest wait.
const MAX_WAIT: Duration = Duration::from_secs(30);
/// How often is looked where nothing was heard.
const POLL: Duration = Duration::from_secs(1);
/// Most bytes of one answer.
const MAX_BYTES: usize = 64 << 10;
/// Most chunks that are read for one answer.
const MAX_CHUNKS: i64 = 64;

/// The next bytes, as soon as there are any; all before the request's offset is forgotten.
///
/// # Errors
/// [`Refusal::InvalidField`], [`Refusal::LeaseLost`], [`Refusal::ShuttingDown`], [`Refusal::Store`].
pub async fn read_input(
    app: &App,
    request: &ReadInputRequest,
) -> Result<ReadInputResponse, Refusal> {
    let wait = duration_field("wait", request.wait.as_ref(), Duration::ZERO, MAX_WAIT)?
        .unwrap_or_default();
    let lease = request
        .lease
        .as_ref()
        .ok_or_else(|| Refusal::invalid("lease", "is required"))?;
    let lease = LeaseRef::try_from(lease)?;
    let offset = u64::try_from(request.offset)
        .map_err(|_| Refusal::invalid("offset", "must not be negative"))?;
    let until = Instant::now() + wait;
    // before the first look, so that nothing is missed in between
    let mut touches = app.events.subscribe_workers();
    holder(app, lease, request.run).await?;
    task_input::acknowledge(app.store.pool(), lease.task, request.run, offset).await?;
    loop {
        let worker = holder(app, lease, request.run).await?;
        let found = look(app, lease, request.run, offset).await?;
        if !found.data.is_empty() || found.eof || Instant::now() >= until {
            return Ok(found);
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

async fn look(
    app: &App,
    lease: LeaseRef,
    run: i32,
    offset: u64,
) -> Result<ReadInputResponse, Refusal> {
    let mut connection = app.store.pool().acquire().await.map_err(StoreError::from)?;
    let (input, chunks) =
        task_input::read_input(&mut connection, lease.task, run, offset, MAX_CHUNKS).await?;
    let mut data = BytesMut::new();
    for (start, chunk) in chunks {
        let at = offset + data.len() as u64;
        let skip = usize::try_from(at.saturating_sub(start)).unwrap_or(usize::MAX);
        if start > at || data.len() >= MAX_BYTES {
            break;
        }
        let room = MAX_BYTES - data.len();
        let rest = chunk.get(skip..).unwrap_or_default();
        data.extend_from_slice(&rest[..rest.len().min(room)]);
    }
    let eof = input.ended && offset + data.len() as u64 >= input.accepted;
    Ok(ReadInputResponse {
        data: data.freeze(),
        eof,
    })
}
