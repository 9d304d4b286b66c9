//! SetResult and ReportUsage: what the end of the run will be judged by, and what it used.

use super::{Caller, caller::refused};
use crate::{
    app::App,
    commit::Content,
    control::{get_task, refusal::Refusal, schema},
    store::run_reports::{self, RunReport},
};
use taskyard_core::task::Event;
use taskyard_proto::v1::{
    ReportUsageRequest, ReportUsageResponse, SetResultRequest, SetResultResponse,
};

const MAX_RESULT: usize = 256 << 10;
/// Most that the work of a run may say of its usage, in bytes of JSON.
pub(crate) const MAX_USAGE: usize = 16 << 10;

/// Sets the structured result of the run.
///
/// # Errors
/// [`Refusal::InvalidField`], [`Refusal::TooLarge`], [`Refusal::SchemaMismatch`], [`Refusal::LeaseLost`], or what
/// storing says.
pub async fn set_result(
    app: &App,
    caller: &Caller,
    request: SetResultRequest,
) -> Result<SetResultResponse, Refusal> {
    if request.output_json.len() > MAX_RESULT {
        return Err(Refusal::TooLarge {
            what: "the result (larger ones go into the file $TASKYARD_RESULT)".to_owned(),
            limit: MAX_RESULT as u64,
        });
    }
    if let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(&request.output_json) {
        return Err(Refusal::invalid(
            "output_json",
            format!("is no valid JSON: {error}"),
        ));
    }
    let record = get_task::read_task(app, caller.task()).await?;
    let schema = record.task.spec.unwrap_or_default().result_schema_json;
    if let Some(problem) = schema::find_violation(&schema, &request.output_json) {
        return Err(Refusal::SchemaMismatch {
            field: "output_json",
            problem,
        });
    }
    let report = RunReport {
        output_json: Some(request.output_json),
        usage_json: None,
    };
    record_report(app, caller, report).await?;
    Ok(SetResultResponse {})
}

/// Adds to what the run used.
///
/// # Errors
/// [`Refusal::InvalidField`], [`Refusal::TooLarge`], [`Refusal::LeaseLost`], or what storing says.
pub async fn report_usage(
    app: &App,
    caller: &Caller,
    request: ReportUsageRequest,
) -> Result<ReportUsageResponse, Refusal> {
    let known = read_known(app, caller).await?;
    if request.usage_json.len() + known.len() > MAX_USAGE {
        return Err(Refusal::TooLarge {
            what: "the usage".to_owned(),
            limit: MAX_USAGE as u64,
        });
    }
    type Members = serde_json::Map<String, serde_json::Value>;
    if let Err(error) = serde_json::from_str::<Members>(&request.usage_json) {
        return Err(Refusal::invalid(
            "usage_json",
            format!("is no JSON object: {error}"),
        ));
    }
    let report = RunReport {
        output_json: None,
        usage_json: Some(request.usage_json),
    };
    record_report(app, caller, report).await?;
    Ok(ReportUsageResponse {
        usage_json: read_known(app, caller).await?,
    })
}

async fn record_report(app: &App, caller: &Caller, report: RunReport) -> Result<(), Refusal> {
    let content = Content::Report(Box::new(report));
    caller
        .change(app, Event::Record(caller.fence()), content)
        .await
        .map_err(refused)?;
    Ok(())
}

/// The usage that was reported so far; empty: none.
async fn read_known(app: &App, caller: &Caller) -> Result<String, Refusal> {
    let run = get_task::read_task(app, caller.task()).await?.task.run;
    let report =
        run_reports::read_report(app.store.pool(), caller.task(), run.unsigned_abs()).await?;
    Ok(report.usage_json.unwrap_or_default())
}
