//! `ReadInput`: the holder of a lease fetches the live input of its run.

use super::{holder_wait::HolderWait, refusal::Refusal};
use crate::{app::App, store::task_input};
use bytes::BytesMut;
use taskyard_core::id::TaskId;
use taskyard_proto::v1::{ReadInputRequest, ReadInputResponse};

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
    let (lease, wait) = (request.lease.as_ref(), request.wait.as_ref());
    let mut waiting = HolderWait::begin(app, lease, request.run, wait)?;
    let offset = u64::try_from(request.offset)
        .map_err(|_| Refusal::invalid("offset", "must not be negative"))?;
    let task = waiting.lease.task;
    waiting.holder().await?;
    task_input::acknowledge(app.store.pool(), task, request.run, offset).await?;
    loop {
        let worker = waiting.holder().await?;
        let found = look(app, task, request.run, offset).await?;
        if !found.data.is_empty() || found.eof || waiting.is_over() {
            return Ok(found);
        }
        waiting.next_look(worker).await?;
    }
}

async fn look(
    app: &App,
    task: TaskId,
    run: i32,
    offset: u64,
) -> Result<ReadInputResponse, Refusal> {
    let mut connection = app.store.pool().acquire().await?;
    let (input, chunks) =
        task_input::read_input(&mut connection, task, run, offset, MAX_CHUNKS).await?;
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
