//! From the spools upward: what a run printed is pushed while it runs, and pushed again until it is durable.
//!
//! A cursor per stream says what was pushed, the control plane's answers say what is durable. Nothing is kept in
//! memory but what is on its way; after a break everything from the durable end on is read from the spools anew. Until
//! a stream is beyond its head, every byte goes up. Beyond it the push is paced, and where the spool's ring has run
//! over the cursor it jumps forward to the oldest byte that is left.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;

use super::cursor::StreamCursor;

/// Most bytes of one chunk.
pub const CHUNK_BYTES_MAX: usize = 256 * 1024;
/// Bytes on their way, for all runs of a worker together.
pub const WORKER_WINDOW_BYTES: usize = 8 * 1024 * 1024;
const RUN_WINDOW_BYTES: u64 = 1024 * 1024;
const FRAME_BYTES_MAX: u32 = 2 * CHUNK_BYTES_MAX as u32;
/// Less than this waits a little for more.
const COALESCE_BYTES: u64 = 64 * 1024;
const COALESCE_WAIT: Duration = Duration::from_millis(10);
/// Beyond the head a running stream goes up no faster than this.
const BEYOND_HEAD_BYTES_PER_SECOND: f64 = 4.0 * 1024.0 * 1024.0;
/// After the end: how long nothing may become durable while connected, while not, and in all.
const STALLED_BOUND: Duration = Duration::from_secs(30);
const UNCONNECTED_BOUND: Duration = Duration::from_secs(5 * 60);
const DRAIN_BOUND: Duration = Duration::from_secs(15 * 60);

/// Where output goes. Streams are numbered: 0 is standard output, 1 standard error.
pub trait OutputSink: Send {
    /// The next thing that happened. It may be dropped at any time without losing one.
    fn event(&mut self) -> impl Future<Output = SinkEvent> + Send;
    /// Sends a frame over the connection that the last event told of. One that is lost is told by the next event.
    fn push(&mut self, frame: OutputFrame) -> impl Future<Output = ()> + Send;
}

/// What happens at the other end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SinkEvent {
    Connected,
    /// What was pushed and not answered may be lost.
    Disconnected,
    Positions(Positions),
    /// The lease is lost or the task has ended: nothing more is wanted.
    Lost,
    /// What was pushed made no sense to the other end.
    Refused {
        message: String,
    },
}

/// Everything retained before these offsets is durable; absent: nothing is said about the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Positions {
    pub durable: [Option<u64>; 2],
}

/// Chunks that go up together, with the totals that are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputFrame {
    /// In order per stream; none: the frame only asks what is durable.
    pub chunks: Vec<FrameChunk>,
    pub totals: [u64; 2],
}

/// Bytes of one stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrameChunk {
    pub stream: usize,
    pub offset: u64,
    pub data: Bytes,
    /// Order among all chunks of the run, from 1.
    pub order: u64,
}

/// How far the streams of a run have come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    pub bytes: [u64; 2],
    /// They will not grow any more.
    pub ended: bool,
}

/// What to push.
#[derive(Debug, Clone)]
pub struct UploadPlan {
    pub spools: [PathBuf; 2],
    /// Something may have been pushed before: ask where to go on.
    pub resumed: bool,
}

/// How an upload ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UploadEnd {
    /// Everything that is retained is durable.
    Durable,
    /// Some of what should have been retained of these streams is not.
    Incomplete { reason: String, streams: [bool; 2] },
    /// As incomplete: the other end refused what came. Where it is another store than before, one that has less of the
    /// output, it may take it from there on.
    Refused { reason: String, streams: [bool; 2] },
    /// The lease is lost or the task has ended.
    Lost,
}

/// Pushes until everything retained is durable, the lease is lost, or it is not worth trying on. `window` counts bytes
/// on their way for all runs.
pub async fn upload(
    plan: UploadPlan,
    totals: watch::Receiver<Totals>,
    sink: &mut impl OutputSink,
    window: Arc<Semaphore>,
) -> UploadEnd {
    let now = Instant::now();
    let uploader = Uploader {
        streams: plan.spools.map(StreamCursor::new),
        totals,
        sink,
        window,
        connected: false,
        probing: false,
        must_probe: plan.resumed,
        in_flight: VecDeque::new(),
        next_order: 1,
        send_not_before: now,
        pace_not_before: now,
        progressed_at: now,
        ended_at: None,
    };
    uploader.run().await
}

