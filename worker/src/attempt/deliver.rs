//! Bringing the end of a run to the control plane: files, output, and last the finish. The same steps with the same
//! numbers serve a run of this boot and one that an earlier boot left finished.

use std::io::Read;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::again::{deliver_again, keep};
use super::collect::deliver_collection;
use super::services::{Services, chain};
use crate::lease::{ErrorFacts, Finish, Lease, StructuredOutput};
use crate::ledger::FinishedRecord;
use crate::link::Backoff;
use crate::link::files::FileError;
use crate::link::reports::{Report, ReportError, Verdict};
use crate::output::upload::{Totals, UploadEnd, UploadPlan, upload};
use crate::workspace::{Workspace, open_regular};

/// After so long of trying, output that is not durable is given up.
const OUTPUT_BOUND: Duration = Duration::from_secs(30);
/// A file that cannot be written for so long is given up.
const FILE_BOUND: Duration = Duration::from_secs(120);
/// A finish that is still held up after its output was given up.
const HELD_UP_BOUND: Duration = Duration::from_secs(120);
pub(super) const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Why an attempt came to no acknowledged finish.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Abandoned {
    #[error("the lease is lost")]
    Lost,
    #[error("the task was canceled before it started")]
    Canceled,
    #[error("the lease was given back: {reason}")]
    Released { reason: String },
    #[error("the control plane refused a report: {message}")]
    Refused { message: String },
    /// It stays in the ledger for the next boot.
    #[error("the worker ends before the finish is acknowledged")]
    Undelivered,
}

/// Delivers what an earlier boot left finished, and forgets it when that is done.
pub async fn deliver_earlier(services: &Services, lease: &Lease, record: FinishedRecord) {
    let store = services.recents.store();
    // Only the verdict on the finish itself decides what becomes of it.
    let lost = CancellationToken::new();
    let workspace = services
        .workspaces
        .of(record.home.as_ref().unwrap_or(lease));
    let mut is_settled = true;
    match deliver(services, lease, &workspace, record.clone(), &lost).await {
        Ok(()) => {
            tracing::info!(lease = %lease, "an earlier boot's finish was delivered");
            is_settled = keep(services, store, lease, record, &workspace).await;
        }
        Err(Abandoned::Undelivered) => return,
        Err(
            abandoned @ (Abandoned::Lost
            | Abandoned::Canceled
            | Abandoned::Released { .. }
            | Abandoned::Refused { .. }),
        ) => {
            tracing::info!(lease = %lease, reason = %abandoned, "an earlier boot's finish is not wanted");
        }
    }
    workspace.remove().await;
    services.ledger.forget(lease).await;
    if !is_settled {
        deliver_again(services, lease).await;
    }
}

/// Delivers a run that is over with all that it left in its directory.
pub(super) async fn deliver(
    services: &Services,
    lease: &Lease,
    workspace: &Workspace,
    mut record: FinishedRecord,
    lost: &CancellationToken,
) -> Result<(), Abandoned> {
    let files = deliver_files(services, lease, workspace, &mut record, lost).await;
    let output = upload_again(services, lease, workspace, &record, lost).await;
    files?;
    report_finish(services, lease, workspace, &record, output, lost).await
}

/// Writes the structured result, where it is too large for the report, the artifacts, and what is collected. What cannot be stored is told
/// in the finish, or left out.
pub(super) async fn deliver_files(
    services: &Services,
    lease: &Lease,
    workspace: &Workspace,
    record: &mut FinishedRecord,
    lost: &CancellationToken,
) -> Result<(), Abandoned> {
    if record.finish.output == StructuredOutput::InFile {
        let path = workspace.output();
        match deliver_file(
            services,
            lease,
            move || read_whole(&path),
            "output.json",
            lost,
        )
        .await
        {
            Ok(()) => {}
            Err(FileFailure::Abandoned(abandoned)) => return Err(abandoned),
            Err(FileFailure::Failed { message }) => {
                record.finish.output = StructuredOutput::None;
                let facts = ErrorFacts::of_worker(
                    format!("the structured result cannot be stored: {message}"),
                    "",
                );
                record.finish.error.get_or_insert(facts);
            }
        }
    }
    let mut reports = Vec::new();
    for (index, name) in record.artifacts.iter().enumerate() {
        let file_name = format!("artifacts/{name}");
        let path = workspace.artifacts().join(name);
        match deliver_file(services, lease, move || read_whole(&path), &file_name, lost).await {
            Ok(()) => {
                let path = format!("/.tasks/{}/{file_name}", lease.task_id);
                let report = Report::Artifact {
                    name: name.clone(),
                    path,
                };
                reports.push((FinishedRecord::artifact_item_no(index), report));
            }
            Err(FileFailure::Abandoned(abandoned)) => return Err(abandoned),
            Err(FileFailure::Failed { message }) => {
                tracing::warn!(lease = %lease, artifact = name, message, "an artifact cannot be stored");
            }
        }
    }
    announce(services, lease, reports, lost).await?;
    deliver_collection(services, lease, workspace, record, lost).await
}

