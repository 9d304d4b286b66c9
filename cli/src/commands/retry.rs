//! `retry`: a new task with the spec of one that has ended.

use clap::Args;
use taskyard_proto::v1::RetryTaskRequest;
use uuid::Uuid;

use crate::arguments::GlobalArguments;
use crate::connection::Connection;
use crate::console;
use crate::exit_code::ExitCode;
use crate::failure::Failure;
use crate::view::output_format::{OutputArguments, OutputFormat, print_record};
use crate::view::task_record::task_record;

/// Run a task again that has ended, as a new task
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  taskyard retry t12 --session demo
  taskyard retry task_0193a5f0c0de7000800000000000abcd -o json
  taskyard logs -f $(taskyard retry t12 --session demo -o name)

Exit codes: 0 done, 1 refused (such as: it has not ended) or not found, 2 usage,
125 server out of reach or failed")]
pub struct RetryArguments {
    /// Id, start of an id or t12
    pub task: String,
    #[command(flatten)]
    pub output: OutputArguments,
}

/// Creates the new task.
pub async fn execute(
    arguments: RetryArguments,
    global: &GlobalArguments,
) -> Result<ExitCode, Failure> {
    let reference = global.task(&arguments.task)?;
    let connection = Connection::open(global).await?;
    let request = RetryTaskRequest {
        namespace: connection.namespace(),
        session_id: reference.session_id,
        task: reference.task,
        request_id: Uuid::new_v4().simple().to_string(),
    };
    let answer = connection
        .call(|| {
            let mut tasks = connection.tasks();
            let request = request.clone();
            async move { tasks.retry_task(request).await }
        })
        .await?;
    let task = answer
        .task
        .ok_or_else(|| Failure::Own("the server answered without a task".to_owned()))?;
    match arguments.output.output {
        OutputFormat::Table | OutputFormat::Wide => console::print(&format!(
            "t{} {} repeats {}\n",
            task.ordinal,
            task.id,
            console::clean(&arguments.task)
        ))?,
        OutputFormat::Json | OutputFormat::Yaml => {
            print_record(
                arguments.output.output,
                &task_record(&task, arguments.output.full),
            )?;
        }
        OutputFormat::Name => console::print(&format!("{}\n", task.id))?,
    }
    Ok(ExitCode::Success)
}
