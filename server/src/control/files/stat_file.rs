//! Telling about one file or folder.

use super::node::find_node;
use crate::{
    app::App,
    control::{namespace, refusal::Refusal},
};
use taskyard_core::vfs::SessionPath;
use taskyard_proto::v1::{StatRequest, StatResponse};

/// Tells about one file or folder.
///
/// # Errors
/// [`Refusal::NotFound`] for the session or the path, [`Refusal::InvalidPath`], [`Refusal::Store`].
pub async fn stat_file(app: &App, request: &StatRequest) -> Result<StatResponse, Refusal> {
    let path = parse_path(&request.path)?;
    let session = namespace::find_session(app, &request.namespace, &request.session_id).await?;
    let node = find_node(app, session, &path).await?;
    Ok(StatResponse {
        file: Some(node.into_info()),
    })
}

/// A path of a request.
///
/// # Errors
/// [`Refusal::InvalidPath`].
pub(crate) fn parse_path(text: &str) -> Result<SessionPath, Refusal> {
    text.parse().map_err(|problem| Refusal::InvalidPath {
        path: text.to_owned(),
        problem,
    })
}
