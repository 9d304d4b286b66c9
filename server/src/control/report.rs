//! Report: what workers say of the leases they hold, item by item, each with a verdict.

use super::{
    lease_ref::LeaseRef,
    refusal::Refusal,
    task_sessions,
    update_task::{check_artifact, check_progress},
    wire_time::duration_field,
};
use crate::{
    app::App,
    commit::{Change, Changed, CommitError, Content, FinishContent, StreamFacts},
};
use std::time::Duration;
use taskyard_core::task::{
    ErrorKind, Event, Fence, Rejected, ReportedError, RunFacts, State, StopCause, TerminalState,
};
use taskyard_proto::v1::{
    self as wire, FinishReport, ItemVerdict, ReportItem, ReportRequest, ReportResponse, Verdict,
    report_item::Report,
};
use tokio::sync::oneshot;

const MAX_ITEMS: usize = 1_000;
const MAX_OUTPUT_JSON: usize = 256 << 10;
const MAX_MESSAGE: usize = 2_048;
const MAX_TAIL: usize = 2 << 10;
const MAX_DETAIL: usize = 256;
/// Longest run that is believed.
const MAX_DURATION: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// An item on its way: an answer that is known, or one that is awaited.
enum Pending {
    Known(ItemVerdict),
    Awaited {
        is_start: bool,
        answer: oneshot::Receiver<Result<Changed, CommitError>>,
    },
}

/// Applies the items of a report, those of one lease in order.
///
/// # Errors
/// [`Refusal::InvalidField`] for a report that is none; [`Refusal::Overloaded`], [`Refusal::ShuttingDown`] or
/// [`Refusal::Store`] where the same report, sent again, may go through: numbered items are never applied twice.
pub async fn report(app: &App, request: ReportRequest) -> Result<ReportResponse, Refusal> {
    if request.items.is_empty() || request.items.len() > MAX_ITEMS {
        return Err(Refusal::invalid(
            "items",
            format!("must be 1 to {MAX_ITEMS}"),
        ));
    }
    let mut items = Vec::with_capacity(request.items.len());
    for item in request.items {
        let lease = item
            .lease
            .as_ref()
            .ok_or_else(|| Refusal::invalid("items.lease", "is required"))?;
        items.push((LeaseRef::try_from(lease)?, item));
    }
    let tasks: Vec<_> = items.iter().map(|(lease, _)| lease.task).collect();
    let sessions = task_sessions::find(app, &tasks).await?;
    let mut pending = Vec::with_capacity(items.len());
    for (lease, item) in items {
        let is_start = matches!(item.report, Some(Report::Start(_)));
        let change = match read_item(lease, item) {
            Ok(change) => change,
            Err(refusal) => {
                pending.push(Pending::Known(verdict(
                    Verdict::Rejected,
                    refusal.to_string(),
                )));
                continue;
            }
        };
        pending.push(match sessions.get(&lease.task) {
            None => Pending::Known(verdict(Verdict::LeaseLost, "there is no such task")),
            Some(session) => Pending::Awaited {
                is_start,
                answer: app.commits.change_later(*session, change)?,
            },
        });
    }
    let mut verdicts = Vec::with_capacity(pending.len());
    for item in pending {
        verdicts.push(match item {
            Pending::Known(verdict) => verdict,
            Pending::Awaited { is_start, answer } => {
                let changed = answer.await.map_err(|_| CommitError::ShuttingDown)?;
                judge(is_start, changed)?
            }
        });
    }
    Ok(ReportResponse { verdicts })
}

/// What the state machine's answer means to the worker.
fn judge(is_start: bool, changed: Result<Changed, CommitError>) -> Result<ItemVerdict, Refusal> {
    Ok(match changed {
        // A start that comes too late ends the task: only a running task may be launched.
        Ok(changed) if is_start => match &changed.after.task.state {
            State::Running { .. } => verdict(Verdict::Applied, ""),
            State::Terminal(TerminalState::Canceled) => {
                verdict(Verdict::Canceled, "the task was canceled")
            }
            State::Terminal(_) => verdict(Verdict::Terminal, "the task has ended"),
            State::Queued { .. } | State::AwaitingInput { .. } => {
                verdict(Verdict::LeaseLost, "the task is not running")
            }
        },
        Ok(_) => verdict(Verdict::Applied, ""),
        Err(CommitError::Rejected {
            rejected: Rejected::Terminal,
            state,
        }) if is_start && state == TerminalState::Canceled.as_str() => {
            verdict(Verdict::Canceled, "the task was canceled")
        }
        Err(CommitError::Rejected { rejected, .. }) => match rejected {
            Rejected::AlreadyApplied => verdict(Verdict::AlreadyApplied, ""),
            Rejected::LeaseLost | Rejected::Moot => {
                verdict(Verdict::LeaseLost, "the lease is lost")
            }
            Rejected::Terminal => verdict(Verdict::Terminal, "the task has ended"),
            Rejected::NotPending | Rejected::WrongState => {
                verdict(Verdict::Rejected, rejected.to_string())
            }
        },
        Err(CommitError::NotFound) => verdict(Verdict::LeaseLost, "there is no such task"),
        Err(CommitError::OutputPending) => verdict(
            Verdict::OutputPending,
            "push the run's output, then report again",
        ),
        Err(error @ CommitError::TooManyArtifacts { .. }) => {
            verdict(Verdict::Rejected, error.to_string())
        }
        Err(error) => return Err(error.into()),
    })
}