struct Uploader<'a, S> {
    streams: [StreamCursor; 2],
    totals: watch::Receiver<Totals>,
    sink: &'a mut S,
    window: Arc<Semaphore>,
    connected: bool,
    /// A question for the durable ends is on its way.
    probing: bool,
    must_probe: bool,
    in_flight: VecDeque<InFlight>,
    next_order: u64,
    /// Small frames wait for this.
    send_not_before: Instant,
    /// Beyond the head, frames wait for this.
    pace_not_before: Instant,
    progressed_at: Instant,
    ended_at: Option<Instant>,
}

struct InFlight {
    stream: usize,
    end: u64,
    bytes: u64,
    /// Given back when the bytes are durable, or known to be lost on the way.
    _permit: OwnedSemaphorePermit,
}

enum Step {
    Event(SinkEvent),
    TotalsChanged,
    Waited,
    MaySend(OwnedSemaphorePermit),
    GiveUp,
}

impl<S: OutputSink> Uploader<'_, S> {
    async fn run(mut self) -> UploadEnd {
        loop {
            let totals = *self.totals.borrow_and_update();
            if totals.ended && self.ended_at.is_none() {
                self.ended_at = Some(Instant::now());
                self.progressed_at = Instant::now();
            }
            if self.connected && self.must_probe && !self.probing {
                self.probing = true;
                self.sink
                    .push(OutputFrame {
                        chunks: Vec::new(),
                        totals: totals.bytes,
                    })
                    .await;
            }
            if totals.ended && !self.must_probe && self.is_done(totals) {
                return self.end(totals);
            }
            match self.next_step(totals).await {
                Step::Event(SinkEvent::Connected) => {
                    self.connected = true;
                    self.progressed_at = Instant::now();
                }
                Step::Event(SinkEvent::Disconnected) => self.disconnected(),
                Step::Event(SinkEvent::Positions(positions)) => self.answered(positions),
                Step::Event(SinkEvent::Lost) => return UploadEnd::Lost,
                Step::Event(SinkEvent::Refused { message }) => {
                    return UploadEnd::Refused {
                        reason: format!("the output was refused: {message}"),
                        streams: self.lacking(totals),
                    };
                }
                Step::TotalsChanged | Step::Waited => {}
                Step::MaySend(permit) => self.send(totals, permit).await,
                Step::GiveUp => {
                    return self.given_up(
                        totals,
                        "the output could not be delivered in time".to_owned(),
                    );
                }
            }
        }
    }

    async fn next_step(&mut self, totals: Totals) -> Step {
        let send_at = self.send_at(totals);
        let now = Instant::now();
        let may_send = send_at.is_some_and(|at| at <= now);
        let give_up_at = self.give_up_at();
        let window = self.window.clone();
        tokio::select! {
            event = self.sink.event() => Step::Event(event),
            changed = self.totals.changed(), if !totals.ended => match changed {
                Ok(()) => Step::TotalsChanged,
                // Whoever watched the process is gone without telling its end.
                Err(_) => Step::Event(SinkEvent::Lost),
            },
            permit = window.acquire_many_owned(FRAME_BYTES_MAX), if may_send => match permit {
                Ok(permit) => Step::MaySend(permit),
                Err(_) => Step::Event(SinkEvent::Lost),
            },
            () = tokio::time::sleep_until(send_at.unwrap_or(now)), if send_at.is_some() && !may_send => Step::Waited,
            () = tokio::time::sleep_until(give_up_at.unwrap_or(now)), if give_up_at.is_some() => Step::GiveUp,
        }
    }

    /// When the next frame may go; `None` while there is nothing to send or no way.
    fn send_at(&self, totals: Totals) -> Option<Instant> {
        let in_flight: u64 = self.in_flight.iter().map(|chunk| chunk.bytes).sum();
        if !self.connected || self.must_probe || in_flight >= RUN_WINDOW_BYTES {
            return None;
        }
        let mut waiting = 0;
        let mut within_head = false;
        for (stream, total) in self.streams.iter().zip(totals.bytes) {
            let behind = total.saturating_sub(stream.next);
            waiting += behind;
            within_head |= behind > 0 && (stream.reader.is_none() || stream.next < stream.head_cap);
        }
        if waiting == 0 {
            return None;
        }
        let mut at = Instant::now();
        if !totals.ended {
            if waiting < COALESCE_BYTES {
                at = at.max(self.send_not_before);
            }
            if !within_head {
                at = at.max(self.pace_not_before);
            }
        }
        Some(at)
    }

    fn give_up_at(&self) -> Option<Instant> {
        let ended_at = self.ended_at?;
        let bound = if self.connected {
            STALLED_BOUND
        } else {
            UNCONNECTED_BOUND
        };
        Some((self.progressed_at + bound).min(ended_at + DRAIN_BOUND))
    }

    async fn send(&mut self, totals: Totals, mut permit: OwnedSemaphorePermit) {
        let mut chunks = Vec::new();
        let mut beyond_head = 0;
        for (stream, cursor) in self.streams.iter_mut().enumerate() {
            let Some((offset, data)) = cursor.read(totals.bytes[stream]) else {
                continue;
            };
            let bytes = data.len() as u64;
            if offset >= cursor.head_cap {
                beyond_head += bytes;
            }
            let share = permit.split(data.len());
            if let Some(share) = share {
                self.in_flight.push_back(InFlight {
                    stream,
                    end: offset + bytes,
                    bytes,
                    _permit: share,
                });
            }
            chunks.push(FrameChunk {
                stream,
                offset,
                data,
                order: self.next_order,
            });
            self.next_order += 1;
        }
        drop(permit);
        let now = Instant::now();
        self.send_not_before = now + COALESCE_WAIT;
        // A ring that is overwritten as fast as it is read gives nothing to send; the next try waits as well.
        if beyond_head > 0 || chunks.is_empty() {
            let pause = Duration::from_secs_f64(beyond_head as f64 / BEYOND_HEAD_BYTES_PER_SECOND);
            self.pace_not_before = self.pace_not_before.max(now) + pause.max(COALESCE_WAIT);
        }
        if !chunks.is_empty() {
            self.sink
                .push(OutputFrame {
                    chunks,
                    totals: totals.bytes,
                })
                .await;
        }
    }

    fn disconnected(&mut self) {
        self.connected = false;
        self.probing = false;
        self.in_flight.clear();
        self.progressed_at = Instant::now();
        self.must_probe |= self
            .streams
            .iter()
            .any(|stream| stream.durable < stream.pushed_end);
    }

    fn answered(&mut self, positions: Positions) {
        for (stream, durable) in self.streams.iter_mut().zip(positions.durable) {
            let Some(durable) = durable else { continue };
            if durable > stream.durable {
                self.progressed_at = Instant::now();
            }
            stream.durable = durable;
            if self.probing {
                stream.next = durable;
                stream.pushed_end = durable;
            }
        }
        if std::mem::take(&mut self.probing) {
            self.must_probe = false;
            self.progressed_at = Instant::now();
            // Chunks that are sent again are new chunks: they come after all that were stored before.
            let before: u64 = self.streams.iter().map(|stream| stream.durable).sum();
            self.next_order = self.next_order.max(before.saturating_add(1));
        }
        let durable = [self.streams[0].durable, self.streams[1].durable];
        self.in_flight
            .retain(|chunk| chunk.end > durable[chunk.stream]);
    }

    fn is_done(&self, totals: Totals) -> bool {
        self.streams
            .iter()
            .zip(totals.bytes)
            .all(|(stream, total)| stream.is_done(total))
    }

    fn end(&self, totals: Totals) -> UploadEnd {
        let streams =
            [0, 1].map(|stream| self.streams[stream].is_missing_bytes(totals.bytes[stream]));
        if streams == [false, false] {
            return UploadEnd::Durable;
        }
        let reason = self
            .streams
            .iter()
            .find_map(|stream| stream.failure.clone());
        let reason = reason.unwrap_or_else(|| "bytes were lost on the worker's disk".to_owned());
        UploadEnd::Incomplete { reason, streams }
    }

    fn given_up(&self, totals: Totals, reason: String) -> UploadEnd {
        let streams = self.lacking(totals);
        UploadEnd::Incomplete { reason, streams }
    }

    /// Of which streams not all that is retained is durable.
    fn lacking(&self, totals: Totals) -> [bool; 2] {
        [0, 1].map(|stream| {
            let (stream, total) = (&self.streams[stream], totals.bytes[stream]);
            !stream.is_done(total) || stream.is_missing_bytes(total)
        })
    }
}

#[cfg(test)]
mod tests;
