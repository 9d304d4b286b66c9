//! Why a verb could not do its work, as a sentence that says what to do, with its exit code.

use std::error::Error;
use std::io;
use std::time::Duration;

use taskyard_proto::v1::TaskState;
use taskyard_server::ServeError;
use taskyard_server::store::StoreError;
use taskyard_worker::WorkerError;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::exit_code::ExitCode;
use crate::hint::{hint_for, is_busy};
use crate::wire_words::in_words;

/// The reason of a refusal to an attempt that is over.
const LEASE_LOST: &str = "LEASE_LOST";

/// The cause where the peer answers in another protocol.
pub const FOREIGN: &str = "something listens there that does not speak gRPC";

/// What HTTP/2 says of a peer that takes its leave without complaint.
pub const GOODBYE: &str = "not a result of an error";

/// The cause where nobody listens.
pub const REFUSED: &str = "connection refused";

/// The cause where the peer let go of the connection.
pub const CLOSED: &str = "the connection was closed";

/// What ends a verb early. The text goes to standard error as it is.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The arguments or the task file make no sense.
    #[error("{0}")]
    Usage(String),
    /// The server understood and refused, or something is not there.
    #[error("{0}")]
    Refused(String),
    /// The server cannot be reached, or something of ours failed.
    #[error("{0}")]
    Own(String),
    /// A person ended the command.
    #[error("{0}")]
    Interrupted(String),
    /// Nobody reads standard output any more; there is nobody to tell.
    #[error("standard output was closed")]
    BrokenPipe,
}

impl Failure {
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Failure::Usage(_) => ExitCode::Usage,
            Failure::Refused(_) => ExitCode::Refused,
            Failure::Own(_) => ExitCode::Failure,
            Failure::Interrupted(_) => ExitCode::Interrupted,
            Failure::BrokenPipe => ExitCode::BrokenPipe,
        }
    }

    /// A failure of ours with everything that its sources say.
    pub fn own(error: &(dyn Error + 'static)) -> Failure {
        Failure::Own(chain(error))
    }

    /// A server that does not start: a URL that is none is the command line's fault.
    pub fn of_server(error: &ServeError) -> Failure {
        match error {
            ServeError::Database(StoreError::BadUrl { .. }) => Failure::Usage(chain(error)),
            ServeError::Database(_)
            | ServeError::AddressInUse { .. }
            | ServeError::NoSuchAddress { .. }
            | ServeError::AddressNotPermitted { .. }
            | ServeError::Listen { .. }
            | ServeError::LeaseOutOfRange { .. }
            | ServeError::ObjectStore(_)
            | ServeError::ObjectGraceOutOfRange { .. }
            | ServeError::SecretKeys(_)
            | ServeError::Tls(_)
            | ServeError::Auth(_)
            | ServeError::AuditRetentionOutOfRange { .. }
            | ServeError::ConnectionAgeOutOfRange { .. }
            | ServeError::Endpoint(_)
            | ServeError::LoopEnded => Failure::own(error),
        }
    }

    /// A worker that does not start, or ended by itself.
    pub fn of_worker(error: &WorkerError) -> Failure {
        let text = chain(error);
        match error {
            WorkerError::DataDirectory { .. } => {
                Failure::Own(format!("{text}; choose another --data-dir"))
            }
            WorkerError::BadSecretGlob { .. } | WorkerError::BadSecretDirectory { .. } => {
                Failure::Usage(format!("{text}; see --secret-env and --secret-dir"))
            }
            WorkerError::BadInheritGlob { .. } => {
                Failure::Usage(format!("{text}; see --inherit-env"))
            }
            WorkerError::BadName { .. }
            | WorkerError::BadSlots { .. }
            | WorkerError::BadEndpoint { .. }
            | WorkerError::DataDirectoryLocked { .. }
            | WorkerError::Sockets { .. }
            | WorkerError::Shim { .. }
            | WorkerError::ReservedLabel { .. }
            | WorkerError::BadIsolation { .. }
            | WorkerError::BadPool { .. }
            | WorkerError::Access(_)
            | WorkerError::Isolation(_)
            | WorkerError::PartEnded { .. } => Failure::Own(text),
        }
    }

    /// A failed write to standard output.
    pub fn of_output(error: &io::Error) -> Failure {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Failure::BrokenPipe
        } else {
            Failure::Own(format!("cannot write to standard output: {error}"))
        }
    }

    /// The answer of the server at `endpoint`, or of the connection to it.
    pub fn of_status(status: &Status, endpoint: &str) -> Failure {
        if let Some(cause) = transport_cause(status) {
            return unreachable_endpoint(endpoint, &cause);
        }
        let message = status.message();
        match status.code() {
            Code::InvalidArgument if is_about_an_argument(status) => {
                Failure::Usage(invalid_argument(status))
            }
            Code::InvalidArgument => Failure::Refused(invalid_argument(status)),
            Code::Aborted if is_lease_lost(status) => Failure::Own(format!(
                "{message}; another run may have begun, so stop here"
            )),
            Code::NotFound
            | Code::AlreadyExists
            | Code::FailedPrecondition
            | Code::Aborted
            | Code::OutOfRange
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::ResourceExhausted => Failure::Refused(with_hint(status)),
            Code::Unimplemented => Failure::Own(format!(
                "{endpoint} answers, but does not serve this call of taskyard.v1; check --endpoint, or bring the \
                 server to this version"
            )),
            Code::DeadlineExceeded => Failure::Own(format!(
                "{endpoint} did not answer in time ({message}); see how the server is doing and try again"
            )),
            Code::Unavailable => Failure::Own(format!(
                "{endpoint} cannot answer now: {message}; try again"
            )),
            Code::Internal | Code::Unknown | Code::DataLoss | Code::Cancelled | Code::Ok => {
                Failure::Own(foreign_or_internal(status, endpoint))
            }
        }
    }
}