/// Announces artifacts by reports with rising numbers, and waits for the verdicts. All are under way before the first
/// verdict is awaited, and in order: to the control plane a number below one that it has seen is a repetition.
pub(super) async fn announce(
    services: &Services,
    lease: &Lease,
    reports: Vec<(i64, Report)>,
    lost: &CancellationToken,
) -> Result<(), Abandoned> {
    let mut pending = Vec::with_capacity(reports.len());
    for (item_no, report) in reports {
        let queued = services.reporter.enqueue(lease, item_no, report);
        match unless_lost(lost, queued).await? {
            Ok(queued) => pending.push(queued),
            Err(ReportError::Refused { .. } | ReportError::Closed) => {
                return Err(Abandoned::Undelivered);
            }
        }
    }
    for pending in pending {
        let verdict = unless_lost(lost, pending.verdict()).await?;
        match verdict {
            Ok(Verdict::Applied | Verdict::AlreadyApplied) => {}
            Ok(Verdict::LeaseLost | Verdict::Terminal | Verdict::Canceled) => {
                return Err(Abandoned::Lost);
            }
            Ok(Verdict::Rejected { message }) | Err(ReportError::Refused { message }) => {
                tracing::warn!(lease = %lease, message, "an artifact was refused");
            }
            Ok(Verdict::OutputPending) => {
                tracing::warn!(lease = %lease, "an artifact got a verdict for a finish")
            }
            Err(ReportError::Closed) => return Err(Abandoned::Undelivered),
        }
    }
    Ok(())
}

/// Reports the finish until it is acknowledged; output that is asked for is pushed again, for a bounded time.
pub(super) async fn report_finish(
    services: &Services,
    lease: &Lease,
    workspace: &Workspace,
    record: &FinishedRecord,
    output: UploadEnd,
    lost: &CancellationToken,
) -> Result<(), Abandoned> {
    let started_at = Instant::now();
    let mut backoff = Backoff::new();
    let mut finish = record.finish.clone();
    let mut refused_before = false;
    heed(&mut finish, lease, output)?;
    loop {
        let report = Report::Finish(Box::new(finish.clone()));
        let reported = services
            .reporter
            .report(lease, record.finish_item_no(), report);
        match unless_lost(lost, reported).await? {
            Ok(Verdict::Applied | Verdict::AlreadyApplied) => return Ok(()),
            Ok(Verdict::LeaseLost | Verdict::Terminal) => return Err(Abandoned::Lost),
            Ok(Verdict::Canceled) => return Err(Abandoned::Canceled),
            Ok(Verdict::Rejected { message }) => return Err(Abandoned::Refused { message }),
            Ok(Verdict::OutputPending) => {
                let tried_for = started_at.elapsed();
                if tried_for >= OUTPUT_BOUND {
                    let streams = [finish.stdout.total_bytes > 0, finish.stderr.total_bytes > 0];
                    finish.give_up_output(streams);
                }
                if tried_for >= OUTPUT_BOUND + HELD_UP_BOUND {
                    let message = "the finish is held up by output that was given up".to_owned();
                    return Err(Abandoned::Refused { message });
                }
                if !finish.accept_incomplete {
                    let output = upload_again(services, lease, workspace, record, lost).await;
                    heed(&mut finish, lease, output)?;
                }
                unless_lost(lost, tokio::time::sleep(backoff.next_wait())).await?;
            }
            // A report that cannot be taken at all is replaced, once, by a small one that can.
            Err(ReportError::Refused { message }) if !refused_before => {
                refused_before = true;
                tracing::error!(lease = %lease, message, "the finish was refused; reporting a smaller one");
                finish.output = StructuredOutput::None;
                finish.stdout.tail.clear();
                finish.stderr.tail.clear();
                let facts =
                    ErrorFacts::of_worker(format!("the finish report was refused: {message}"), "");
                finish.error.get_or_insert(facts);
            }
            Err(ReportError::Refused { message }) => return Err(Abandoned::Refused { message }),
            Err(ReportError::Closed) => return Err(Abandoned::Undelivered),
        }
    }
}

