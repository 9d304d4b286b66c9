//! `result.json`: the outcome of a task for programs, rendered from the row of its end. Every key is always there, in
//! this order, null where there is nothing; the same generation gives the same bytes.

use super::{
    files::task_folder,
    refusal::{Refusal, Resource},
};
use crate::{
    app::App,
    store::{
        StoreError,
        records::{self, TaskRecord},
        times,
    },
};
use chrono::SecondsFormat;
use serde::Serialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use taskyard_core::id::{SessionUid, TaskId};
use taskyard_proto::{
    storage::v1::{EndedStream, RunEnd},
    v1::{Capture, Exit, SessionTask, TaskState, Usage},
};

/// Number of the format; grows when a key changes its meaning, not when one is added.
const FORMAT: u32 = 1;

/// Reads a task of a session that has ended, and renders its `result.json`.
///
/// # Errors
/// [`Refusal::NotFound`] where the session has no such task or the task has not ended; [`Refusal::Store`].
pub async fn load(
    app: &App,
    session: SessionUid,
    task: TaskId,
) -> Result<(TaskRecord, String), Refusal> {
    let not_found = || Refusal::NotFound {
        resource: Resource::File,
        name: format!("{}/result.json", task_folder(task)),
    };
    let record = records::read_records(app.store.pool(), &[task])
        .await?
        .into_iter()
        .find(|record| record.session_uid == session && !record.task.result_path.is_empty())
        .ok_or_else(not_found)?;
    let text = render(&record)?;
    Ok((record, text))
}

/// The text of `result.json`, with a line feed at its end. The record must be of a task that has ended.
///
/// # Errors
/// [`StoreError::Corrupt`] where a stored piece of JSON is none.
pub fn render(record: &TaskRecord) -> Result<String, StoreError> {
    let task = &record.task;
    let nothing_ran = RunEnd::default();
    let run_end = record.run_end.as_ref().unwrap_or(&nothing_ran);
    let folder = task_folder(record.id);
    let document = ResultDocument {
        format: FORMAT,
        task_id: &task.id,
        session_id: &task.session_id,
        kind: &task.kind,
        state: state_word(task.state()),
        attempt: task.attempt,
        run: task.run,
        exit: ExitDocument::of(task.exit.as_ref()),
        duration_ms: run_end.duration_ms,
        started_at: task.started_at.map(show_time),
        finished_at: task.finished_at.map(show_time),
        output: raw_json("output", &run_end.output_json)?,
        output_path: run_end
            .output_in_file
            .then(|| format!("{folder}/output.json")),
        summary: some_text(&task.summary),
        error: task.error.as_ref().map(|error| ErrorDocument {
            kind: &error.kind,
            reason: some_text(&error.reason),
            message: &error.message,
            retryable: error.retryable,
            hint: some_text(&error.hint),
        }),
        artifacts: artifacts(task),
        usage: task.usage.as_ref().map(UsageDocument::of).transpose()?,
        isolation: some_text(&run_end.isolation),
        stdout: StreamDocument::of(run_end.stdout.as_ref(), task, &folder, "stdout.log"),
        stderr: StreamDocument::of(run_end.stderr.as_ref(), task, &folder, "stderr.log"),
    };
    let mut text = serde_json::to_string_pretty(&document)
        .map_err(|error| StoreError::corrupt("result", error))?;
    text.push('\n');
    Ok(text)
}

#[derive(Serialize)]
struct ResultDocument<'a> {
    format: u32,
    task_id: &'a str,
    session_id: &'a str,
    kind: &'a str,
    state: &'static str,
    attempt: i32,
    run: i32,
    exit: ExitDocument<'a>,
    duration_ms: Option<i64>,
    started_at: Option<String>,
    finished_at: Option<String>,
    output: Option<&'a RawValue>,
    output_path: Option<String>,
    summary: Option<&'a str>,
    error: Option<ErrorDocument<'a>>,
    artifacts: Vec<ArtifactDocument<'a>>,
    usage: Option<UsageDocument<'a>>,
    isolation: Option<&'a str>,
    stdout: StreamDocument,
    stderr: StreamDocument,
}

#[derive(Serialize)]
struct ExitDocument<'a> {
    exit_code: Option<i32>,
    signal: Option<i32>,
    signal_name: Option<&'a str>,
    timed_out: bool,
    oom_killed: bool,
}

#[derive(Serialize)]
struct ErrorDocument<'a> {
    kind: &'a str,
    reason: Option<&'a str>,
    message: &'a str,
    retryable: bool,
    hint: Option<&'a str>,
}

#[derive(Serialize)]
struct ArtifactDocument<'a> {
    name: &'a str,
    r#type: &'a str,
    path: Option<&'a str>,
    url: Option<&'a str>,
}

