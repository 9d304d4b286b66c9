//! `get`: one task.

use clap::Args;
use taskyard_proto::v1::{GetTaskRequest, GetTaskResponse, SessionTask};

use crate::arguments::GlobalArguments;
use crate::connection::Connection;
use crate::console;
use crate::exit_code::ExitCode;
use crate::failure::Failure;
use crate::task_reference::TaskReference;
use crate::view::monitor::standing_record;
use crate::view::output_format::{OutputArguments, OutputFormat, print_record};
use crate::view::task_detail::task_detail;
use crate::view::task_record::task_record;
use crate::view::task_table::task_table;

/// Show one task with everything that matters about it
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  taskyard get t12 --session demo
  taskyard get task_0193a5f0c0de7000800000000000abcd -o json --full
  taskyard get nightly --session demo --result | jq .exit.exit_code

Exit codes: 0 done, 1 refused or not found, 2 usage, 125 server out of reach or failed")]
pub struct GetArguments {
    /// Id, start of an id, t12 or name
    pub task: String,
    /// Print the result.json of a task that has ended, instead
    #[arg(long)]
    pub result: bool,
    #[command(flatten)]
    pub output: OutputArguments,
}

/// Shows it.
pub async fn execute(
    arguments: GetArguments,
    global: &GlobalArguments,
) -> Result<ExitCode, Failure> {
    let reference = global.task(&arguments.task)?;
    let connection = Connection::open(global).await?;
    let answer = read(&connection, &reference, arguments.result).await?;
    let (task, monitor) = (found(answer.task)?, answer.monitor);
    if arguments.result {
        if answer.result_json.is_empty() {
            return Err(Failure::Refused(format!(
                "t{} has not ended, so it has no result yet; `taskyard wait {}` waits for it",
                task.ordinal, task.id
            )));
        }
        console::print(answer.result_json.trim_end())?;
        console::print("\n")?;
        return Ok(ExitCode::Success);
    }
    match arguments.output.output {
        OutputFormat::Table => console::print(&task_detail(&task, monitor.as_ref()))?,
        OutputFormat::Wide => console::print(&task_table(&[task], OutputFormat::Wide, true))?,
        OutputFormat::Json | OutputFormat::Yaml => {
            let is_full = arguments.output.full;
            let mut record = task_record(&task, is_full);
            if let Some(monitor) = &monitor {
                let standing = standing_record(monitor, task.hold);
                let standing = if is_full {
                    standing
                } else {
                    standing.brief(&[])
                };
                record = record.with("monitor", standing);
            }
            print_record(arguments.output.output, &record)?;
        }
        OutputFormat::Name => console::print(&format!("{}\n", task.id))?,
    }
    Ok(ExitCode::Success)
}

/// A task as it stands.
pub async fn read_task(
    connection: &Connection,
    reference: &TaskReference,
) -> Result<SessionTask, Failure> {
    found(read(connection, reference, false).await?.task)
}

/// A task as it stands, as a monitor if it is one, and its result.json if that is asked for and there.
async fn read(
    connection: &Connection,
    reference: &TaskReference,
    include_result: bool,
) -> Result<GetTaskResponse, Failure> {
    connection
        .call(|| {
            let mut tasks = connection.tasks();
            let request = GetTaskRequest {
                namespace: connection.namespace(),
                session_id: reference.session_id.clone(),
                task: reference.task.clone(),
                include_result,
            };
            async move { tasks.get_task(request).await }
        })
        .await
}

fn found(task: Option<SessionTask>) -> Result<SessionTask, Failure> {
    task.ok_or_else(|| Failure::Own("the server answered without a task".to_owned()))
}
