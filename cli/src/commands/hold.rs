//! `hold` and `release`: whether queued tasks may start.

use clap::Args;
use taskyard_proto::v1::{SessionTask, UpdateTaskRequest};

use crate::arguments::GlobalArguments;
use crate::commands::list::print_tasks;
use crate::connection::Connection;
use crate::console;
use crate::exit_code::ExitCode;
use crate::failure::Failure;
use crate::task_reference::TaskReference;
use crate::view::output_format::{OutputArguments, OutputFormat};

/// Hold queued tasks back until `taskyard release TASK`
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  taskyard hold t12 --session demo
  taskyard hold t12 t13 nightly --session demo
  taskyard hold task_0193a5f0c0de7000800000000000abcd -o json

Exit codes: 0 held (also where it was before), 1 refused (such as: it is running) or not found, 2 usage,
125 server out of reach or failed")]
pub struct HoldArguments {
    #[command(flatten)]
    pub held: HeldArguments,
}

/// Let held tasks start
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  taskyard release t12 --session demo
  ID=$(taskyard submit -f task.yaml --hold -o name); taskyard release $ID
  taskyard release t12 t13 --session demo -o name

Exit codes: 0 released (also where it was not held), 1 refused (such as: it has ended) or not found,
2 usage, 125 server out of reach or failed")]
pub struct ReleaseArguments {
    #[command(flatten)]
    pub held: HeldArguments,
}

/// Which tasks.
#[derive(Debug, Args)]
pub struct HeldArguments {
    /// Ids, starts of ids, t12 or names
    #[arg(required = true, value_name = "TASK")]
    pub tasks: Vec<String>,
    #[command(flatten)]
    pub output: OutputArguments,
}

/// Holds or releases each; the first that is refused decides the end, after the others were asked.
pub async fn execute(
    arguments: HeldArguments,
    hold: bool,
    global: &GlobalArguments,
) -> Result<ExitCode, Failure> {
    let mut references = Vec::new();
    for task in &arguments.tasks {
        references.push(global.task(task)?);
    }
    let connection = Connection::open(global).await?;
    let mut first_failure = None;
    let mut tasks = Vec::new();
    for reference in &references {
        match set_hold(&connection, reference, hold).await {
            Ok(task) => tasks.push(task),
            Err(failure) if first_failure.is_none() => first_failure = Some(failure),
            Err(failure) => console::note(&failure.to_string()),
        }
    }
    match arguments.output.output {
        OutputFormat::Table | OutputFormat::Wide => {
            let done = if hold { "is held" } else { "is released" };
            for task in &tasks {
                console::print(&format!("t{} {} {done}\n", task.ordinal, task.id))?;
            }
        }
        OutputFormat::Json | OutputFormat::Yaml | OutputFormat::Name => {
            print_tasks(&tasks, &arguments.output, false)?;
        }
    }
    match first_failure {
        Some(failure) => Err(failure),
        None => Ok(ExitCode::Success),
    }
}

async fn set_hold(
    connection: &Connection,
    task: &TaskReference,
    hold: bool,
) -> Result<SessionTask, Failure> {
    let answer = connection
        .call(|| {
            let mut tasks = connection.tasks();
            let request = UpdateTaskRequest {
                namespace: connection.namespace(),
                session_id: task.session_id.clone(),
                task: task.task.clone(),
                update_mask: Some(prost_types::FieldMask {
                    paths: vec!["hold".to_owned()],
                }),
                hold,
                ..UpdateTaskRequest::default()
            };
            async move { tasks.update_task(request).await }
        })
        .await?;
    answer
        .task
        .ok_or_else(|| Failure::Own("the server answered without a task".to_owned()))
}
