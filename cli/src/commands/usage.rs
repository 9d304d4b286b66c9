//! `usage`: what a session's runs have used, or those of a task and everything below it.

use std::time::Duration;

use clap::Args;
use serde_json::Value;
use taskyard_proto::v1::{GetUsageRequest, GetUsageResponse};

use crate::arguments::GlobalArguments;
use crate::connection::Connection;
use crate::console;
use crate::exit_code::ExitCode;
use crate::failure::Failure;
use crate::quantity::{short_duration, short_size};
use crate::task_reference::TaskReference;
use crate::view::output_format::{OutputArguments, OutputFormat, print_record};
use crate::view::record::{Record, embedded_json};

/// Add up what the runs of a session used, or those of a task and everything below it
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  taskyard usage --session demo
  taskyard usage --session demo t12
  taskyard usage --session demo -o json | jq .reported.tokens

Each run that has ended counts once, retries and lost runs too. Processor time and the numbers that the work reported
(`taskyard self usage`) are summed; memory is the greatest peak of any run. Sums of a session outlive deleted tasks.

Exit codes: 0 done, 1 refused or not found, 2 usage, 125 server out of reach or failed")]
pub struct UsageArguments {
    /// Id, start of an id, t12 or name [default: the whole session]
    pub task: Option<String>,
    #[command(flatten)]
    pub output: OutputArguments,
}

/// Shows the sums.
pub async fn execute(
    arguments: UsageArguments,
    global: &GlobalArguments,
) -> Result<ExitCode, Failure> {
    let reference = match &arguments.task {
        Some(task) => global.task(task)?,
        None => TaskReference {
            session_id: global.session_or_default(),
            task: String::new(),
        },
    };
    let connection = Connection::open(global).await?;
    let usage = read(&connection, &reference).await?;
    print(&usage, &reference, &arguments.output)
}

/// Reads the sums; inside a task an empty name means the task itself.
pub async fn read(
    connection: &Connection,
    reference: &TaskReference,
) -> Result<GetUsageResponse, Failure> {
    connection
        .call(|| {
            let mut tasks = connection.tasks();
            let request = GetUsageRequest {
                namespace: connection.namespace(),
                session_id: reference.session_id.clone(),
                task: reference.task.clone(),
            };
            async move { tasks.get_usage(request).await }
        })
        .await
}

/// Prints the sums.
pub fn print(
    usage: &GetUsageResponse,
    reference: &TaskReference,
    arguments: &OutputArguments,
) -> Result<ExitCode, Failure> {
    match arguments.output {
        OutputFormat::Table | OutputFormat::Wide => console::print(&table(usage))?,
        OutputFormat::Json | OutputFormat::Yaml => {
            let record = record(usage, reference);
            let record = if arguments.full {
                record
            } else {
                record.brief(&[])
            };
            print_record(arguments.output, &record)?;
        }
        OutputFormat::Name => {
            let name = match usage.task_id.as_str() {
                "" => &reference.session_id,
                task => task,
            };
            console::print(&format!("{name}\n"))?;
        }
    }
    Ok(ExitCode::Success)
}

fn record(usage: &GetUsageResponse, reference: &TaskReference) -> Record {
    let totals = usage.totals.clone().unwrap_or_default();
    Record::new()
        .with_text("session_id", &reference.session_id)
        .with_text("task_id", &usage.task_id)
        .with("tasks", totals.tasks)
        .with("runs", totals.runs)
        .with("cpu_ms", totals.cpu_ms)
        .with("max_rss_bytes", totals.max_rss_bytes)
        .with("reported", embedded_json(&totals.reported_json))
}

fn table(usage: &GetUsageResponse) -> String {
    let totals = usage.totals.clone().unwrap_or_default();
    let cpu = Duration::from_millis(totals.cpu_ms.max(0).unsigned_abs());
    let mut rows = vec![
        ("tasks".to_owned(), totals.tasks.to_string()),
        ("runs".to_owned(), totals.runs.to_string()),
        ("cpu".to_owned(), short_duration(cpu)),
        (
            "peak memory".to_owned(),
            short_size(totals.max_rss_bytes.max(0).unsigned_abs()),
        ),
    ];
    if let Value::Object(reported) = embedded_json(&totals.reported_json) {
        rows.extend(
            reported
                .into_iter()
                .map(|(name, number)| (console::clean(&name), number.to_string())),
        );
    }
    let width = rows.iter().map(|(name, _)| name.chars().count()).max();
    let width = width.unwrap_or(0);
    rows.into_iter()
        .map(|(name, value)| format!("{name:width$}  {value}\n"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use taskyard_proto::v1::UsageTotals;

    #[test]
    fn sums_are_shown_one_below_the_other() {
        let usage = GetUsageResponse {
            task_id: String::new(),
            totals: Some(UsageTotals {
                tasks: 2,
                runs: 3,
                cpu_ms: 1_500,
                max_rss_bytes: 3 << 20,
                reported_json: r#"{"cost": 0.3, "input tokens": 12}"#.to_owned(),
            }),
        };
        let expected = "tasks         2\nruns          3\ncpu           1.5s\npeak memory   3 MiB\n\
                        cost          0.3\ninput tokens  12\n";
        assert_eq!(table(&usage), expected);
    }
}