#[derive(Serialize)]
struct UsageDocument<'a> {
    cpu_ms: i64,
    max_rss_bytes: i64,
    /// The caller's own, by name.
    #[serde(flatten)]
    reported: BTreeMap<String, &'a RawValue>,
}

/// Counts are null where they are not known: nothing ran, or what ran was lost.
#[derive(Serialize)]
struct StreamDocument {
    path: Option<String>,
    total_bytes: Option<i64>,
    stored_bytes: Option<i64>,
    truncated: bool,
    capture: Option<&'static str>,
    tail: Option<String>,
}

impl<'a> ExitDocument<'a> {
    fn of(exit: Option<&'a Exit>) -> Self {
        Self {
            exit_code: exit.and_then(|exit| exit.exit_code),
            signal: exit.and_then(|exit| exit.signal),
            signal_name: exit.and_then(|exit| some_text(&exit.signal_name)),
            timed_out: exit.is_some_and(|exit| exit.timed_out),
            oom_killed: exit.is_some_and(|exit| exit.oom_killed),
        }
    }
}

impl<'a> UsageDocument<'a> {
    fn of(usage: &'a Usage) -> Result<Self, StoreError> {
        let mut reported: BTreeMap<String, &RawValue> = match usage.reported_json.as_str() {
            "" => BTreeMap::new(),
            json => serde_json::from_str(json)
                .map_err(|error| StoreError::corrupt("reported usage", error))?,
        };
        // what was measured is not to be overruled by what was reported
        reported.retain(|name, _| name != "cpu_ms" && name != "max_rss_bytes");
        Ok(Self {
            cpu_ms: usage.cpu_ms,
            max_rss_bytes: usage.max_rss_bytes,
            reported,
        })
    }
}

impl StreamDocument {
    fn of(stream: Option<&EndedStream>, task: &SessionTask, folder: &str, file_name: &str) -> Self {
        Self {
            path: (task.run >= 1).then(|| format!("{folder}/{file_name}")),
            total_bytes: stream.map(|stream| stream.total_bytes),
            stored_bytes: stream.map(|stream| stream.stored_bytes),
            truncated: stream.is_some_and(|stream| stream.stored_bytes < stream.total_bytes),
            capture: stream.and_then(|stream| capture_word(stream.capture())),
            tail: stream.map(|stream| tail_text(&stream.tail)),
        }
    }
}

/// The words for states are part of the format, whatever the states are called elsewhere.
fn state_word(state: TaskState) -> &'static str {
    match state {
        TaskState::Unspecified => "unspecified",
        TaskState::Queued => "queued",
        TaskState::Running => "running",
        TaskState::AwaitingInput => "awaiting_input",
        TaskState::Succeeded => "succeeded",
        TaskState::Failed => "failed",
        TaskState::Canceled => "canceled",
    }
}

fn capture_word(capture: Capture) -> Option<&'static str> {
    match capture {
        Capture::Unspecified => None,
        Capture::Drained => Some("drained"),
        Capture::Leaked => Some("leaked"),
        Capture::Abandoned => Some("abandoned"),
        Capture::Incomplete => Some("incomplete"),
    }
}

fn artifacts(task: &SessionTask) -> Vec<ArtifactDocument<'_>> {
    task.artifacts
        .iter()
        .map(|artifact| ArtifactDocument {
            name: &artifact.name,
            r#type: &artifact.r#type,
            path: some_text(&artifact.path),
            url: some_text(&artifact.url),
        })
        .collect()
}

/// The last bytes as text. They may start within a character: what is left of it is dropped, everything else that is
/// not UTF-8 becomes U+FFFD.
fn tail_text(tail: &[u8]) -> String {
    const LONGEST_REST_OF_A_CHARACTER: usize = 3;
    let is_continuation = |byte: &&u8| **byte & 0b1100_0000 == 0b1000_0000;
    let rest = tail.iter().take_while(is_continuation).count();
    let start = if rest <= LONGEST_REST_OF_A_CHARACTER {
        rest
    } else {
        0
    };
    String::from_utf8_lossy(&tail[start..]).into_owned()
}

fn raw_json<'a>(what: &'static str, json: &'a str) -> Result<Option<&'a RawValue>, StoreError> {
    if json.is_empty() {
        return Ok(None);
    }
    serde_json::from_str(json)
        .map(Some)
        .map_err(|error| StoreError::corrupt(what, error))
}

fn some_text(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

/// RFC 3339 in UTC, with microseconds.
fn show_time(time: prost_types::Timestamp) -> String {
    times::proto_to_core(&time)
        .map(times::to_database)
        .unwrap_or_default()
        .to_rfc3339_opts(SecondsFormat::Micros, true)
}

#[cfg(test)]
mod tests;
