//! `self post`: a message to the owner.

use clap::Args;
use taskyard_proto::v1::PostRequest;
use uuid::Uuid;

use crate::arguments::GlobalArguments;
use crate::commands::parts::PartArguments;
use crate::connection::Connection;
use crate::console;
use crate::exit_code::ExitCode;
use crate::failure::Failure;

/// Send the owner a message; prints its id
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  taskyard self post 'half of it is done'
  taskyard self post --data '{\"found\": 3}' --file /notes/found.md 'see the notes'
  taskyard self post --reply-to $MESSAGE_ID 'will do'

Exit codes: 0 sent, 1 refused, 2 usage, 125 the lease is lost or the server failed")]
pub struct PostArguments {
    #[command(flatten)]
    pub parts: PartArguments,
    /// Id of a message of the owner that this one answers
    #[arg(long, value_name = "ID")]
    pub reply_to: Option<String>,
}

/// Sends it once, however often the call is repeated.
pub async fn execute(
    arguments: PostArguments,
    global: &GlobalArguments,
) -> Result<ExitCode, Failure> {
    let request = PostRequest {
        parts: arguments.parts.parts().await?,
        in_reply_to: arguments.reply_to.unwrap_or_default(),
        request_id: Uuid::new_v4().simple().to_string(),
    };
    let connection = Connection::open(global).await?;
    let answer = connection
        .call(|| {
            let mut agent = connection.agent();
            let request = request.clone();
            async move { agent.post(request).await }
        })
        .await?;
    let id = answer.message.map(|message| message.id).unwrap_or_default();
    console::print(&format!("{id}\n"))?;
    Ok(ExitCode::Success)
}
