//! What `run` and `self spawn` say of a task beside its command. Each is a field of a task file, too; the rarer ones
//! stand in the help in one line.

use std::time::Duration;

use clap::Args;
use taskyard_proto::v1::{GroupWake, OutputLimits, ResultSource, TaskDefinition, WakePolicy};

use crate::arguments::{parse_filled, parse_pair};
use crate::failure::Failure;
use crate::file_transfer::read_whole;
use crate::local_json::read_json;
use crate::quantity::{parse_duration, parse_size, to_wire};
use crate::task_file::model::{GroupWakeName, ResultSourceName, WakePolicyName};
use crate::task_file::scalar::{Moment, parse_moment};
use crate::view::moment::from_utc;

/// Who a task belongs with, and what is expected of it.
#[derive(Debug, Args)]
pub struct TaskOptions {
    /// Idempotency name: the same one makes no second task
    #[arg(long, value_parser = parse_filled)]
    pub key: Option<String>,
    /// Name shared by tasks that belong together
    #[arg(long, value_parser = parse_filled)]
    pub group: Option<String>,
    /// Wakes for its group: each, all_done, first_failed
    #[arg(
        long,
        value_name = "WHEN",
        requires = "group",
        hide_possible_values = true
    )]
    pub group_wake: Option<GroupWakeName>,
    /// Wake the session: silent, on_terminal, on_activity
    #[arg(long, value_name = "WHEN", hide_possible_values = true)]
    pub wake: Option<WakePolicyName>,
    /// A label; repeatable
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = parse_pair)]
    pub labels: Vec<(String, String)>,
    /// A tag; repeatable
    #[arg(long = "tag", value_name = "TAG")]
    pub tags: Vec<String>,
    /// JSON Schema of the result, or @FILE with it
    #[arg(long, value_name = "SCHEMA")]
    pub result_schema: Option<String>,
    /// JSON Schema that the JSON parts of its messages must satisfy
    #[arg(long, value_name = "JSON|@FILE", hide = true)]
    pub message_schema: Option<String>,
    /// What to call it in front of a person
    #[arg(long, value_name = "TEXT", hide = true)]
    pub display_name: Option<String>,
    /// What sort of work this is
    #[arg(long, hide = true, value_parser = parse_filled)]
    pub kind: Option<String>,
    /// Queue that it waits in
    #[arg(long, hide = true, value_parser = parse_filled)]
    pub queue: Option<String>,
    /// Higher runs first, -100 to 100
    #[arg(long, value_name = "N", hide = true, value_parser = clap::value_parser!(i32).range(-100..=100), allow_negative_numbers = true)]
    pub priority: Option<i32>,
    /// Not started before a time, or a duration from now
    #[arg(long, value_name = "TIME", hide = true, value_parser = parse_moment)]
    pub not_before: Option<Moment>,
    /// Latest time for the first start, or a duration from now
    #[arg(long, value_name = "TIME", hide = true, value_parser = parse_moment)]
    pub start_deadline: Option<Moment>,
    /// Not started before `taskyard release`
    #[arg(long, hide = true)]
    pub hold: bool,
    /// JSON that the work finds in the file $TASKYARD_INPUT
    #[arg(long, value_name = "JSON|@FILE", hide = true)]
    pub input: Option<String>,
    /// Local file that becomes standard input, - for this one's
    #[arg(long, value_name = "FILE", hide = true)]
    pub stdin: Option<String>,
    /// Where the result comes from: file, stdout
    #[arg(long, value_name = "SOURCE", hide = true)]
    pub result_source: Option<ResultSourceName>,
    /// Most bytes kept of each stream
    #[arg(long, value_name = "BYTES", hide = true, value_parser = parse_size)]
    pub output_limit: Option<u64>,
    /// Label that a worker must carry
    #[arg(long = "worker-label", value_name = "KEY=VALUE", hide = true, value_parser = parse_pair)]
    pub worker_labels: Vec<(String, String)>,
    /// Variable to copy from the worker
    #[arg(long = "inherit-env", value_name = "NAME", hide = true)]
    pub inherit_env: Vec<String>,
    /// Exit code that counts as success
    #[arg(
        long = "success-exit-code",
        value_name = "CODE",
        hide = true,
        allow_negative_numbers = true
    )]
    pub success_exit_codes: Vec<i32>,
    /// Time between TERM and KILL
    #[arg(long, value_name = "DURATION", hide = true, value_parser = parse_duration)]
    pub grace: Option<Duration>,
}

impl TaskOptions {
    /// Puts what was said into a task, over what is there.
    pub async fn apply(self, task: &mut TaskDefinition) -> Result<(), Failure> {
        set(&mut task.key, self.key);
        set(&mut task.group, self.group);
        set(&mut task.display_name, self.display_name);
        set(&mut task.kind, self.kind);
        set(&mut task.queue, self.queue);
        set(&mut task.priority, self.priority);
        set(
            &mut task.group_wake,
            self.group_wake.map(|wake| GroupWake::from(wake).into()),
        );
        set(
            &mut task.wake_policy,
            self.wake.map(|wake| WakePolicy::from(wake).into()),
        );
        task.labels.extend(self.labels);
        task.tags.extend(self.tags);
        task.hold |= self.hold;
        let time = |moment: Moment| Some(from_utc(moment.0));
        set(&mut task.not_before, self.not_before.map(time));
        set(&mut task.start_deadline, self.start_deadline.map(time));
        let spec = task.spec.get_or_insert_default();
        set(
            &mut spec.result_source,
            self.result_source
                .map(|source| ResultSource::from(source).into()),
        );
        let limits = self.output_limit.map(|bytes| OutputLimits {
            max_bytes_per_stream: i64::try_from(bytes).unwrap_or(i64::MAX),
        });
        set(&mut spec.output_limits, limits.map(Some));
        spec.worker_labels.extend(self.worker_labels);
        for (option, value, field) in [
            ("--input", self.input, &mut spec.input_json),
            (
                "--result-schema",
                self.result_schema,
                &mut spec.result_schema_json,
            ),
            (
                "--message-schema",
                self.message_schema,
                &mut spec.message_schema_json,
            ),
        ] {
            if let Some(value) = value {
                *field = read_json(option, &value).await?;
            }
        }
        let stdin = match self.stdin {
            Some(file) => Some(read_whole(&file).await?.into()),
            None => None,
        };
        // One for another executor has none.
        if let Some(command) = &mut spec.command {
            command.inherit_env.extend(self.inherit_env);
            command.success_exit_codes.extend(self.success_exit_codes);
            set(&mut command.grace, self.grace.map(to_wire).map(Some));
            set(&mut command.stdin, stdin.map(Some));
        }
        Ok(())
    }
}

fn set<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}
