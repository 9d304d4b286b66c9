//! From the end of a process to the facts that are reported.

use std::io;
use std::path::PathBuf;

use super::prepare::ledger_failed;
use super::services::{StorageHealth, chain};
use super::supervise::{Stop, Supervised};
use crate::isolation::RunIsolation;
use crate::lease::{
    CaptureFacts, Collection, CommandWork, ErrorFacts, ExitFacts, Finish, ResultSource, StopCause,
    StreamFacts, StructuredOutput,
};
use crate::ledger::FinishedRecord;
use crate::mask::Masks;
use crate::output::spool::{ReadOutcome, SpoolReader};
use crate::process::{Capture, ExitStatus, ProcessEnd, StreamEnd, signal_name};
use crate::workspace::{
    Collected, RESULT_BYTES_MAX, ResultProblem, Workspace, check_json, list_artifacts,
    read_result_file, select_files,
};

/// A structured result up to this size travels in the report.
const INLINE_OUTPUT_BYTES_MAX: usize = 256 * 1024;
const TAIL_BYTES: u64 = 2 * 1024;
const RESULT_HINT: &str = "write one JSON value of at most 16 MiB";

/// What is known about a run when nothing of its process is left. It blocks.
pub fn conclude(
    supervised: Supervised,
    run: i32,
    work: &CommandWork,
    masks: &Masks,
    workspace: &Workspace,
    storage: &StorageHealth,
    isolation: RunIsolation,
) -> FinishedRecord {
    let duration_ms = u64::try_from(supervised.duration.as_millis()).ok();
    let mut finish = match supervised.end {
        Ok(end) => ended(end, supervised.stop, workspace, storage),
        Err(error) => {
            let facts =
                ErrorFacts::of_worker(format!("the run was not seen to its end: {error}"), "");
            let mut finish = Finish::without_process(stop_cause(supervised.stop), Some(facts));
            lost_streams(&mut finish, workspace);
            finish
        }
    };
    finish.duration_ms = duration_ms;
    finish.isolation = isolation.level;
    finish.oom_killed = isolation
        .group
        .as_ref()
        .is_some_and(|group| group.was_out_of_memory());
    // With it goes the run's cgroup, which may take a moment.
    drop(isolation);
    if supervised.stop == Some(Stop::Ending) {
        let facts =
            ErrorFacts::of_worker("the worker was shut down while the task ran".to_owned(), "");
        finish.error.get_or_insert(facts);
    }
    let succeeded = finish.stop_cause.is_none()
        && finish.error.is_none()
        && matches!(&finish.exit, Some(ExitFacts::Code(code)) if work.success_exit_codes.contains(code));
    collect_output(&mut finish, succeeded, work, masks, workspace, storage);
    if let Some(error) = &mut finish.error {
        masks.apply(&mut error.message);
    }
    let mut listing = list_artifacts(&workspace.artifacts());
    let found = listing.names.len();
    listing.names.retain(|name| !masks.find(name.as_bytes()));
    listing.skipped += found - listing.names.len();
    if listing.skipped > 0 {
        tracing::warn!(
            skipped = listing.skipped,
            "some artifacts are no regular files, beyond the bounds, or have a secret in their name"
        );
    }
    FinishedRecord {
        run,
        home: None,
        finish,
        artifacts: listing.names,
        collection: select(work, masks, workspace),
        head_cap: work.head_cap,
        tail_cap: work.tail_cap,
    }
}

/// What is to be stored of the working directory, whether the run succeeded or failed.
fn select(work: &CommandWork, masks: &Masks, workspace: &Workspace) -> Option<Collection> {
    if work.collect.is_empty() {
        return None;
    }
    let mut selection = select_files(&workspace.work().join(&work.cwd), &work.collect);
    if !masks.is_empty() {
        selection.leave_out("it has a secret in its name", |file| {
            masks.find(file.from.as_bytes()) || masks.find(file.to.as_bytes())
        });
        for skipped in &mut selection.skipped {
            masks.apply(&mut skipped.from);
        }
    }
    Some(Collection {
        cwd: work.cwd.clone(),
        files: selection.files,
        skipped: selection.skipped,
        skipped_count: selection.skipped_count,
    })
}

fn ended(
    end: ProcessEnd,
    stop: Option<Stop>,
    workspace: &Workspace,
    storage: &StorageHealth,
) -> Finish {
    let stop_cause = if end.deadline_exceeded {
        Some(StopCause::LeaseExpired)
    } else {
        stop_cause(stop)
    };
    let [stdout, stderr] = workspace.spools();
    let exit = end.exit.map(|exit| match exit {
        ExitStatus::Code(code) => ExitFacts::Code(code),
        ExitStatus::Signal(number) => ExitFacts::Signal {
            number,
            name: signal_name(number),
        },
    });
    let error = exit.is_none().then(|| {
        let hint = "look for a process in uninterruptible sleep on the worker's machine";
        ErrorFacts::of_worker(
            format!(
                "{} processes of the run cannot be killed",
                end.unkillable.max(1)
            ),
            hint,
        )
    });
    let mut finish = Finish::without_process(stop_cause, error);
    finish.exit = exit;
    finish.cpu_ms = end.cpu_ms;
    finish.max_rss_bytes = end.max_rss_bytes;
    finish.stdout = stream_facts(&end.stdout, stdout, storage);
    finish.stderr = stream_facts(&end.stderr, stderr, storage);
    finish
}

