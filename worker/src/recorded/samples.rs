//! What is said and kept, with everything in it.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use crate::boot_time::BootTime;
use crate::isolation::{Confinement, IsolationLevel};
use crate::lease::{
    CaptureFacts, CollectRule, CollectedFile, Collection, ErrorFacts, ErrorKind, ExitFacts, Finish,
    Lease, ResultSource, SkippedFile, StopCause, StreamFacts, StructuredOutput, TerminalSize,
};
use crate::ledger::{FinishedRecord, LedgerEntry, SurvivingRecord};
use crate::output::spool::SpoolLayout;
use crate::process::{
    Account, Capture, ExitStatus, Identity, Kept, LastWords, Launch, LimitedResource, ProcessEnd,
    Rlimit, Signal, SpoolFailure, SpoolSpec, Stdin, StreamEnd, Survival,
};
use crate::shim::message::{
    AttachRequest, Attached, Command, Report, StartFailure, StartStep, to_hex,
};

/// More than the layout keeps.
pub const SPOOLED: &[u8] = b"the first bytes, some in between, and the last";

pub const LAYOUT: SpoolLayout = SpoolLayout {
    head_cap: 16,
    tail_cap: 8,
};

const SIZE: TerminalSize = TerminalSize {
    rows: 24,
    columns: 80,
};

pub fn lease() -> Lease {
    Lease::new("task_recorded", 7, &[9; 16]).expect("a lease")
}

pub fn survival() -> Survival {
    Survival {
        directory: PathBuf::from("/data/tasks/run"),
        token: "word".to_owned(),
    }
}

/// Each with its name.
pub fn samples() -> Vec<(String, Value)> {
    let mut samples = vec![
        sample(
            "launch.pipes",
            &launch(Stdin::File(PathBuf::from("/input"))),
        ),
        sample("launch.live", &launch(Stdin::Live)),
        sample("launch.null", &launch(Stdin::Null)),
        sample(
            "attach_request",
            &AttachRequest {
                token: "word".to_owned(),
            },
        ),
        sample("last_words", &last_words()),
        sample("ledger.pending", &LedgerEntry::Pending),
        sample("ledger.launching", &LedgerEntry::Launching),
        sample(
            "ledger.surviving",
            &LedgerEntry::Surviving(Box::new(surviving())),
        ),
    ];
    for (name, finish) in finishes() {
        let record = LedgerEntry::Finished(Box::new(finished(finish)));
        samples.push(sample(&format!("ledger.finished.{name}"), &record));
    }
    samples.extend(commands().map(|(name, command)| sample(&format!("command.{name}"), &command)));
    samples.extend(reports().map(|(name, report)| sample(&format!("report.{name}"), &report)));
    for step in StartStep::ALL {
        let failure = StartFailure {
            step,
            errno: 2,
            index: 1,
        };
        let name = format!("report.start_failed.{step:?}");
        samples.push(sample(&name, &Report::StartFailed(failure)));
    }
    samples
}

fn sample<T: Serialize>(name: &str, value: &T) -> (String, Value) {
    (name.to_owned(), serde_json::to_value(value).expect("JSON"))
}

fn launch(stdin: Stdin) -> Launch {
    let spool = |path: &str| SpoolSpec {
        path: PathBuf::from(path),
        head_cap: 2,
        tail_cap: 1,
    };
    Launch {
        argv: vec!["make".to_owned(), "all".to_owned()],
        env: vec![("LANG".to_owned(), "C".to_owned())],
        cwd: PathBuf::from("/data/tasks/run/work"),
        umask: Some(0o027),
        nice: Some(5),
        rlimits: vec![Rlimit {
            resource: LimitedResource::Nofile,
            soft: 100,
            hard: 200,
        }],
        identity: Some(Identity {
            uid: 1000,
            gid: 1000,
            groups: vec![1000],
            account: Some(Account {
                name: "worker".to_owned(),
                home: "/home/worker".to_owned(),
            }),
        }),
        stdin,
        terminal: Some(SIZE),
        secrets: vec![b"secret".to_vec()],
        stdout: spool("/data/tasks/run/stdout"),
        stderr: spool("/data/tasks/run/stderr"),
        drain: Duration::from_secs(2),
        deadline: BootTime::from_nanos(1_000),
        survival: Some(survival()),
        confinement: Some(Confinement {
            without_network: true,
            writable: vec![PathBuf::from("/data")],
            readable: vec![PathBuf::from("/usr")],
        }),
        group: Some(PathBuf::from("/sys/fs/cgroup/run")),
    }
}

fn kept() -> Kept {
    Kept {
        launched_at: BootTime::from_nanos(7),
        runs_out_at: Some(BootTime::from_nanos(70)),
        left: Some(Duration::from_millis(1_500)),
        grace: Duration::from_millis(50),
        stop: Some(StopCause::TimedOut),
    }
}

fn end() -> ProcessEnd {
    let stream = |capture| StreamEnd {
        total: 10,
        capture,
        spool_failure: Some(SpoolFailure {
            offset: 3,
            errno: 28,
        }),
    };
    ProcessEnd {
        exit: Some(ExitStatus::Code(3)),
        stdout: stream(Capture::Drained),
        stderr: stream(Capture::Leaked),
        leftover_killed: 1,
        unkillable: 2,
        cpu_ms: 30,
        max_rss_bytes: 4096,
        deadline_exceeded: true,
    }
}

