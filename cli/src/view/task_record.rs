//! A task for programs: the record's own field names, states as words, times in RFC 3339, durations like `1.5s`.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use taskyard_proto::v1::{
    Artifact, CommandSpec, Exit, InputRequest, Isolation, Links, Progress, Pty, RetryPolicy,
    SecretReference, SessionTask, TaskCollect, TaskError, TaskInput, TaskSpec, Usage,
};

use crate::quantity::{exact_duration, from_wire};
use crate::view::record::{Record, embedded_json};
use crate::view::{moment, words};

/// What the brief form leaves out even where it says something.
const NOT_IN_BRIEF: [&str; 15] = [
    "namespace",
    "spec",
    "key",
    "root_task_id",
    "wake_policy",
    "group_wake",
    "queue",
    "executor",
    "priority",
    "heartbeat_at",
    "updated_at",
    "generation",
    "start_deadline",
    "retry",
    "isolation",
];

/// Full: every field of the record. Brief: without the spec, the settings and whatever is empty.
pub fn task_record(task: &SessionTask, is_full: bool) -> Record {
    let record = Record::new()
        .with_text("id", &task.id)
        .with_text("namespace", &task.namespace)
        .with_text("session_id", &task.session_id)
        .with("ordinal", task.ordinal)
        .with_text("name", &task.name)
        .with_text("key", &task.key)
        .with_text("kind", &task.kind)
        .with_text("display_name", &task.display_name)
        .with("state", words::state(task.state()))
        .with_text("state_detail", &task.state_detail)
        .with("progress", task.progress.as_ref().map(progress))
        .with(
            "input_request",
            task.input_request.as_ref().map(input_request),
        )
        .with("cancel_requested_at", time(&task.cancel_requested_at))
        .with_text("summary", &task.summary)
        .with_text("result_path", &task.result_path)
        .with("artifacts", artifacts(&task.artifacts))
        .with("error", task.error.as_ref().map(error))
        .with("exit", task.exit.as_ref().map(exit))
        .with("attempt", task.attempt)
        .with("run", task.run)
        .with_text("worker_id", &task.worker_id)
        .with("heartbeat_at", time(&task.heartbeat_at))
        .with("links", task.links.as_ref().map(links))
        .with("wake_policy", words::wake_policy(task.wake_policy()))
        .with("group_wake", words::group_wake(task.group_wake()))
        .with("created_at", time(&task.created_at))
        .with("started_at", time(&task.started_at))
        .with("finished_at", time(&task.finished_at))
        .with("updated_at", time(&task.updated_at))
        .with_text("parent_task_id", &task.parent_task_id)
        .with_text("root_task_id", &task.root_task_id)
        .with_text("group", &task.group)
        .with("labels", pairs(&task.labels))
        .with("tags", task.tags.clone())
        .with_text("queue", &task.queue)
        .with_text("executor", &task.executor)
        .with("priority", task.priority)
        .with("concurrency_key", Value::Null)
        .with("not_before", time(&task.not_before))
        .with("start_deadline", time(&task.start_deadline))
        .with("timeout", duration(task.timeout.as_ref()))
        .with("retry", task.retry.as_ref().map(retry))
        .with("hold", task.hold)
        .with("usage", task.usage.as_ref().map(usage))
        .with("generation", task.generation)
        .with(
            "secrets",
            task.secrets.iter().map(secret).collect::<Vec<_>>(),
        )
        .with_text("isolation", &task.isolation)
        .with("spec", task.spec.as_ref().map(spec));
    if is_full {
        record
    } else {
        record.brief(&NOT_IN_BRIEF)
    }
}

/// A time, or null.
pub fn time(at: &Option<prost_types::Timestamp>) -> Value {
    at.as_ref()
        .map_or(Value::Null, |at| Value::from(moment::exact(at)))
}

pub fn input_request(request: &InputRequest) -> Record {
    Record::new()
        .with_text("id", &request.id)
        .with_text("key", &request.key)
        .with_text("prompt", &request.prompt)
        .with("expected", embedded_json(&request.expected_json))
        .with("created_at", time(&request.created_at))
        .with("expires_at", time(&request.expires_at))
}

