//! ReadOutput as text: reads what is kept of a stream piece by piece and gives it to a view.

use super::{
    output_course,
    output_start::OutputStart,
    output_view::{Shown, View, ViewKind},
    refusal::Refusal,
    text_pattern,
};
use crate::{
    app::App,
    limits::{places::Places, turns::Scarce},
    store::{
        output_read::{self, RunStanding, StoredChunk},
        resolve::FoundTask,
    },
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use std::time::Duration;
use taskyard_core::id::TaskId;
use taskyard_proto::v1::{
    OutputGrep, OutputLines, OutputView, ReadOutputRequest, ReadOutputResponse,
};

/// Budget of a text: where nothing is said, and its limits.
const DEFAULT_BYTES: usize = 8 << 10;
const MIN_BYTES: usize = 64;
const MAX_BYTES: usize = 1 << 20;
/// Most lines around one that fits, and most lines that fit: where nothing is said, and the limit.
const MAX_CONTEXT: usize = 20;
const DEFAULT_MATCHES: usize = 100;
const MAX_MATCHES: usize = 1_000;
/// Bytes that are read, and looked at, at once.
const BYTES_PER_READ: i64 = 512 << 10;

/// Views that are made at the same time, since each may read all that is kept of a run.
static VIEWS: Places = Places::new(Scarce::OutputView);
/// Longest wait for a place among them.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is asked of a view.
pub(super) struct TextRequest {
    kind: ViewKind,
    budget: usize,
    is_numbered: bool,
    stream: i16,
    /// Where to begin, where there is no cursor.
    start: OutputStart,
    /// The run that is asked for; 0: the latest.
    run: i32,
    /// Where to go on, in the view that does.
    cursor: Option<OutputCursor>,
}

/// A place in a stream of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct OutputCursor {
    task: TaskId,
    run: i32,
    stream: i16,
    offset: i64,
}

impl TextRequest {
    /// Reads what a request says of a view of text.
    ///
    /// # Errors
    /// [`Refusal::InvalidField`], [`Refusal::BadToken`].
    pub(super) fn read(
        view: OutputView,
        request: &ReadOutputRequest,
        stream: i16,
    ) -> Result<Self, Refusal> {
        let budget = match usize::try_from(request.max_bytes) {
            Ok(0) => DEFAULT_BYTES,
            Ok(bytes) if (MIN_BYTES..=MAX_BYTES).contains(&bytes) => bytes,
            Ok(_) | Err(_) => {
                let problem = format!(
                    "must be {MIN_BYTES} to {MAX_BYTES} in views of text, or 0 for {DEFAULT_BYTES}"
                );
                return Err(Refusal::invalid("max_bytes", problem));
            }
        };
        let kind = match (view, &request.grep) {
            (OutputView::Grep, Some(grep)) => read_grep(grep)?,
            (OutputView::Grep, None) => {
                let problem = "is required with OUTPUT_VIEW_GREP";
                return Err(Refusal::invalid("grep", problem));
            }
            (_, Some(_)) => {
                let problem = "is for OUTPUT_VIEW_GREP only";
                return Err(Refusal::invalid("grep", problem));
            }
            (OutputView::Lines, None) => read_lines(request.lines.as_ref())?,
            (OutputView::Errors, None) => ViewKind::Errors,
            (OutputView::Tests, None) => ViewKind::Tests,
            (
                OutputView::Unspecified
                | OutputView::Raw
                | OutputView::Tail
                | OutputView::SinceLast
                | OutputView::Records,
                None,
            ) => ViewKind::Tail,
        };
        let cursor = match request.cursor.as_str() {
            "" => None,
            _ if view != OutputView::SinceLast => {
                let problem = "is for OUTPUT_VIEW_SINCE_LAST and OUTPUT_VIEW_RECORDS only";
                return Err(Refusal::invalid("cursor", problem));
            }
            _ if request.since.is_some() => {
                let problem = "goes on at its own place; leave `since` out with it";
                return Err(Refusal::invalid("cursor", problem));
            }
            text => Some(OutputCursor::decode(text)?),
        };
        Ok(Self {
            kind,
            budget,
            is_numbered: request.numbered,
            stream,
            start: OutputStart::read(request.since.as_ref(), 0)?,
            run: request.run,
            cursor,
        })
    }
}

