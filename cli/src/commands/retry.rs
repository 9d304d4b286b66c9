//! `retry`: a new task with the spec of one that has ended.

use clap::Args;
use taskyard_proto::v1::{RetryTaskRequest, SessionTask, TaskSecret};
use uuid::Uuid;

use crate::arguments::GlobalArguments;
use crate::connection::Connection;
use crate::console;
use crate::exit_code::ExitCode;
use crate::failure::Failure;
use crate::secret_source::SecretOptions;
use crate::task_reference::TaskReference;
use crate::view::output_format::{OutputArguments, OutputFormat, print_record};
use crate::view::task_record::task_record;

/// Run a task again that has ended, as a new task
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  taskyard retry t12 --session demo
  taskyard retry task_0193a5f0c0de7000800000000000abcd -o json
  taskyard logs -f $(taskyard retry t12 --session demo -o name)

Values of secrets are erased when a task ends: give them again with --secret.

Exit codes: 0 done, 1 refused (such as: it has not ended) or not found, 2 usage,
125 server out of reach or failed")]
pub struct RetryArguments {
    /// Id, start of an id or t12
    pub task: String,
    #[command(flatten)]
    pub secrets: SecretOptions,
    #[command(flatten)]
    pub output: OutputArguments,
}

/// Creates the new task.
pub async fn execute(
    arguments: RetryArguments,
    global: &GlobalArguments,
) -> Result<ExitCode, Failure> {
    let reference = global.task(&arguments.task)?;
    let secrets = arguments.secrets.read()?;
    let connection = Connection::open(global).await?;
    let task = retry_task(&connection, reference, secrets).await?;
    print_repeated(&task, "repeats", &arguments.task, &arguments.output)?;
    Ok(ExitCode::Success)
}

/// Runs a task again that has ended; safe to repeat.
pub async fn retry_task(
    connection: &Connection,
    reference: TaskReference,
    secrets: Vec<TaskSecret>,
) -> Result<SessionTask, Failure> {
    let request = RetryTaskRequest {
        namespace: connection.namespace(),
        session_id: reference.session_id,
        task: reference.task,
        request_id: Uuid::new_v4().simple().to_string(),
        secrets,
    };
    let answer = connection
        .call(|| {
            let mut tasks = connection.tasks();
            let request = request.clone();
            async move { tasks.retry_task(request).await }
        })
        .await?;
    answer
        .task
        .ok_or_else(|| Failure::Own("the server answered without a task".to_owned()))
}

/// Shows a new task and what it came from, as the caller called that.
pub fn print_repeated(
    task: &SessionTask,
    relation: &str,
    source: &str,
    output: &OutputArguments,
) -> Result<(), Failure> {
    match output.output {
        OutputFormat::Table | OutputFormat::Wide => console::print(&format!(
            "t{} {} {relation} {}\n",
            task.ordinal,
            task.id,
            console::clean(source)
        )),
        OutputFormat::Json | OutputFormat::Yaml => {
            print_record(output.output, &task_record(task, output.full))
        }
        OutputFormat::Name => console::print(&format!("{}\n", task.id)),
    }
}
