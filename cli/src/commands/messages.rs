//! `messages`: the thread between a task and its owner.

use std::time::Duration;

use clap::Args;
use taskyard_proto::v1::{ListMessagesRequest, ListMessagesResponse};

use crate::arguments::GlobalArguments;
use crate::commands::stream_options::{After, LineFormat};
use crate::commands::wait::{Wait, wait_for};
use crate::connection::Connection;
use crate::exit_code::ExitCode;
use crate::failure::{Failure, is_terminal};
use crate::output_follower::read_task;
use crate::quantity::to_wire;
use crate::task_reference::TaskReference;
use crate::view::message::{print_message, print_message_line};
use crate::view::output_format::OutputFormat;

/// Messages in one call.
const PAGE_SIZE: i32 = 200;
/// Longest wait in one call.
const ONE_WAIT: Duration = Duration::from_secs(30);
/// What a call may take beyond the wait in it.
const CALL_MARGIN: Duration = Duration::from_secs(15);
/// How long to try to read the task.
const PATIENCE: Duration = Duration::from_secs(60);

/// Print the messages between a task and its owner, oldest first
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  taskyard messages t12 --session demo
  taskyard messages t12 --session demo --after 7 -o json
  taskyard messages --follow task_0193a5f0c0de7000800000000000abcd

Without --after these are the latest 200. With -o json there is a line of JSON for each message.

Exit codes: 0 done, 1 refused or not found, 2 usage, 125 server out of reach or failed,
130 interrupted")]
pub struct MessagesArguments {
    /// Id, start of an id, t12 or name
    pub task: String,
    /// Go on until the task has ended
    #[arg(short, long)]
    pub follow: bool,
    #[command(flatten)]
    pub start: After,
    #[command(flatten)]
    pub format: LineFormat,
}

/// Prints what there is, and what comes.
pub async fn execute(
    arguments: MessagesArguments,
    global: &GlobalArguments,
) -> Result<ExitCode, Failure> {
    let named = global.task(&arguments.task)?;
    let connection = Connection::open(global).await?;
    // A name can pass on to another task; an id cannot.
    let task = read_task(&connection, &named, PATIENCE).await?;
    let state = task.state();
    let reference = TaskReference::new(&task.id, None);
    let mut after = arguments.start.after;
    let wait = Wait::for_end(vec![task.id]);
    let ending = wait_for(&connection, &wait);
    tokio::pin!(ending);
    // Of a task that has ended by then, the messages that are there are all.
    let mut is_ended = !arguments.follow || is_terminal(state);
    let mut longest_wait = None;
    loop {
        let page = tokio::select! {
            page = list(&connection, &reference, after, longest_wait) => page?,
            ended = &mut ending, if !is_ended => {
                ended?;
                is_ended = true;
                longest_wait = None;
                continue;
            }
        };
        for message in &page.messages {
            match arguments.format.output {
                OutputFormat::Table => print_message_line(message)?,
                OutputFormat::Wide
                | OutputFormat::Json
                | OutputFormat::Yaml
                | OutputFormat::Name => print_message(message, arguments.format.output)?,
            }
        }
        after = Some(page.next_after);
        let has_more = page.next_after < page.newest && !page.messages.is_empty();
        if is_ended && !has_more {
            return Ok(ExitCode::Success);
        }
        longest_wait = (!is_ended).then_some(ONE_WAIT);
    }
}

async fn list(
    connection: &Connection,
    task: &TaskReference,
    after: Option<i64>,
    wait: Option<Duration>,
) -> Result<ListMessagesResponse, Failure> {
    let limit = wait.unwrap_or_default() + CALL_MARGIN;
    connection
        .call_within(limit, PATIENCE, || {
            let mut tasks = connection.tasks();
            let request = ListMessagesRequest {
                namespace: connection.namespace(),
                session_id: task.session_id.clone(),
                task: task.task.clone(),
                after,
                page_size: PAGE_SIZE,
                wait: wait.map(to_wire),
                ..ListMessagesRequest::default()
            };
            async move { tasks.list_messages(request).await }
        })
        .await
}
