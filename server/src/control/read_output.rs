//! ReadOutput: a piece of a run's output, or a view of it as text, within a hard byte budget.

use super::{
    output_course,
    output_records::{self, RecordsRequest},
    refusal::{Refusal, Resource},
    resolve,
    tail_output::read_standing,
    view_output::{self, TextRequest},
};
use crate::{
    app::App,
    store::{
        output_read::{self, RunStanding, StoredChunk},
        resolve::FoundTask,
    },
};
use bytes::{Bytes, BytesMut};
use taskyard_proto::v1::{OutputStream, OutputView, ReadOutputRequest, ReadOutputResponse};

const DEFAULT_BYTES: usize = 64 << 10;
const MAX_BYTES: usize = 1 << 20;

/// Reads bytes from an offset on, or the last ones, or shows the stream as text.
///
/// # Errors
/// [`Refusal::InvalidField`], [`Refusal::BadToken`] for a cursor of another stream, what [`resolve::resolve`] refuses, [`Refusal::NotFound`] for a run that has not
/// begun, [`Refusal::OutOfRange`] for an offset beyond the end of a run that has ended, [`Refusal::Store`].
pub async fn read_output(
    app: &App,
    request: ReadOutputRequest,
) -> Result<ReadOutputResponse, Refusal> {
    if request.run < 0 {
        return Err(Refusal::invalid("run", "must not be negative"));
    }
    let view = OutputView::try_from(request.view)
        .map_err(|_| Refusal::invalid("view", "must be one of OutputView"))?;
    check_fields(view, &request)?;
    if view == OutputView::Records {
        let records = RecordsRequest::read(&request)?;
        let task =
            resolve::resolve(app, &request.namespace, &request.session_id, &request.task).await?;
        return output_records::read_records(app, task, request.run, records).await;
    }
    let stream: i16 = match OutputStream::try_from(request.stream) {
        Ok(OutputStream::Unspecified | OutputStream::Stdout) => 1,
        Ok(OutputStream::Stderr) => 2,
        Err(_) => {
            let problem = "must be OUTPUT_STREAM_STDOUT or OUTPUT_STREAM_STDERR";
            return Err(Refusal::invalid("stream", problem));
        }
    };
    let text = match view {
        OutputView::Unspecified | OutputView::Raw | OutputView::Records => None,
        OutputView::Tail
        | OutputView::Errors
        | OutputView::Tests
        | OutputView::Grep
        | OutputView::SinceLast
        | OutputView::Lines => Some(TextRequest::read(view, &request, stream)?),
    };
    let max_bytes = match usize::try_from(request.max_bytes) {
        Ok(0) => DEFAULT_BYTES,
        Ok(bytes) if bytes <= MAX_BYTES => bytes,
        Ok(_) | Err(_) => {
            let problem = format!("must be 1 to {MAX_BYTES}, or 0 for {DEFAULT_BYTES}");
            return Err(Refusal::invalid("max_bytes", problem));
        }
    };
    if request.offset < 0 {
        return Err(Refusal::invalid("offset", "must not be negative"));
    }
    let task =
        resolve::resolve(app, &request.namespace, &request.session_id, &request.task).await?;
    let (run, standing) = find_run(app, task, request.run).await?;
    if let Some(text) = text {
        return view_output::view_output(app, task, run, &standing, text).await;
    }
    let stored = output_course::stored(&standing, stream);
    let total = output_course::total(&standing, run, stream);
    let has_ended = output_course::has_ended(&standing, run);
    let budget = i64::try_from(max_bytes).unwrap_or(0);
    let from = if request.tail {
        (stored.durable_end - budget).max(stored.contiguous_from)
    } else {
        request.offset
    };
    if has_ended && from > total {
        return Err(output_course::beyond_the_end(run, from, total));
    }
    let chunks = if from < stored.durable_end {
        output_read::read_chunks(app.store.pool(), task.id, run, &[(stream, from)], budget).await?
    } else {
        Vec::new()
    };
    let piece = assemble(&chunks, from, max_bytes);
    // Behind the last stored byte of a run that has ended there is nothing to come.
    let (offset, next_offset, end_of_stream) = match piece {
        Some((offset, ref data)) => {
            let next = offset + i64::try_from(data.len()).unwrap_or(0);
            (
                offset,
                next,
                has_ended && next >= stored.durable_end && next >= total,
            )
        }
        None if has_ended => (total, total, true),
        None => {
            let from = from.max(stored.durable_end.min(total));
            (from, from, false)
        }
    };
    Ok(ReadOutputResponse {
        run,
        offset,
        data: piece.map(|(_, data)| data).unwrap_or_default(),
        next_offset,
        total_bytes: total,
        end_of_stream,
        ..ReadOutputResponse::default()
    })
}

