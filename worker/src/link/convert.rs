//! Wire to words and back.

use std::collections::BTreeMap;
use std::time::Duration;

use taskyard_proto::v1;
use taskyard_telemetry::trace::context::TraceContext;

use super::isolation::isolation_from_wire;
use super::reports::{Report, Verdict};
use crate::lease::{
    CaptureFacts, CollectRule, CommandWork, ErrorFacts, ErrorKind, ExitFacts, Finish, InputFile,
    Lease, MalformedLease, Offer, ResultSource, Secret, SecretSource, StopCause, StreamFacts,
    StructuredOutput, TerminalRequest, TerminalSize, Work,
};

const DEFAULT_GRACE: Duration = Duration::from_secs(5);
const DEFAULT_OUTPUT_BYTES: i64 = 16 * 1024 * 1024;
const OUTPUT_BYTES_MAX: i64 = 256 * 1024 * 1024;
const EXECUTOR: &str = "command";
/// What runs a script where the spec does not say.
const DEFAULT_INTERPRETER: [&str; 2] = ["/bin/sh", "-c"];
/// A terminal where the spec does not say.
const DEFAULT_ROWS: u32 = 24;
const DEFAULT_COLUMNS: u32 = 80;
const DEFAULT_TERM: &str = "xterm-256color";
/// A lease shorter than this could not be kept up; one without a duration is treated like it.
const LEASE_DURATION_MIN: Duration = Duration::from_millis(100);

pub fn lease_to_wire(lease: &Lease) -> v1::Lease {
    v1::Lease {
        task_id: lease.task_id.clone(),
        epoch: lease.epoch,
        lease_id: lease.id.as_bytes().to_vec().into(),
    }
}

pub fn lease_from_wire(lease: Option<&v1::Lease>) -> Result<Lease, MalformedLease> {
    let lease = lease.ok_or(MalformedLease {
        what: "there is none",
    })?;
    Lease::new(&lease.task_id, lease.epoch, &lease.lease_id)
}

pub fn offer_from_wire(offer: v1::Offer) -> Result<Offer, MalformedLease> {
    let lease = lease_from_wire(offer.lease.as_ref())?;
    let lease_duration = offer.lease_duration.as_ref().and_then(duration_from_wire);
    let work = if offer.executor.is_empty() || offer.executor == EXECUTOR {
        offer.spec.map(work_from_wire)
    } else {
        let reason = format!("this worker has no executor {:?}", offer.executor);
        Some(Work::Unsupported { reason })
    };
    Ok(Offer {
        lease,
        session_id: offer.session_id,
        namespace: offer.namespace,
        attempt: offer.attempt,
        run: offer.run,
        lease_duration: lease_duration.unwrap_or_default().max(LEASE_DURATION_MIN),
        timeout: offer.timeout.as_ref().and_then(duration_from_wire),
        has_secrets: offer.has_secrets,
        trace: TraceContext::read(&offer.traceparent, &offer.tracestate),
        work,
    })
}

/// `Err` names a secret that comes from where this worker cannot get it.
pub fn secrets_from_wire(secrets: Vec<v1::TaskSecret>) -> Result<Vec<Secret>, String> {
    use v1::task_secret::Source as Wire;
    let secrets = secrets.into_iter().map(|secret| {
        let source = match secret.source {
            Some(Wire::Value(value)) => SecretSource::Value(value.into()),
            Some(Wire::WorkerEnv(name)) => SecretSource::WorkerEnv(name),
            Some(Wire::WorkerFile(path)) => SecretSource::WorkerFile(path),
            None => return Err(secret.name),
        };
        Ok(Secret {
            name: secret.name,
            source,
            to_file: secret.to_file,
        })
    });
    secrets.collect()
}