/// Shows a run's stream as text.
///
/// # Errors
/// [`Refusal::BadToken`] for a cursor of another task, stream or run, [`Refusal::ShuttingDown`], [`Refusal::Store`].
pub(super) async fn view_output(
    app: &App,
    task: FoundTask,
    run: i32,
    standing: &RunStanding,
    request: TextRequest,
) -> Result<ReadOutputResponse, Refusal> {
    let stream = request.stream;
    let from = match request.cursor {
        None => {
            let begin = [(stream, 0)];
            let start = request
                .start
                .places(app, task.id, run, standing, &begin)
                .await?;
            start.first().map_or(0, |(_, offset)| *offset)
        }
        Some(cursor) => cursor.place_in(task.id, stream, run, request.run != 0)?,
    };
    let stored = output_course::stored(standing, stream);
    let total = output_course::total(standing, run, stream);
    let has_ended = output_course::has_ended(standing, run);
    let mut view = View::new(request.kind, request.budget);
    if request.is_numbered {
        view = view.numbered();
    }
    let mut next = from;
    let _place = VIEWS.take(PATIENCE).await?;
    while next < stored.durable_end && !view.is_done() {
        let chunks = output_read::read_chunks(
            app.store.pool(),
            task.id,
            run,
            &[(stream, next)],
            BYTES_PER_READ.min(stored.durable_end - next),
        )
        .await?;
        if chunks.is_empty() {
            break;
        }
        (view, next) = look(view, next, chunks).await?;
    }
    let end = if has_ended { total } else { stored.durable_end };
    let is_done = view.is_done();
    if next < end && !is_done {
        view.skip(u64::try_from(end - next).unwrap_or(0));
    }
    let shown = view.finish(has_ended && (!is_done || next >= end));
    Ok(answer(task.id, run, stream, from, total, has_ended, shown))
}

fn answer(
    task: TaskId,
    run: i32,
    stream: i16,
    from: i64,
    total: i64,
    has_ended: bool,
    shown: Shown,
) -> ReadOutputResponse {
    let signed = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let next_offset = from.saturating_add(signed(shown.looked_at));
    let cursor = OutputCursor {
        task,
        run,
        stream,
        offset: next_offset,
    };
    ReadOutputResponse {
        run,
        offset: from,
        next_offset,
        total_bytes: total,
        end_of_stream: has_ended && next_offset >= total,
        text: shown.text,
        cursor: cursor.encode(),
        omitted_bytes: signed(shown.omitted_bytes),
        omitted_lines: signed(shown.omitted_lines),
        unavailable_bytes: signed(shown.unavailable_bytes),
        matched_lines: signed(shown.matched_lines),
        next_line: signed(shown.next_line.unwrap_or(0)),
        kept_lines: shown.kept_lines.map(signed),
        last_exact_line: shown.last_exact_line.map(signed),
        ..ReadOutputResponse::default()
    }
}

/// Gives chunks to the view, on a thread that may be busy for a while, and says where to read on.
async fn look(
    mut view: View,
    mut next: i64,
    chunks: Vec<StoredChunk>,
) -> Result<(View, i64), Refusal> {
    let looked = tokio::task::spawn_blocking(move || {
        for chunk in chunks {
            if let Ok(missing @ 1..) = u64::try_from(chunk.start - next) {
                view.skip(missing);
                next = chunk.start;
            }
            let seen = usize::try_from(next - chunk.start).unwrap_or(0);
            let new = &chunk.data[seen.min(chunk.data.len())..];
            view.feed(new);
            next += i64::try_from(new.len()).unwrap_or(0);
        }
        (view, next)
    });
    match looked.await {
        Ok(looked) => Ok(looked),
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        // Only a runtime that ends gives up such work.
        Err(_) => Err(Refusal::ShuttingDown),
    }
}

fn read_grep(grep: &OutputGrep) -> Result<ViewKind, Refusal> {
    let lines = |field: &str, asked: i32| {
        usize::try_from(asked)
            .ok()
            .filter(|lines| *lines <= MAX_CONTEXT)
            .ok_or_else(|| Refusal::invalid(field, format!("must be 0 to {MAX_CONTEXT}")))
    };
    let most = match usize::try_from(grep.max_matches) {
        Ok(0) => DEFAULT_MATCHES,
        Ok(most) if most <= MAX_MATCHES => most,
        Ok(_) | Err(_) => {
            let problem = format!("must be 1 to {MAX_MATCHES}, or 0 for {DEFAULT_MATCHES}");
            return Err(Refusal::invalid("grep.max_matches", problem));
        }
    };
    Ok(ViewKind::Grep {
        pattern: text_pattern::compile("grep.pattern", grep.pattern.as_ref())?,
        before: lines("grep.before", grep.before)?,
        after: lines("grep.after", grep.after)?,
        most,
    })
}