/// Refuses what says nothing to the view.
fn check_fields(view: OutputView, request: &ReadOutputRequest) -> Result<(), Refusal> {
    let is_raw = matches!(view, OutputView::Unspecified | OutputView::Raw);
    let is_records = view == OutputView::Records;
    let has_cursor = is_records || view == OutputView::SinceLast;
    for (field, is_given, is_for_it, problem) in [
        (
            "cursor",
            !request.cursor.is_empty(),
            has_cursor,
            "is for OUTPUT_VIEW_SINCE_LAST and OUTPUT_VIEW_RECORDS only",
        ),
        (
            "grep",
            request.grep.is_some(),
            view == OutputView::Grep,
            "is for OUTPUT_VIEW_GREP only",
        ),
        (
            "lines",
            request.lines.is_some(),
            view == OutputView::Lines,
            "is for OUTPUT_VIEW_LINES only",
        ),
        (
            "last_lines",
            request.last_lines != 0,
            is_records,
            "is for OUTPUT_VIEW_RECORDS only; views of text end with the last lines by themselves",
        ),
        (
            "numbered",
            request.numbered,
            !is_raw && !is_records,
            "is for views of text only",
        ),
        (
            "since",
            request.since.is_some(),
            !is_raw,
            "is not for OUTPUT_VIEW_RAW; read records, or tail the output",
        ),
    ] {
        if is_given && !is_for_it {
            return Err(Refusal::invalid(field, problem));
        }
    }
    Ok(())
}

/// The run that is asked for, 0 for the latest, and how it stands.
async fn find_run(app: &App, task: FoundTask, asked: i32) -> Result<(i32, RunStanding), Refusal> {
    let standing = read_standing(app, task, asked).await?;
    let run = match asked {
        0 => standing.latest_run,
        run if run <= standing.latest_run => run,
        run => {
            return Err(Refusal::NotFound {
                resource: Resource::Run,
                name: run.to_string(),
            });
        }
    };
    if run == asked {
        return Ok((run, standing));
    }
    Ok((run, read_standing(app, task, run).await?))
}

/// The bytes from `from` on that are stored without a gap between them, at most `max_bytes`, with the offset of the
/// first; none if there are none.
fn assemble(chunks: &[StoredChunk], from: i64, max_bytes: usize) -> Option<(i64, Bytes)> {
    let first = chunks.first()?;
    let offset = from.max(first.start);
    let mut next = offset;
    let mut data = BytesMut::new();
    for chunk in chunks {
        let Ok(seen) = usize::try_from(next - chunk.start) else {
            break;
        };
        let rest = &chunk.data[seen.min(chunk.data.len())..];
        let piece = &rest[..rest.len().min(max_bytes - data.len())];
        data.extend_from_slice(piece);
        next += i64::try_from(piece.len()).unwrap_or(0);
    }
    Some((offset, data.freeze()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::DateTime;

    fn chunk(start: i64, data: &'static [u8]) -> StoredChunk {
        StoredChunk {
            stream: 1,
            start,
            data: Bytes::from_static(data),
            at: DateTime::UNIX_EPOCH,
            order: start,
        }
    }

    #[test]
    fn bytes_are_joined_up_to_the_budget_or_a_gap() {
        let chunks = [chunk(0, b"abc"), chunk(3, b"def"), chunk(9, b"xyz")];
        let read =
            |from, max| assemble(&chunks, from, max).map(|(offset, data)| (offset, data.to_vec()));
        assert_eq!(read(0, 100), Some((0, b"abcdef".to_vec())));
        assert_eq!(read(1, 3), Some((1, b"bcd".to_vec())));
        assert_eq!(
            assemble(&chunks[2..], 6, 100).map(|(offset, _)| offset),
            Some(9)
        );
        assert_eq!(assemble(&[], 6, 100), None);
    }
}
