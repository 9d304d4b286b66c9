//! From the file's form to the wire's.

use serde_json::Value;
use taskyard_proto::v1::{
    CommandSpec, GroupWake, IsolationLevel, NetworkAccess, OutputLimits, Pty, ResourceLimits,
    ResultSource, RetryPolicy, TaskCollect, TaskDefinition, TaskInput, TaskSpec, WakePolicy,
};

use crate::failure::Failure;
use crate::quantity::to_wire;
use crate::secret_source;
use crate::task_file::model::{
    Collect, Command, GroupWakeName, Input, Isolation, IsolationName, NetworkName,
    ResultSourceName, Retry, TaskFile, Terminal, WakePolicyName,
};
use crate::task_file::scalar::{Moment, Span};
use crate::task_file::schedule::schedule;
use crate::view::moment::from_utc;

/// The task that the file describes. What the server can judge better is left to it.
///
/// # Errors
/// A secret that is to be read here cannot be read.
pub fn definition(file: TaskFile) -> Result<TaskDefinition, Failure> {
    let spec = TaskSpec {
        command: file.command.map(command),
        payload_json: json(file.payload.as_ref()),
        input_json: json(file.input.as_ref()),
        result_source: file
            .result_source
            .map_or(ResultSource::Unspecified, ResultSource::from)
            .into(),
        output_limits: file.output_limit.map(|size| OutputLimits {
            max_bytes_per_stream: i64::try_from(size.0).unwrap_or(i64::MAX),
        }),
        worker_labels: file.worker_labels,
        isolation: file.isolation.map(isolation),
        result_schema_json: json(file.result_schema.as_ref()),
        message_schema_json: json(file.message_schema.as_ref()),
        files: file.files.into_iter().map(input).collect(),
        collect: file.collect.into_iter().map(collect).collect(),
        approver_only: file.approver_only,
    };
    Ok(TaskDefinition {
        name: file.name,
        key: file.key,
        kind: file.kind,
        display_name: file.display_name,
        spec: Some(spec),
        parent_task_id: file.parent,
        parent_item: file.parent_item,
        group: file.group,
        labels: file.labels,
        tags: file.tags,
        queue: file.queue,
        executor: file.executor,
        priority: file.priority,
        not_before: time(file.not_before),
        start_deadline: time(file.start_deadline),
        timeout: span(file.timeout),
        retry: file.retry.map(retry),
        hold: file.hold,
        wake_policy: file
            .wake_policy
            .map_or(WakePolicy::Unspecified, WakePolicy::from)
            .into(),
        group_wake: file
            .group_wake
            .map_or(GroupWake::Unspecified, GroupWake::from)
            .into(),
        schedule: file.schedule.map(schedule),
        secrets: secret_source::read_all(file.secrets)?,
    })
}

fn command(command: Command) -> CommandSpec {
    CommandSpec {
        argv: command.argv,
        shell: command.shell,
        interpreter: command.interpreter,
        stdin_file: command.stdin_file,
        stdin_live: command.stdin_live,
        pty: command.pty.and_then(pty),
        env_files: command.env_files,
        nice: command.nice,
        rlimits: (command.rlimits.into_iter())
            .map(|(name, limit)| (name, limit.to_wire()))
            .collect(),
        user: command.user,
        group: command.group,
        start_jitter: span(command.start_jitter),
        env: command.env,
        inherit_env: command.inherit_env,
        cwd: command.cwd,
        stdin: command.stdin.map(|text| text.into_bytes().into()),
        umask: command.umask.map(|umask| umask.0),
        success_exit_codes: command.success_exit_codes,
        grace: span(command.grace),
        survive_worker_restart: command.survive_worker_restart,
    }
}

fn pty(terminal: Terminal) -> Option<Pty> {
    match terminal {
        Terminal::Wanted(is_wanted) => is_wanted.then(Pty::default),
        Terminal::Like(form) => Some(Pty {
            rows: form.rows,
            columns: form.columns,
            term: form.term,
        }),
    }
}

fn isolation(isolation: Isolation) -> taskyard_proto::v1::Isolation {
    taskyard_proto::v1::Isolation {
        level: match isolation.level {
            None => IsolationLevel::Unspecified,
            Some(IsolationName::None) => IsolationLevel::None,
            Some(IsolationName::Restricted) => IsolationLevel::Restricted,
        }
        .into(),
        network: match isolation.network {
            None => NetworkAccess::Unspecified,
            Some(NetworkName::Allowed) => NetworkAccess::Allowed,
            Some(NetworkName::None) => NetworkAccess::None,
        }
        .into(),
        writable_paths: isolation.writable,
        readable_paths: isolation.readable,
        limits: isolation.limits.map(|limits| ResourceLimits {
            memory_bytes: limits
                .memory
                .map(|size| i64::try_from(size.0).unwrap_or(i64::MAX)),
            cpu_millis: limits.cpu_millis,
            processes: limits.processes,
        }),
    }
}

fn input(input: Input) -> TaskInput {
    TaskInput {
        path: input.path,
        to: input.to,
        mode: input.mode.map(|mode| mode.0),
    }
}

fn collect(collect: Collect) -> TaskCollect {
    TaskCollect {
        glob: collect.glob,
        to: collect.to,
    }
}

fn retry(retry: Retry) -> RetryPolicy {
    RetryPolicy {
        max_runs: retry.max_runs,
        initial_backoff: span(retry.initial_backoff),
        max_backoff: span(retry.max_backoff),
        multiplier: retry.multiplier,
    }
}

fn json(value: Option<&Value>) -> String {
    value.map(Value::to_string).unwrap_or_default()
}

fn span(span: Option<Span>) -> Option<prost_types::Duration> {
    span.map(|span| to_wire(span.0))
}

fn time(moment: Option<Moment>) -> Option<prost_types::Timestamp> {
    moment.map(|moment| from_utc(moment.0))
}

impl From<ResultSourceName> for ResultSource {
    fn from(name: ResultSourceName) -> ResultSource {
        match name {
            ResultSourceName::File => ResultSource::File,
            ResultSourceName::Stdout => ResultSource::Stdout,
        }
    }
}

impl From<WakePolicyName> for WakePolicy {
    fn from(name: WakePolicyName) -> WakePolicy {
        match name {
            WakePolicyName::Silent => WakePolicy::Silent,
            WakePolicyName::OnTerminal => WakePolicy::OnTerminal,
            WakePolicyName::OnActivity => WakePolicy::OnActivity,
        }
    }
}

impl From<GroupWakeName> for GroupWake {
    fn from(name: GroupWakeName) -> GroupWake {
        match name {
            GroupWakeName::Each => GroupWake::Each,
            GroupWakeName::AllDone => GroupWake::AllDone,
            GroupWakeName::FirstFailed => GroupWake::FirstFailed,
        }
    }
}