fn verdict(verdict: Verdict, message: impl Into<String>) -> ItemVerdict {
    ItemVerdict {
        verdict: verdict.into(),
        message: message.into(),
    }
}

fn read_item(lease: LeaseRef, item: ReportItem) -> Result<Change, Refusal> {
    if item.item_no < 1 {
        return Err(Refusal::invalid("items.item_no", "counts from 1"));
    }
    let fence = Fence {
        epoch: lease.epoch,
        lease_id: lease.lease_id,
        item_no: item.item_no,
    };
    let (event, content) = match item.report {
        None => return Err(Refusal::invalid("items.report", "is required")),
        Some(Report::Start(_)) => (Event::Start(fence), Content::None),
        Some(Report::Release(_)) => (Event::Release(fence), Content::None),
        Some(Report::Progress(report)) => {
            let progress = report.progress.unwrap_or_default();
            check_progress("items.progress", &progress)?;
            super::definition::check_text(
                "items.progress.state_detail",
                &report.state_detail,
                MAX_DETAIL,
            )?;
            (
                Event::Progress(fence),
                Content::Progress(progress, report.state_detail),
            )
        }
        Some(Report::Artifact(report)) => {
            let artifact = report
                .artifact
                .ok_or_else(|| Refusal::invalid("items.artifact", "is required"))?;
            check_artifact("items.artifact", &artifact)?;
            (Event::Artifact(fence), Content::Artifact(artifact))
        }
        Some(Report::Finish(report)) => {
            let (facts, content) = read_finish(report)?;
            (
                Event::Finish(fence, facts),
                Content::Finish(Box::new(content)),
            )
        }
    };
    Ok(Change::new(lease.task, event, content))
}

/// Facts and content of a finish report. A report that breaks a rule is bent to the nearest that keeps it, so that a
/// task always ends: texts are cut, a structured result that is none becomes `bad_output`.
fn read_finish(report: FinishReport) -> Result<(RunFacts, FinishContent), Refusal> {
    let exit = report.exit;
    let stop_cause = match wire::StopCause::try_from(report.stop_cause) {
        Ok(wire::StopCause::Unspecified) => None,
        Ok(wire::StopCause::Canceled) => Some(StopCause::Canceled),
        Ok(wire::StopCause::TimedOut) => Some(StopCause::TimedOut),
        Ok(wire::StopCause::LeaseExpired) => Some(StopCause::LeaseExpired),
        Ok(wire::StopCause::WorkerShutdown) => Some(StopCause::WorkerShutdown),
        Err(_) => {
            return Err(Refusal::invalid(
                "items.finish.stop_cause",
                "is no known stop cause",
            ));
        }
    };
    let mut error = report.error.as_ref().map(read_error);
    let mut error_message = report
        .error
        .map(|error| one_line(&error.message, MAX_MESSAGE))
        .unwrap_or_default();
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
    let facts = RunFacts {
        exit_code: exit.as_ref().and_then(|exit| exit.exit_code),
        signal: exit.as_ref().and_then(|exit| exit.signal),
        oom_killed: exit.as_ref().is_some_and(|exit| exit.oom_killed),
        stop_cause,
        error,
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
    )?
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
        usage: report.usage.map(|usage| wire::Usage {
            reported_json: Some(usage.reported_json)
                .filter(|json| is_object(json))
                .unwrap_or_default(),
            ..usage
        }),
        isolation: one_line(&report.isolation, 64),
        streams: [read_stream(report.stdout)?, read_stream(report.stderr)?],
        error_message,
        accept_incomplete: report.accept_incomplete,
    };
    Ok((facts, content))
}

/// A worker may name the failures that it can see; anything else is its own failure.
fn read_error(error: &wire::TaskError) -> ReportedError {
    let kind = match ErrorKind::parse(&error.kind) {
        Some(kind @ (ErrorKind::StartFailed | ErrorKind::BadOutput | ErrorKind::WorkerError)) => {
            kind
        }
        Some(
            ErrorKind::Exit
            | ErrorKind::Signal
            | ErrorKind::Timeout
            | ErrorKind::Orphaned
            | ErrorKind::OutcomeUnknown
            | ErrorKind::StartDeadlineExceeded
            | ErrorKind::QuestionExpired,
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
    json.len() <= MAX_OUTPUT_JSON
        && serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(json).is_ok()
}

fn read_stream(report: Option<wire::StreamReport>) -> Result<StreamFacts, Refusal> {
    let Some(report) = report else {
        return Ok(StreamFacts::default());
    };
    let total = u64::try_from(report.total_bytes)
        .map_err(|_| Refusal::invalid("items.finish.total_bytes", "must not be negative"))?;
    let capture = wire::Capture::try_from(report.capture)
        .map_err(|_| Refusal::invalid("items.finish.capture", "is no known capture"))?;
    let start = report.tail.len().saturating_sub(MAX_TAIL);
    Ok(StreamFacts {
        total,
        capture,
        tail: report.tail.slice(start..).to_vec(),
    })
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
