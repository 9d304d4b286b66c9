//! What stands in the columns of monitors.

use crate::store::StoreError;
use prost::Message as _;
use taskyard_core::id::TaskId;
use taskyard_proto::v1::{TaskDefinition, TaskState};
use uuid::Uuid;

/// The definition of firings.
pub(super) fn definition(bytes: &[u8]) -> Result<TaskDefinition, StoreError> {
    TaskDefinition::decode(bytes).map_err(|error| StoreError::corrupt("definition", error))
}

/// The terminal states as they are stored.
pub(super) fn stored_state(state: TaskState) -> i16 {
    match state {
        TaskState::Succeeded => 3,
        TaskState::Canceled => 5,
        TaskState::Failed
        | TaskState::Unspecified
        | TaskState::Queued
        | TaskState::Running
        | TaskState::AwaitingInput => 4,
    }
}

/// A task, as it is stored.
pub(super) fn uuid(task: TaskId) -> Uuid {
    Uuid::from_u128(task.0)
}

/// A task, as it was stored.
pub(super) fn task_id(id: Uuid) -> TaskId {
    TaskId(id.as_u128())
}
