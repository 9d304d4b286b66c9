//! `self inbox`: messages of the owner.

use std::time::Duration;

use clap::Args;
use taskyard_proto::v1::{ReceiveMessagesRequest, ReceiveMessagesResponse};
use tokio::time::Instant;

use crate::arguments::GlobalArguments;
use crate::connection::Connection;
use crate::exit_code::ExitCode;
use crate::failure::Failure;
use crate::quantity::{parse_duration, to_wire};
use crate::view::message::print_message;
use crate::view::output_format::OutputFormat;

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

What was printed counts as handled; a new run of the task begins with the first message again.
With -o json there is a line of JSON for each message.

Exit codes: 0 done, 1 refused, 2 usage, 4 with --wait: no message came in time,
125 the lease is lost or the server failed")]
pub struct InboxArguments {
    /// Wait this long for a message if there is none
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, conflicts_with = "follow", allow_hyphen_values = true)]
    pub wait: Option<Duration>,
    /// Go on for as long as the task runs
    #[arg(short, long)]
    pub follow: bool,
    /// Begin after the message with this number, 0 for the first, handled or not
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(i64).range(0..), allow_negative_numbers = true)]
    pub after: Option<i64>,
    /// Format: table (the text alone), json, yaml, name (the id alone)
    #[arg(
        short,
        long,
        value_name = "FORMAT",
        default_value = "table",
        hide_default_value = true,
        hide_possible_values = true
    )]
    pub output: OutputFormat,
}

/// Prints what there is, or what comes.
pub async fn execute(
    arguments: InboxArguments,
    global: &GlobalArguments,
) -> Result<ExitCode, Failure> {
    let connection = Connection::open(global).await?;
    let deadline = arguments
        .wait
        .and_then(|wait| Instant::now().checked_add(wait));
    let mut after = arguments.after;
    let mut has_printed = false;
    loop {
        let longest = connection.longest_wait();
        let left = match deadline {
            Some(deadline) => deadline
                .saturating_duration_since(Instant::now())
                .min(longest),
            None if arguments.follow => longest,
            None => Duration::ZERO,
        };
        // What is there comes first; only an empty inbox is waited for.
        let wait = if has_printed && !arguments.follow {
            Duration::ZERO
        } else {
            left
        };
        let received = receive(&connection, after, wait).await?;
        after = Some(received.next_after);
        let is_empty = received.messages.is_empty();
        for message in &received.messages {
            print_message(message, arguments.output)?;
            has_printed = true;
        }
        // An empty answer was asked for after all that was printed: that is handled now.
        let is_over = is_empty && (has_printed || left.is_zero());
        if is_over && !arguments.follow {
            break;
        }
    }
    if arguments.wait.is_some() && !has_printed {
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
