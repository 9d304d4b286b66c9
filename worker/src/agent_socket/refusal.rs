//! The answers that the worker gives itself, in the control plane's form.

use std::collections::HashMap;
use std::time::Duration;

use http::HeaderMap;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

const DOMAIN: &str = "taskyard.dev";
const LEASE_LOST: &str = "LEASE_LOST";
/// When to try again where the work itself has too much open.
const RETRY_BUSY: Duration = Duration::from_millis(200);

/// The lease is gone: whatever is asked, nobody would act on it.
pub(super) fn lease_lost() -> Status {
    refused(
        Code::Aborted,
        LEASE_LOST,
        "the lease of this attempt is lost; it is being ended, and another one may run",
    )
}

pub(super) fn stranger() -> Status {
    refused(
        Code::PermissionDenied,
        "NOT_THIS_ATTEMPT",
        "only the processes of the attempt may use its socket; speak to the server instead",
    )
}

pub(super) fn too_many_connections(limit: usize) -> Status {
    busy(
        "TOO_MANY_CONNECTIONS",
        &format!("the task has {limit} connections open to its socket; close some"),
    )
}

pub(super) fn too_many_calls(limit: usize) -> Status {
    busy(
        "TOO_MANY_CALLS",
        &format!("the task has {limit} calls under way on its socket; wait for some to end"),
    )
}

pub(super) fn message_too_large(limit: usize) -> Status {
    refused(
        Code::ResourceExhausted,
        "MESSAGE_TOO_LARGE",
        &format!("the request has more than {limit} bytes"),
    )
}

pub(super) fn compressed() -> Status {
    refused(
        Code::Unimplemented,
        "COMPRESSED",
        "the task has secrets, so what it says is read here; send it uncompressed",
    )
}

/// It must not say which: that would be told to whoever tries.
pub(super) fn secret_in_definition() -> Status {
    refused(
        Code::InvalidArgument,
        "SECRET_IN_DEFINITION",
        "the new task's definition holds the value of a secret, and everybody can read it; give it to the new task as a secret",
    )
}

pub(super) fn not_served(path: &str) -> Status {
    refused(
        Code::Unimplemented,
        "NOT_SERVED_HERE",
        &format!(
            "{path:?} is not served inside a task; TaskAgentService and SessionTaskService are"
        ),
    )
}

/// A status as the end of an answer.
pub(super) fn trailers(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    if status.add_header(&mut trailers).is_err() {
        // Only a message that no header can hold; the code alone always fits.
        let _ = Status::new(status.code(), "").add_header(&mut trailers);
    }
    trailers
}

/// Whether the control plane says, in headers or trailers, that the lease is lost.
pub(super) fn says_lease_lost(headers: &HeaderMap) -> bool {
    Status::from_header_map(headers)
        .filter(|status| status.code() == Code::Aborted)
        .and_then(|status| status.get_error_details().error_info().cloned())
        .is_some_and(|info| info.reason == LEASE_LOST && info.domain == DOMAIN)
}

fn busy(reason: &str, message: &str) -> Status {
    let mut details = ErrorDetails::with_error_info(reason, DOMAIN, HashMap::new());
    details.set_retry_info(Some(RETRY_BUSY));
    Status::with_error_details(Code::ResourceExhausted, message, details)
}

fn refused(code: Code, reason: &str, message: &str) -> Status {
    let details = ErrorDetails::with_error_info(reason, DOMAIN, HashMap::new());
    Status::with_error_details(code, message, details)
}
