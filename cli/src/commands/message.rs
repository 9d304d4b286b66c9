//! `message`: something said to a task.

use clap::Args;
use taskyard_proto::v1::PostMessageRequest;
use uuid::Uuid;

use crate::arguments::GlobalArguments;
use crate::commands::parts::PartArguments;
use crate::connection::Connection;
use crate::console;
use crate::exit_code::ExitCode;
use crate::failure::Failure;

/// Send a task a message; prints its id
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  taskyard message t12 --session demo 'leave out the tests'
  taskyard message t12 --session demo --data '{\"limit\": 3}' --file /notes/plan.md
  taskyard message task_0193a5f0c0de7000800000000000abcd --reply-to $MESSAGE_ID 'yes'

A question is answered with `taskyard answer`.

Exit codes: 0 sent, 1 refused (such as: the task has ended) or not found, 2 usage,
125 server out of reach or failed")]
pub struct MessageArguments {
    /// Id, start of an id, t12 or name
    pub task: String,
    #[command(flatten)]
    pub parts: PartArguments,
    /// Id of a message of the task that this one answers
    #[arg(long, value_name = "ID")]
    pub reply_to: Option<String>,
}

/// Sends it once, however often the call is repeated.
pub async fn execute(
    arguments: MessageArguments,
    global: &GlobalArguments,
) -> Result<ExitCode, Failure> {
    let reference = global.task(&arguments.task)?;
    let parts = arguments.parts.parts().await?;
    let connection = Connection::open(global).await?;
    let request = PostMessageRequest {
        namespace: connection.namespace(),
        session_id: reference.session_id,
        task: reference.task,
        parts,
        in_reply_to: arguments.reply_to.unwrap_or_default(),
        request_id: Uuid::new_v4().simple().to_string(),
    };
    let answer = connection
        .call(|| {
            let mut tasks = connection.tasks();
            let request = request.clone();
            async move { tasks.post_message(request).await }
        })
        .await?;
    let id = answer.message.map(|message| message.id).unwrap_or_default();
    console::print(&format!("{id}\n"))?;
    Ok(ExitCode::Success)
}
