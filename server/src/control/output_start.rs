//! Where a reader begins who asks for what is new since some time, or for the last lines.

use super::{output_course, output_view::LineStarts, refusal::Refusal, wire_time::time_field};
use crate::{
    app::App,
    limits::{places::Places, turns::Scarce},
    store::{
        StoreError,
        output_read::{self, RunStanding},
    },
};
use chrono::{DateTime, Utc};
use prost_types::Timestamp;
use std::time::Duration;
use taskyard_core::id::TaskId;

/// Most lines that can be asked for.
const MAX_LINES: usize = 100_000;
/// Bytes that are read at once in the search for them.
const BYTES_PER_READ: i64 = 512 << 10;

/// Searches for lines at the same time, since each may read all that is kept of a run.
static SEARCHES: Places = Places::new(Scarce::OutputSearch);
/// Longest wait for a place among them.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is asked of the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct OutputStart {
    since: Option<DateTime<Utc>>,
    /// 0: all.
    last_lines: usize,
}

impl OutputStart {
    /// Reads what a request says.
    ///
    /// # Errors
    /// [`Refusal::InvalidField`].
    pub(super) fn read(since: Option<&Timestamp>, last_lines: i32) -> Result<Self, Refusal> {
        let last_lines = usize::try_from(last_lines)
            .ok()
            .filter(|lines| *lines <= MAX_LINES)
            .ok_or_else(|| Refusal::invalid("last_lines", format!("must be 0 to {MAX_LINES}")))?;
        Ok(Self {
            since: time_field("since", since)?,
            last_lines,
        })
    }

    /// Whether it asks for anything.
    pub(super) fn is_everything(&self) -> bool {
        *self == Self::default()
    }

    /// Where each of these streams begins, at its own place or behind it.
    ///
    /// # Errors
    /// Any [`StoreError`].
    pub(super) async fn places(
        &self,
        app: &App,
        task: TaskId,
        run: i32,
        standing: &RunStanding,
        from: &[(i16, i64)],
    ) -> Result<Vec<(i16, i64)>, StoreError> {
        let mut places = from.to_vec();
        if let Some(since) = self.since {
            for (stream, offset) in &mut places {
                let start =
                    output_read::captured_since(app.store.pool(), task, run, *stream, since)
                        .await?;
                let end = output_course::stored(standing, *stream).durable_end;
                *offset = (*offset).max(start.unwrap_or(end));
            }
        }
        if self.last_lines > 0 {
            let _place = SEARCHES.take(PATIENCE).await?;
            let mut streams = Vec::with_capacity(places.len());
            for (stream, offset) in &places {
                let end = output_course::stored(standing, *stream).durable_end;
                let starts = self
                    .line_starts(app, task, run, *stream, *offset, end)
                    .await?;
                streams.push((*stream, starts));
            }
            let last = LineStarts::last_of_all(self.last_lines, &streams);
            for (stream, offset) in &mut places {
                let own = last.iter().find(|(of, _)| of == stream);
                let end = output_course::stored(standing, *stream).durable_end;
                *offset = (*offset).max(own.map_or(end, |(_, start)| *start));
            }
        }
        Ok(places)
    }

    /// The last lines of one stream between two offsets, last one first.
    async fn line_starts(
        &self,
        app: &App,
        task: TaskId,
        run: i32,
        stream: i16,
        from: i64,
        mut end: i64,
    ) -> Result<Vec<(i64, i64)>, StoreError> {
        let mut lines = LineStarts::new(self.last_lines);
        while end > from && !lines.is_done() {
            let chunks =
                output_read::read_back(app.store.pool(), task, run, stream, end, BYTES_PER_READ)
                    .await?;
            if chunks.is_empty() {
                break;
            }
            for chunk in chunks {
                // What is stored between two reads is not looked at, nor what is before the place.
                let known = usize::try_from(end - chunk.start).unwrap_or(0);
                let data = &chunk.data[..known.min(chunk.data.len())];
                let early = usize::try_from(from - chunk.start).unwrap_or(0);
                let data = &data[early.min(data.len())..];
                lines.take(chunk.order, chunk.start.max(from), data);
                end = chunk.start;
            }
        }
        Ok(lines.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_that_cannot_be_is_refused() {
        assert!(OutputStart::read(None, 0).is_ok_and(|start| start.is_everything()));
        assert!(OutputStart::read(None, 100_000).is_ok_and(|start| !start.is_everything()));
        for lines in [-1, 100_001] {
            assert!(OutputStart::read(None, lines).is_err(), "{lines}");
        }
        let bad = Timestamp {
            seconds: i64::MAX,
            nanos: 0,
        };
        assert!(OutputStart::read(Some(&bad), 0).is_err());
    }
}
