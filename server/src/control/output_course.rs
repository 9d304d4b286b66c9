//! How far a reader of a run's output has come, and what it is to be sent next. Pure: chunks and ends go in, items
//! come out, every byte once and every missing one named.

use super::refusal::Refusal;
use crate::store::{
    output_read::{MAX_CHUNKS, RunStanding, StoredChunk, StoredStream},
    times,
};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use taskyard_proto::v1::{
    Exit, OutputChunk, OutputGap, OutputPosition, OutputStream, TaskState,
    tail_output_response::Item,
};

/// Most bytes in one item.
const MAX_ITEM_BYTES: usize = 256 << 10;

/// Where a reader stands in the streams that it reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputCourse {
    /// Stream (1 stdout, 2 stderr) and offset of the next byte.
    positions: Vec<(i16, i64)>,
}

/// Whether some bytes go on from where a reader stands.
#[derive(Clone, Debug, PartialEq)]
pub enum Joint {
    /// They do, and these are the items; none where they were sent before or are of another stream.
    Joined(Vec<Item>),
    /// There is something between, which only the store knows.
    Apart,
}

impl OutputCourse {
    /// From the positions of a request; none of them means both streams from their beginning.
    ///
    /// # Errors
    /// [`Refusal::InvalidField`].
    pub fn from_request(positions: &[OutputPosition]) -> Result<Self, Refusal> {
        if positions.is_empty() {
            return Ok(Self {
                positions: vec![(1, 0), (2, 0)],
            });
        }
        let mut course = Self {
            positions: Vec::new(),
        };
        for position in positions {
            let stream = match OutputStream::try_from(position.stream) {
                Ok(OutputStream::Stdout) => 1,
                Ok(OutputStream::Stderr) => 2,
                Ok(OutputStream::Unspecified) | Err(_) => {
                    let problem = "must be OUTPUT_STREAM_STDOUT or OUTPUT_STREAM_STDERR";
                    return Err(Refusal::invalid("positions.stream", problem));
                }
            };
            if course.positions.iter().any(|(other, _)| *other == stream) {
                return Err(Refusal::invalid("positions", "must name each stream once"));
            }
            if position.offset < 0 {
                return Err(Refusal::invalid("positions.offset", "must not be negative"));
            }
            course.positions.push((stream, position.offset));
        }
        Ok(course)
    }

    /// From these offsets, each with its stream.
    #[must_use]
    pub fn at(positions: Vec<(i16, i64)>) -> Self {
        Self { positions }
    }

    /// Where the reader stands: stream and offset of the next byte.
    #[must_use]
    pub fn positions(&self) -> &[(i16, i64)] {
        &self.positions
    }

    /// The same streams from their beginning, for a further run.
    #[must_use]
    pub fn restarted(&self) -> Self {
        Self {
            positions: self
                .positions
                .iter()
                .map(|(stream, _)| (*stream, 0))
                .collect(),
        }
    }

    /// The positions for an answer.
    #[must_use]
    pub fn to_wire(&self) -> Vec<OutputPosition> {
        self.positions
            .iter()
            .map(|(stream, offset)| OutputPosition {
                stream: i32::from(*stream),
                offset: *offset,
            })
            .collect()
    }

    /// The streams of which more is stored, with where to read on.
    #[must_use]
    pub fn behind(&self, standing: &RunStanding) -> Vec<(i16, i64)> {
        self.positions
            .iter()
            .filter(|(stream, offset)| *offset < stored(standing, *stream).durable_end)
            .copied()
            .collect()
    }

    /// Refuses positions beyond the end of a run that has ended.
    ///
    /// # Errors
    /// [`Refusal::OutOfRange`].
    pub fn check_within(&self, standing: &RunStanding, run: i32) -> Result<(), Refusal> {
        for (stream, offset) in &self.positions {
            let total = total(standing, run, *stream);
            if *offset > total {
                return Err(beyond_the_end(run, *offset, total));
            }
        }
        Ok(())
    }

    /// Items for what one read of the store gave of the streams that were `behind`, with at most `max_bytes` of each.
    /// Streams stay in step: what comes after the last chunk of a stream that has more to read waits for it.
    #[must_use]
    pub fn take_stored(
        &mut self,
        chunks: Vec<StoredChunk>,
        behind: &[(i16, i64)],
        standing: &RunStanding,
        max_bytes: i64,
    ) -> Vec<Item> {
        let last_in_step = behind
            .iter()
            .filter_map(|(stream, _)| last_order_if_cut(&chunks, *stream, max_bytes))
            .min()
            .unwrap_or(i64::MAX);
        let mut items = Vec::new();
        for (stream, _) in behind {
            if !chunks.iter().any(|chunk| chunk.stream == *stream) {
                // Appends only grow, so what is not there up to the durable end will never be.
                items.extend(self.skip_to(*stream, stored(standing, *stream).durable_end));
            }
        }
        for chunk in chunks
            .into_iter()
            .filter(|chunk| chunk.order <= last_in_step)
        {
            items.extend(self.skip_to(chunk.stream, chunk.start));
            if let Joint::Joined(joined) = self.take(
                chunk.stream,
                chunk.start,
                &chunk.data,
                chunk.at,
                chunk.order,
            ) {
                items.extend(joined);
            }
        }
        items
    }

