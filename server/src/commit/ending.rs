//! What is kept of a run's end: the error, the summary, the streams.

use super::intent::{FinishContent, StreamFacts};
use crate::store::{
    Connection, StoreError,
    batch::{self, StreamRow},
    task_row::{EndRow, StoredError, TaskRow},
    times,
};
use bytes::Bytes;
use std::{collections::HashMap, time::Duration};
use taskyard_core::{
    Timestamp,
    id::TaskId,
    output::Stored,
    task::{
        ErrorKind, Failure, RunFacts, TerminalState,
        summary::{Ending, MAX_SUMMARY_BYTES, clip, summarize},
    },
};
use taskyard_proto::{
    storage::v1::{EndedStream, RunEnd},
    v1::Capture,
};

/// What is stored of the streams that a batch asks about, by task, run and stream.
#[derive(Default)]
pub(super) struct Streams(HashMap<(TaskId, i32, i16), StreamRow>);

/// The streams of a run, in the order of [`FinishContent::streams`], as they are numbered in the store.
const STREAMS: [i16; 2] = [1, 2];

impl Streams {
    pub(super) fn new(rows: Vec<StreamRow>) -> Self {
        Self(
            rows.into_iter()
                .map(|row| ((row.task, row.run, row.stream), row))
                .collect(),
        )
    }

    /// Whether every byte that is to be kept of the run's output is stored.
    pub(super) fn cover(&self, row: &TaskRow, content: &FinishContent) -> bool {
        STREAMS.iter().zip(&content.streams).all(|(stream, facts)| {
            let stored = self
                .get(row, *stream)
                .map_or(Stored::NONE, |found| found.stored);
            facts.total == 0 || stored.covers(row.retention, facts.total)
        })
    }

    fn get(&self, row: &TaskRow, stream: i16) -> Option<&StreamRow> {
        let run = i32::try_from(row.task.run).ok()?;
        self.0.get(&(row.task.id, run, stream))
    }
}

/// Fills in what an ended task's row holds. `content` is the finish report, if one ended it.
pub(super) async fn end(
    db: &mut Connection,
    row: &mut TaskRow,
    verdict: (TerminalState, Option<Failure>),
    content: Option<(&FinishContent, &RunFacts)>,
    streams: &Streams,
    now: Timestamp,
) -> Result<(), StoreError> {
    let (state, failure) = verdict;
    let mut run_end = RunEnd::default();
    if row.task.run > 0 {
        let [stdout, stderr] = STREAMS;
        let facts = content.map(|(content, _)| content);
        run_end.stdout = Some(
            end_stream(
                db,
                row,
                stdout,
                facts.map(|facts| &facts.streams[0]),
                streams,
            )
            .await?,
        );
        run_end.stderr = Some(
            end_stream(
                db,
                row,
                stderr,
                facts.map(|facts| &facts.streams[1]),
                streams,
            )
            .await?,
        );
    }
    if let Some((content, _)) = content {
        run_end.exit = content.exit.clone();
        run_end.duration_ms = content.duration_ms;
        run_end.output_json = content.output_json.clone();
        run_end.output_in_file = content.output_in_file;
        run_end.usage = content.usage.clone();
        run_end.isolation = content.isolation.clone();
    } else {
        // what is known of an earlier run is not this one's
        run_end.exit = None;
    }
    row.body.error = failure.map(|failure| stored_error(failure, content));
    if let Some((content, _)) = content
        && !content.summary.is_empty()
    {
        row.body.summary = clip(&content.summary, MAX_SUMMARY_BYTES);
    }
    if row.body.summary.is_empty() {
        let tail = |stream: &Option<EndedStream>| {
            stream
                .as_ref()
                .map(|stream| stream.tail.clone())
                .unwrap_or_default()
        };
        row.body.summary = summarize(&Ending {
            state,
            failure,
            message: row
                .body
                .error
                .as_ref()
                .filter(|error| !matches!(error.kind, ErrorKind::Exit | ErrorKind::Signal))
                .map(|error| error.message.as_str()),
            facts: content.map(|(_, facts)| facts),
            duration: run_end
                .duration_ms
                .map(|duration| Duration::from_millis(duration.cast_unsigned())),
            stdout_tail: &tail(&run_end.stdout),
            stderr_tail: &tail(&run_end.stderr),
        });
    }
    row.body.state_detail.clear();
    row.body.question = None;
    row.end = Some(EndRow {
        finished_at: times::to_database(now),
        run_end,
    });
    Ok(())
}

