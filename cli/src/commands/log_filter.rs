//! `log-filter`: what a server logs, and changing it while it runs.

use std::time::Duration;

use clap::Args;
use taskyard_proto::v1::{GetLogFilterRequest, LogFilter, SetLogFilterRequest};

use crate::arguments::GlobalArguments;
use crate::connection::Connection;
use crate::console;
use crate::exit_code::ExitCode;
use crate::failure::Failure;
use crate::quantity::{parse_duration, to_wire};

/// Show what the server at --endpoint logs, or change it while it runs
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  taskyard log-filter
  taskyard log-filter --set info,taskyard_server=debug --for 10m
  taskyard log-filter --reset

Only the server that answers is changed, and only until it ends. The filter of its start is that of
TASKYARD_LOG.

Exit codes: 0 done, 1 refused, 2 usage, 125 server out of reach or failed")]
pub struct LogFilterArguments {
    /// New filter, such as debug or warn,taskyard_server=debug
    #[arg(long, value_name = "FILTER", value_parser = crate::arguments::parse_filled)]
    pub set: Option<String>,
    /// Take the filter of the start again after this time, 1s to 24h
    #[arg(long = "for", value_name = "DURATION", requires = "set", value_parser = parse_duration)]
    pub lasting: Option<Duration>,
    /// Take the filter of the start again now
    #[arg(long, conflicts_with = "set")]
    pub reset: bool,
}

/// Shows or changes it.
pub async fn execute(
    arguments: LogFilterArguments,
    global: &GlobalArguments,
) -> Result<ExitCode, Failure> {
    let connection = Connection::open(global).await?;
    let filter = if arguments.set.is_none() && !arguments.reset {
        let asked = connection
            .call(|| {
                let mut admin = connection.admin();
                async move { admin.get_log_filter(GetLogFilterRequest {}).await }
            })
            .await?;
        asked.log_filter
    } else {
        let request = SetLogFilterRequest {
            filter: arguments.set.unwrap_or_default(),
            lasting: arguments.lasting.map(to_wire),
        };
        let set = connection
            .call(|| {
                let mut admin = connection.admin();
                let request = request.clone();
                async move { admin.set_log_filter(request).await }
            })
            .await?;
        set.log_filter
    };
    let filter =
        filter.ok_or_else(|| Failure::Own("the server answered without a filter".to_owned()))?;
    console::print(&text(&filter))?;
    Ok(ExitCode::Success)
}

fn text(filter: &LogFilter) -> String {
    let mut text = filter.filter.clone();
    if filter.filter != filter.at_start {
        text.push_str(&format!("  (at the start: {}", filter.at_start));
        if let Some(left) = &filter.reverts_in {
            text.push_str(&format!(", again in {} s", left.seconds));
        }
        text.push(')');
    }
    text.push('\n');
    text
}
