//! `clone`: a new task like an existing one, with some things changed.

use std::time::Duration;

use clap::Args;
use taskyard_proto::v1::{CloneTaskRequest, CommandSpec, RetryPolicy, TaskDefinition, TaskSpec};
use uuid::Uuid;

use crate::arguments::{GlobalArguments, parse_filled};
use crate::commands::command_options::variable;
use crate::commands::retry::print_repeated;
use crate::connection::Connection;
use crate::exit_code::ExitCode;
use crate::failure::Failure;
use crate::quantity::{parse_duration, to_wire};
use crate::secret_source::SecretOptions;
use crate::view::output_format::OutputArguments;

/// Create a task like an existing one, with some things changed or none
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  taskyard clone t12 --session demo
  taskyard clone t12 --session demo --timeout 10m --retry 3
  taskyard clone t12 --session demo --hold -- make test FAST=1

Name, key, times and hold are not copied; a monitor's schedule is, while it lives. --env replaces the
whole environment that the task set, --secret all its secrets; without it references are copied, and
values must be given again.

Exit codes: 0 done, 1 refused or not found, 2 usage, 125 server out of reach or failed")]
pub struct CloneArguments {
    /// Id, start of an id, t12 or name
    pub task: String,
    /// Another command and its arguments
    #[arg(last = true, value_name = "CMD")]
    pub command: Vec<String>,
    /// Set a variable; KEY alone copies it from here
    #[arg(long = "env", value_name = "KEY=VALUE")]
    pub environment: Vec<String>,
    #[command(flatten)]
    pub secrets: SecretOptions,
    /// Directory on the worker; a relative one is below the task's own
    #[arg(long, value_name = "DIR")]
    pub cwd: Option<String>,
    /// Longest time for one run; 0: no limit
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, allow_hyphen_values = true)]
    pub timeout: Option<Duration>,
    /// Name, unique among the session's live tasks
    #[arg(long, value_parser = parse_filled)]
    pub name: Option<String>,
    /// This many runs in all
    #[arg(long, value_name = "MAX_RUNS", value_parser = clap::value_parser!(i32).range(1..=100), allow_negative_numbers = true)]
    pub retry: Option<i32>,
    /// Do not start it before it is released
    #[arg(long)]
    pub hold: bool,
    #[command(flatten)]
    pub output: OutputArguments,
}

/// Creates the new task.
pub async fn execute(
    arguments: CloneArguments,
    global: &GlobalArguments,
) -> Result<ExitCode, Failure> {
    let reference = global.task(&arguments.task)?;
    let (changes, paths) = changes(&arguments)?;
    let connection = Connection::open(global).await?;
    let request = CloneTaskRequest {
        namespace: connection.namespace(),
        session_id: reference.session_id,
        task: reference.task,
        changes: (!paths.is_empty()).then_some(changes),
        change_mask: (!paths.is_empty()).then_some(prost_types::FieldMask { paths }),
        request_id: Uuid::new_v4().simple().to_string(),
    };
    let answer = connection
        .call(|| {
            let mut tasks = connection.tasks();
            let request = request.clone();
            async move { tasks.clone_task(request).await }
        })
        .await?;
    let task = answer
        .task
        .ok_or_else(|| Failure::Own("the server answered without a task".to_owned()))?;
    print_repeated(&task, "is like", &arguments.task, &arguments.output)?;
    Ok(ExitCode::Success)
}

/// What is changed, and the paths to it.
fn changes(arguments: &CloneArguments) -> Result<(TaskDefinition, Vec<String>), Failure> {
    let mut variables = Vec::new();
    for text in &arguments.environment {
        variables.extend(variable(text)?);
    }
    let paths = [
        ("spec.command.argv", !arguments.command.is_empty()),
        // a script does not go with a program
        ("spec.command.shell", !arguments.command.is_empty()),
        ("spec.command.interpreter", !arguments.command.is_empty()),
        ("spec.command.env", !arguments.environment.is_empty()),
        ("spec.command.cwd", arguments.cwd.is_some()),
        ("secrets", !arguments.secrets.is_empty()),
        ("timeout", arguments.timeout.is_some()),
        ("name", arguments.name.is_some()),
        ("retry.max_runs", arguments.retry.is_some()),
        ("hold", arguments.hold),
    ];
    let command = CommandSpec {
        argv: arguments.command.clone(),
        env: variables.into_iter().collect(),
        cwd: arguments.cwd.clone().unwrap_or_default(),
        ..CommandSpec::default()
    };
    let changes = TaskDefinition {
        name: arguments.name.clone().unwrap_or_default(),
        spec: Some(TaskSpec {
            command: Some(command),
            ..TaskSpec::default()
        }),
        timeout: arguments
            .timeout
            .filter(|timeout| !timeout.is_zero())
            .map(to_wire),
        retry: arguments.retry.map(|max_runs| RetryPolicy {
            max_runs,
            ..RetryPolicy::default()
        }),
        hold: arguments.hold,
        secrets: arguments.secrets.read()?,
        ..TaskDefinition::default()
    };
    let named = paths.into_iter().filter(|(_, is_changed)| *is_changed);
    Ok((changes, named.map(|(path, _)| path.to_owned()).collect()))
}
