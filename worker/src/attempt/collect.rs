//! Storing what a task wants of its working directory, and saying what was stored and what was not.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::deliver::{Abandoned, FILE_BYTES_MAX, FileFailure, announce, deliver_file};
use super::services::Services;
use crate::lease::{CollectedFile, Lease, SkippedFile};
use crate::ledger::FinishedRecord;
use crate::link::reports::Report;
use crate::workspace::{Workspace, open_beneath};

/// Where it is said, below the task's own folder.
const REPORT_NAME: &str = "collect.json";
const REPORT_FORMAT: i32 = 1;
/// After so long no further file is begun, so that a slot comes free where nothing can be stored.
const COLLECT_BOUND: Duration = Duration::from_secs(10 * 60);

/// What `collect.json` says.
#[derive(Serialize)]
struct CollectReport<'a> {
    format: i32,
    run: i32,
    collected: Vec<&'a CollectedFile>,
    skipped: Vec<SkippedFile>,
    skipped_count: u64,
}

impl CollectReport<'_> {
    fn skip(&mut self, file: &CollectedFile, reason: String) {
        self.skipped_count += 1;
        self.skipped.push(SkippedFile {
            from: file.from.clone(),
            reason,
        });
    }
}

/// Stores the files one by one; what cannot be stored is told, and fails nothing.
pub(super) async fn deliver_collection(
    services: &Services,
    lease: &Lease,
    workspace: &Workspace,
    record: &FinishedRecord,
    lost: &CancellationToken,
) -> Result<(), Abandoned> {
    let Some(collection) = &record.collection else {
        return Ok(());
    };
    let directory = workspace.work().join(&collection.cwd);
    let mut report = CollectReport {
        format: REPORT_FORMAT,
        run: record.run,
        collected: Vec::new(),
        skipped: collection.skipped.clone(),
        skipped_count: collection.skipped_count,
    };
    let mut reports = Vec::new();
    let started_at = Instant::now();
    for (index, file) in collection.files.iter().enumerate() {
        if started_at.elapsed() > COLLECT_BOUND {
            report.skip(
                file,
                "storing the files took longer than 10 minutes".to_owned(),
            );
            continue;
        }
        let (directory, from) = (directory.clone(), PathBuf::from(&file.from));
        let read = move || read_beneath(&directory, &from);
        match deliver_file(services, lease, read, &file.to, lost).await {
            Ok(()) => {
                report.collected.push(file);
                let artifact = Report::Artifact {
                    name: file.to.clone(),
                    path: file.to.clone(),
                };
                let item_no = FinishedRecord::artifact_item_no(record.artifacts.len() + index);
                reports.push((item_no, artifact));
            }
            Err(FileFailure::Abandoned(abandoned)) => return Err(abandoned),
            Err(FileFailure::Failed { message }) => report.skip(file, message),
        }
    }
    if report.skipped_count > 0 {
        tracing::warn!(lease = %lease, skipped = report.skipped_count, "some files of the working directory were not stored");
    }
    let text = serde_json::to_vec(&report);
    let read = move || text.map(Bytes::from).map_err(std::io::Error::other);
    match deliver_file(services, lease, read, REPORT_NAME, lost).await {
        Ok(()) => {}
        Err(FileFailure::Abandoned(abandoned)) => return Err(abandoned),
        Err(FileFailure::Failed { message }) => {
            tracing::warn!(lease = %lease, message, "collect.json cannot be stored");
        }
    }
    announce(services, lease, reports, lost).await
}

fn read_beneath(directory: &Path, from: &Path) -> std::io::Result<Bytes> {
    let file = open_beneath(directory, from)?.ok_or_else(|| {
        std::io::Error::other("it is no regular file, or lies behind a symbolic link")
    })?;
    let mut content = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut content)?;
    if content.len() as u64 > FILE_BYTES_MAX {
        return Err(std::io::Error::other("it is larger than 16 MiB"));
    }
    Ok(Bytes::from(content))
}
