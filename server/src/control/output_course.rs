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
                return Err(Refusal::OutOfRange {
                    what: "offset",
                    offset: *offset,
                    problem: format!("the run has ended and wrote {total} bytes to the stream"),
                });
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

/// Whether the run is over: nothing more will be appended to its output.
#[must_use]
pub fn has_ended(standing: &RunStanding, run: i32) -> bool {
    match standing.state {
        _ if standing.latest_run > run => true,
        TaskState::Succeeded | TaskState::Failed | TaskState::Canceled => true,
        _ if standing.latest_run < run => false,
        // it backs off, or the next run is being offered
        TaskState::Queued => true,
        TaskState::Running => false,
        // a question without a process waits for an answer that starts the next run
        TaskState::AwaitingInput => !standing.is_held,
        TaskState::Unspecified => false,
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
mod tests {
    use super::*;
    use taskyard_proto::storage::v1::{EndedStream, RunEnd};

    fn both() -> OutputCourse {
        OutputCourse {
            positions: vec![(1, 0), (2, 0)],
        }
    }

    fn chunk(stream: i16, start: i64, data: &'static [u8], order: i64) -> StoredChunk {
        StoredChunk {
            stream,
            start,
            data: Bytes::from_static(data),
            at: DateTime::UNIX_EPOCH,
            order,
        }
    }

    fn standing(state: TaskState, latest_run: i32, durable: (i64, i64)) -> RunStanding {
        let stream = |durable_end| StoredStream {
            durable_end,
            contiguous_from: 0,
            total: durable_end,
        };
        RunStanding {
            state,
            latest_run,
            is_held: false,
            run_end: None,
            last_exit: None,
            stdout: stream(durable.0),
            stderr: stream(durable.1),
        }
    }

    fn show(items: &[Item]) -> Vec<String> {
        items
            .iter()
            .map(|item| match item {
                Item::Chunk(chunk) => format!(
                    "{}@{}:{}",
                    chunk.stream,
                    chunk.offset,
                    String::from_utf8_lossy(&chunk.data)
                ),
                Item::Gap(gap) => format!("{}@{}..{}", gap.stream, gap.from_offset, gap.to_offset),
                Item::RunStarted(_) | Item::End(_) | Item::Keepalive(_) => "other".to_owned(),
            })
            .collect()
    }

    #[test]
    fn chunks_of_both_streams_come_in_their_order_and_from_the_asked_byte_on() {
        let mut course = OutputCourse {
            positions: vec![(1, 2), (2, 0)],
        };
        let standing = standing(TaskState::Running, 1, (6, 3));
        let behind = course.behind(&standing);
        let chunks = vec![
            chunk(1, 0, b"abc", 1),
            chunk(2, 0, b"xyz", 2),
            chunk(1, 3, b"def", 3),
        ];
        let items = course.take_stored(chunks, &behind, &standing, 100);
        assert_eq!(show(&items), ["1@2:c", "2@0:xyz", "1@3:def"]);
        assert_eq!(course.positions, [(1, 6), (2, 3)]);
        assert_eq!(course.behind(&standing), []);
    }

    #[test]
    fn a_stream_that_was_cut_holds_the_other_back() {
        let mut course = both();
        let standing = standing(TaskState::Running, 1, (6, 3));
        let behind = course.behind(&standing);
        let chunks = vec![chunk(1, 0, b"abc", 1), chunk(2, 0, b"xyz", 9)];
        let items = course.take_stored(chunks, &behind, &standing, 3);
        assert_eq!(show(&items), ["1@0:abc"]);
        assert_eq!(course.behind(&standing), [(1, 3), (2, 0)]);
    }

    #[test]
    fn missing_bytes_are_gaps_between_and_at_the_end() {
        let mut course = both();
        let mut standing = standing(TaskState::Failed, 1, (10, 4));
        standing.run_end = Some(RunEnd {
            stdout: Some(EndedStream {
                total_bytes: 12,
                ..EndedStream::default()
            }),
            ..RunEnd::default()
        });
        let behind = course.behind(&standing);
        let items = course.take_stored(vec![chunk(1, 7, b"xyz", 1)], &behind, &standing, 100);
        assert_eq!(show(&items), ["2@0..4", "1@0..7", "1@7:xyz"]);
        assert_eq!(show(&course.finish(&standing, 1)), ["1@10..12"]);
        assert_eq!(course.positions, [(1, 12), (2, 4)]);
    }

    #[test]
    fn live_bytes_join_only_where_they_touch() {
        let mut course = both();
        let mut take = |start, data: &'static [u8]| {
            course.take(1, start, &Bytes::from_static(data), DateTime::UNIX_EPOCH, 1)
        };
        assert_eq!(take(1, b"b"), Joint::Apart);
        assert!(matches!(take(0, b"ab"), Joint::Joined(items) if show(&items) == ["1@0:ab"]));
        assert!(matches!(take(0, b"ab"), Joint::Joined(items) if items.is_empty()));
        assert!(matches!(take(1, b"bc"), Joint::Joined(items) if show(&items) == ["1@2:c"]));
    }

    #[test]
    fn large_chunks_are_cut_to_the_size_of_an_item() {
        let mut course = both();
        let data = Bytes::from(vec![b'x'; MAX_ITEM_BYTES + 1]);
        let Joint::Joined(items) = course.take(2, 0, &data, DateTime::UNIX_EPOCH, 1) else {
            panic!("the bytes touch the beginning")
        };
        assert_eq!(items.len(), 2);
        assert_eq!(
            course.positions[1].1,
            i64::try_from(data.len()).unwrap_or(0)
        );
    }

    #[test]
    fn a_run_has_ended_when_nothing_can_append_to_it() {
        for (state, latest_run, ended) in [
            (TaskState::Queued, 0, false),
            (TaskState::Queued, 1, true),
            (TaskState::Running, 1, false),
            (TaskState::Running, 2, true),
            (TaskState::AwaitingInput, 1, true),
            (TaskState::Failed, 1, true),
            (TaskState::Canceled, 0, true),
        ] {
            assert_eq!(
                has_ended(&standing(state, latest_run, (0, 0)), 1),
                ended,
                "{state:?} {latest_run}"
            );
        }
        let attended = RunStanding {
            is_held: true,
            ..standing(TaskState::AwaitingInput, 1, (0, 0))
        };
        assert!(!has_ended(&attended, 1));
    }

    #[test]
    fn positions_of_a_request_are_checked() {
        let position = |stream, offset| OutputPosition { stream, offset };
        assert_eq!(OutputCourse::from_request(&[]).ok(), Some(both()));
        for positions in [
            vec![position(0, 0)],
            vec![position(3, 0)],
            vec![position(1, -1)],
            vec![position(1, 0), position(1, 5)],
        ] {
            assert!(
                OutputCourse::from_request(&positions).is_err(),
                "{positions:?}"
            );
        }
        let ended = standing(TaskState::Failed, 1, (5, 0));
        let course = OutputCourse::from_request(&[position(1, 6)]);
        assert!(matches!(
            course.map(|course| course.check_within(&ended, 1)),
            Ok(Err(Refusal::OutOfRange { .. }))
        ));
    }
}
