//! UpdateTask: enrichment, never the state.

use super::{definition, get_task, refusal::Refusal, resolve};
use crate::{
    app::App,
    commit::{Change, CommitError, Content, Patch},
    store::resolve::FoundTask,
};
use std::collections::HashSet;
use taskyard_core::{
    task::{Event, Rejected, summary::MAX_SUMMARY_BYTES},
    vfs::SessionPath,
};
use taskyard_proto::v1::{
    Artifact, Links, Progress, StepStatus, UpdateTaskRequest, UpdateTaskResponse,
};

/// Longest detail of a state, in bytes.
pub const MAX_STATE_DETAIL: usize = 256;
const MAX_ARTIFACT_TEXT: usize = 1_024;
const MAX_RESOURCES: usize = 1_000;
const MAX_STEPS: usize = 100;
const MAX_PROGRESS_TEXT: usize = 256;
/// Fields that a mask may name.
const FIELDS: [&str; 6] = [
    "state_detail",
    "summary",
    "progress",
    "links",
    "artifacts",
    "hold",
];

/// Enriches a task.
///
/// # Errors
/// [`Refusal::InvalidField`], [`Refusal::GenerationMismatch`], [`Refusal::WrongState`], [`Refusal::TaskTerminal`], or
/// what resolving and storing say.
pub async fn update_task(
    app: &App,
    request: UpdateTaskRequest,
) -> Result<UpdateTaskResponse, Refusal> {
    let mask = read_mask(&request)?;
    let expected = u64::try_from(request.if_generation)
        .map_err(|_| Refusal::invalid("if_generation", "must not be negative"))?;
    let hold = mask.contains("hold").then_some(request.hold);
    let found =
        resolve::resolve(app, &request.namespace, &request.session_id, &request.task).await?;
    let condition = (expected > 0).then_some(expected);
    if let Some(hold) = hold {
        set_hold(app, found, hold, condition).await?;
    }
    if let Some(patch) = read_patch(request, &mask)? {
        let event = if patch.is_progress_only() {
            Event::Note
        } else {
            Event::Enrich
        };
        let change = Change {
            if_generation: condition,
            ..Change::new(found.id, event, Content::Patch(Box::new(patch)))
        };
        app.commits.change(found.session, change).await?;
    }
    Ok(UpdateTaskResponse {
        task: Some(get_task::read_task(app, found.id).await?.task),
    })
}

/// Holds or releases; doing what is done already is no error.
async fn set_hold(
    app: &App,
    found: FoundTask,
    hold: bool,
    condition: Option<u64>,
) -> Result<(), Refusal> {
    let change = Change {
        if_generation: condition,
        ..Change::new(found.id, Event::SetHold(hold), Content::None)
    };
    match app.commits.change(found.session, change).await {
        Ok(_)
        | Err(CommitError::Rejected {
            rejected: Rejected::Moot,
            ..
        }) => Ok(()),
        Err(CommitError::Rejected {
            rejected: Rejected::WrongState,
            state,
        }) => Err(Refusal::WrongState {
            state,
            problem: "only a queued task can be held or released",
        }),
        Err(error) => Err(error.into()),
    }
}

fn read_mask(request: &UpdateTaskRequest) -> Result<HashSet<String>, Refusal> {
    let paths: HashSet<String> = request
        .update_mask
        .iter()
        .flat_map(|mask| mask.paths.iter().cloned())
        .collect();
    if let Some(unknown) = paths.iter().find(|path| !FIELDS.contains(&path.as_str())) {
        return Err(Refusal::invalid(
            "update_mask",
            format!(
                "{unknown:?} cannot be updated; what can: {}",
                FIELDS.join(", ")
            ),
        ));
    }
    let is_more =
        paths.len() > 1 || !request.append_artifacts.is_empty() || request.merge_links.is_some();
    if paths.contains("hold") && is_more {
        return Err(Refusal::invalid(
            "update_mask",
            "`hold` is changed by a call of its own, so that a refusal leaves nothing half done",
        ));
    }
    if paths.is_empty() && request.append_artifacts.is_empty() && request.merge_links.is_none() {
        return Err(Refusal::invalid("update_mask", "name the fields to change"));
    }
    Ok(paths)
}

