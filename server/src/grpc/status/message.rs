//! What a person is told of a refusal.

use crate::control::refusal::{ObjectError, Refusal, StoreError};
use taskyard_core::task::summary;

/// Longest message; what a request said is quoted in it, and headers are limited to some kilobytes.
pub(super) const MAX_MESSAGE_BYTES: usize = 2_048;

/// Its words. Of the store's trouble only what they can act upon; the rest is in the log.
pub(super) fn message(refusal: &Refusal) -> String {
    let text = match refusal {
        Refusal::Store(error) => match error {
            StoreError::Unavailable(_) | StoreError::Refused { .. } => {
                "the database is not reachable; try again in a moment".to_owned()
            }
            StoreError::Conflict(_) => "another transaction got in the way; try again".to_owned(),
            StoreError::NoTurn(_)
            | StoreError::DiskFull(_)
            | StoreError::ReadOnly(_)
            | StoreError::SessionDeleted => error.to_string(),
            StoreError::Corrupt { what, .. } => {
                format!("a stored {what} cannot be read; the server's log says more")
            }
            StoreError::Duplicate { .. }
            | StoreError::NewerSchema { .. }
            | StoreError::OtherSchema { .. }
            | StoreError::Migration(_)
            | StoreError::BadUrl { .. }
            | StoreError::Unreachable { .. }
            | StoreError::NoDatabase { .. }
            | StoreError::Other(_) => "the server failed; its log says why".to_owned(),
        },
        Refusal::ObjectStoreUnavailable(ObjectError::NotConfigured) => {
            "the content lies in an object store, and this server was started without one; give it --object-store"
                .to_owned()
        }
        other => other.to_string(),
    };
    summary::clip(&text, MAX_MESSAGE_BYTES)
}
