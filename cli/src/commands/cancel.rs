//! `cancel`: asks tasks to stop.

use std::time::Duration;

use clap::Args;
use taskyard_proto::v1::{CancelOutcome, CancelScope, SessionTask};

use crate::arguments::GlobalArguments;
use crate::commands::steer::cancel_task;
use crate::connection::Connection;
use crate::console;
use crate::exit_code::ExitCode;
use crate::failure::Failure;
use crate::quantity::parse_duration;
use crate::view::output_format::{OutputArguments, OutputFormat, print_record};
use crate::view::record::Record;
use crate::view::task_record::task_record;
use crate::view::words;

/// Ask tasks to stop: TERM, then KILL after the grace
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  taskyard cancel t12 --session demo
  taskyard cancel t12 t13 --session demo --grace 30s
  taskyard cancel task_0193a5f0c0de7000800000000000abcd --now

Exit codes: 0 asked (also where a task had ended before), 1 refused or not found, 2 usage,
125 server out of reach or failed")]
pub struct CancelArguments {
    /// Ids, starts of ids, t12 or names
    #[arg(required = true, value_name = "TASK")]
    pub tasks: Vec<String>,
    /// Time between TERM and KILL [default: the task's own]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, allow_hyphen_values = true)]
    pub grace: Option<Duration>,
    /// Kill at once
    #[arg(long, conflicts_with = "grace")]
    pub now: bool,
    /// Everything below it, too, whatever is being created there meanwhile included
    #[arg(long)]
    pub tree: bool,
    #[command(flatten)]
    pub output: OutputArguments,
}

/// Asks for each; the first that is refused ends it, after the others were asked.
pub async fn execute(
    arguments: CancelArguments,
    global: &GlobalArguments,
) -> Result<ExitCode, Failure> {
    let grace = if arguments.now {
        Some(Duration::ZERO)
    } else {
        arguments.grace
    };
    let scope = if arguments.tree {
        CancelScope::Tree
    } else {
        CancelScope::Task
    };
    let mut references = Vec::new();
    for task in &arguments.tasks {
        references.push(global.task(task)?);
    }
    let connection = Connection::open(global).await?;
    let mut first_failure = None;
    let mut records = Vec::new();
    for reference in &references {
        match cancel_task(&connection, reference, grace, scope).await {
            Ok((task, outcome)) => match arguments.output.output {
                OutputFormat::Json | OutputFormat::Yaml => {
                    records.push(record(&task, outcome, arguments.output.full))
                }
                OutputFormat::Name => console::print(&format!("{}\n", task.id))?,
                OutputFormat::Table | OutputFormat::Wide => {
                    console::print(&format!("{}\n", line(&task, outcome)))?
                }
            },
            Err(failure) if first_failure.is_none() => first_failure = Some(failure),
            Err(failure) => console::note(&failure.to_string()),
        }
    }
    if matches!(
        arguments.output.output,
        OutputFormat::Json | OutputFormat::Yaml
    ) {
        print_record(arguments.output.output, &records)?;
    }
    match first_failure {
        Some(failure) => Err(failure),
        None => Ok(ExitCode::Success),
    }
}

fn record(task: &SessionTask, outcome: CancelOutcome, is_full: bool) -> Record {
    Record::new()
        .with("outcome", words::cancel_outcome(outcome))
        .with("task", task_record(task, is_full))
}

fn line(task: &SessionTask, outcome: CancelOutcome) -> String {
    let state = words::state(task.state());
    let what = match outcome {
        CancelOutcome::Canceled => "is canceled".to_owned(),
        CancelOutcome::Requested => "was told to stop".to_owned(),
        CancelOutcome::AlreadyRequested => "had been told to stop before".to_owned(),
        CancelOutcome::AlreadyTerminal => format!("had ended before: {state}"),
        CancelOutcome::Unspecified => format!("is {state}"),
    };
    format!("t{} {} {what}", task.ordinal, task.id)
}
