//! Report: what workers say of the leases they hold, item by item, each with a verdict.

mod finish;

use super::{
    lease_ref::LeaseRef,
    refusal::Refusal,
    task_sessions,
    update_task::{check_artifact, check_progress},
};
use crate::{
    app::App,
    commit::{Change, Changed, CommitError, Content},
};
use finish::Expected;
use taskyard_core::task::{Event, Fence, Rejected, State, TerminalState};
use taskyard_proto::v1::{
    ItemVerdict, ReportItem, ReportRequest, ReportResponse, Verdict, report_item::Report,
};
use tokio::sync::oneshot;

const MAX_ITEMS: usize = 1_000;
const MAX_DETAIL: usize = 256;

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
    let finishing: Vec<_> = items
        .iter()
        .filter(|(_, item)| matches!(item.report, Some(Report::Finish(_))))
        .map(|(lease, _)| lease.task)
        .collect();
    let mut expectations = finish::read_expectations(app, &finishing).await?;
    let mut pending = Vec::with_capacity(items.len());
    for (lease, item) in items {
        let is_start = matches!(item.report, Some(Report::Start(_)));
        let mut expected = expectations.remove(&lease.task).unwrap_or_default();
        let is_in_file =
            matches!(&item.report, Some(Report::Finish(finish)) if finish.output_in_file);
        if let Some(session) = sessions.get(&lease.task).filter(|_| is_in_file) {
            expected.read_output_file(app, *session, lease.task).await?;
        }
        let change = match read_item(lease, item, &expected) {
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
            Rejected::NotPending
            | Rejected::Expired
            | Rejected::CancelRequested
            | Rejected::WrongState
            | Rejected::NeverRuns => verdict(Verdict::Rejected, rejected.to_string()),
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

fn read_item(lease: LeaseRef, item: ReportItem, expected: &Expected) -> Result<Change, Refusal> {
    if item.item_no < 1 {
        return Err(Refusal::invalid("items.item_no", "counts from 1"));
    }
    let fence = Fence {
        epoch: lease.epoch,
        lease_id: lease.lease_id,
        item_no: Some(item.item_no),
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
                Content::Progress(
                    Some(progress),
                    Some(report.state_detail).filter(|detail| !detail.is_empty()),
                ),
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
            let (facts, content) = finish::read_finish(report, expected);
            (
                Event::Finish(fence, facts),
                Content::Finish(Box::new(content)),
            )
        }
    };
    Ok(Change::new(lease.task, event, content))
}
