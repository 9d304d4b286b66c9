//! The finish of a run as a worker reports it: facts for the judgement, and what is stored of it.

use crate::control::{
    agent::MAX_USAGE, files, refusal::Refusal, schema, wire_time::duration_field,
};
use crate::{
    app::App,
    commit::{FinishContent, StreamFacts},
    store::run_reports::{self, Expectations},
};
use std::{collections::HashMap, time::Duration};
use taskyard_core::{
    id::{SessionUid, TaskId},
    task::{ErrorKind, ReportedError, ResultCheck, RunFacts, StopCause},
};
use taskyard_proto::v1::{self as wire, FinishReport};

const MAX_OUTPUT_JSON: usize = 256 << 10;
const MAX_MESSAGE: usize = 2_048;
const MAX_REASON: usize = 40;
const MAX_TAIL: usize = 2 << 10;
/// Longest run that is believed.
const MAX_DURATION: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// What a run's end is held against, beside the worker's facts.
#[derive(Debug, Default)]
pub(super) struct Expected {
    expectations: Expectations,
    /// The result that was written as a file, where a schema asks for it.
    output_file: Option<String>,
}

/// What the ends of these tasks' present runs are held against; nothing for most.
pub(super) async fn read_expectations(
    app: &App,
    tasks: &[TaskId],
) -> Result<HashMap<TaskId, Expected>, Refusal> {
    if tasks.is_empty() {
        return Ok(HashMap::new());
    }
    let found = run_reports::read_expectations(app.store.pool(), tasks).await?;
    let expected = found.into_iter().map(|(task, expectations)| {
        let expected = Expected {
            expectations,
            output_file: None,
        };
        (task, expected)
    });
    Ok(expected.collect())
}

impl Expected {
    /// Reads the result that was written as `output.json`, if a schema asks for it.
    pub(super) async fn read_output_file(
        &mut self,
        app: &App,
        session: SessionUid,
        task: TaskId,
    ) -> Result<(), Refusal> {
        if self.expectations.result_schema.is_empty() {
            return Ok(());
        }
        let path = format!("{}/output.json", files::task_folder(task));
        let mut reader = files::open_file(app, session, &path, 0, 0).await?;
        let mut bytes = Vec::new();
        while let Some(part) = reader.next_part().await? {
            bytes.extend_from_slice(&part.data);
        }
        self.output_file = Some(String::from_utf8_lossy(&bytes).into_owned());
        Ok(())
    }

    /// Holds a result against the schema; the sentence says what is wrong with it.
    fn check(&self, output_json: &str) -> (ResultCheck, String) {
        let schema = &self.expectations.result_schema;
        let output = self.output_file.as_deref().unwrap_or(output_json);
        if schema.is_empty() {
            return (ResultCheck::Good, String::new());
        }
        if output.is_empty() {
            return (ResultCheck::Missing, String::new());
        }
        match schema::find_violation(schema, output) {
            None => (ResultCheck::Good, String::new()),
            Some(problem) => (
                ResultCheck::Mismatch,
                format!("the structured result does not satisfy the result schema: {problem}"),
            ),
        }
    }
}

/// Facts and content of a finish report. A report that breaks a rule is bent to the nearest that keeps it, so that a
/// task always ends: texts are cut, numbers that cannot be are left out, a structured result that is none becomes
/// `bad_output`, a stop cause that is none `worker_error`.
pub(super) fn read_finish(report: FinishReport, expected: &Expected) -> (RunFacts, FinishContent) {
    let exit = report.exit;
    let mut error = report.error.as_ref().map(read_error);
    let error_reason = report
        .error
        .as_ref()
        .filter(|error| is_reason(&error.reason))
        .map(|error| error.reason.clone())
        .unwrap_or_default();
    let mut error_message = report
        .error
        .map(|error| one_line(&error.message, MAX_MESSAGE))
        .unwrap_or_default();
    let stop_cause = match wire::StopCause::try_from(report.stop_cause) {
        Ok(wire::StopCause::Unspecified) => None,
        Ok(wire::StopCause::Canceled) => Some(StopCause::Canceled),
        Ok(wire::StopCause::TimedOut) => Some(StopCause::TimedOut),
        Ok(wire::StopCause::LeaseExpired) => Some(StopCause::LeaseExpired),
        Ok(wire::StopCause::WorkerShutdown) => Some(StopCause::WorkerShutdown),
        // the worker ended it for a reason of its own: that is no success, whatever the exit code
        Err(_) => {
            if error.is_none() {
                error_message = format!(
                    "the worker ended the run for a cause that this server does not know: {}",
                    report.stop_cause
                );
                error = Some(ReportedError {
                    kind: ErrorKind::WorkerError,
                    retryable: false,
                });
            }
            None
        }
    };
    let mut output_json = report.output_json;
    if let Some(problem) = output_problem(&output_json) {
        output_json.clear();
        if error.is_none() {
            error_message = problem;
            error = Some(ReportedError {
                kind: ErrorKind::BadOutput,
                retryable: false,
            });
        }
    }
    let said = &expected.expectations.report;
    if output_json.is_empty()
        && !report.output_in_file
        && error.is_none()
        && let Some(said) = &said.output_json
    {
        output_json.clone_from(said);
    }
    let (result, problem) = expected.check(&output_json);
    if result == ResultCheck::Mismatch && error_message.is_empty() {
        error_message = problem;
    }
    let facts = RunFacts {
        exit_code: exit.as_ref().and_then(|exit| exit.exit_code),
        signal: exit.as_ref().and_then(|exit| exit.signal),
        oom_killed: exit.as_ref().is_some_and(|exit| exit.oom_killed),
        stop_cause,
        error,
        result,
    };
    let exit = exit.map(|exit| wire::Exit {
        timed_out: stop_cause == Some(StopCause::TimedOut),
        signal_name: one_line(&exit.signal_name, 32),
        ..exit
    });
    let duration = duration_field(
        "items.finish.duration",
        report.duration.as_ref(),
        Duration::ZERO,
        MAX_DURATION,
    )
    .ok()
    .flatten()
    .map(|duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX));
    let content = FinishContent {
        exit,
        duration_ms: duration,
        output_json,
        output_in_file: report.output_in_file,
        summary: one_line(
            &report.summary,
            taskyard_core::task::summary::MAX_SUMMARY_BYTES,
        ),
        usage: read_usage(report.usage, said.usage_json.as_deref()),
        isolation: one_line(&report.isolation, 64),
        streams: [read_stream(report.stdout), read_stream(report.stderr)],
        error_message,
        error_reason,
        accept_incomplete: report.accept_incomplete,
    };
    (facts, content)
}

