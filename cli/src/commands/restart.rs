//! `restart`: ends a task if it has not ended, and runs it again.

use std::time::Duration;

use clap::Args;
use taskyard_proto::v1::SecretSource;

use crate::arguments::GlobalArguments;
use crate::commands::get::read_task;
use crate::commands::retry::{print_repeated, retry_task};
use crate::commands::steer::{Cancel, cancel_task};
use crate::commands::wait::{Wait, wait_for};
use crate::connection::Connection;
use crate::console;
use crate::exit_code::ExitCode;
use crate::failure::Failure;
use crate::quantity::parse_duration;
use crate::secret_source::SecretOptions;
use crate::task_reference::TaskReference;
use crate::view::output_format::OutputArguments;

/// Beyond the longest grace that a task may have.
const DEFAULT_PATIENCE: &str = "15m";

/// Cancel a task, wait until it has ended, and run it again as a new task
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  taskyard restart t12 --session demo
  taskyard restart nightly --session demo --grace 5s
  taskyard logs -f $(taskyard restart t12 --session demo -o name)

A task that has ended is run again at once, as with `retry`.

Exit codes: 0 done, 1 refused or not found, 2 usage, 4 it did not end in time (it was told to),
125 server out of reach or failed")]
pub struct RestartArguments {
    /// Id, start of an id, t12 or name
    pub task: String,
    /// Time between TERM and KILL [default: the task's own]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, allow_hyphen_values = true)]
    pub grace: Option<Duration>,
    /// Longest wait for its end
    #[arg(long, value_name = "DURATION", default_value = DEFAULT_PATIENCE, value_parser = parse_duration, allow_hyphen_values = true)]
    pub timeout: Duration,
    #[command(flatten)]
    pub secrets: SecretOptions,
    #[command(flatten)]
    pub output: OutputArguments,
}

/// The name may pass to another task meanwhile; from the first answer on the task is called by its id.
pub async fn execute(
    arguments: RestartArguments,
    global: &GlobalArguments,
) -> Result<ExitCode, Failure> {
    let reference = global.task(&arguments.task)?;
    let secrets = arguments.secrets.read()?;
    let connection = Connection::open(global).await?;
    // Canceled, a monitor has lost its schedule: that is not to be found out afterwards.
    let task = read_task(&connection, &reference).await?;
    if task.kind == "monitor" {
        return Err(Failure::Refused(format!(
            "t{} is a monitor, which is not run again; pause and resume it with `taskyard monitor`",
            task.ordinal
        )));
    }
    // Nor is it that it cannot be run again: the values of its secrets go with its end.
    let needed: Vec<&str> = task
        .secrets
        .iter()
        .filter(|secret| secret.source() == SecretSource::Value)
        .map(|secret| secret.name.as_str())
        .filter(|name| secrets.iter().all(|given| given.name != *name))
        .collect();
    if !needed.is_empty() {
        return Err(Failure::Refused(format!(
            "give the values of these secrets again, with --secret: {}; they are erased when the task ends",
            needed.join(", ")
        )));
    }
    let reference = TaskReference::new(&task.id, None);
    let told = cancel_task(&connection, &reference, Cancel::of_task(arguments.grace)).await?;
    let wait = Wait {
        timeout: Some(arguments.timeout),
        ..Wait::for_end(vec![told.task.id])
    };
    let (_, ended) = wait_for(&connection, &wait).await?;
    if ended == ExitCode::WaitExpired {
        console::note("it has not ended yet, so it was not started again");
        return Ok(ended);
    }
    let task = retry_task(&connection, reference, secrets).await?;
    print_repeated(&task, "repeats", &arguments.task, &arguments.output)?;
    Ok(ExitCode::Success)
}
