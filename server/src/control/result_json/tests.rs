//! The golden files in `tests/golden/` hold the format. `UPDATE=1` writes them anew; a change of theirs is a change of
//! what programs read.

use super::*;
use std::{env, fs, path::PathBuf};
use taskyard_proto::v1::{Artifact, TaskError};

fn time(micros: i32) -> Option<prost_types::Timestamp> {
    Some(prost_types::Timestamp {
        seconds: 1_763_740_800,
        nanos: micros * 1_000,
    })
}

/// A task that ran once, until something says otherwise.
fn record(state: TaskState) -> TaskRecord {
    let id = TaskId(0x019a_aaaa_bbbb_7ccc_8ddd_eeee_ffff_0001);
    TaskRecord {
        id,
        session_uid: SessionUid(7),
        task: SessionTask {
            id: id.to_string(),
            session_id: "demo / süd".to_owned(),
            kind: "command".to_owned(),
            state: state.into(),
            attempt: 1,
            run: 1,
            started_at: time(250),
            finished_at: time(500_000),
            generation: 3,
            ..SessionTask::default()
        },
        run_end: None,
    }
}

fn stream(total_bytes: i64, tail: &'static [u8]) -> Option<EndedStream> {
    Some(EndedStream {
        total_bytes,
        stored_bytes: total_bytes,
        capture: Capture::Drained.into(),
        tail: tail.into(),
    })
}

fn exited(exit_code: i32) -> Exit {
    Exit {
        exit_code: Some(exit_code),
        ..Exit::default()
    }
}

fn error(kind: &str, message: &str, retryable: bool) -> Option<TaskError> {
    Some(TaskError {
        kind: kind.to_owned(),
        message: message.to_owned(),
        retryable,
        hint: taskyard_core::task::ErrorKind::parse(kind)
            .map_or("", taskyard_core::task::ErrorKind::hint)
            .to_owned(),
        reason: String::new(),
    })
}

fn assert_golden(name: &str, record: &TaskRecord) {
    let rendered = render(record).expect("renders");
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name);
    if env::var_os("UPDATE").is_some() {
        fs::write(&path, &rendered).expect("a writable golden file");
    }
    let golden = fs::read_to_string(&path).expect("a golden file; UPDATE=1 writes it");
    assert_eq!(rendered, golden, "{}", path.display());
    assert_eq!(render(record).expect("renders"), rendered);
    let parsed: serde_json::Value = serde_json::from_str(&rendered).expect("JSON");
    assert_eq!(parsed.as_object().map(serde_json::Map::len), Some(20));
}

#[test]
fn succeeded_with_output() {
    let mut record = record(TaskState::Succeeded);
    record.task.exit = Some(exited(0));
    record.task.summary = "exit 0 in 499 ms".to_owned();
    record.task.artifacts = vec![
        Artifact {
            name: "report".to_owned(),
            r#type: "file".to_owned(),
            path: format!("/.tasks/{}/artifacts/report.md", record.id),
            url: String::new(),
        },
        Artifact {
            name: "site".to_owned(),
            r#type: "url".to_owned(),
            path: String::new(),
            url: "https://example.com/?a=1&b=2".to_owned(),
        },
    ];
    record.task.usage = Some(Usage {
        cpu_ms: 120,
        max_rss_bytes: 4_194_304,
        reported_json: r#"{"tokens": 12345678901234567890, "cost": 0.10, "cpu_ms": -1}"#.to_owned(),
    });
    record.run_end = Some(RunEnd {
        exit: record.task.exit.clone(),
        duration_ms: Some(499),
        output_json: r#"{"b": 1.0, "a": [1e300, "\u00e4"],  "big": 12345678901234567890123}"#
            .to_owned(),
        usage: record.task.usage.clone(),
        isolation: "none".to_owned(),
        stdout: stream(7, b"line 1\n"),
        stderr: stream(0, b""),
        ..RunEnd::default()
    });
    assert_golden("succeeded_with_output.json", &record);
}

#[test]
fn failed_exit() {
    let mut record = record(TaskState::Failed);
    record.task.exit = Some(exited(3));
    record.task.summary = "exit 3 in 1.2 s; stderr: oops".to_owned();
    record.task.error = error("exit", "the process exited with code 3", true);
    record.run_end = Some(RunEnd {
        exit: record.task.exit.clone(),
        duration_ms: Some(1_200),
        isolation: "none".to_owned(),
        stdout: stream(14, b"line 1\nline 2\n"),
        // ends one character, then: NUL, escape, what is no UTF-8, a quote
        stderr: stream(12, b"\xa4oops\0\x1b\xff\"\n"),
        ..RunEnd::default()
    });
    assert_golden("failed_exit.json", &record);
}

#[test]
fn canceled_in_the_queue() {
    let mut record = record(TaskState::Canceled);
    record.task.attempt = 0;
    record.task.run = 0;
    record.task.started_at = None;
    record.task.summary = "canceled before it started".to_owned();
    assert_golden("canceled_in_the_queue.json", &record);
}

#[test]
fn orphaned() {
    let mut record = record(TaskState::Failed);
    record.task.attempt = 3;
    record.task.run = 3;
    record.task.error = error("orphaned", "the worker `w1` was lost in run 3 of 3", true);
    assert_golden("orphaned.json", &record);
}

#[test]
fn start_failed() {
    let mut record = record(TaskState::Failed);
    record.task.error = error("start_failed", "no such program: `nonesuch`", false);
    if let Some(error) = &mut record.task.error {
        error.reason = "ENOENT".to_owned();
    }
    record.run_end = Some(RunEnd {
        isolation: "none".to_owned(),
        stdout: stream(0, b""),
        stderr: stream(0, b""),
        ..RunEnd::default()
    });
    assert_golden("start_failed.json", &record);
}

#[test]
fn big_output() {
    let mut record = record(TaskState::Failed);
    record.task.exit = Some(Exit {
        signal: Some(9),
        signal_name: "SIGKILL".to_owned(),
        timed_out: true,
        ..Exit::default()
    });
    record.task.error = error("timeout", "the run took longer than 30 s", true);
    record.run_end = Some(RunEnd {
        exit: record.task.exit.clone(),
        duration_ms: Some(30_004),
        output_in_file: true,
        isolation: "none".to_owned(),
        stdout: Some(EndedStream {
            total_bytes: 1 << 30,
            stored_bytes: 16 << 20,
            capture: Capture::Leaked.into(),
            tail: b"xxxx".as_slice().into(),
        }),
        stderr: Some(EndedStream {
            total_bytes: 5,
            stored_bytes: 3,
            capture: Capture::Incomplete.into(),
            tail: b"end".as_slice().into(),
        }),
        ..RunEnd::default()
    });
    assert_golden("big_output.json", &record);
}

#[test]
fn what_is_no_json_is_refused_instead_of_breaking_the_document() {
    let mut record = record(TaskState::Succeeded);
    record.run_end = Some(RunEnd {
        output_json: r#"1}, "state": "x", {"#.to_owned(),
        ..RunEnd::default()
    });
    assert!(matches!(render(&record), Err(StoreError::Corrupt { .. })));
}

#[test]
fn a_tail_starts_with_a_whole_character() {
    for (tail, text) in [
        (b"".as_slice(), ""),
        (b"\x80", ""),
        (b"\x9f\x98\x80a", "a"),
        ("ä".as_bytes(), "ä"),
        (b"a\xc3", "a\u{fffd}"),
        (b"\x80\x80\x80\x80", "\u{fffd}\u{fffd}\u{fffd}\u{fffd}"),
    ] {
        assert_eq!(tail_text(tail), text, "{tail:?}");
    }
}
