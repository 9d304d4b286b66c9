//! `cancel`: asks tasks to stop.

use std::time::Duration;

use clap::Args;
use taskyard_proto::v1::{CancelOutcome, CancelScope};

use crate::arguments::GlobalArguments;
use crate::commands::steer::{Cancel, Canceled, cancel_task, cancel_tasks};
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
  taskyard cancel --tree t12 --session demo             t12 and everything below it
  taskyard cancel --all --session demo                  all that is there now, and below it

Exit codes: 0 asked (also where a task had ended before), 1 refused, or not found (such as: nothing of
the group is live), 2 usage, 125 server out of reach or failed")]
pub struct CancelArguments {
    /// Ids, starts of ids, t12 or names
    #[arg(value_name = "TASK", required_unless_present_any = ["all", "group"])]
    pub tasks: Vec<String>,
    /// Also everything below the tasks
    #[arg(long)]
    pub tree: bool,
    /// All tasks of the session, which must be named
    #[arg(long, conflicts_with_all = ["tasks", "tree", "group"])]
    pub all: bool,
    /// The session's tasks of this group, and everything below them
    #[arg(long, value_name = "GROUP", conflicts_with_all = ["tasks", "tree"])]
    pub group: Option<String>,
    /// Time between TERM and KILL [default: the task's own]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, allow_hyphen_values = true)]
    pub grace: Option<Duration>,
    /// Kill at once
    #[arg(long, conflicts_with = "grace")]
    pub now: bool,
    /// Begin with this signal in place of TERM: HUP, INT, QUIT, USR1, USR2
    #[arg(long, value_name = "SIGNAL", conflicts_with_all = ["now", "all", "group"])]
    pub signal: Option<String>,
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
    if arguments.all || arguments.group.is_some() {
        return cancel_many(&arguments, grace, global).await;
    }
    let scope = if arguments.tree {
        CancelScope::Tree
    } else {
        CancelScope::Task
    };
    let mut references = Vec::new();
    for task in &arguments.tasks {
        references.push(global.task(task)?);
    }
    let how = Cancel {
        grace,
        signal: arguments.signal.clone().unwrap_or_default(),
        scope,
    };
    let connection = Connection::open(global).await?;
    let mut first_failure = None;
    let mut records = Vec::new();
    for reference in &references {
        match cancel_task(&connection, reference, how.clone()).await {
            Ok(canceled) => match arguments.output.output {
                OutputFormat::Json | OutputFormat::Yaml => {
                    records.push(record(&canceled, arguments.output.full))
                }
                OutputFormat::Name => console::print(&format!("{}\n", canceled.task.id))?,
                OutputFormat::Table | OutputFormat::Wide => {
                    console::print(&format!("{}\n", line(&canceled)))?
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

/// All tasks of a session, or of a group of it.
async fn cancel_many(
    arguments: &CancelArguments,
    grace: Option<Duration>,
    global: &GlobalArguments,
) -> Result<ExitCode, Failure> {
    let session_id = match (global.session(), &arguments.group) {
        (Some(session), _) => session.to_owned(),
        (None, Some(_)) => global.session_or_default(),
        (None, None) => {
            return Err(Failure::Usage(
                "--all needs --session, so that no other session's work is stopped".to_owned(),
            ));
        }
    };
    let group = match arguments.group.as_deref() {
        Some("") => {
            return Err(Failure::Usage(
                "the name of the group is empty; --all means the whole session".to_owned(),
            ));
        }
        group => group.unwrap_or_default(),
    };
    let connection = Connection::open(global).await?;
    let told = cancel_tasks(&connection, &session_id, group, grace).await?;
    match arguments.output.output {
        OutputFormat::Json | OutputFormat::Yaml => print_record(
            arguments.output.output,
            &Record::new()
                .with("canceled", told.canceled)
                .with("requested", told.requested),
        )?,
        OutputFormat::Table | OutputFormat::Wide => console::print(&format!(
            "{} canceled, {} told to stop\n",
            told.canceled, told.requested
        ))?,
        // there is no task to name
        OutputFormat::Name => {}
    }
    if told.canceled == 0 && told.requested == 0 {
        console::note(&format!(
            "nothing was left to tell in the session {}",
            console::clean(&session_id)
        ));
    }
    Ok(ExitCode::Success)
}

fn record(canceled: &Canceled, is_full: bool) -> Record {
    Record::new()
        .with("outcome", words::cancel_outcome(canceled.outcome))
        .with("descendants", canceled.descendants)
        .with("task", task_record(&canceled.task, is_full))
}

fn line(canceled: &Canceled) -> String {
    let task = &canceled.task;
    let state = words::state(task.state());
    let below = match canceled.descendants {
        0 => String::new(),
        1 => ", with 1 task below it".to_owned(),
        n => format!(", with {n} tasks below it"),
    };
    let what = match canceled.outcome {
        CancelOutcome::Canceled => "is canceled".to_owned(),
        CancelOutcome::Requested => "was told to stop".to_owned(),
        CancelOutcome::AlreadyRequested => "had been told to stop before".to_owned(),
        CancelOutcome::AlreadyTerminal => format!("had ended before: {state}"),
        CancelOutcome::Unspecified => format!("is {state}"),
    };
    format!("t{} {} {what}{below}", task.ordinal, task.id)
}