pub fn progress(progress: &Progress) -> Record {
    let steps: Vec<Record> = progress
        .steps
        .iter()
        .map(|step| {
            Record::new()
                .with_text("title", &step.title)
                .with("status", words::step_status(step.status()))
        })
        .collect();
    Record::new()
        .with("current", progress.current)
        .with("total", progress.total)
        .with_text("unit", &progress.unit)
        .with_text("label", &progress.label)
        .with("steps", steps)
}

pub fn artifacts(artifacts: &[Artifact]) -> Vec<Record> {
    artifacts
        .iter()
        .map(|artifact| {
            Record::new()
                .with_text("name", &artifact.name)
                .with_text("type", &artifact.r#type)
                .with_text("path", &artifact.path)
                .with_text("url", &artifact.url)
        })
        .collect()
}

pub fn error(error: &TaskError) -> Record {
    Record::new()
        .with_text("kind", &error.kind)
        .with_text("reason", &error.reason)
        .with_text("message", &error.message)
        .with("retryable", error.retryable)
        .with_text("hint", &error.hint)
}

pub fn exit(exit: &Exit) -> Record {
    Record::new()
        .with("exit_code", exit.exit_code)
        .with("signal", exit.signal)
        .with_text("signal_name", &exit.signal_name)
        .with("timed_out", exit.timed_out)
        .with("oom_killed", exit.oom_killed)
}

pub fn links(links: &Links) -> Record {
    Record::new()
        .with_text("child_session_id", &links.child_session_id)
        .with_text("remote_task_id", &links.remote_task_id)
        .with("resource_ids", links.resource_ids.clone())
        .with_text("retry_of", &links.retry_of)
        .with_text("retried_as", &links.retried_as)
}

fn secret(secret: &SecretReference) -> Record {
    Record::new()
        .with_text("name", &secret.name)
        .with("source", words::secret_source(secret.source()))
        .with_text("reference", &secret.reference)
        .with_text("to_file", &secret.to_file)
}

fn usage(usage: &Usage) -> Record {
    Record::new()
        .with("cpu_ms", usage.cpu_ms)
        .with("max_rss_bytes", usage.max_rss_bytes)
        .with("reported", embedded_json(&usage.reported_json))
}

fn retry(retry: &RetryPolicy) -> Record {
    Record::new()
        .with("max_runs", retry.max_runs)
        .with("initial_backoff", duration(retry.initial_backoff.as_ref()))
        .with("max_backoff", duration(retry.max_backoff.as_ref()))
        .with("multiplier", retry.multiplier)
}

fn spec(spec: &TaskSpec) -> Record {
    let limit = spec
        .output_limits
        .as_ref()
        .map(|limits| limits.max_bytes_per_stream);
    Record::new()
        .with("command", spec.command.as_ref().map(command))
        .with("payload", embedded_json(&spec.payload_json))
        .with("input", embedded_json(&spec.input_json))
        .with("result_source", words::result_source(spec.result_source()))
        .with("output_limit", limit)
        .with("worker_labels", pairs(&spec.worker_labels))
        .with("isolation", spec.isolation.as_ref().map(isolation))
        .with("files", spec.files.iter().map(input).collect::<Vec<_>>())
        .with(
            "collect",
            spec.collect.iter().map(collect).collect::<Vec<_>>(),
        )
}

fn isolation(isolation: &Isolation) -> Record {
    let limits = isolation.limits.as_ref().map(|limits| {
        Record::new()
            .with("memory", limits.memory_bytes)
            .with("cpu_millis", limits.cpu_millis)
            .with("processes", limits.processes)
    });
    Record::new()
        .with("level", words::isolation_level(isolation.level()))
        .with("network", words::network_access(isolation.network()))
        .with("writable", isolation.writable_paths.clone())
        .with("readable", isolation.readable_paths.clone())
        .with("limits", limits)
}

fn input(input: &TaskInput) -> Record {
    Record::new()
        .with_text("path", &input.path)
        .with_text("to", &input.to)
        .with("mode", input.mode.map(|mode| format!("{mode:04o}")))
}

fn collect(collect: &TaskCollect) -> Record {
    Record::new()
        .with_text("glob", &collect.glob)
        .with_text("to", &collect.to)
}

fn command(command: &CommandSpec) -> Record {
    let stdin = command.stdin.as_deref().map(String::from_utf8_lossy);
    Record::new()
        .with("argv", command.argv.clone())
        .with_text("shell", &command.shell)
        .with("interpreter", command.interpreter.clone())
        .with("env_files", command.env_files.clone())
        .with_text("stdin_file", &command.stdin_file)
        .with("stdin_live", command.stdin_live)
        .with("pty", command.pty.as_ref().map(pty))
        .with("nice", command.nice)
        .with("rlimits", rlimits(command))
        .with_text("user", &command.user)
        .with_text("group", &command.group)
        .with("start_jitter", duration(command.start_jitter.as_ref()))
        .with("env", pairs(&command.env))
        .with("inherit_env", command.inherit_env.clone())
        .with_text("cwd", &command.cwd)
        .with("stdin", stdin.map(String::from))
        .with("umask", command.umask.map(|umask| format!("{umask:04o}")))
        .with("success_exit_codes", command.success_exit_codes.clone())
        .with("grace", duration(command.grace.as_ref()))
        .with("survive_worker_restart", command.survive_worker_restart)
}

fn pty(pty: &Pty) -> Record {
    Record::new()
        .with("rows", pty.rows.map_or(Value::Null, Value::from))
        .with("columns", pty.columns.map_or(Value::Null, Value::from))
        .with_text("term", &pty.term)
}

fn rlimits(command: &CommandSpec) -> Value {
    let limits = command.rlimits.iter();
    let limits = limits.map(|(name, limit)| {
        let limit = Map::from_iter([
            ("soft".to_owned(), limit_value(limit.soft)),
            ("hard".to_owned(), limit_value(limit.hard)),
        ]);
        (name.clone(), Value::Object(limit))
    });
    Value::Object(limits.collect())
}

fn limit_value(limit: Option<u64>) -> Value {
    match limit {
        None => Value::Null,
        Some(u64::MAX) => Value::from("unlimited"),
        Some(limit) => Value::from(limit),
    }
}

fn duration(duration: Option<&prost_types::Duration>) -> Value {
    duration.map_or(Value::Null, |duration| {
        Value::from(exact_duration(from_wire(duration)))
    })
}

/// Key/value pairs in the order of their keys.
pub fn pairs(pairs: &BTreeMap<String, String>) -> Value {
    let pairs: Map<String, Value> = pairs
        .iter()
        .map(|(key, value)| (key.clone(), Value::from(value.as_str())))
        .collect();
    Value::Object(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use taskyard_proto::v1::TaskState;

    #[test]
    fn brief_says_what_matters_and_full_has_every_field() {
        let mut task = SessionTask {
            id: "task_0193a5f0c0de7000800000000000abcd".to_owned(),
            session_id: "demo".to_owned(),
            ordinal: 12,
            kind: "command".to_owned(),
            run: 1,
            attempt: 1,
            timeout: Some(prost_types::Duration {
                seconds: 1,
                nanos: 500_000_000,
            }),
            ..SessionTask::default()
        };
        task.set_state(TaskState::Running);
        let brief = serde_json::to_string(&task_record(&task, false)).expect("a record is JSON");
        assert_eq!(
            brief,
            r#"{"id":"task_0193a5f0c0de7000800000000000abcd","session_id":"demo","ordinal":12,"kind":"command","state":"running","attempt":1,"run":1,"timeout":"1.5s"}"#
        );
        let full = serde_json::to_value(task_record(&task, true)).expect("a record is JSON");
        // The record as the design names it.
        let names = "id session_id kind display_name spec state state_detail progress input_request \
                     cancel_requested_at summary result_path artifacts error attempt worker_id heartbeat_at links \
                     wake_policy created_at started_at finished_at updated_at namespace ordinal name key \
                     parent_task_id root_task_id group labels tags queue executor priority concurrency_key not_before \
                     start_deadline timeout retry hold run exit usage generation group_wake secrets isolation";
        for name in names.split_whitespace() {
            assert!(full.get(name).is_some(), "{name} is missing");
        }
        assert_eq!(
            full.as_object().map(Map::len),
            Some(names.split_whitespace().count())
        );
    }
}