/// What is to be patched; none: nothing but `hold`.
fn read_patch(
    request: UpdateTaskRequest,
    mask: &HashSet<String>,
) -> Result<Option<Patch>, Refusal> {
    let has = |field: &str| mask.contains(field);
    let is_empty = mask.iter().all(|field| field == "hold")
        && request.append_artifacts.is_empty()
        && request.merge_links.is_none();
    if is_empty {
        return Ok(None);
    }
    definition::check_text("state_detail", &request.state_detail, MAX_STATE_DETAIL)?;
    definition::check_text("summary", &request.summary, MAX_SUMMARY_BYTES)?;
    if let Some(progress) = &request.progress {
        check_progress("progress", progress)?;
    }
    for (field, artifacts) in [
        ("artifacts", &request.artifacts),
        ("append_artifacts", &request.append_artifacts),
    ] {
        for artifact in artifacts {
            check_artifact(field, artifact)?;
            check_artifact_path(field, artifact)?;
        }
    }
    for (field, links) in [
        ("links", &request.links),
        ("merge_links", &request.merge_links),
    ] {
        if let Some(links) = links {
            check_links(field, links)?;
        }
    }
    Ok(Some(Patch {
        state_detail: has("state_detail").then_some(request.state_detail),
        summary: has("summary").then_some(request.summary),
        progress: has("progress").then_some(request.progress),
        links: has("links").then(|| request.links.unwrap_or_default()),
        merge_links: request.merge_links,
        artifacts: has("artifacts").then_some(request.artifacts),
        append_artifacts: request.append_artifacts,
    }))
}

/// Checks progress that somebody reports.
pub(super) fn check_progress(field: &str, progress: &Progress) -> Result<(), Refusal> {
    definition::check_text(&format!("{field}.unit"), &progress.unit, MAX_PROGRESS_TEXT)?;
    definition::check_text(
        &format!("{field}.label"),
        &progress.label,
        MAX_PROGRESS_TEXT,
    )?;
    if progress.steps.len() > MAX_STEPS {
        return Err(Refusal::invalid(
            format!("{field}.steps"),
            format!("at most {MAX_STEPS} steps are allowed"),
        ));
    }
    for step in &progress.steps {
        definition::check_text(
            &format!("{field}.steps.title"),
            &step.title,
            MAX_PROGRESS_TEXT,
        )?;
        if StepStatus::try_from(step.status).is_err() {
            return Err(Refusal::invalid(
                format!("{field}.steps.status"),
                "must be one of StepStatus",
            ));
        }
    }
    // more may be done than was thought at first, so `current` may be beyond `total`
    for (part, value) in [("current", progress.current), ("total", progress.total)] {
        if value.is_some_and(|value| !value.is_finite() || value < 0.0) {
            return Err(Refusal::invalid(
                format!("{field}.{part}"),
                "must be a finite number that is not negative",
            ));
        }
    }
    Ok(())
}

/// Checks an artifact that somebody reports.
pub(super) fn check_artifact(field: &str, artifact: &Artifact) -> Result<(), Refusal> {
    if artifact.name.is_empty() {
        return Err(Refusal::invalid(
            format!("{field}.name"),
            "must not be empty",
        ));
    }
    for (part, text) in [
        ("name", &artifact.name),
        ("type", &artifact.r#type),
        ("path", &artifact.path),
        ("url", &artifact.url),
    ] {
        definition::check_text(&format!("{field}.{part}"), text, MAX_ARTIFACT_TEXT)?;
    }
    Ok(())
}

/// Checks that an artifact which somebody refers to is a file of the session, if it is one.
pub(super) fn check_artifact_path(field: &str, artifact: &Artifact) -> Result<(), Refusal> {
    if artifact.path.is_empty() {
        return Ok(());
    }
    let bad = |problem| Refusal::invalid(format!("{field}.path"), problem);
    let path: SessionPath = artifact
        .path
        .parse()
        .map_err(|problem| bad(format!("{problem}")))?;
    if path.is_root() {
        return Err(bad("must be a file, or a folder other than `/`".to_owned()));
    }
    Ok(())
}

fn check_links(field: &str, links: &Links) -> Result<(), Refusal> {
    definition::check_text(
        &format!("{field}.child_session_id"),
        &links.child_session_id,
        256,
    )?;
    definition::check_text(
        &format!("{field}.remote_task_id"),
        &links.remote_task_id,
        MAX_ARTIFACT_TEXT,
    )?;
    if links.resource_ids.len() > MAX_RESOURCES {
        return Err(Refusal::invalid(
            format!("{field}.resource_ids"),
            format!("at most {MAX_RESOURCES} are allowed"),
        ));
    }
    for id in &links.resource_ids {
        definition::check_text(&format!("{field}.resource_ids"), id, MAX_ARTIFACT_TEXT)?;
    }
    if !links.retry_of.is_empty() || !links.retried_as.is_empty() {
        return Err(Refusal::invalid(
            field,
            "retry_of and retried_as are the server's",
        ));
    }
    Ok(())
}