/// The outcome of `work`, unless the lease is lost first.
pub(super) async fn unless_lost<T>(
    lost: &CancellationToken,
    work: impl Future<Output = T>,
) -> Result<T, Abandoned> {
    tokio::select! {
        outcome = work => Ok(outcome),
        () = lost.cancelled() => Err(Abandoned::Lost),
    }
}

fn heed(finish: &mut Finish, lease: &Lease, output: UploadEnd) -> Result<(), Abandoned> {
    match output {
        UploadEnd::Durable => Ok(()),
        UploadEnd::Incomplete { reason, streams } | UploadEnd::Refused { reason, streams } => {
            tracing::warn!(lease = %lease, reason, "the output of a run is incomplete");
            finish.give_up_output(streams);
            Ok(())
        }
        UploadEnd::Lost => Err(Abandoned::Lost),
    }
}

async fn upload_again(
    services: &Services,
    lease: &Lease,
    workspace: &Workspace,
    record: &FinishedRecord,
    lost: &CancellationToken,
) -> UploadEnd {
    let bytes = [
        record.finish.stdout.total_bytes,
        record.finish.stderr.total_bytes,
    ];
    if bytes == [0, 0] {
        return UploadEnd::Durable;
    }
    let (_totals, totals) = watch::channel(Totals { bytes, ended: true });
    let plan = UploadPlan {
        spools: workspace.spools(),
        resumed: true,
    };
    let mut port = services
        .output
        .open(lease, record.run, record.head_cap, record.tail_cap);
    let pushed = upload(plan, totals, &mut port, services.output_window.clone());
    unless_lost(lost, pushed).await.unwrap_or(UploadEnd::Lost)
}

/// Why a file was not stored.
pub(super) enum FileFailure {
    Abandoned(Abandoned),
    Failed { message: String },
}

/// Writes a file that `read` reads, whole.
pub(super) async fn deliver_file(
    services: &Services,
    lease: &Lease,
    read: impl FnOnce() -> std::io::Result<Bytes> + Send + 'static,
    name: &str,
    lost: &CancellationToken,
) -> Result<(), FileFailure> {
    let failed = |message: String| FileFailure::Failed { message };
    let writing = async {
        let _transfer = services
            .transfers
            .acquire()
            .await
            .map_err(|error| failed(error.to_string()))?;
        let read = tokio::task::spawn_blocking(read).await;
        let read = read.unwrap_or_else(|join_error| Err(std::io::Error::other(join_error)));
        let content = read.map_err(|error| failed(chain(&error)))?;
        let written =
            tokio::time::timeout(FILE_BOUND, services.files.write(lease, name, content)).await;
        match written {
            Ok(Ok(())) => Ok(()),
            Ok(Err(FileError::LeaseLost)) => Err(FileFailure::Abandoned(Abandoned::Lost)),
            Ok(Err(FileError::Refused { message })) => Err(failed(message)),
            Err(_) => Err(failed(
                "the control plane was not reached in time".to_owned(),
            )),
        }
    };
    unless_lost(lost, writing)
        .await
        .unwrap_or_else(|abandoned| Err(FileFailure::Abandoned(abandoned)))
}

fn read_whole(path: &std::path::Path) -> std::io::Result<Bytes> {
    let file =
        open_regular(path)?.ok_or_else(|| std::io::Error::other("it is not a regular file"))?;
    let mut content = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut content)?;
    if content.len() as u64 > FILE_BYTES_MAX {
        return Err(std::io::Error::other("it is larger than 16 MiB"));
    }
    Ok(Bytes::from(content))
}