fn last_words() -> LastWords {
    LastWords {
        pid: 42,
        end: ProcessEnd {
            stdout: StreamEnd {
                capture: Capture::Abandoned,
                ..end().stdout
            },
            ..end()
        },
        exited_at: Some(BootTime::from_nanos(60)),
        kept: kept(),
    }
}

fn surviving() -> SurvivingRecord {
    SurvivingRecord {
        home: lease(),
        session_id: "session".to_owned(),
        token: "word".to_owned(),
        next: Some(lease().id),
        run: 2,
        lease_duration: Duration::from_secs(30),
        grace: Duration::from_secs(5),
        cwd: "work".to_owned(),
        success_exit_codes: vec![0, 3],
        result_source: ResultSource::Stdout,
        collect: vec![CollectRule {
            glob: "*.txt".to_owned(),
            to: "/out".to_owned(),
        }],
        head_cap: 2,
        tail_cap: 1,
        terminal: Some(SIZE),
        isolation: IsolationLevel::Restricted,
        trace: ("00-traceparent".to_owned(), "vendor=1".to_owned()),
        group: Some(PathBuf::from("/sys/fs/cgroup/run")),
    }
}

fn finished(finish: Finish) -> FinishedRecord {
    FinishedRecord {
        run: 2,
        home: Some(lease()),
        finish,
        artifacts: vec!["report.md".to_owned()],
        collection: Some(Collection {
            cwd: "work".to_owned(),
            files: vec![CollectedFile {
                from: "a.txt".to_owned(),
                to: "/out/a.txt".to_owned(),
            }],
            skipped: vec![SkippedFile {
                from: "b.txt".to_owned(),
                reason: "too large".to_owned(),
            }],
            skipped_count: 4,
        }),
        head_cap: 2,
        tail_cap: 1,
    }
}

/// Every word of every choice that a finish has is in one of them.
fn finishes() -> Vec<(&'static str, Finish)> {
    let finish = |exit, stop_cause, kind, output, capture| Finish {
        exit: Some(exit),
        stop_cause: Some(stop_cause),
        error: Some(ErrorFacts {
            kind,
            message: "it did not start".to_owned(),
            retryable: true,
            hint: "install it".to_owned(),
            reason: "ENOENT".to_owned(),
        }),
        duration_ms: Some(12),
        output,
        cpu_ms: 3,
        max_rss_bytes: 4096,
        stdout: StreamFacts {
            total_bytes: 5,
            capture,
            tail: b"made\n".to_vec(),
        },
        stderr: StreamFacts {
            total_bytes: 4,
            capture: CaptureFacts::Unspecified,
            tail: b"oops".to_vec(),
        },
        isolation: IsolationLevel::Restricted,
        oom_killed: true,
        accept_incomplete: true,
    };
    let signal = ExitFacts::Signal {
        number: 9,
        name: "SIGKILL".to_owned(),
    };
    let inline = StructuredOutput::Inline("{}".to_owned());
    vec![
        (
            "exited",
            finish(
                ExitFacts::Code(3),
                StopCause::Canceled,
                ErrorKind::StartFailed,
                inline,
                CaptureFacts::Drained,
            ),
        ),
        (
            "timed_out",
            finish(
                signal.clone(),
                StopCause::TimedOut,
                ErrorKind::IsolationUnavailable,
                StructuredOutput::InFile,
                CaptureFacts::Leaked,
            ),
        ),
        (
            "expired",
            finish(
                signal.clone(),
                StopCause::LeaseExpired,
                ErrorKind::BadOutput,
                StructuredOutput::None,
                CaptureFacts::Abandoned,
            ),
        ),
        (
            "shut_down",
            finish(
                signal,
                StopCause::WorkerShutdown,
                ErrorKind::WorkerError,
                StructuredOutput::None,
                CaptureFacts::Incomplete,
            ),
        ),
    ]
}

fn commands() -> impl Iterator<Item = (&'static str, Command)> {
    let deadline = BootTime::from_nanos(1_000);
    [
        ("extend", Command::Extend { deadline }),
        (
            "terminate",
            Command::Terminate {
                signal: Signal::Term,
                grace_ms: 5,
            },
        ),
        ("kill", Command::Kill),
        ("keep", Command::Keep(kept())),
        (
            "signal",
            Command::Signal {
                signal: Signal::Usr1,
                root_only: true,
            },
        ),
        (
            "input",
            Command::Input {
                data: to_hex(b"bytes"),
                ends: true,
            },
        ),
        ("resize", Command::Resize(SIZE)),
    ]
    .into_iter()
}

fn reports() -> impl Iterator<Item = (&'static str, Report)> {
    let attached = Attached {
        pid: 42,
        stdout_total: 5,
        stderr_total: 4,
        exit: Some(ExitStatus::Signal(9)),
        exited_at: Some(BootTime::from_nanos(60)),
        kept: kept(),
    };
    [
        ("started", Report::Started { pid: 42 }),
        (
            "output",
            Report::Output {
                stdout_total: 5,
                stderr_total: 4,
            },
        ),
        ("input_taken", Report::InputTaken { total: 5 }),
        ("exited.code", Report::Exited(ExitStatus::Code(3))),
        ("exited.signal", Report::Exited(ExitStatus::Signal(9))),
        ("ended", Report::Ended(end())),
        ("attached", Report::Attached(attached)),
    ]
    .into_iter()
}
