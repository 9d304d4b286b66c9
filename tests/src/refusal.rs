//! What a refused call must say: the right code, and a reason for programs.

use tonic::{Code, Status};
use tonic_types::StatusExt;

/// The domain of every reason.
pub const DOMAIN: &str = "taskyard.dev";

/// The reason of a refused call; empty where none was given.
pub fn reason_of(status: &Status) -> String {
    let info = status.get_details_error_info();
    info.map(|info| info.reason).unwrap_or_default()
}

/// Holds a refusal to its code and reason, and to telling a person something.
#[track_caller]
pub fn expect_refused<T>(
    what: &str,
    answer: Result<T, Status>,
    code: Code,
    reason: &str,
) -> Status {
    let Err(status) = answer else {
        panic!("{what}: was not refused");
    };
    assert_eq!(status.code(), code, "{what}: {status:?}");
    let info = status.get_details_error_info();
    let info = info.unwrap_or_else(|| panic!("{what}: no ErrorInfo in {status:?}"));
    assert_eq!(info.domain, DOMAIN, "{what}");
    assert_eq!(info.reason, reason, "{what}: {}", status.message());
    assert!(status.message().len() > 8, "{what}: {:?}", status.message());
    status
}

/// Refused for one field, which a program is told.
#[track_caller]
pub fn expect_bad_field<T>(answer: Result<T, Status>, field: &str) {
    let status = expect_refused(field, answer, Code::InvalidArgument, "INVALID_FIELD");
    let details = status.get_details_bad_request();
    let fields: Vec<String> = details
        .map(|details| details.field_violations)
        .unwrap_or_default()
        .into_iter()
        .map(|violation| violation.field)
        .collect();
    assert_eq!(fields, [field], "{}", status.message());
    assert!(status.message().starts_with(field), "{}", status.message());
}