fn stop_cause(stop: Option<Stop>) -> Option<StopCause> {
    match stop {
        Some(Stop::Canceled) => Some(StopCause::Canceled),
        Some(Stop::TimedOut) => Some(StopCause::TimedOut),
        Some(Stop::Ending) => Some(StopCause::WorkerShutdown),
        Some(Stop::Lost) | None => None,
    }
}

fn stream_facts(end: &StreamEnd, spool: PathBuf, storage: &StorageHealth) -> StreamFacts {
    let capture = match (&end.spool_failure, end.capture) {
        (Some(failure), _) => {
            storage.report_failure(&io::Error::from_raw_os_error(failure.errno));
            CaptureFacts::Incomplete
        }
        (None, Capture::Drained) => CaptureFacts::Drained,
        (None, Capture::Leaked) => CaptureFacts::Leaked,
        (None, Capture::Abandoned) => CaptureFacts::Abandoned,
    };
    captured(end.total, capture, spool)
}

fn captured(total: u64, capture: CaptureFacts, spool: PathBuf) -> StreamFacts {
    StreamFacts {
        total_bytes: total,
        capture,
        tail: last_bytes(&spool, total).unwrap_or_default(),
    }
}

/// Without the shim's last word the spools themselves say what there is.
fn lost_streams(finish: &mut Finish, workspace: &Workspace) {
    for (stream, spool) in [&mut finish.stdout, &mut finish.stderr]
        .into_iter()
        .zip(workspace.spools())
    {
        let total = SpoolReader::open(&spool)
            .and_then(|reader| reader.committed())
            .unwrap_or(0);
        *stream = captured(total, CaptureFacts::Incomplete, spool);
    }
}

fn last_bytes(spool: &std::path::Path, total: u64) -> io::Result<Vec<u8>> {
    let reader = SpoolReader::open(spool)?;
    let mut tail = Vec::new();
    let mut offset = total.saturating_sub(TAIL_BYTES);
    loop {
        match reader.read(offset, TAIL_BYTES as usize, total)? {
            ReadOutcome::Bytes(bytes) => {
                offset += bytes.len() as u64;
                tail.extend_from_slice(&bytes);
            }
            ReadOutcome::Gap { resume_at } => {
                offset = resume_at;
                tail.clear();
            }
            ReadOutcome::Nothing => return Ok(tail),
        }
    }
}

/// A result is taken from every run that left a good one; a bad one is an error only where all else went well.
fn collect_output(
    finish: &mut Finish,
    succeeded: bool,
    work: &CommandWork,
    masks: &Masks,
    workspace: &Workspace,
    storage: &StorageHealth,
) {
    let collected = match work.result_source {
        ResultSource::File => read_result_file(&workspace.result()),
        ResultSource::Stdout if succeeded => read_stdout(workspace, finish.stdout.total_bytes),
        ResultSource::Stdout => return,
    };
    let masked = collected.map(|collected| match collected {
        Collected::Json(mut json) => {
            masks.apply_json(&mut json);
            Collected::Json(json)
        }
        Collected::Nothing => Collected::Nothing,
    });
    match masked {
        Ok(Collected::Nothing) => {}
        Ok(Collected::Json(json)) if json.len() <= INLINE_OUTPUT_BYTES_MAX => {
            finish.output = StructuredOutput::Inline(json);
        }
        Ok(Collected::Json(json)) => match std::fs::write(workspace.output(), json) {
            Ok(()) => finish.output = StructuredOutput::InFile,
            Err(error) => finish.error = Some(ledger_failed(&error, storage)),
        },
        Err(problem) if succeeded => {
            let facts = ErrorFacts::bad_output(chain(&problem), RESULT_HINT);
            finish.error = Some(facts.because(problem.word()));
        }
        Err(problem) => tracing::info!(
            error = chain(&problem),
            "a run that did not succeed left a bad result"
        ),
    }
}

/// Standard output as the result; an empty one is no result, as an empty file is none.
fn read_stdout(workspace: &Workspace, total: u64) -> Result<Collected, ResultProblem> {
    if total > RESULT_BYTES_MAX {
        return Err(ResultProblem::TooLarge);
    }
    let [spool, _] = workspace.spools();
    let reader = SpoolReader::open(&spool).map_err(ResultProblem::Io)?;
    let mut content = Vec::new();
    loop {
        match reader
            .read(content.len() as u64, RESULT_BYTES_MAX as usize, total)
            .map_err(ResultProblem::Io)?
        {
            ReadOutcome::Bytes(bytes) => content.extend_from_slice(&bytes),
            ReadOutcome::Gap { .. } => {
                let reason = "standard output is longer than what is kept of it".to_owned();
                return Err(ResultProblem::NotJson { reason });
            }
            ReadOutcome::Nothing => break,
        }
    }
    if content.is_empty() {
        return Ok(Collected::Nothing);
    }
    check_json(content).map(Collected::Json)
}