pub fn work_from_wire(spec: v1::TaskSpec) -> Work {
    let result_source = match spec.result_source() {
        v1::ResultSource::Unspecified | v1::ResultSource::File => ResultSource::File,
        v1::ResultSource::Stdout => ResultSource::Stdout,
    };
    let isolation = spec.isolation.map(isolation_from_wire).unwrap_or_default();
    let Some(command) = spec.command else {
        return Work::Unsupported {
            reason: "the spec has no command".to_owned(),
        };
    };
    let kept = spec
        .output_limits
        .map_or(DEFAULT_OUTPUT_BYTES, |limits| limits.max_bytes_per_stream);
    let kept = u64::try_from(kept.clamp(0, OUTPUT_BYTES_MAX)).unwrap_or(0);
    let tail_cap = kept / 3;
    let success_exit_codes = if command.success_exit_codes.is_empty() {
        vec![0]
    } else {
        command.success_exit_codes
    };
    let files = spec.files.into_iter().map(|input| InputFile {
        path: input.path,
        to: input.to,
        mode: input.mode,
    });
    let collect = spec.collect.into_iter().map(|rule| CollectRule {
        glob: rule.glob,
        to: rule.to,
    });
    let argv = if command.shell.is_empty() {
        command.argv
    } else {
        let mut argv = command.interpreter;
        if argv.is_empty() {
            argv = DEFAULT_INTERPRETER.map(str::to_owned).to_vec();
        }
        argv.push(command.shell);
        argv
    };
    Work::Command(Box::new(CommandWork {
        stdin_file: command.stdin_file,
        stdin_live: command.stdin_live,
        terminal: command.pty.map(terminal_from_wire),
        env_files: command.env_files,
        nice: command.nice,
        rlimits: rlimits_from_wire(command.rlimits),
        user: command.user,
        group: command.group,
        files: files.collect(),
        collect: collect.collect(),
        argv,
        env: command.env.into_iter().collect(),
        inherit_env: command.inherit_env,
        cwd: command.cwd,
        stdin: command.stdin,
        umask: command.umask,
        survives: command.survive_worker_restart,
        success_exit_codes,
        grace: command
            .grace
            .as_ref()
            .and_then(duration_from_wire)
            .unwrap_or(DEFAULT_GRACE),
        isolation,
        input_json: spec.input_json,
        result_source,
        head_cap: kept - tail_cap,
        tail_cap,
    }))
}

fn terminal_from_wire(pty: v1::Pty) -> TerminalRequest {
    TerminalRequest {
        size: terminal_size(
            pty.rows.unwrap_or(DEFAULT_ROWS),
            pty.columns.unwrap_or(DEFAULT_COLUMNS),
        ),
        term: if pty.term.is_empty() {
            DEFAULT_TERM.to_owned()
        } else {
            pty.term
        },
    }
}

/// The control plane has checked the numbers; whatever they are, a terminal can have them.
pub fn terminal_size(rows: u32, columns: u32) -> TerminalSize {
    let dimension = |value| u16::try_from(value).unwrap_or(u16::MAX);
    TerminalSize {
        rows: dimension(rows),
        columns: dimension(columns),
    }
}

/// Where one of both is not said, it is the other.
fn rlimits_from_wire(limits: BTreeMap<String, v1::ResourceLimit>) -> BTreeMap<String, (u64, u64)> {
    let limits = limits.into_iter().filter_map(|(name, limit)| {
        let soft = limit.soft.or(limit.hard)?;
        Some((name, (soft, limit.hard.unwrap_or(soft))))
    });
    limits.collect()
}

/// Absent for negative durations.
pub fn duration_from_wire(duration: &prost_types::Duration) -> Option<Duration> {
    Duration::try_from(*duration).ok()
}

pub fn duration_to_wire(duration: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(duration.subsec_nanos()).unwrap_or(0),
    }
}

pub fn report_to_wire(lease: &Lease, item_no: i64, report: Report) -> v1::ReportItem {
    use v1::report_item::Report as Wire;
    let report = match report {
        Report::Start => Wire::Start(v1::StartReport {}),
        Report::Artifact { name, path } => Wire::Artifact(v1::ArtifactReport {
            artifact: Some(v1::Artifact {
                name,
                r#type: "file".to_owned(),
                path,
                url: String::new(),
            }),
        }),
        Report::Finish(finish) => Wire::Finish(finish_to_wire(*finish)),
        Report::Release { reason } => Wire::Release(v1::ReleaseReport { reason }),
    };
    v1::ReportItem {
        lease: Some(lease_to_wire(lease)),
        item_no,
        report: Some(report),
    }
}

/// Absent for a verdict that is not known: nothing can be concluded from it.
pub fn verdict_from_wire(answer: v1::ItemVerdict) -> Option<Verdict> {
    let verdict = match v1::Verdict::try_from(answer.verdict).ok()? {
        v1::Verdict::Unspecified => return None,
        v1::Verdict::Applied => Verdict::Applied,
        v1::Verdict::AlreadyApplied => Verdict::AlreadyApplied,
        v1::Verdict::LeaseLost => Verdict::LeaseLost,
        v1::Verdict::Terminal => Verdict::Terminal,
        v1::Verdict::OutputPending => Verdict::OutputPending,
        v1::Verdict::Rejected => Verdict::Rejected {
            message: answer.message,
        },
        v1::Verdict::Canceled => Verdict::Canceled,
    };
    Some(verdict)
}