fn read_lines(lines: Option<&OutputLines>) -> Result<ViewKind, Refusal> {
    let Some(lines) = lines else {
        let problem = "is required with OUTPUT_VIEW_LINES";
        return Err(Refusal::invalid("lines", problem));
    };
    let first = u64::try_from(lines.first)
        .ok()
        .filter(|first| *first >= 1)
        .ok_or_else(|| Refusal::invalid("lines.first", "must be 1 or more"))?;
    let last = match u64::try_from(lines.last) {
        Ok(0) => u64::MAX,
        Ok(last) if last >= first => last,
        Ok(_) | Err(_) => {
            let problem = "must not be before `lines.first`; 0 means the last line there is";
            return Err(Refusal::invalid("lines.last", problem));
        }
    };
    Ok(ViewKind::Lines { first, last })
}

impl OutputCursor {
    const FORMAT: u8 = 1;
    const BYTES: usize = 1 + 16 + 4 + 1 + 8;

    fn encode(&self) -> String {
        let mut bytes = Vec::with_capacity(Self::BYTES);
        bytes.push(Self::FORMAT);
        bytes.extend_from_slice(&self.task.0.to_be_bytes());
        bytes.extend_from_slice(&self.run.to_be_bytes());
        bytes.push(u8::try_from(self.stream).unwrap_or(0));
        bytes.extend_from_slice(&self.offset.to_be_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    fn decode(text: &str) -> Result<Self, Refusal> {
        let bad = || Refusal::BadToken {
            field: "cursor",
            problem: "no server made this cursor; send the `cursor` of an earlier answer, or none",
        };
        // Longer texts are not worth decoding.
        if text.len() > 2 * Self::BYTES {
            return Err(bad());
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| bad())?;
        let (&format, rest) = bytes.split_first().ok_or_else(bad)?;
        let (task, rest) = rest.split_first_chunk::<16>().ok_or_else(bad)?;
        let (run, rest) = rest.split_first_chunk::<4>().ok_or_else(bad)?;
        let (&stream, rest) = rest.split_first().ok_or_else(bad)?;
        let offset = <[u8; 8]>::try_from(rest).map_err(|_| bad())?;
        let cursor = Self {
            task: TaskId(u128::from_be_bytes(*task)),
            run: i32::from_be_bytes(*run),
            stream: i16::from(stream),
            offset: i64::from_be_bytes(offset),
        };
        if format != Self::FORMAT || cursor.run < 0 || cursor.offset < 0 {
            return Err(bad());
        }
        Ok(cursor)
    }

    /// Where it stands in this run: at the beginning, if it is of an earlier one and that is not asked for.
    fn place_in(
        &self,
        task: TaskId,
        stream: i16,
        run: i32,
        is_run_asked_for: bool,
    ) -> Result<i64, Refusal> {
        let is_of_it = self.task == task && self.stream == stream && self.run <= run;
        if !is_of_it || (is_run_asked_for && self.run != run) {
            return Err(Refusal::BadToken {
                field: "cursor",
                problem: "the cursor is of another task, run or stream; send the one that came from this one, or none",
            });
        }
        Ok(if self.run == run { self.offset } else { 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CURSOR: OutputCursor = OutputCursor {
        task: TaskId(7),
        run: 2,
        stream: 1,
        offset: 42,
    };

    #[test]
    fn a_cursor_comes_back_as_it_went_and_others_are_refused() {
        let text = CURSOR.encode();
        assert_eq!(OutputCursor::decode(&text).ok(), Some(CURSOR));
        let negative = OutputCursor {
            offset: -1,
            ..CURSOR
        };
        let long = "A".repeat(100);
        for other in [
            "x",
            "%%",
            &text[1..],
            &format!("{text}AAAA"),
            &negative.encode(),
            &long,
        ] {
            assert!(OutputCursor::decode(other).is_err(), "{other:?}");
        }
    }

    #[test]
    fn a_newer_run_is_read_from_its_start_and_anything_else_is_refused() {
        let place =
            |task, stream, run, is_asked| CURSOR.place_in(TaskId(task), stream, run, is_asked).ok();
        assert_eq!(place(7, 1, 2, false), Some(42));
        assert_eq!(place(7, 1, 2, true), Some(42));
        assert_eq!(place(7, 1, 3, false), Some(0));
        assert_eq!(place(7, 1, 3, true), None);
        assert_eq!(place(7, 1, 1, true), None);
        assert_eq!(place(7, 2, 2, false), None);
        assert_eq!(place(8, 1, 2, false), None);
    }
}