/// An endpoint that could not be connected to.
pub fn unreachable_endpoint(endpoint: &str, cause: &str) -> Failure {
    if cause == FOREIGN {
        return Failure::Own(format!(
            "{endpoint} is not a Taskyard server: {cause}; check --endpoint"
        ));
    }
    let hint = if endpoint.starts_with("https://") {
        "check --endpoint and TASKYARD_CA, which names the authorities to trust"
    } else {
        "start one with `taskyard dev`, or set --endpoint"
    };
    Failure::Own(format!("cannot reach {endpoint}: {cause}; {hint}"))
}

/// Whether the same call may well succeed in a moment.
pub fn is_transient(status: &Status) -> bool {
    match status.code() {
        Code::Unavailable
        | Code::Unknown
        | Code::Internal
        | Code::Cancelled
        | Code::DeadlineExceeded => true,
        Code::Aborted => !is_lease_lost(status),
        Code::ResourceExhausted => status
            .get_error_details()
            .error_info()
            .is_none_or(|info| is_busy(&info.reason)),
        Code::Ok
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::DataLoss
        | Code::Unauthenticated => false,
    }
}

/// How long the server asks to wait with a call that it refused for a limit of which there will be less in a moment, before
/// anything was done for it; none: it was not refused so.
pub fn time_to_come_back(status: &Status) -> Option<Duration> {
    if status.code() != Code::ResourceExhausted {
        return None;
    }
    let details = status.get_error_details();
    let reason = &details.error_info()?.reason;
    let retry = details.retry_info()?.retry_delay?;
    is_busy(reason).then_some(retry)
}

/// Whether the call named a task that is not there, or not to be seen from here.
pub fn is_unknown_task(status: &Status) -> bool {
    let details = status.get_error_details();
    status.code() == Code::NotFound
        && details
            .error_info()
            .is_some_and(|info| info.reason == "TASK_NOT_FOUND")
}

/// Whether the call was about a task that is gone, by itself or with its session.
pub fn is_gone(status: &Status) -> bool {
    let details = status.get_error_details();
    let reason = details.error_info().map_or("", |info| info.reason.as_str());
    is_unknown_task(status) || (status.code() == Code::NotFound && reason == "SESSION_DELETED")
}

/// Whether the attempt inside which this runs has lost its lease: nothing that it says counts any more.
pub fn is_lease_lost(status: &Status) -> bool {
    let details = status.get_error_details();
    status.code() == Code::Aborted
        && details
            .error_info()
            .is_some_and(|info| info.reason == LEASE_LOST)
}

/// Whether the connection was lost, rather than the call answered; what speaks another protocol was never there.
pub fn is_lost_connection(status: &Status) -> bool {
    transport_cause(status).is_some_and(|cause| cause != FOREIGN)
}

/// Whether a state is one that never changes again.
pub fn is_terminal(state: TaskState) -> bool {
    match state {
        TaskState::Succeeded | TaskState::Failed | TaskState::Canceled => true,
        TaskState::Unspecified
        | TaskState::Queued
        | TaskState::Running
        | TaskState::AwaitingInput => false,
    }
}

/// An error and its sources as one line, each part once.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let part = error.to_string();
        if !text.contains(&part) {
            text.push_str(": ");
            text.push_str(&part);
        }
        source = error.source();
    }
    text
}

