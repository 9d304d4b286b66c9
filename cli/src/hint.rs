//! What to do about a refusal, where a verb of the command line helps and the server cannot know that.

use tonic::{Code, Status};
use tonic_types::StatusExt;

/// The reasons for which something may be asked for again in a moment, under a code that otherwise is for good: what is
/// too large stays so.
const BUSY: [&str; 7] = [
    "OVERLOADED",
    "RATE_LIMITED",
    "TOO_MANY_CALLS",
    "TOO_MANY_CONNECTIONS",
    "TOO_MANY_STREAMS",
    "TOO_MANY_WATCHERS",
    "TOO_MANY_LIVE_TASKS",
];

/// Digits of an id that a part of one has at least.
const MIN_ID_DIGITS: usize = 8;

/// Whether something that there is too much of will be less in a moment.
pub fn is_busy(reason: &str) -> bool {
    BUSY.contains(&reason)
}

/// What to do about it; none: the refusal says that by itself.
pub fn hint_for(status: &Status) -> Option<&'static str> {
    let details = status.get_error_details();
    let reason = details.error_info().map_or("", |info| info.reason.as_str());
    let named = details
        .resource_info()
        .map_or("", |resource| resource.resource_name.as_str());
    match status.code() {
        Code::NotFound if reason.contains("TASK") && is_short_id_start(named) => {
            Some("the start of an id needs at least 8 of its digits")
        }
        Code::NotFound if reason.contains("TASK") => Some(
            "`taskyard list` shows what there is; t12 and names need the right --session, and a name is found while its task lives",
        ),
        Code::NotFound if reason == "SESSION_DELETED" => None,
        Code::NotFound if reason.contains("SESSION") => {
            Some("`taskyard sessions` shows what there is")
        }
        Code::NotFound if reason.contains("FILE") => {
            Some("`taskyard files ls SESSION` shows what there is")
        }
        Code::NotFound if reason.contains("NAMESPACE") => {
            Some("check --namespace; a credential may reach some namespaces only")
        }
        Code::Unauthenticated => Some(
            "set TASKYARD_TOKEN or TASKYARD_TOKEN_FILE, or TASKYARD_CLIENT_CERT and TASKYARD_CLIENT_KEY",
        ),
        Code::FailedPrecondition if reason.ends_with("TERMINAL") && !reason.contains("NOT") => {
            Some("`taskyard retry` runs it again")
        }
        Code::FailedPrecondition if reason == "FOLDER_NEEDS_RECURSIVE" => {
            Some("-r deletes it with all that is in it")
        }
        // Limits say by themselves what they are.
        Code::ResourceExhausted if is_busy(reason) || reason.is_empty() => Some("try again later"),
        _ => None,
    }
}

/// `task_0193` and `0193` are the starts of ids, but too short ones; a name may look like the latter.
fn is_short_id_start(named: &str) -> bool {
    let digits = named.strip_prefix("task_").unwrap_or(named);
    (1..MIN_ID_DIGITS).contains(&digits.len())
        && digits
            .bytes()
            .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_start_of_an_id_is_told_from_a_name() {
        for (named, is_short) in [
            ("task_0193a5", true),
            ("0193a5", true),
            ("task_0193a5f0", false),
            ("nightly", false),
        ] {
            assert_eq!(is_short_id_start(named), is_short, "{named}");
        }
    }
}