/// The error of a failed run.
pub(super) fn stored_error(
    failure: Failure,
    content: Option<(&FinishContent, &RunFacts)>,
) -> StoredError {
    let reported = content.map_or("", |(content, _)| content.error_message.as_str());
    let signal = content
        .and_then(|(content, _)| content.exit.as_ref())
        .map(|exit| format!("{} ({})", exit.signal_name, exit.signal.unwrap_or(0)));
    let code = content.and_then(|(_, facts)| facts.exit_code);
    let message = match failure.kind {
        ErrorKind::Exit => match code {
            Some(code) => format!("the process exited with code {code}"),
            None => "the process exited with a code that is no success".to_owned(),
        },
        ErrorKind::Signal => format!(
            "the process was ended by {}",
            signal.unwrap_or_else(|| "a signal".to_owned())
        ),
        ErrorKind::Timeout => "the run took longer than its timeout and was ended".to_owned(),
        ErrorKind::StartFailed
        | ErrorKind::IsolationUnavailable
        | ErrorKind::BadOutput
        | ErrorKind::WorkerError
        | ErrorKind::SchemaMismatch
            if !reported.is_empty() =>
        {
            reported.to_owned()
        }
        ErrorKind::StartFailed => "the process could not be started".to_owned(),
        ErrorKind::IsolationUnavailable => {
            "the worker cannot give the isolation that the task asks for".to_owned()
        }
        ErrorKind::OomKilled => {
            "the run used more memory than it may, and the kernel killed it".to_owned()
        }
        ErrorKind::BadOutput => "the structured result is no valid JSON".to_owned(),
        ErrorKind::WorkerError => "the worker could not do its part".to_owned(),
        ErrorKind::Orphaned => "the worker was lost and no run is left".to_owned(),
        ErrorKind::OutcomeUnknown => {
            "the worker was lost; whether the work was done is not known".to_owned()
        }
        ErrorKind::StartDeadlineExceeded => "no run had started by the start deadline".to_owned(),
        ErrorKind::QuestionExpired => "the question was not answered in time".to_owned(),
        ErrorKind::NoResult => "the run gave no structured result".to_owned(),
        ErrorKind::SchemaMismatch => {
            "the structured result does not satisfy the result schema".to_owned()
        }
    };
    // what the worker says of its own finding does not explain another one
    let reason = content
        .filter(|(_, facts)| {
            facts
                .error
                .as_ref()
                .is_some_and(|error| error.kind == failure.kind)
        })
        .map_or_else(String::new, |(content, _)| content.error_reason.clone());
    StoredError {
        kind: failure.kind,
        message,
        retryable: failure.retryable,
        reason,
    }
}

/// Why a run that lost its worker is followed by another.
pub(super) fn worker_lost() -> StoredError {
    StoredError {
        kind: ErrorKind::WorkerError,
        message: "the worker was lost while the task ran".to_owned(),
        retryable: true,
        reason: String::new(),
    }
}

/// What is stored of one stream of the ended run; what lies between its kept head and tail is deleted.
async fn end_stream(
    db: &mut Connection,
    row: &TaskRow,
    stream: i16,
    facts: Option<&StreamFacts>,
    streams: &Streams,
) -> Result<EndedStream, StoreError> {
    let stored = streams
        .get(row, stream)
        .map_or(Stored::NONE, |found| found.stored);
    let is_whole =
        facts.is_some_and(|facts| facts.total == 0 || stored.covers(row.retention, facts.total));
    let total = facts.map_or(stored.durable_end, |facts| facts.total);
    let is_truncated =
        stored.contiguous_from > 0 || total > row.retention.head + row.retention.tail;
    let stored_bytes = if is_truncated {
        let tail_start = row.retention.tail_start(stored.durable_end);
        batch::trim_stream(
            db,
            row.task.id,
            row.task.run,
            stream,
            row.retention.head,
            tail_start,
        )
        .await?
    } else {
        stored.durable_end.min(total).cast_signed()
    };
    Ok(EndedStream {
        total_bytes: total.cast_signed(),
        stored_bytes,
        capture: match facts {
            Some(facts) if is_whole => facts.capture.into(),
            Some(_) | None => Capture::Incomplete.into(),
        },
        tail: facts.map_or_else(Bytes::new, |facts| Bytes::copy_from_slice(&facts.tail)),
    })
}
