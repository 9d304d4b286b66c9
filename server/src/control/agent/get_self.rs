//! GetSelf: the task that the caller runs in.

use super::Caller;
use crate::{
    app::App,
    control::{get_task, refusal::Refusal},
};
use taskyard_proto::v1::GetSelfResponse;

/// Reads the caller's own task.
///
/// # Errors
/// [`Refusal::Store`].
pub async fn get_self(app: &App, caller: &Caller) -> Result<GetSelfResponse, Refusal> {
    Ok(GetSelfResponse {
        task: Some(get_task::read_task(app, caller.task()).await?.task),
    })
}
