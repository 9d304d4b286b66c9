//! ReportProgress: how far the work is, in its own words.

use super::{Caller, caller::refused};
use crate::{
    app::App,
    commit::Content,
    control::{
        definition::check_text,
        refusal::Refusal,
        update_task::{MAX_STATE_DETAIL, check_progress},
    },
};
use taskyard_core::task::Event;
use taskyard_proto::v1::{ReportProgressRequest, ReportProgressResponse};

/// Notes progress and detail; the latest wins.
///
/// # Errors
/// [`Refusal::InvalidField`], [`Refusal::LeaseLost`], or what storing says.
pub async fn report_progress(
    app: &App,
    caller: &Caller,
    request: ReportProgressRequest,
) -> Result<ReportProgressResponse, Refusal> {
    if let Some(progress) = &request.progress {
        check_progress("progress", progress)?;
    }
    if let Some(state_detail) = &request.state_detail {
        check_text("state_detail", state_detail, MAX_STATE_DETAIL)?;
    }
    let content = Content::Progress(request.progress, request.state_detail);
    caller
        .change(app, Event::Progress(caller.fence()), content)
        .await
        .map_err(refused)?;
    Ok(ReportProgressResponse {})
}
