//! What a refused commit means to the caller.

use super::refusal::{Refusal, Resource, StoreError};
use crate::commit::CommitError;

impl From<CommitError> for Refusal {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Rejected { rejected, state } => Self::from_rejected(rejected, state),
            CommitError::NotFound => Self::NotFound {
                resource: Resource::Task,
                name: String::new(),
            },
            CommitError::OutputPending => Self::WrongState {
                state: "running",
                problem: "its output is not stored yet",
            },
            CommitError::GenerationMismatch { expected, found } => Self::GenerationMismatch {
                expected: expected.cast_signed(),
                found: found.cast_signed(),
            },
            CommitError::NameTaken => Self::NameTaken {
                name: String::new(),
            },
            CommitError::KeyConflict => Self::KeyConflict { key: String::new() },
            CommitError::RequestIdConflict => Self::RequestIdConflict {
                request_id: String::new(),
            },
            CommitError::NoSpawn(no_spawn) => Self::NoSpawn(no_spawn),
            CommitError::NoParent => Self::NotFound {
                resource: Resource::Task,
                name: "parent_task_id".to_owned(),
            },
            CommitError::SessionDeleted => Self::Store(StoreError::SessionDeleted),
            CommitError::SpawnerLost => Self::LeaseLost,
            CommitError::TooManyMessages { limit } => Self::LimitReached {
                what: "messages of a task",
                limit: limit.unsigned_abs(),
            },
            CommitError::TooManyLiveTasks { scope, limit } => {
                Self::TooManyLiveTasks { scope, limit }
            }
            CommitError::TooManyArtifacts { limit } => {
                Self::invalid("artifacts", format!("a task has at most {limit}"))
            }
            CommitError::Store(error) => Self::Store(error),
            CommitError::Unreachable => Self::Unreachable,
            CommitError::Overloaded => Self::Overloaded { what: "changes" },
            CommitError::ShuttingDown => Self::ShuttingDown,
        }
    }
}
