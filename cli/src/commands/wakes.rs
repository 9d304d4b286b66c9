//! `wakes`: what an agent runtime sleeps on.

use std::time::Duration;

use clap::Args;
use taskyard_proto::v1::{TakeWakesRequest, TakeWakesResponse, Wake};
use tokio::time::Instant;

use crate::arguments::GlobalArguments;
use crate::commands::stream_options::{LineFormat, WaitOrFollow};
use crate::connection::Connection;
use crate::console;
use crate::exit_code::ExitCode;
use crate::failure::Failure;
use crate::quantity::{parse_duration, to_wire};
use crate::view::output_format::{OutputFormat, print_line, print_record};
use crate::view::wake::wake_record;

/// Longest wait in one call.
const ONE_WAIT: Duration = Duration::from_secs(30);
/// What a call may take beyond the wait in it.
const CALL_MARGIN: Duration = Duration::from_secs(15);
/// How long to try while the server cannot be reached.
const PATIENCE: Duration = Duration::from_secs(600);

/// Take wakes: ends, questions and messages of tasks whose wake_policy asks for it
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  taskyard wakes --wait 10m --ack -o json
  taskyard wakes --session demo
  taskyard wakes --follow --ack -o json | while read -r WAKE; do handle \"$WAKE\"; done

Of --session, or of all sessions. A wake that is taken and not acknowledged is handed out again when
its lease has passed. With -o json there is a line of JSON for each.

Exit codes: 0 done, 1 refused, 2 usage, 4 with --wait: none came in time,
125 server out of reach or failed, 130 interrupted")]
pub struct WakesArguments {
    /// Who takes them: one consumer at a time is handed a wake
    #[arg(long, value_name = "NAME", default_value = "taskyard-cli")]
    pub consumer: String,
    #[command(flatten)]
    pub waiting: WaitOrFollow,
    /// Acknowledge what was printed: it is gone for good
    #[arg(long)]
    pub ack: bool,
    /// Time to acknowledge, 1s to 1h [default: 60s]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, allow_hyphen_values = true)]
    pub lease: Option<Duration>,
    #[command(flatten)]
    pub format: LineFormat,
}

/// Takes what there is, or what comes.
pub async fn execute(
    arguments: WakesArguments,
    global: &GlobalArguments,
) -> Result<ExitCode, Failure> {
    let connection = Connection::open(global).await?;
    let deadline = arguments
        .waiting
        .wait
        .and_then(|wait| Instant::now().checked_add(wait));
    let mut request = TakeWakesRequest {
        namespace: connection.namespace(),
        session_ids: global.session().map(str::to_owned).into_iter().collect(),
        consumer: arguments.consumer.clone(),
        lease: arguments.lease.map(to_wire),
        ..TakeWakesRequest::default()
    };
    let mut has_printed = false;
    loop {
        let left = match deadline {
            Some(_) if has_printed => Duration::ZERO,
            Some(deadline) => deadline.saturating_duration_since(Instant::now()),
            None if arguments.waiting.follow => ONE_WAIT,
            None => Duration::ZERO,
        };
        let taken = take(&connection, &request, left.min(ONE_WAIT)).await?;
        for wake in &taken.wakes {
            print_wake(wake, arguments.format.output)?;
        }
        has_printed |= !taken.wakes.is_empty();
        // An answer without wakes leaves nothing to acknowledge, and nothing taken that was not printed.
        let is_all = taken.wakes.is_empty() || !arguments.ack;
        request.ack_ids = if arguments.ack {
            taken.wakes.iter().map(|wake| wake.id).collect()
        } else {
            Vec::new()
        };
        let is_over = is_all && (has_printed || left.is_zero());
        if is_over && !arguments.waiting.follow {
            break;
        }
    }
    if arguments.waiting.wait.is_some() && !has_printed {
        return Ok(ExitCode::WaitExpired);
    }
    Ok(ExitCode::Success)
}

/// A repeated call takes what the one before, whose answer was lost, had leased only after that lease.
async fn take(
    connection: &Connection,
    request: &TakeWakesRequest,
    wait: Duration,
) -> Result<TakeWakesResponse, Failure> {
    connection
        .call_within(wait + CALL_MARGIN, PATIENCE, || {
            let mut tasks = connection.tasks();
            let request = TakeWakesRequest {
                wait: (!wait.is_zero()).then(|| to_wire(wait)),
                ..request.clone()
            };
            async move { tasks.take_wakes(request).await }
        })
        .await
}

fn print_wake(wake: &Wake, format: OutputFormat) -> Result<(), Failure> {
    match format {
        OutputFormat::Table => console::print(&format!("{}\n", console::clean(&wake.text))),
        OutputFormat::Wide => console::print(&format!(
            "{} {} {} {}\n",
            wake.id,
            console::clean(&wake.session_id),
            wake.task_id,
            console::clean(&wake.text)
        )),
        OutputFormat::Json => print_line(&wake_record(wake).brief(&[])),
        OutputFormat::Yaml => print_record(format, &[wake_record(wake).brief(&[])]),
        OutputFormat::Name => console::print(&format!("{}\n", wake.task_id)),
    }
}
