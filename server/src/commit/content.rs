//! What a change carries beside its event, put into the row.

use super::intent::{Change, CommitError, Content, Patch};
use crate::store::{task_row::TaskRow, times};
use taskyard_core::{Timestamp, task::Event};
use taskyard_proto::v1::{Artifact, InputRequest, Links, Progress};

/// Most artifacts of a task.
const MAX_ARTIFACTS: usize = 1_000;

/// Puts what a change carries beside its event into the row.
pub(super) fn carry(row: &mut TaskRow, change: &Change, now: Timestamp) -> Result<(), CommitError> {
    if matches!(change.event, Event::Start(_)) {
        row.body.worker_name.clone_from(&row.holder_name);
        row.body.state_detail.clear();
    }
    match &change.content {
        Content::None | Content::Finish(_) | Content::Message(_) | Content::Report(_)
        // the monitor's own row
        | Content::Judged(_) => {}
        Content::Progress(progress, state_detail) => {
            if progress.is_some() {
                set_progress(row, progress.clone(), now);
            }
            if let Some(state_detail) = state_detail {
                row.body.state_detail.clone_from(state_detail);
            }
        }
        Content::Question(request) => {
            row.body.question = Some(InputRequest {
                created_at: Some(times::core_to_proto(now)),
                ..(**request).clone()
            });
        }
        Content::Received(number) => {
            let thread = &mut row.thread;
            let run = i32::try_from(row.task.run).unwrap_or(i32::MAX);
            if thread.delivered_run != run {
                thread.delivered = 0;
            }
            thread.delivered_run = run;
            thread.delivered = thread.delivered.max(*number).min(thread.newest);
        }
        Content::Artifact(artifact) => add_artifacts(row, std::slice::from_ref(artifact))?,
        Content::Patch(patch) => patch_body(row, patch, now)?,
        Content::Holder(name) => row.body.worker_name = Some(name.clone()),
        Content::RetriedAs(task) => {
            row.body.content.links.get_or_insert_default().retried_as = task.to_string();
        }
    }
    Ok(())
}

/// Whether a patch changes nothing. Progress is new whenever it is reported.
pub(super) fn is_moot(row: &TaskRow, patch: &Patch, now: Timestamp) -> bool {
    if patch.progress.is_some() {
        return false;
    }
    let mut patched = row.clone();
    let links = |row: &TaskRow| row.body.content.links.clone().unwrap_or_default();
    patch_body(&mut patched, patch, now).is_ok()
        && patched.body.state_detail == row.body.state_detail
        && patched.body.summary == row.body.summary
        && patched.body.content.artifacts == row.body.content.artifacts
        && links(&patched) == links(row)
}

fn patch_body(row: &mut TaskRow, patch: &Patch, now: Timestamp) -> Result<(), CommitError> {
    if let Some(state_detail) = &patch.state_detail {
        row.body.state_detail.clone_from(state_detail);
    }
    if let Some(summary) = &patch.summary {
        row.body.summary.clone_from(summary);
    }
    if let Some(progress) = &patch.progress {
        set_progress(row, progress.clone(), now);
    }
    if let Some(artifacts) = &patch.artifacts {
        row.body.content.artifacts.clear();
        add_artifacts(row, artifacts)?;
    }
    add_artifacts(row, &patch.append_artifacts)?;
    if let Some(links) = &patch.links {
        let retried_as = row.body.content.links.take().unwrap_or_default().retried_as;
        row.body.content.links = Some(Links {
            retry_of: String::new(),
            retried_as,
            ..links.clone()
        });
    }
    if let Some(merged) = &patch.merge_links {
        merge_links(row.body.content.links.get_or_insert_default(), merged);
    }
    Ok(())
}

fn set_progress(row: &mut TaskRow, progress: Option<Progress>, now: Timestamp) {
    row.body.progress = progress;
    row.body.progress_at = Some(times::to_database(now));
}

/// Adds artifacts; one of the same name is replaced where it stands.
fn add_artifacts(row: &mut TaskRow, added: &[Artifact]) -> Result<(), CommitError> {
    let artifacts = &mut row.body.content.artifacts;
    for artifact in added {
        if let Some(known) = artifacts
            .iter_mut()
            .find(|known| known.name == artifact.name)
        {
            known.clone_from(artifact);
        } else if artifacts.len() < MAX_ARTIFACTS {
            artifacts.push(artifact.clone());
        } else {
            return Err(CommitError::TooManyArtifacts {
                limit: MAX_ARTIFACTS,
            });
        }
    }
    Ok(())
}

fn merge_links(links: &mut Links, merged: &Links) {
    if !merged.child_session_id.is_empty() {
        links.child_session_id.clone_from(&merged.child_session_id);
    }
    if !merged.remote_task_id.is_empty() {
        links.remote_task_id.clone_from(&merged.remote_task_id);
    }
    for id in &merged.resource_ids {
        if !links.resource_ids.contains(id) {
            links.resource_ids.push(id.clone());
        }
    }
}