/// The plainest words for why a connection failed: the operating system's, where it was asked.
pub fn connection_cause(error: &(dyn Error + 'static)) -> String {
    let mut innermost = error;
    let mut current = Some(error);
    while let Some(error) = current {
        if let Some(cause) = error.downcast_ref::<io::Error>() {
            let plain = match cause.kind() {
                io::ErrorKind::ConnectionRefused => Some(REFUSED),
                io::ErrorKind::TimedOut => Some("no answer in time"),
                io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionAborted
                | io::ErrorKind::NotConnected
                | io::ErrorKind::BrokenPipe
                | io::ErrorKind::UnexpectedEof => Some(CLOSED),
                _ => None,
            };
            if let Some(plain) = plain {
                return plain.to_owned();
            }
        }
        innermost = error;
        current = error.source();
    }
    let text = innermost.to_string();
    if is_protocol_mismatch(&text) {
        FOREIGN.to_owned()
    } else if text.contains(GOODBYE) {
        CLOSED.to_owned()
    } else {
        text
    }
}

/// Why the transport failed, where the status is the client's own and not an answer.
fn transport_cause(status: &Status) -> Option<String> {
    let source = status.source()?;
    let cause = connection_cause(source);
    match status.code() {
        Code::Unavailable | Code::Unknown | Code::Internal | Code::Cancelled => Some(cause),
        _ => None,
    }
}

fn is_protocol_mismatch(text: &str) -> bool {
    [
        "FRAME_SIZE_ERROR",
        "PROTOCOL_ERROR",
        "invalid frame",
        "frame with invalid size",
    ]
    .iter()
    .any(|sign| text.contains(sign))
}

/// Whether a pattern or the name of a signal cannot be read. Only the server knows them, but they are arguments of the
/// command line all the same.
fn is_about_an_argument(status: &Status) -> bool {
    let details = status.get_error_details();
    details.bad_request().is_some_and(|request| {
        let mut fields = request
            .field_violations
            .iter()
            .map(|violation| &violation.field);
        fields.any(|field| field == "pattern" || field.ends_with(".pattern") || field == "signal")
    })
}

fn invalid_argument(status: &Status) -> String {
    let details = status.get_error_details();
    let message = in_words(status.message());
    let Some(request) = details.bad_request() else {
        return message;
    };
    let fields: Vec<String> = request
        .field_violations
        .iter()
        .filter(|violation| !status.message().contains(&violation.description))
        .map(|violation| in_words(&format!("{}: {}", violation.field, violation.description)))
        .collect();
    if fields.is_empty() {
        let named = request.field_violations.first().filter(|violation| {
            !violation.field.is_empty() && !status.message().contains(&violation.field)
        });
        return match named {
            Some(violation) => format!("{message} (field {})", violation.field),
            None => message,
        };
    }
    format!("{message}: {}", fields.join("; "))
}

/// The server's sentence, with the verb that helps where it cannot know that we have one.
fn with_hint(status: &Status) -> String {
    let message = in_words(status.message());
    match hint_for(status) {
        Some(hint) if !message.contains("try again") => format!("{message}; {hint}"),
        Some(_) | None => message,
    }
}

/// A server that is not ours answers with plain HTTP, which the client turns into one of the vague codes.
fn foreign_or_internal(status: &Status, endpoint: &str) -> String {
    let message = status.message();
    let is_foreign = message.contains("grpc-status header missing")
        || message.contains("invalid compression flag")
        || message.contains("mapped from HTTP status");
    if is_foreign {
        format!("{endpoint} answers, but not as a Taskyard server ({message}); check --endpoint")
    } else {
        format!("the server at {endpoint} failed: {message}; its log says more")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic_types::ErrorDetails;

    #[test]
    fn a_refusal_names_the_field_and_a_missing_task_gets_a_hint() {
        let details =
            ErrorDetails::with_bad_request_violation("task.name", "must not look like t12");
        let status =
            Status::with_error_details(Code::InvalidArgument, "the request is invalid", details);
        let failure = Failure::of_status(&status, "http://x:1");
        assert_eq!(failure.exit_code(), ExitCode::Refused);
        assert_eq!(
            failure.to_string(),
            "the request is invalid: name: must not look like t12"
        );

        let details = ErrorDetails::with_error_info(
            "TASK_NOT_FOUND",
            "taskyard.dev",
            [("task".to_owned(), "t9".to_owned())],
        );
        let status = Status::with_error_details(Code::NotFound, "no task t9", details);
        let text = Failure::of_status(&status, "http://x:1").to_string();
        assert!(text.starts_with("no task t9; `taskyard list`"), "{text}");
    }

    #[test]
    fn a_request_that_is_too_large_is_not_sent_again() {
        let refused = |reason: &str| {
            let details = ErrorDetails::with_error_info(reason, "taskyard.dev", []);
            Status::with_error_details(Code::ResourceExhausted, "send less at once", details)
        };
        assert!(is_transient(&refused("OVERLOADED")));
        for reason in ["MESSAGE_TOO_LARGE", "TOO_LARGE", "QUOTA_EXCEEDED"] {
            let too_large = refused(reason);
            assert!(!is_transient(&too_large), "{reason}");
            let failure = Failure::of_status(&too_large, "http://x:1");
            assert_eq!(failure.to_string(), "send less at once");
        }
    }

    #[test]
    fn a_server_that_is_not_taskyard_is_called_that() {
        let status =
            Status::unknown("grpc-status header missing, mapped from HTTP status code 200");
        let failure = Failure::of_status(&status, "http://x:1");
        assert_eq!(failure.exit_code(), ExitCode::Failure);
        assert!(failure.to_string().contains("not as a Taskyard server"));
    }
}
