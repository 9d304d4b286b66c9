//! `self result`, `self usage` and `self info`: what the task is and what came of it.

use clap::Args;
use serde_json::{Map, Value};
use taskyard_proto::v1::{GetSelfRequest, ReportUsageRequest, SetResultRequest};

use crate::arguments::GlobalArguments;
use crate::commands::usage as totals;
use crate::connection::Connection;
use crate::console;
use crate::exit_code::ExitCode;
use crate::failure::Failure;
use crate::local_json::{check_json, read_json};
use crate::task_reference::TaskReference;
use crate::view::output_format::{OutputArguments, OutputFormat, print_record};
use crate::view::task_detail::task_detail;
use crate::view::task_record::task_record;
use crate::view::task_table::task_table;

/// Set the structured result, the `output` of result.json; checked at once
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  taskyard self result '{\"found\": 3}'
  jq '{found: length}' hits.json | taskyard self result -
  taskyard self result @summary.json

The latest one counts; the file $TASKYARD_RESULT, where the work writes it, wins over it.

Exit codes: 0 set, 1 refused, 2 usage, 125 the lease is lost or the server failed")]
pub struct ResultArguments {
    /// One JSON value, at most 256 KiB; - for standard input, @FILE for a file
    #[arg(value_name = "JSON|-|@FILE", allow_hyphen_values = true)]
    pub json: String,
}

/// Report what the work used, such as tokens; without pairs, show the sums of its tree
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  taskyard self usage input_tokens=1200 output_tokens=80
  taskyard self usage model=large cost_usd=0.12
  taskyard self usage '{\"calls\": {\"search\": 3}}'

The sums, shown as `taskyard usage` does, are of runs that have ended; so of this task without its present run.
Values that read as JSON are taken as that, others as text; members replace those reported before.

Exit codes: 0 done, 1 refused, 2 usage, 125 the lease is lost or the server failed")]
pub struct UsageArguments {
    /// Pairs, or one JSON object [default: show the sums]
    #[arg(value_name = "KEY=VALUE|JSON")]
    pub pairs: Vec<String>,
    #[command(flatten)]
    pub output: OutputArguments,
}

/// Show the task itself
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  taskyard self info
  taskyard self info -o json | jq -r .labels.team
  taskyard self info -o json --full

Exit codes: 0 done, 1 refused, 2 usage, 125 the lease is lost or the server failed")]
pub struct InfoArguments {
    #[command(flatten)]
    pub output: OutputArguments,
}

/// Sets the result.
pub async fn execute_result(
    arguments: ResultArguments,
    global: &GlobalArguments,
) -> Result<ExitCode, Failure> {
    let output_json = read_json("the result", &arguments.json).await?;
    let connection = Connection::open(global).await?;
    connection
        .call(|| {
            let mut agent = connection.agent();
            let output_json = output_json.clone();
            async move { agent.set_result(SetResultRequest { output_json }).await }
        })
        .await?;
    Ok(ExitCode::Success)
}

/// Reports usage, or shows the sums.
pub async fn execute_usage(
    arguments: UsageArguments,
    global: &GlobalArguments,
) -> Result<ExitCode, Failure> {
    if arguments.pairs.is_empty() {
        let own = TaskReference {
            session_id: String::new(),
            task: String::new(),
        };
        let connection = Connection::open(global).await?;
        let totals = totals::read(&connection, &own).await?;
        return totals::print(&totals, &own, &arguments.output);
    }
    let usage_json = usage(&arguments.pairs)?;
    let connection = Connection::open(global).await?;
    connection
        .call(|| {
            let mut agent = connection.agent();
            let usage_json = usage_json.clone();
            async move { agent.report_usage(ReportUsageRequest { usage_json }).await }
        })
        .await?;
    Ok(ExitCode::Success)
}

/// Shows the task.
pub async fn execute_info(
    arguments: InfoArguments,
    global: &GlobalArguments,
) -> Result<ExitCode, Failure> {
    let connection = Connection::open(global).await?;
    let answer = connection
        .call(|| {
            let mut agent = connection.agent();
            async move { agent.get_self(GetSelfRequest {}).await }
        })
        .await?;
    let task = answer
        .task
        .ok_or_else(|| Failure::Own("the server answered without a task".to_owned()))?;
    let OutputArguments { output, full } = arguments.output;
    match output {
        OutputFormat::Table => console::print(&task_detail(&task, None))?,
        OutputFormat::Wide => console::print(&task_table(&[task], OutputFormat::Wide, true))?,
        OutputFormat::Json | OutputFormat::Yaml => {
            print_record(output, &task_record(&task, full))?;
        }
        OutputFormat::Name => console::print(&format!("{}\n", task.id))?,
    }
    Ok(ExitCode::Success)
}

/// One JSON object, as it came or made of pairs.
fn usage(pairs: &[String]) -> Result<String, Failure> {
    if let [one] = pairs
        && one.trim_start().starts_with('{')
    {
        check_json("the usage", one)?;
        return Ok(one.clone());
    }
    let mut members = Map::new();
    for pair in pairs {
        let (key, value) = crate::arguments::parse_pair(pair).map_err(Failure::Usage)?;
        let value = serde_json::from_str(&value).unwrap_or(Value::String(value));
        members.insert(key, value);
    }
    Ok(Value::Object(members).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_is_pairs_or_an_object() {
        let usage = |pairs: &[&str]| {
            let pairs: Vec<String> = pairs.iter().map(|&pair| pair.to_owned()).collect();
            usage(&pairs)
        };
        let pairs = usage(&["tokens=12", "model=large", "fast=true"]).expect("pairs");
        assert_eq!(pairs, r#"{"fast":true,"model":"large","tokens":12}"#);
        assert_eq!(usage(&["{\"a\": 1.0}"]).expect("an object"), "{\"a\": 1.0}");
        assert!(usage(&["{\"a\": "]).is_err());
        assert!(usage(&["tokens"]).is_err());
    }
}
