//! What a program is told of each refusal: the code, the reason, and what helps it to go on.

use crate::control::refusal::{Denied, Exceeded, Refusal, Resource, StoreError};
use std::time::Duration;
use taskyard_core::task::NoSpawn;
use tonic::Code;

/// When to try again where the server or its store is away, and where it is busy.
const RETRY_UNAVAILABLE: Duration = Duration::from_millis(500);
const RETRY_BUSY: Duration = Duration::from_millis(200);
/// When to try again where streams must be closed or tasks must end first.
const RETRY_FULL: Duration = Duration::from_secs(1);

/// What a program is told beside code and reason.
pub(super) enum Detail {
    Nothing,
    Field { field: String, problem: String },
    Resource { kind: &'static str, name: String },
    Precondition { kind: &'static str, subject: String },
    Retry(Duration),
    RetryFacts(Duration, Vec<(&'static str, String)>),
    Facts(Vec<(&'static str, String)>),
}

/// Code, reason and detail of each refusal.
pub(super) fn describe(refusal: &Refusal) -> (Code, &'static str, Detail) {
    match refusal {
        Refusal::InvalidField { field, problem } => (
            Code::InvalidArgument,
            "INVALID_FIELD",
            field_detail(field, problem),
        ),
        Refusal::InvalidPath { problem, .. } => (
            Code::InvalidArgument,
            "INVALID_PATH",
            field_detail("path", &problem.to_string()),
        ),
        Refusal::BadToken { field, problem } => (
            Code::InvalidArgument,
            "BAD_TOKEN",
            field_detail(field, problem),
        ),
        Refusal::AmbiguousTask { candidates, .. } => (
            Code::InvalidArgument,
            "AMBIGUOUS_TASK",
            Detail::Facts(vec![("candidates", candidates.join(","))]),
        ),
        Refusal::TooLarge { what, limit } => (
            Code::ResourceExhausted,
            "TOO_LARGE",
            Detail::Facts(vec![
                ("what", what.clone()),
                ("limit_bytes", limit.to_string()),
            ]),
        ),
        Refusal::QuotaExceeded(exceeded) => (
            Code::ResourceExhausted,
            "QUOTA_EXCEEDED",
            Detail::Facts(vec![
                ("scope", exceeded.scope.to_owned()),
                ("what", exceeded.what.to_owned()),
                ("limit", exceeded.limit.to_string()),
                ("used", exceeded.used.to_string()),
                ("wanted", exceeded.wanted.to_string()),
            ]),
        ),
        Refusal::ObjectStoreUnavailable(_) => (
            Code::Unavailable,
            "OBJECT_STORE_UNAVAILABLE",
            Detail::Retry(RETRY_UNAVAILABLE),
        ),
        Refusal::TooManyTasks { limit } => (
            Code::ResourceExhausted,
            "TOO_MANY_TASKS",
            Detail::Facts(vec![("limit", limit.to_string())]),
        ),
        Refusal::MessageTooLarge { limit } => (
            Code::ResourceExhausted,
            "MESSAGE_TOO_LARGE",
            Detail::Facts(vec![("limit_bytes", limit.to_string())]),
        ),
        Refusal::BadMessage { .. } => (Code::InvalidArgument, "BAD_MESSAGE", Detail::Nothing),
        Refusal::OutOfRange { what, problem, .. } => (
            Code::OutOfRange,
            "OUT_OF_RANGE",
            field_detail(what, problem),
        ),
        Refusal::NotFound { resource, name } => {
            let (reason, kind) = match resource {
                Resource::Namespace => ("NAMESPACE_NOT_FOUND", "namespace"),
                Resource::Session => ("SESSION_NOT_FOUND", "session"),
                Resource::Task => ("TASK_NOT_FOUND", "task"),
                Resource::Run => ("RUN_NOT_FOUND", "run"),
                Resource::File => ("FILE_NOT_FOUND", "file"),
                Resource::Question => ("QUESTION_NOT_FOUND", "question"),
                Resource::Webhook => ("WEBHOOK_NOT_FOUND", "webhook"),
                Resource::WebhookDelivery => ("DELIVERY_NOT_FOUND", "delivery"),
                Resource::Group => ("GROUP_NOT_FOUND", "group"),
            };
            let name = name.clone();
            (Code::NotFound, reason, Detail::Resource { kind, name })
        }
        Refusal::NameTaken { name } | Refusal::NameTwice { name } => (
            Code::AlreadyExists,
            "NAME_TAKEN",
            resource_detail("task", name),
        ),
        Refusal::KeyConflict { key } => (
            Code::AlreadyExists,
            "KEY_CONFLICT",
            resource_detail("key", key),
        ),
        Refusal::RequestIdConflict { request_id } => (
            Code::AlreadyExists,
            "REQUEST_ID_CONFLICT",
            resource_detail("request_id", request_id),
        ),
        Refusal::RequestTaskDeleted { task } => (
            Code::FailedPrecondition,
            "REQUEST_TASK_DELETED",
            Detail::Facts(vec![("task_id", task.clone())]),
        ),
        Refusal::SessionDeleted { session_id, .. } => (
            Code::NotFound,
            "SESSION_DELETED",
            resource_detail("session", session_id),
        ),
        Refusal::Within { field, refusal } => {
            let (code, reason, _) = describe(refusal);
            (code, reason, field_detail(field, &refusal.to_string()))
        }
        Refusal::ParentRefused { .. } => (
            Code::FailedPrecondition,
            "PARENT_REFUSED",
            precondition("TASK", "parent_item"),
        ),
        Refusal::TaskTerminal => (
            Code::FailedPrecondition,
            "TERMINAL",
            precondition("TASK_STATE", "task"),
        ),
        Refusal::TaskNotTerminal => (
            Code::FailedPrecondition,
            "NOT_TERMINAL",
            precondition("TASK_STATE", "task"),
        ),
        Refusal::WrongState { .. } => (
            Code::FailedPrecondition,
            "WRONG_STATE",
            precondition("TASK_STATE", "task"),
        ),
        Refusal::MonitorNeverRuns => (
            Code::FailedPrecondition,
            "MONITOR_NEVER_RUNS",
            precondition("TASK_STATE", "task"),
        ),
        Refusal::InputNotLive => (
            Code::FailedPrecondition,
            "INPUT_NOT_LIVE",
            precondition("TASK_SPEC", "stdin_live"),
        ),
        Refusal::NoPty => (
            Code::FailedPrecondition,
            "NO_PTY",
            precondition("TASK_SPEC", "pty"),
        ),
        Refusal::WrongRun { current, .. } => (
            Code::FailedPrecondition,
            "WRONG_RUN",
            Detail::Facts(vec![("current", current.to_string())]),
        ),
        Refusal::InputGap { accepted, .. } => (
            Code::OutOfRange,
            "INPUT_GAP",
            Detail::Facts(vec![("accepted", accepted.to_string())]),
        ),
        Refusal::InputConflict { accepted, .. } => (
            Code::AlreadyExists,
            "INPUT_CONFLICT",
            Detail::Facts(vec![("accepted", accepted.to_string())]),
        ),
        Refusal::InputEnded { accepted } => (
            Code::FailedPrecondition,
            "INPUT_ENDED",
            Detail::Facts(vec![("accepted", accepted.to_string())]),
        ),
        Refusal::InputFull { .. } => (
            Code::ResourceExhausted,
            "INPUT_FULL",
            Detail::Retry(RETRY_BUSY),
        ),
        Refusal::SignalNotDelivered => (
            Code::DeadlineExceeded,
            "SIGNAL_NOT_DELIVERED",
            Detail::Nothing,
        ),
        Refusal::QuestionNotPending => (
            Code::FailedPrecondition,
            "NOT_PENDING",
            precondition("QUESTION", "question_id"),
        ),
        Refusal::QuestionAnswered { message_id } => (
            Code::FailedPrecondition,
            "ALREADY_ANSWERED",
            precondition("QUESTION", message_id),
        ),
        Refusal::QuestionExpired => (
            Code::FailedPrecondition,
            "QUESTION_EXPIRED",
            precondition("QUESTION", "question_id"),
        ),
        Refusal::CancelRequested => (
            Code::FailedPrecondition,
            "CANCEL_REQUESTED",
            precondition("TASK_STATE", "task"),
        ),
        Refusal::SchemaMismatch { field, problem } => (
            Code::InvalidArgument,
            "SCHEMA_MISMATCH",
            field_detail(field, problem),
        ),
        Refusal::NoSpawn(no_spawn) => describe_no_spawn(*no_spawn),
        Refusal::LimitReached { what, limit } => (
            Code::ResourceExhausted,
            "LIMIT_REACHED",
            Detail::Facts(vec![
                ("what", (*what).to_owned()),
                ("limit", limit.to_string()),
            ]),
        ),
        Refusal::NotFromInside { .. } => {
            (Code::PermissionDenied, "NOT_FROM_INSIDE", Detail::Nothing)
        }
        Refusal::NotAuthentic(problem) => match problem.retry_after() {
            Some(after) => (Code::Unavailable, problem.reason(), Detail::Retry(after)),
            None => (Code::Unauthenticated, problem.reason(), Detail::Nothing),
        },
        Refusal::CredentialEnded => (Code::Unauthenticated, "CREDENTIAL_ENDED", Detail::Nothing),
        Refusal::Denied(denied) => describe_denied(denied),
        Refusal::PoolDenied { pool, allowed } => (
            Code::PermissionDenied,
            "POOL_DENIED",
            Detail::Facts(vec![("pool", pool.clone()), ("allowed", allowed.clone())]),
        ),
        Refusal::BootDenied => (Code::PermissionDenied, "BOOT_DENIED", Detail::Nothing),
        Refusal::ApproverNeeded => (
            Code::PermissionDenied,
            "APPROVER_NEEDED",
            Detail::Facts(vec![("needed_role", "approver".to_owned())]),
        ),
        Refusal::SessionNeeded { allowed } => (
            Code::PermissionDenied,
            "SESSION_NEEDED",
            Detail::Facts(vec![("allowed", allowed.clone())]),
        ),
        Refusal::SecretKeyMissing => (
            Code::FailedPrecondition,
            "SECRET_KEY_MISSING",
            precondition("SECRET_KEY", "task.secrets"),
        ),
        Refusal::SecretKeyUnknown { key } => (
            Code::FailedPrecondition,
            "SECRET_KEY_UNKNOWN",
            precondition("SECRET_KEY", key),
        ),
        Refusal::SecretDamaged { name } => (
            Code::DataLoss,
            "SECRET_DAMAGED",
            resource_detail("secret", name),
        ),
        Refusal::SecretValuesNeeded { names } => (
            Code::FailedPrecondition,
            "SECRET_VALUES_NEEDED",
            Detail::Facts(vec![("names", names.join(","))]),
        ),
        Refusal::ProtocolMismatch { ours, .. } => (
            Code::FailedPrecondition,
            "PROTOCOL_MISMATCH",
            Detail::Facts(vec![("protocol", ours.to_string())]),
        ),
        Refusal::WrongFileType { path, .. } => (
            Code::FailedPrecondition,
            "WRONG_FILE_TYPE",
            precondition("FILE_TYPE", path),
        ),
        Refusal::FolderNeedsRecursive { path } => (
            Code::FailedPrecondition,
            "FOLDER_NEEDS_RECURSIVE",
            precondition("FILE_TYPE", path),
        ),
        Refusal::SystemPath { path } => (
            Code::PermissionDenied,
            "SYSTEM_PATH",
            resource_detail("file", path),
        ),
        Refusal::CollectNotAllowed { path } => (
            Code::PermissionDenied,
            "COLLECT_NOT_ALLOWED",
            resource_detail("file", path),
        ),
        Refusal::GenerationMismatch { expected, found } => (
            Code::Aborted,
            "GENERATION_MISMATCH",
            Detail::Facts(vec![
                ("expected", expected.to_string()),
                ("found", found.to_string()),
            ]),
        ),
        Refusal::FileVersionMismatch {
            expected, found, ..
        } => (
            Code::Aborted,
            "FILE_VERSION_MISMATCH",
            Detail::Facts(vec![
                ("expected", expected.to_string()),
                ("found", found.to_string()),
            ]),
        ),
        Refusal::FileChanged { .. } => (Code::Aborted, "FILE_CHANGED", Detail::Nothing),
        Refusal::LeaseLost => (Code::Aborted, "LEASE_LOST", Detail::Nothing),
        Refusal::WorkerSessionLost => (Code::Aborted, "WORKER_SESSION_LOST", Detail::Nothing),
        Refusal::ReaderStalled => (Code::Aborted, "READER_STALLED", Detail::Nothing),
        Refusal::TooSlow { .. } => (Code::DeadlineExceeded, "TOO_SLOW", Detail::Nothing),
        Refusal::CallLimit(exceeded) => describe_exceeded(*exceeded),
        Refusal::TooManyLiveTasks { scope, limit } => (
            Code::ResourceExhausted,
            "TOO_MANY_LIVE_TASKS",
            Detail::RetryFacts(
                RETRY_FULL,
                vec![("scope", (*scope).to_owned()), ("limit", limit.to_string())],
            ),
        ),
        Refusal::TooManySessions { limit } => (
            Code::ResourceExhausted,
            "TOO_MANY_SESSIONS",
            Detail::Facts(vec![("limit", limit.to_string())]),
        ),
        Refusal::Overloaded { .. } => (
            Code::ResourceExhausted,
            "OVERLOADED",
            Detail::Retry(RETRY_BUSY),
        ),
        Refusal::Unreachable => (
            Code::Unavailable,
            "STORE_UNAVAILABLE",
            Detail::Retry(RETRY_UNAVAILABLE),
        ),
        Refusal::ShuttingDown => (
            Code::Unavailable,
            "SHUTTING_DOWN",
            Detail::Retry(RETRY_UNAVAILABLE),
        ),
        // another connection takes the call at once
        Refusal::ConnectionAged => (
            Code::Unavailable,
            "CONNECTION_AGED",
            Detail::Retry(Duration::ZERO),
        ),
        Refusal::Store(error) => describe_store(error),
    }
}

fn describe_denied(denied: &Denied) -> (Code, &'static str, Detail) {
    match denied {
        Denied::Unknown => (Code::Unauthenticated, "NO_CREDENTIAL", Detail::Nothing),
        Denied::Role(role) => (
            Code::PermissionDenied,
            "ROLE_NEEDED",
            Detail::Facts(vec![("needed_role", role.as_str().to_owned())]),
        ),
        Denied::FromInside => (Code::PermissionDenied, "NOT_FROM_INSIDE", Detail::Nothing),
        Denied::FromOutside => (Code::PermissionDenied, "ONLY_FROM_INSIDE", Detail::Nothing),
        Denied::Narrow => (
            Code::PermissionDenied,
            "WHOLE_REACH_NEEDED",
            Detail::Nothing,
        ),
    }
}

/// What a caller has too much of; all of it will be less in a moment, so each says when to come back.
fn describe_exceeded(exceeded: Exceeded) -> (Code, &'static str, Detail) {
    let (reason, after, limit) = match exceeded {
        Exceeded::Rate {
            per_second,
            retry_after,
        } => ("RATE_LIMITED", retry_after, per_second.to_string()),
        Exceeded::Calls { limit } => ("TOO_MANY_CALLS", RETRY_BUSY, limit.to_string()),
        Exceeded::Streams { limit } => ("TOO_MANY_STREAMS", RETRY_FULL, limit.to_string()),
        Exceeded::Watchers { limit } => ("TOO_MANY_WATCHERS", RETRY_FULL, limit.to_string()),
    };
    let detail = Detail::RetryFacts(after, vec![("limit", limit)]);
    (Code::ResourceExhausted, reason, detail)
}

fn describe_no_spawn(no_spawn: NoSpawn) -> (Code, &'static str, Detail) {
    let parent = || precondition("TASK_STATE", "parent_task_id");
    let limit = |limit: u64| Detail::Facts(vec![("limit", limit.to_string())]);
    match no_spawn {
        NoSpawn::ParentEnded => (Code::FailedPrecondition, "PARENT_ENDED", parent()),
        NoSpawn::ParentCanceled => (Code::FailedPrecondition, "PARENT_CANCELED", parent()),
        NoSpawn::ParentIsMonitor => (Code::FailedPrecondition, "PARENT_IS_MONITOR", parent()),
        NoSpawn::TooDeep { max_depth } => (
            Code::ResourceExhausted,
            "TREE_TOO_DEEP",
            limit(u64::from(max_depth)),
        ),
        NoSpawn::TooManyChildren { max_children } => (
            Code::ResourceExhausted,
            "TOO_MANY_CHILDREN",
            limit(max_children),
        ),
    }
}

fn describe_store(error: &StoreError) -> (Code, &'static str, Detail) {
    match error {
        StoreError::Unavailable(_) | StoreError::Refused { .. } => (
            Code::Unavailable,
            "STORE_UNAVAILABLE",
            Detail::Retry(RETRY_UNAVAILABLE),
        ),
        StoreError::NoTurn(_) => (
            Code::ResourceExhausted,
            "OVERLOADED",
            Detail::Retry(RETRY_BUSY),
        ),
        StoreError::ReadOnly(_) => (
            Code::Unavailable,
            "STORE_READ_ONLY",
            Detail::Retry(RETRY_UNAVAILABLE),
        ),
        StoreError::Conflict(_) => (
            Code::Unavailable,
            "STORE_CONFLICT",
            Detail::Retry(RETRY_BUSY),
        ),
        StoreError::DiskFull(_) => (
            Code::Unavailable,
            "STORE_FULL",
            Detail::Retry(RETRY_UNAVAILABLE),
        ),
        StoreError::SessionDeleted => (Code::NotFound, "SESSION_DELETED", Detail::Nothing),
        StoreError::Corrupt { .. } => (Code::DataLoss, "STORE_CORRUPT", Detail::Nothing),
        StoreError::Duplicate { .. }
        | StoreError::NewerSchema { .. }
        | StoreError::OtherSchema { .. }
        | StoreError::Migration(_)
        | StoreError::BadUrl { .. }
        | StoreError::Unreachable { .. }
        | StoreError::NoDatabase { .. }
        | StoreError::Other(_) => (Code::Internal, "INTERNAL", Detail::Nothing),
    }
}

fn field_detail(field: &str, problem: &str) -> Detail {
    Detail::Field {
        field: field.to_owned(),
        problem: problem.to_owned(),
    }
}

fn resource_detail(kind: &'static str, name: &str) -> Detail {
    Detail::Resource {
        kind,
        name: name.to_owned(),
    }
}

fn precondition(kind: &'static str, subject: &str) -> Detail {
    Detail::Precondition {
        kind,
        subject: subject.to_owned(),
    }
}
