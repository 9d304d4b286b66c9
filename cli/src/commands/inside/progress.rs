//! `self progress` and `self status`: how far the work is.

use clap::Args;
use taskyard_proto::v1::{Progress, ProgressStep, ReportProgressRequest, StepStatus};

use crate::arguments::GlobalArguments;
use crate::connection::Connection;
use crate::exit_code::ExitCode;
use crate::failure::Failure;
use crate::view::words;

/// Every status of a step.
const STATUSES: [StepStatus; 4] = [
    StepStatus::Pending,
    StepStatus::InProgress,
    StepStatus::Done,
    StepStatus::Skipped,
];

/// Report how far the work is; the latest report stands in place of the one before
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  taskyard self progress --current 3 --total 10 --unit files
  taskyard self progress --label 'fetching the index'
  taskyard self progress --step plan=done --step build=in_progress --step test=pending

Exit codes: 0 done, 1 refused, 2 usage, 125 the lease is lost or the server failed")]
pub struct ProgressArguments {
    /// Units done
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub current: Option<f64>,
    /// Units in all
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub total: Option<f64>,
    /// Name of the unit, such as files
    #[arg(long)]
    pub unit: Option<String>,
    /// What is being done now
    #[arg(long, value_name = "TEXT")]
    pub label: Option<String>,
    /// A step of the plan, in order; pending, in_progress, done or skipped; repeatable
    #[arg(long = "step", value_name = "TITLE=STATUS", value_parser = parse_step)]
    pub steps: Vec<ProgressStep>,
}

/// Say in a few words how things are; an empty text clears it
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  taskyard self status 'waiting for the index'
  taskyard self status \"on page $PAGE\"
  taskyard self status ''

Exit codes: 0 done, 1 refused, 2 usage, 125 the lease is lost or the server failed")]
pub struct StatusArguments {
    /// At most 256 bytes
    pub text: String,
}

/// Reports progress.
pub async fn execute(
    arguments: ProgressArguments,
    global: &GlobalArguments,
) -> Result<ExitCode, Failure> {
    let progress = Progress {
        current: arguments.current,
        total: arguments.total,
        unit: arguments.unit.unwrap_or_default(),
        label: arguments.label.unwrap_or_default(),
        steps: arguments.steps,
    };
    if progress == Progress::default() {
        return Err(Failure::Usage(
            "there is nothing to report; give at least one of --current, --total, --label and --step"
                .to_owned(),
        ));
    }
    let request = ReportProgressRequest {
        progress: Some(progress),
        state_detail: None,
    };
    report(request, global).await
}

/// Reports a few words.
pub async fn execute_status(
    arguments: StatusArguments,
    global: &GlobalArguments,
) -> Result<ExitCode, Failure> {
    let request = ReportProgressRequest {
        progress: None,
        state_detail: Some(arguments.text),
    };
    report(request, global).await
}

async fn report(
    request: ReportProgressRequest,
    global: &GlobalArguments,
) -> Result<ExitCode, Failure> {
    let connection = Connection::open(global).await?;
    connection
        .call(|| {
            let mut agent = connection.agent();
            let request = request.clone();
            async move { agent.report_progress(request).await }
        })
        .await?;
    Ok(ExitCode::Success)
}

/// A title may have an equals sign in it, a status has none.
pub fn parse_step(text: &str) -> Result<ProgressStep, String> {
    let (title, status) = text
        .rsplit_once('=')
        .filter(|(title, _)| !title.is_empty())
        .ok_or_else(|| format!("`{text}` is not of the form TITLE=STATUS"))?;
    let wanted = status.to_ascii_lowercase().replace('-', "_");
    let status = STATUSES
        .into_iter()
        .find(|&status| words::step_status(status) == wanted)
        .ok_or_else(|| {
            let names: Vec<&str> = STATUSES.into_iter().map(words::step_status).collect();
            format!(
                "there is no status `{status}`; choose from {}",
                names.join(", ")
            )
        })?;
    Ok(ProgressStep {
        title: title.to_owned(),
        status: status.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_has_a_title_and_a_status() {
        let step = parse_step("a=b=in-progress").expect("a step");
        assert_eq!(
            (step.title.as_str(), step.status()),
            ("a=b", StepStatus::InProgress)
        );
        for bad in ["plan", "=done", "plan=finished", ""] {
            assert!(parse_step(bad).is_err(), "{bad}");
        }
    }
}
