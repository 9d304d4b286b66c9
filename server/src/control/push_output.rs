//! PushOutput: what workers capture, on its way into the store.

use super::{lease_ref::LeaseRef, refusal::Refusal};
use crate::{
    app::App,
    output::{Chunk, Push, PushResult},
    store::{output_append::Appender, times},
};
use taskyard_core::{id::TaskId, output::Retention};
use taskyard_proto::v1::{
    OutputPosition, OutputStream, PushOutputRequest, PushOutputResponse, Verdict,
};
use tokio::sync::oneshot;

const MAX_CHUNK: usize = 256 << 10;
const MAX_FRAME: usize = 1 << 20;
const MAX_KEPT: i64 = 256 << 20;

/// A push on its way.
#[derive(Debug)]
pub struct Pushed {
    task: TaskId,
    run: i32,
    /// Where each stream's bytes of this push end, for the mark `received`.
    ends: [i64; 2],
    answer: Option<oneshot::Receiver<Option<PushResult>>>,
}

/// Queues one frame, once there is room for it.
///
/// # Errors
/// [`Refusal::InvalidField`] for a frame that breaks a rule.
pub async fn push(app: &App, request: PushOutputRequest) -> Result<Pushed, Refusal> {
    let push = read(request)?;
    let mut ends = [0; 2];
    for chunk in &push.chunks {
        let end = &mut ends[index(chunk.stream)];
        *end = (*end)
            .max(chunk.offset.cast_signed() + i64::try_from(chunk.data.len()).unwrap_or(i64::MAX));
    }
    Ok(Pushed {
        task: push.appender.task,
        run: push.appender.run,
        ends,
        answer: app.outputs.push(push).await,
    })
}

impl Pushed {
    /// Waits until the frame is stored or refused, and says what became of it.
    ///
    /// # Errors
    /// [`Refusal::Unreachable`] if it could not be stored; the worker pushes it again after a reconnect.
    pub async fn answer(self) -> Result<PushOutputResponse, Refusal> {
        let result = match self.answer {
            Some(answer) => answer.await.ok().flatten(),
            None => None,
        };
        let mut response = PushOutputResponse {
            task_id: self.task.to_string(),
            run: self.run,
            ..PushOutputResponse::default()
        };
        let verdict = match result.ok_or(Refusal::Unreachable)? {
            PushResult::Durable(durable) => {
                response.durable = positions(durable.map(u64::cast_signed));
                response.received = positions(
                    [0, 1].map(|index| self.ends[index].max(durable[index].cast_signed())),
                );
                Verdict::Applied
            }
            PushResult::LeaseLost => Verdict::LeaseLost,
            PushResult::Terminal => Verdict::Terminal,
            PushResult::Gap { stream, expected } => {
                response.message =
                    format!("the next chunk of stream {stream} must begin at {expected}");
                Verdict::Rejected
            }
        };
        response.verdict = verdict.into();
        Ok(response)
    }
}

fn positions(offsets: [i64; 2]) -> Vec<OutputPosition> {
    [OutputStream::Stdout, OutputStream::Stderr]
        .into_iter()
        .zip(offsets)
        .map(|(stream, offset)| OutputPosition {
            stream: stream.into(),
            offset,
        })
        .collect()
}

fn read(request: PushOutputRequest) -> Result<Push, Refusal> {
    let lease = request
        .lease
        .as_ref()
        .ok_or_else(|| Refusal::invalid("lease", "is required"))?;
    let LeaseRef {
        task,
        epoch,
        lease_id,
    } = LeaseRef::try_from(lease)?;
    if request.run < 1 {
        return Err(Refusal::invalid("run", "counts from 1"));
    }
    let kept = |field: &str, bytes: i64| {
        u64::try_from(bytes)
            .ok()
            .filter(|_| bytes <= MAX_KEPT)
            .ok_or_else(|| Refusal::invalid(field, format!("must be 0 to {MAX_KEPT}")))
    };
    let retention = Retention {
        head: kept("head_bytes", request.head_bytes)?,
        tail: kept("tail_bytes", request.tail_bytes)?,
    };
    let bytes: usize = request.chunks.iter().map(|chunk| chunk.data.len()).sum();
    if bytes > MAX_FRAME {
        return Err(Refusal::invalid(
            "chunks",
            format!("together have more than {MAX_FRAME} bytes"),
        ));
    }
    let mut totals = [0; 2];
    for position in &request.totals {
        totals[index(stream("totals.stream", position.stream)?)] =
            offset("totals.offset", position.offset)?;
    }
    let mut chunks = Vec::with_capacity(request.chunks.len());
    for chunk in request.chunks {
        if chunk.data.len() > MAX_CHUNK {
            return Err(Refusal::invalid(
                "chunks.data",
                format!("has more than {MAX_CHUNK} bytes"),
            ));
        }
        let at = chunk
            .at
            .as_ref()
            .and_then(times::proto_to_core)
            .ok_or_else(|| Refusal::invalid("chunks.at", "is required and must be in range"))?;
        chunks.push(Chunk {
            stream: stream("chunks.stream", chunk.stream)?,
            offset: offset("chunks.offset", chunk.offset)?,
            order: chunk.order,
            at: times::to_database(at),
            data: chunk.data,
        });
    }
    Ok(Push {
        appender: Appender {
            task,
            epoch,
            lease_id,
            run: request.run,
        },
        retention,
        totals,
        chunks,
    })
}

fn stream(field: &str, stream: i32) -> Result<i16, Refusal> {
    match OutputStream::try_from(stream) {
        Ok(OutputStream::Stdout) => Ok(1),
        Ok(OutputStream::Stderr) => Ok(2),
        Ok(OutputStream::Unspecified) | Err(_) => {
            Err(Refusal::invalid(field, "must be stdout or stderr"))
        }
    }
}

/// Offsets leave room for the longest chunk behind them.
fn offset(field: &str, offset: i64) -> Result<u64, Refusal> {
    u64::try_from(offset)
        .ok()
        .filter(|_| offset < i64::MAX / 2)
        .ok_or_else(|| Refusal::invalid(field, "must not be negative"))
}

fn index(stream: i16) -> usize {
    usize::from(stream == 2)
}
