//! GetUsage: what the runs of a session, or of a task and everything below it, have used.

use super::{
    namespace,
    refusal::{Refusal, Resource},
    resolve,
};
use crate::{
    app::App,
    commit::usage::counted_run,
    store::{
        StoreError, records,
        usage::{self, Totals},
    },
};
use taskyard_core::id::TaskId;
use taskyard_proto::{
    storage::v1::RunEnd,
    v1::{GetUsageRequest, GetUsageResponse, UsageTotals},
};

/// Adds up what was used. The sums of a session are kept, so asking for them costs nothing; those of a tree are made of
/// the runs in it.
///
/// # Errors
/// What [`resolve::resolve`] refuses, [`Refusal::InvalidField`], [`Refusal::NotFound`] for the session,
/// [`Refusal::Store`].
pub async fn get_usage(app: &App, request: GetUsageRequest) -> Result<GetUsageResponse, Refusal> {
    if request.task.is_empty() {
        let session = namespace::find_session(app, &request.namespace, &request.session_id).await?;
        let totals = usage::session_totals(app.store.pool(), session).await?;
        let totals = totals.ok_or_else(|| Refusal::NotFound {
            resource: Resource::Session,
            name: request.session_id.clone(),
        })?;
        return Ok(answer(String::new(), totals));
    }
    let task =
        resolve::resolve(app, &request.namespace, &request.session_id, &request.task).await?;
    let totals = tree_totals(app, task.id).await?;
    let totals = totals.ok_or_else(|| Refusal::NotFound {
        resource: Resource::Task,
        name: task.id.to_string(),
    })?;
    Ok(answer(task.id.to_string(), totals))
}

async fn tree_totals(app: &App, task: TaskId) -> Result<Option<Totals>, StoreError> {
    let pool = app.store.pool();
    let Some(place) = usage::tree_place(pool, task).await? else {
        return Ok(None);
    };
    if place.root != task {
        return Ok(Some(usage::subtree_totals(pool, place.root, task).await?));
    }
    let run_end: RunEnd = records::decode("run end", place.run_end.as_deref())?.unwrap_or_default();
    // The run that ended the root is told of by its end row alone, if its worker reported it.
    let last = place
        .ended_run
        .filter(|run| *run > 0)
        .map(|run| counted_run(task, run.unsigned_abs(), &run_end.usage.unwrap_or_default()));
    Ok(Some(usage::tree_totals(pool, task, last.as_ref()).await?))
}

fn answer(task_id: String, totals: Totals) -> GetUsageResponse {
    GetUsageResponse {
        task_id,
        totals: Some(UsageTotals {
            tasks: totals.tasks,
            runs: totals.runs,
            cpu_ms: totals.cpu_ms,
            max_rss_bytes: totals.max_rss_bytes,
            reported_json: totals.reported.unwrap_or_default(),
        }),
    }
}
