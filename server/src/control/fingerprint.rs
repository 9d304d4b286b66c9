//! What tells a repeated call from another one under the same `request_id` or key: SHA-256 of what the request means.
//!
//! They are stored, and compared with those that servers of other releases take, so what they are taken of is recorded;
//! `compat/README.md` says how it may change.

use prost::Message;
use sha2::{Digest, Sha256};
use taskyard_core::id::TaskId;
use taskyard_proto::v1::{
    BatchCreateTasksRequest, CloneTaskRequest, CreateTaskRequest, RetryTaskRequest,
};

/// Without how long the caller waits, and the values of secrets, of which nothing may be kept, not even a digest.
pub fn of_create(request: &CreateTaskRequest) -> [u8; 32] {
    let mut meant = CreateTaskRequest {
        request_id: String::new(),
        wait: None,
        ..request.clone()
    };
    if let Some(task) = &mut meant.task {
        task.secrets.clear();
    }
    digest(&meant)
}

/// Of a batch as a whole; each of its tasks has that of a create of it alone, too.
pub fn of_batch(request: &BatchCreateTasksRequest) -> [u8; 32] {
    let mut meant = BatchCreateTasksRequest {
        request_id: String::new(),
        ..request.clone()
    };
    for task in &mut meant.tasks {
        task.secrets.clear();
    }
    digest(&meant)
}

/// `task` is the id of what the request names, by whatever name.
pub fn of_retry(request: &RetryTaskRequest, task: &str) -> [u8; 32] {
    digest(&RetryTaskRequest {
        request_id: String::new(),
        task: task.to_owned(),
        session_id: String::new(),
        secrets: Vec::new(),
        ..request.clone()
    })
}

/// `task` is the id of what the request names, by whatever name.
pub fn of_clone(request: &CloneTaskRequest, task: &str) -> [u8; 32] {
    let mut meant = CloneTaskRequest {
        request_id: String::new(),
        task: task.to_owned(),
        session_id: String::new(),
        ..request.clone()
    };
    if let Some(changes) = &mut meant.changes {
        changes.secrets.clear();
    }
    digest(&meant)
}

/// Of a monitor's firing, by the monitor and the number of the firing.
pub fn of_firing(monitor: TaskId, number: i64) -> [u8; 32] {
    Sha256::new()
        .chain_update(monitor.0.to_be_bytes())
        .chain_update(number.to_be_bytes())
        .finalize()
        .into()
}

fn digest(meant: &impl Message) -> [u8; 32] {
    Sha256::digest(meant.encode_to_vec()).into()
}