    /// Items for bytes that were just stored.
    #[must_use]
    pub fn take(
        &mut self,
        stream: i16,
        start: i64,
        data: &Bytes,
        at: DateTime<Utc>,
        order: i64,
    ) -> Joint {
        let Some((_, position)) = self
            .positions
            .iter_mut()
            .find(|(other, _)| *other == stream)
        else {
            return Joint::Joined(Vec::new());
        };
        let Ok(seen) = usize::try_from(*position - start) else {
            return Joint::Apart;
        };
        let mut rest = data.slice(seen.min(data.len())..);
        let mut items = Vec::new();
        while !rest.is_empty() {
            let piece = rest.split_to(rest.len().min(MAX_ITEM_BYTES));
            let offset = *position;
            *position += i64::try_from(piece.len()).unwrap_or(0);
            items.push(Item::Chunk(OutputChunk {
                stream: i32::from(stream),
                offset,
                data: piece,
                at: Some(times::to_proto(at)),
                order,
            }));
        }
        Joint::Joined(items)
    }

    /// Gaps up to the ends of streams of a run that has ended and of which everything stored was sent.
    #[must_use]
    pub fn finish(&mut self, standing: &RunStanding, run: i32) -> Vec<Item> {
        let streams: Vec<i16> = self.positions.iter().map(|(stream, _)| *stream).collect();
        streams
            .into_iter()
            .filter_map(|stream| self.skip_to(stream, total(standing, run, stream)))
            .collect()
    }

    fn skip_to(&mut self, stream: i16, to: i64) -> Option<Item> {
        let (_, position) = self
            .positions
            .iter_mut()
            .find(|(other, offset)| *other == stream && *offset < to)?;
        let from = std::mem::replace(position, to);
        Some(Item::Gap(OutputGap {
            stream: i32::from(stream),
            from_offset: from,
            to_offset: to,
        }))
    }
}

/// Whether the run is over: nothing more will be appended to its output. Run 0, of a task that has not run, is over
/// when the task is.
#[must_use]
pub fn has_ended(standing: &RunStanding, run: i32) -> bool {
    match standing.state {
        _ if standing.latest_run > run => true,
        TaskState::Succeeded | TaskState::Failed | TaskState::Canceled => true,
        _ if standing.latest_run < run => false,
        // it backs off, or the next run is being offered; before the first run all is still to come
        TaskState::Queued => run > 0,
        TaskState::Running => false,
        // a question without a process waits for an answer that starts the next run
        TaskState::AwaitingInput => run > 0 && !standing.is_held,
        TaskState::Unspecified => false,
    }
}

/// The refusal of an offset beyond the `total` bytes of a run that [has ended](has_ended).
#[must_use]
pub fn beyond_the_end(run: i32, offset: i64, total: i64) -> Refusal {
    let problem = if run == 0 {
        "the task has ended without a run and wrote nothing".to_owned()
    } else {
        format!("the run has ended and wrote {total} bytes to the stream")
    };
    Refusal::OutOfRange {
        what: "offset",
        offset,
        problem,
    }
}

/// Whether the task is over.
#[must_use]
pub fn is_terminal(standing: &RunStanding) -> bool {
    match standing.state {
        TaskState::Succeeded | TaskState::Failed | TaskState::Canceled => true,
        TaskState::Unspecified
        | TaskState::Queued
        | TaskState::Running
        | TaskState::AwaitingInput => false,
    }
}

/// How the process of the task's latest run ended, where that is the run and it has.
#[must_use]
pub fn latest_exit(standing: &RunStanding) -> Option<Exit> {
    let at_end = standing.run_end.as_ref().and_then(|end| end.exit.clone());
    at_end.or_else(|| standing.last_exit.clone())
}

/// Bytes that the run wrote to the stream, as far as is known.
#[must_use]
pub fn total(standing: &RunStanding, run: i32, stream: i16) -> i64 {
    let stored = stored(standing, stream);
    let ended = standing
        .run_end
        .as_ref()
        .filter(|_| standing.latest_run == run);
    let reported = ended.and_then(|end| match stream {
        1 => end.stdout.as_ref(),
        _ => end.stderr.as_ref(),
    });
    reported
        .map_or(0, |ended| ended.total_bytes)
        .max(stored.total)
        .max(stored.durable_end)
}

/// What is stored of the stream.
#[must_use]
pub fn stored(standing: &RunStanding, stream: i16) -> StoredStream {
    match stream {
        1 => standing.stdout,
        _ => standing.stderr,
    }
}

/// Order of the last chunk that was read of a stream, if there may be more of it than was read.
fn last_order_if_cut(chunks: &[StoredChunk], stream: i16, max_bytes: i64) -> Option<i64> {
    let mut bytes = 0;
    let mut count = 0;
    let mut last = None;
    for chunk in chunks.iter().filter(|chunk| chunk.stream == stream) {
        bytes += i64::try_from(chunk.data.len()).unwrap_or(i64::MAX);
        count += 1;
        last = Some(chunk.order);
    }
    last.filter(|_| bytes >= max_bytes || count >= MAX_CHUNKS)
}

#[cfg(test)]
mod tests;
