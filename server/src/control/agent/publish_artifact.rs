//! PublishArtifact: a reference, or a file that is stored at once.

use super::{Caller, caller::refused};
use crate::{
    app::App,
    commit::Content,
    control::{
        refusal::Refusal,
        update_task::{check_artifact, check_artifact_path},
        worker_files,
    },
};
use futures::{Stream, StreamExt, stream};
use std::pin::pin;
use taskyard_core::task::Event;
use taskyard_proto::v1::{PublishArtifactRequest, PublishArtifactResponse};

/// Stores the file, if one comes, then the artifact.
///
/// # Errors
/// [`Refusal::InvalidField`], [`Refusal::InvalidPath`], [`Refusal::TooLarge`], [`Refusal::LeaseLost`], or what storing
/// says.
pub async fn publish_artifact<E: From<Refusal>>(
    app: &App,
    caller: &Caller,
    parts: impl Stream<Item = Result<PublishArtifactRequest, E>> + Send,
) -> Result<PublishArtifactResponse, E> {
    let mut parts = pin!(parts);
    let first = match parts.next().await {
        Some(first) => first?,
        None => return Err(Refusal::invalid("artifact", "is required").into()),
    };
    let mut artifact = first
        .artifact
        .ok_or_else(|| Refusal::invalid("artifact", "is required in the first message"))?;
    if first.is_file {
        if !artifact.path.is_empty() || !artifact.url.is_empty() {
            return Err(Refusal::invalid(
                "artifact",
                "is either a file or a reference: leave `path` and `url` empty",
            )
            .into());
        }
        let name = format!("artifacts/{}", artifact.name);
        let begin = stream::iter([Ok(first.data)]);
        let rest = parts.map(|part| part.map(|part| part.data));
        let bytes = begin.chain(rest);
        let file = worker_files::write_lease_file(app, caller.lease(), &name, bytes).await?;
        artifact.path = file.path;
    } else if !first.data.is_empty() {
        return Err(Refusal::invalid("is_file", "must be set where bytes follow").into());
    }
    check_artifact("artifact", &artifact)?;
    if !first.is_file {
        check_artifact_path("artifact", &artifact)?;
    }
    let content = Content::Artifact(artifact.clone());
    caller
        .change(app, Event::Artifact(caller.fence()), content)
        .await
        .map_err(refused)?;
    Ok(PublishArtifactResponse {
        artifact: Some(artifact),
    })
}
