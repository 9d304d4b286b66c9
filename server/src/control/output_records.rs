//! ReadOutput as records: chunks of both streams in the order of capture, each with its place and time, page after page.

use super::{
    output_course::{self, OutputCourse},
    output_start::OutputStart,
    refusal::{Refusal, Resource},
    tail_output::read_standing,
};
use crate::{
    app::App,
    store::{
        output_read::{self, RunStanding},
        resolve::FoundTask,
    },
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use taskyard_core::id::TaskId;
use taskyard_proto::v1::{
    OutputChunk, OutputGap, OutputRecord, OutputStream, ReadOutputRequest, ReadOutputResponse,
    output_record::Record, tail_output_response::Item,
};

/// Budget of a page: where nothing is said, and its limits.
const DEFAULT_BYTES: usize = 64 << 10;
const MIN_BYTES: usize = 64;
const MAX_BYTES: usize = 1 << 20;
/// What a record counts as beside its data: room for stream, offset, time and order.
const RECORD_BYTES: usize = 48;

/// What is asked of a page.
pub(super) struct RecordsRequest {
    streams: Vec<i16>,
    budget: usize,
    start: OutputStart,
    cursor: Option<RecordsCursor>,
}

/// A place in both streams of a run, or in one.
#[derive(Clone, Debug, PartialEq, Eq)]
struct RecordsCursor {
    task: TaskId,
    run: i32,
    /// Stream and offset.
    places: Vec<(i16, i64)>,
}

impl RecordsRequest {
    /// Reads what a request says of a page.
    ///
    /// # Errors
    /// [`Refusal::InvalidField`], [`Refusal::BadToken`].
    pub(super) fn read(request: &ReadOutputRequest) -> Result<Self, Refusal> {
        let streams = match OutputStream::try_from(request.stream) {
            Ok(OutputStream::Unspecified) => vec![1, 2],
            Ok(OutputStream::Stdout) => vec![1],
            Ok(OutputStream::Stderr) => vec![2],
            Err(_) => {
                let problem = "must be OUTPUT_STREAM_STDOUT, OUTPUT_STREAM_STDERR or unspecified";
                return Err(Refusal::invalid("stream", problem));
            }
        };
        let budget = match usize::try_from(request.max_bytes) {
            Ok(0) => DEFAULT_BYTES,
            Ok(bytes) if (MIN_BYTES..=MAX_BYTES).contains(&bytes) => bytes,
            Ok(_) | Err(_) => {
                let problem = format!(
                    "must be {MIN_BYTES} to {MAX_BYTES} with OUTPUT_VIEW_RECORDS, or 0 for {DEFAULT_BYTES}"
                );
                return Err(Refusal::invalid("max_bytes", problem));
            }
        };
        let start = OutputStart::read(request.since.as_ref(), request.last_lines)?;
        let cursor = match request.cursor.as_str() {
            "" => None,
            _ if !start.is_everything() => {
                let problem =
                    "goes on at its own place; leave `since` and `last_lines` out with it";
                return Err(Refusal::invalid("cursor", problem));
            }
            text => Some(RecordsCursor::decode(text)?),
        };
        Ok(Self {
            streams,
            budget,
            start,
            cursor,
        })
    }
}

/// Gives a page of records.
///
/// # Errors
/// [`Refusal::BadToken`] for a cursor of another task, stream or run, [`Refusal::NotFound`] for a run that has not begun or
/// a task that is gone, [`Refusal::Store`].
pub(super) async fn read_records(
    app: &App,
    task: FoundTask,
    asked_run: i32,
    request: RecordsRequest,
) -> Result<ReadOutputResponse, Refusal> {
    let cursor = match request.cursor {
        Some(cursor) => Some(cursor.check(task.id, asked_run, &request.streams)?),
        None => None,
    };
    let asked_run = cursor.as_ref().map_or(asked_run, |cursor| cursor.run);
    let mut standing = read_standing(app, task, asked_run).await?;
    let run = match asked_run {
        0 => standing.latest_run,
        run if run <= standing.latest_run => run,
        run => {
            return Err(Refusal::NotFound {
                resource: Resource::Run,
                name: run.to_string(),
            });
        }
    };
    if run != asked_run {
        standing = read_standing(app, task, run).await?;
    }
    let places = match cursor {
        Some(cursor) => cursor.places,
        None => {
            let begin: Vec<_> = request.streams.iter().map(|stream| (*stream, 0)).collect();
            request
                .start
                .places(app, task.id, run, &standing, &begin)
                .await?
        }
    };
    let mut page = Page {
        places,
        room: request.budget,
        records: Vec::new(),
    };
    page.fill(app, task.id, run, &standing).await?;
    Ok(page.answer(task.id, run, &standing))
}

/// A page in the making.
struct Page {
    /// Up to where it holds each stream.
    places: Vec<(i16, i64)>,
    room: usize,
    records: Vec<OutputRecord>,
}

impl Page {
    async fn fill(
        &mut self,
        app: &App,
        task: TaskId,
        run: i32,
        standing: &RunStanding,
    ) -> Result<(), Refusal> {
        loop {
            let mut course = OutputCourse::at(self.places.clone());
            let behind = course.behind(standing);
            if behind.is_empty() {
                if output_course::has_ended(standing, run) {
                    self.take_all(course.finish(standing, run));
                }
                return Ok(());
            }
            let max_bytes = i64::try_from(self.room).unwrap_or(i64::MAX).max(1);
            let chunks =
                output_read::read_chunks(app.store.pool(), task, run, &behind, max_bytes).await?;
            if !self.take_all(course.take_stored(chunks, &behind, standing, max_bytes)) {
                return Ok(());
            }
        }
    }

    /// Takes items as far as there is room, the last one in part; whether all of them fit.
    fn take_all(&mut self, items: Vec<Item>) -> bool {
        items.into_iter().all(|item| self.take(item))
    }

    fn take(&mut self, item: Item) -> bool {
        let room = self.room.saturating_sub(RECORD_BYTES);
        let (record, length, stream, end, is_whole) = match item {
            Item::Chunk(_) if room == 0 => return false,
            Item::Chunk(chunk) => {
                let length = chunk.data.len().min(room);
                let is_whole = length == chunk.data.len();
                let (stream, offset) = (chunk.stream, chunk.offset);
                let chunk = OutputChunk {
                    data: chunk.data.slice(..length),
                    ..chunk
                };
                let end = offset + i64::try_from(length).unwrap_or(0);
                (Record::Chunk(chunk), length, stream, end, is_whole)
            }
            Item::Gap(_) if self.room < RECORD_BYTES => return false,
            Item::Gap(gap) => {
                let OutputGap {
                    stream, to_offset, ..
                } = gap;
                (Record::Gap(gap), 0, stream, to_offset, true)
            }
            // A course makes none of these.
            Item::RunStarted(_) | Item::End(_) | Item::Keepalive(_) => return true,
        };
        self.room -= RECORD_BYTES + length;
        self.records.push(OutputRecord {
            record: Some(record),
        });
        for (own, offset) in &mut self.places {
            if i32::from(*own) == stream {
                *offset = end;
            }
        }
        is_whole
    }

    fn answer(self, task: TaskId, run: i32, standing: &RunStanding) -> ReadOutputResponse {
        let total = |stream: i16| output_course::total(standing, run, stream);
        let is_at_the_end = self
            .places
            .iter()
            .all(|(stream, offset)| *offset >= total(*stream));
        ReadOutputResponse {
            run,
            total_bytes: self.places.iter().map(|(stream, _)| total(*stream)).sum(),
            end_of_stream: output_course::has_ended(standing, run) && is_at_the_end,
            records: self.records,
            cursor: RecordsCursor {
                task,
                run,
                places: self.places,
            }
            .encode(),
            ..ReadOutputResponse::default()
        }
    }
}

impl RecordsCursor {
    const FORMAT: u8 = 2;
    const HEAD_BYTES: usize = 1 + 16 + 4;
    const PLACE_BYTES: usize = 1 + 8;

    fn encode(&self) -> String {
        let mut bytes = vec![Self::FORMAT];
        bytes.extend_from_slice(&self.task.0.to_be_bytes());
        bytes.extend_from_slice(&self.run.to_be_bytes());
        for (stream, offset) in &self.places {
            bytes.push(u8::try_from(*stream).unwrap_or(0));
            bytes.extend_from_slice(&offset.to_be_bytes());
        }
        URL_SAFE_NO_PAD.encode(bytes)
    }

    fn decode(text: &str) -> Result<Self, Refusal> {
        let bad = || Refusal::BadToken {
            field: "cursor",
            problem: "no server made this cursor for OUTPUT_VIEW_RECORDS; send the `cursor` of an earlier answer, or none",
        };
        // Longer texts are not worth decoding.
        if text.len() > 2 * (Self::HEAD_BYTES + 2 * Self::PLACE_BYTES) {
            return Err(bad());
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| bad())?;
        let (&format, rest) = bytes.split_first().ok_or_else(bad)?;
        let (task, rest) = rest.split_first_chunk::<16>().ok_or_else(bad)?;
        let (run, rest) = rest.split_first_chunk::<4>().ok_or_else(bad)?;
        let mut places = Vec::new();
        for place in rest.chunks(Self::PLACE_BYTES) {
            let (&stream, offset) = place.split_first().ok_or_else(bad)?;
            let offset = <[u8; 8]>::try_from(offset).map_err(|_| bad())?;
            places.push((i16::from(stream), i64::from_be_bytes(offset)));
        }
        let cursor = Self {
            task: TaskId(u128::from_be_bytes(*task)),
            run: i32::from_be_bytes(*run),
            places,
        };
        let is_sound = format == Self::FORMAT
            && cursor.run >= 0
            && cursor.places.iter().all(|(_, offset)| *offset >= 0);
        if is_sound { Ok(cursor) } else { Err(bad()) }
    }

    /// The same, if it is of this task, of the run that is asked for, and of these streams.
    fn check(self, task: TaskId, asked_run: i32, streams: &[i16]) -> Result<Self, Refusal> {
        let own: Vec<i16> = self.places.iter().map(|(stream, _)| *stream).collect();
        if self.task != task || own != streams || (asked_run != 0 && self.run != asked_run) {
            return Err(Refusal::BadToken {
                field: "cursor",
                problem: "the cursor is of another task, run or stream; send the one that came from this one, or none",
            });
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests;
