use super::{message::MAX_MESSAGE_BYTES, *};
use crate::control::refusal::{ObjectError, QuotaExceeded, Resource, StoreError};
use taskyard_core::vfs::PathError;

fn one_of_each() -> Vec<Refusal> {
    let text = || "x".repeat(10_000);
    let mut refusals = vec![
        Refusal::invalid("task.spec", text()),
        Refusal::InvalidPath {
            path: text(),
            problem: PathError::DotPart,
        },
        Refusal::AmbiguousTask {
            prefix: text(),
            candidates: vec![text(), text()],
        },
        Refusal::NameTaken { name: text() },
        Refusal::NameTwice { name: text() },
        Refusal::KeyConflict { key: text() },
        Refusal::RequestIdConflict { request_id: text() },
        Refusal::RequestTaskDeleted { task: text() },
        Refusal::SessionDeleted {
            session_id: text(),
            what: "the file",
        },
        Refusal::TaskTerminal,
        Refusal::TaskNotTerminal,
        Refusal::WrongState {
            state: "queued",
            problem: "no",
        },
        Refusal::GenerationMismatch {
            expected: 1,
            found: 2,
        },
        Refusal::LeaseLost,
        Refusal::WorkerSessionLost,
        Refusal::ProtocolMismatch {
            ours: 1,
            min: 2,
            max: 3,
        },
        Refusal::SystemPath { path: text() },
        Refusal::CollectNotAllowed { path: text() },
        Refusal::WrongFileType {
            path: text(),
            what: "a folder",
        },
        Refusal::FolderNeedsRecursive { path: text() },
        Refusal::FileVersionMismatch {
            path: text(),
            expected: 1,
            found: 2,
        },
        Refusal::FileChanged { path: text() },
        Refusal::TooLarge {
            what: text(),
            limit: 1,
        },
        Refusal::TooManyTasks { limit: 1 },
        Refusal::MessageTooLarge { limit: 1 },
        Refusal::QuotaExceeded(QuotaExceeded {
            scope: "session",
            what: "bytes",
            limit: 1,
            used: 1,
            wanted: 2,
        }),
        Refusal::ObjectStoreUnavailable(ObjectError::NotConfigured),
        Refusal::BadMessage { problem: text() },
        Refusal::TooSlow { what: "it" },
        Refusal::OutOfRange {
            what: "offset",
            offset: 1,
            problem: text(),
        },
        Refusal::BadToken {
            field: "page_token",
            problem: "no",
        },
        Refusal::Overloaded { what: "calls" },
        Refusal::ReaderStalled,
        Refusal::ShuttingDown,
        Refusal::ConnectionAged,
        Refusal::Unreachable,
        Refusal::Store(StoreError::away()),
        Refusal::Store(StoreError::corrupt("page", "relation \"secret\"")),
        Refusal::Store(StoreError::Duplicate {
            constraint: "secret".to_owned(),
        }),
        Refusal::Store(StoreError::Refused {
            reason: "secret".to_owned(),
        }),
    ];
    for resource in [
        Resource::Namespace,
        Resource::Session,
        Resource::Task,
        Resource::Run,
        Resource::File,
    ] {
        refusals.push(Refusal::NotFound {
            resource,
            name: text(),
        });
    }
    refusals
}

#[test]
fn every_refusal_has_a_reason_and_fits_into_a_header() {
    for refusal in one_of_each() {
        let shown = format!("{refusal:.40}");
        let status = Status::from(refusal);
        let details = status.get_error_details();
        let info = details
            .error_info()
            .cloned()
            .unwrap_or_else(|| panic!("{shown}: no reason"));
        let is_reason =
            |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
        assert!(
            info.reason.len() >= 2 && info.reason.bytes().all(is_reason),
            "{}",
            info.reason
        );
        assert!(
            info.reason
                .starts_with(|first: char| first.is_ascii_uppercase())
        );
        assert_eq!(info.domain, DOMAIN);
        assert!(!status.message().is_empty() && status.message().len() <= MAX_MESSAGE_BYTES);
        assert!(
            status.details().len() <= 6_000,
            "{shown}: {}",
            status.details().len()
        );
        assert!(!status.message().contains("secret"), "{}", status.message());
    }
}

#[test]
fn what_can_be_tried_again_says_when() {
    for refusal in one_of_each() {
        let may_retry = matches!(
            refusal,
            Refusal::Overloaded { .. }
                | Refusal::ShuttingDown
                | Refusal::ConnectionAged
                | Refusal::Unreachable
                | Refusal::ObjectStoreUnavailable(_)
                | Refusal::Store(StoreError::Unavailable(_) | StoreError::Refused { .. })
        );
        let status = Status::from(refusal);
        assert_eq!(
            status.get_error_details().retry_info().is_some(),
            may_retry,
            "{}",
            status.message()
        );
        assert!(status.code() != Code::Unavailable || may_retry);
    }
}

#[test]
fn details_say_what_a_program_needs() {
    let missing = Status::from(Refusal::NotFound {
        resource: Resource::Task,
        name: "t9".to_owned(),
    });
    let details = missing.get_error_details();
    let resource = details
        .resource_info()
        .map(|info| (info.resource_type.as_str(), info.resource_name.as_str()));
    assert_eq!(resource, Some(("task", "t9")));
    let invalid = Status::from(Refusal::invalid("task.name", "must be short"));
    let details = invalid.get_error_details();
    let fields = details
        .bad_request()
        .map(|request| request.field_violations.clone())
        .unwrap_or_default();
    assert_eq!(
        fields.first().map(|field| field.field.as_str()),
        Some("task.name")
    );
    let lost = Status::from(Refusal::LeaseLost);
    assert_eq!(lost.code(), Code::Aborted);
    let terminal = Status::from(Refusal::TaskTerminal);
    assert!(
        terminal
            .get_error_details()
            .precondition_failure()
            .is_some()
    );
}