fn finish_to_wire(finish: Finish) -> v1::FinishReport {
    let timed_out = finish.stop_cause == Some(StopCause::TimedOut);
    let (output_json, output_in_file) = match finish.output {
        StructuredOutput::None => (String::new(), false),
        StructuredOutput::Inline(json) => (json, false),
        StructuredOutput::InFile => (String::new(), true),
    };
    let ran = finish.exit.is_some() || finish.duration_ms.is_some();
    let usage = v1::Usage {
        cpu_ms: signed(finish.cpu_ms),
        max_rss_bytes: signed(finish.max_rss_bytes),
        reported_json: String::new(),
    };
    v1::FinishReport {
        exit: finish
            .exit
            .map(|exit| exit_to_wire(exit, timed_out, finish.oom_killed)),
        stop_cause: stop_cause_to_wire(finish.stop_cause).into(),
        error: finish.error.map(error_to_wire),
        duration: finish
            .duration_ms
            .map(|ms| duration_to_wire(Duration::from_millis(ms))),
        output_json,
        output_in_file,
        summary: String::new(),
        usage: ran.then_some(usage),
        isolation: if ran {
            finish.isolation.as_str().to_owned()
        } else {
            String::new()
        },
        stdout: Some(stream_to_wire(finish.stdout)),
        stderr: Some(stream_to_wire(finish.stderr)),
        accept_incomplete: finish.accept_incomplete,
    }
}

fn exit_to_wire(exit: ExitFacts, timed_out: bool, oom_killed: bool) -> v1::Exit {
    let (exit_code, signal, signal_name) = match exit {
        ExitFacts::Code(code) => (Some(code), None, String::new()),
        ExitFacts::Signal { number, name } => (None, Some(number), name),
    };
    v1::Exit {
        exit_code,
        signal,
        signal_name,
        timed_out,
        oom_killed,
    }
}

fn stop_cause_to_wire(stop_cause: Option<StopCause>) -> v1::StopCause {
    match stop_cause {
        None => v1::StopCause::Unspecified,
        Some(StopCause::Canceled) => v1::StopCause::Canceled,
        Some(StopCause::TimedOut) => v1::StopCause::TimedOut,
        Some(StopCause::LeaseExpired) => v1::StopCause::LeaseExpired,
        Some(StopCause::WorkerShutdown) => v1::StopCause::WorkerShutdown,
    }
}

fn error_to_wire(error: ErrorFacts) -> v1::TaskError {
    let kind = match error.kind {
        ErrorKind::StartFailed => "start_failed",
        ErrorKind::IsolationUnavailable => "isolation_unavailable",
        ErrorKind::BadOutput => "bad_output",
        ErrorKind::WorkerError => "worker_error",
    };
    v1::TaskError {
        kind: kind.to_owned(),
        message: error.message,
        retryable: error.retryable,
        hint: error.hint,
        reason: error.reason,
    }
}

fn stream_to_wire(stream: StreamFacts) -> v1::StreamReport {
    let capture = match stream.capture {
        CaptureFacts::Unspecified => v1::Capture::Unspecified,
        CaptureFacts::Drained => v1::Capture::Drained,
        CaptureFacts::Leaked => v1::Capture::Leaked,
        CaptureFacts::Abandoned => v1::Capture::Abandoned,
        CaptureFacts::Incomplete => v1::Capture::Incomplete,
    };
    v1::StreamReport {
        total_bytes: signed(stream.total_bytes),
        capture: capture.into(),
        tail: stream.tail.into(),
    }
}

pub fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spec_without_words_gets_the_defaults() {
        let command = v1::CommandSpec {
            argv: vec!["true".to_owned()],
            ..Default::default()
        };
        let spec = v1::TaskSpec {
            command: Some(command),
            ..Default::default()
        };
        let Work::Command(work) = work_from_wire(spec) else {
            panic!("it is a command")
        };
        assert_eq!(work.success_exit_codes, [0]);
        assert_eq!(work.grace, Duration::from_secs(5));
        assert_eq!(work.head_cap + work.tail_cap, 16 * 1024 * 1024);
        assert_eq!(work.tail_cap, 16 * 1024 * 1024 / 3);
    }

    #[test]
    fn an_offer_for_another_executor_cannot_be_run() {
        let lease = v1::Lease {
            task_id: "task_1".to_owned(),
            epoch: 1,
            lease_id: vec![1; 16].into(),
        };
        let offer = v1::Offer {
            lease: Some(lease),
            executor: "agent".to_owned(),
            ..Default::default()
        };
        let offer = offer_from_wire(offer).expect("a good lease");
        assert!(matches!(offer.work, Some(Work::Unsupported { .. })));
    }

    #[test]
    fn a_timeout_shows_in_the_exit() {
        let mut finish = Finish::without_process(Some(StopCause::TimedOut), None);
        finish.exit = Some(ExitFacts::Signal {
            number: 15,
            name: "SIGTERM".to_owned(),
        });
        let wire = finish_to_wire(finish);
        assert_eq!(wire.stop_cause(), v1::StopCause::TimedOut);
        let exit = wire.exit.expect("there is an exit");
        assert!(exit.timed_out);
        assert_eq!(
            (exit.exit_code, exit.signal, exit.signal_name.as_str()),
            (None, Some(15), "SIGTERM")
        );
    }
}