/// One word for programs.
fn is_reason(word: &str) -> bool {
    let is_speakable =
        |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    word.len() <= MAX_REASON && word.bytes().all(is_speakable)
}

/// What the run used; what the work itself said wins over what its worker says of it.
fn read_usage(usage: Option<wire::Usage>, said: Option<&str>) -> Option<wire::Usage> {
    if usage.is_none() && said.is_none() {
        return None;
    }
    let usage = usage.unwrap_or_default();
    let reported_json = match said {
        Some(said) => said.to_owned(),
        None if is_object(&usage.reported_json) => usage.reported_json,
        None => String::new(),
    };
    Some(wire::Usage {
        cpu_ms: usage.cpu_ms.max(0),
        max_rss_bytes: usage.max_rss_bytes.max(0),
        reported_json,
    })
}

/// A worker may name the failures that it can see; anything else is its own failure.
fn read_error(error: &wire::TaskError) -> ReportedError {
    let kind = match ErrorKind::parse(&error.kind) {
        Some(
            kind @ (ErrorKind::StartFailed
            | ErrorKind::IsolationUnavailable
            | ErrorKind::BadOutput
            | ErrorKind::WorkerError),
        ) => kind,
        Some(
            ErrorKind::Exit
            | ErrorKind::Signal
            | ErrorKind::Timeout
            | ErrorKind::OomKilled
            | ErrorKind::Orphaned
            | ErrorKind::OutcomeUnknown
            | ErrorKind::StartDeadlineExceeded
            | ErrorKind::QuestionExpired
            | ErrorKind::NoResult
            | ErrorKind::SchemaMismatch,
        )
        | None => ErrorKind::WorkerError,
    };
    ReportedError {
        kind,
        retryable: error.retryable,
    }
}

/// Why a structured result is none; none: it is fine, or empty.
fn output_problem(json: &str) -> Option<String> {
    if json.is_empty() {
        return None;
    }
    if json.len() > MAX_OUTPUT_JSON {
        return Some(format!(
            "the structured result has more than {MAX_OUTPUT_JSON} bytes; it belongs into output.json"
        ));
    }
    serde_json::from_str::<serde::de::IgnoredAny>(json)
        .err()
        .map(|error| format!("the structured result is no valid JSON: {error}"))
}

/// Whether a text is a JSON object that is small enough to be stored beside the record.
fn is_object(json: &str) -> bool {
    json.len() <= MAX_USAGE
        && serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(json).is_ok()
}

/// A stream; one whose bytes or capture cannot be is one that was not captured whole.
fn read_stream(report: Option<wire::StreamReport>) -> StreamFacts {
    let Some(report) = report else {
        return StreamFacts::default();
    };
    let total = u64::try_from(report.total_bytes);
    let capture = wire::Capture::try_from(report.capture);
    let start = report.tail.len().saturating_sub(MAX_TAIL);
    StreamFacts {
        total: total.unwrap_or(0),
        capture: match (total, capture) {
            (Ok(_), Ok(capture)) => capture,
            (Err(_), _) | (_, Err(_)) => wire::Capture::Incomplete,
        },
        tail: report.tail.slice(start..).to_vec(),
    }
}

/// A text without control characters, of at most `max` bytes.
fn one_line(text: &str, max: usize) -> String {
    let line: String = text
        .chars()
        .map(|character| {
            if character.is_control() {
                ' '
            } else {
                character
            }
        })
        .collect();
    taskyard_core::task::summary::clip(line.trim(), max)
}
