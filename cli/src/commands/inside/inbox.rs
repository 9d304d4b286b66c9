//! `self inbox`: messages of the owner.

use std::time::Duration;

use clap::Args;
use taskyard_proto::v1::{ReceiveMessagesRequest, ReceiveMessagesResponse};
use tokio::time::Instant;

use crate::arguments::GlobalArguments;
use crate::commands::stream_options::{After, LineFormat, WaitOrFollow};
use crate::connection::Connection;
use crate::exit_code::ExitCode;
use crate::failure::Failure;
use crate::quantity::to_wire;
use crate::view::message::print_message;

/// What a call may take beyond the wait in it.
const CALL_MARGIN: Duration = Duration::from_secs(15);
/// Messages in one call.
const MAX_MESSAGES: i32 = 50;

/// Print messages of the owner, each once in a run
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  taskyard self inbox
  taskyard self inbox --wait 5m -o json | jq -r '.parts[].text'
  taskyard self inbox --follow | while read -r LINE; do echo \"told: $LINE\"; done

What was printed counts as handled, and --after begins at handled ones, too; a new run of the task
begins with the first message again. --follow ends with the run.
With -o json there is a line of JSON for each message.

Exit codes: 0 done, 1 refused, 2 usage, 4 with --wait: no message came in time,
125 the lease is lost or the server failed")]
pub struct InboxArguments {
    #[command(flatten)]
    pub waiting: WaitOrFollow,
    #[command(flatten)]
    pub start: After,
    #[command(flatten)]
    pub format: LineFormat,
}

/// Prints what there is, or what comes.
pub async fn execute(
    arguments: InboxArguments,
    global: &GlobalArguments,
) -> Result<ExitCode, Failure> {
    let connection = Connection::open(global).await?;
    let deadline = arguments
        .waiting
        .wait
        .and_then(|wait| Instant::now().checked_add(wait));
    let mut after = arguments.start.after;
    let mut has_printed = false;
    loop {
        let longest = connection.longest_wait();
        let left = match deadline {
            Some(deadline) => deadline
                .saturating_duration_since(Instant::now())
                .min(longest),
            None if arguments.waiting.follow => longest,
            None => Duration::ZERO,
        };
        // What is there comes first; only an empty inbox is waited for.
        let wait = if has_printed && !arguments.waiting.follow {
            Duration::ZERO
        } else {
            left
        };
        let received = receive(&connection, after, wait).await?;
        after = Some(received.next_after);
        let is_empty = received.messages.is_empty();
        for message in &received.messages {
            print_message(message, arguments.format.output)?;
            has_printed = true;
        }
        // An empty answer was asked for after all that was printed: that is handled now.
        let is_over = is_empty && (has_printed || left.is_zero());
        if is_over && !arguments.waiting.follow {
            break;
        }
    }
    if arguments.waiting.wait.is_some() && !has_printed {
        return Ok(ExitCode::WaitExpired);
    }
    Ok(ExitCode::Success)
}

async fn receive(
    connection: &Connection,
    after: Option<i64>,
    wait: Duration,
) -> Result<ReceiveMessagesResponse, Failure> {
    let patience = connection.waiting_patience();
    connection
        .call_within(wait + CALL_MARGIN, patience, || {
            let mut agent = connection.agent();
            let request = ReceiveMessagesRequest {
                after,
                max_messages: MAX_MESSAGES,
                wait: (!wait.is_zero()).then(|| to_wire(wait)),
            };
            async move { agent.receive_messages(request).await }
        })
        .await
}
