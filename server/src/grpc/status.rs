//! From a refusal to a status: the code, a stable reason, and the details that help a program to go on.

mod description;
mod message;
#[cfg(test)]
mod tests;

use self::{
    description::{Detail, describe},
    message::message,
};
use crate::control::refusal::Refusal;
use std::{collections::HashMap, error::Error};
use taskyard_core::task::summary;
use taskyard_telemetry::metrics::table;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// Domain of every reason.
const DOMAIN: &str = "taskyard.dev";
/// Longest piece of a request in the details.
const MAX_DETAIL_BYTES: usize = 512;

impl From<Refusal> for Status {
    /// Also logs what went wrong on our side, with its causes, once.
    fn from(refusal: Refusal) -> Self {
        let (code, reason, detail) = describe(&refusal);
        log(&refusal, code, reason);
        if code == Code::ResourceExhausted {
            table::LIMIT_REFUSALS.add(1, &[reason]);
        }
        let mut details = ErrorDetails::new();
        let mut facts: HashMap<String, String> = HashMap::new();
        match detail {
            Detail::Nothing => {}
            Detail::Field { field, problem } => {
                details.add_bad_request_violation(clip(&field), clip(&problem));
            }
            Detail::Resource { kind, name } => {
                details.set_resource_info(kind, clip(&name), "", "");
            }
            Detail::Precondition { kind, subject } => {
                details.add_precondition_failure_violation(
                    kind,
                    clip(&subject),
                    clip(&message(&refusal)),
                );
            }
            Detail::Retry(after) => {
                details.set_retry_info(Some(after));
            }
            Detail::RetryFacts(after, pairs) => {
                details.set_retry_info(Some(after));
                facts.extend(clipped(pairs));
            }
            Detail::Facts(pairs) => facts.extend(clipped(pairs)),
        }
        details.set_error_info(reason, DOMAIN, facts);
        Status::with_error_details(code, message(&refusal), details)
    }
}

fn clipped(pairs: Vec<(&'static str, String)>) -> impl Iterator<Item = (String, String)> {
    let clipped = |(name, value): (&str, String)| (name.to_owned(), clip(&value));
    pairs.into_iter().map(clipped)
}

fn log(refusal: &Refusal, code: Code, reason: &'static str) {
    let error: &dyn Error = match refusal {
        // no trouble of the store's
        Refusal::Store(error) if code != Code::ResourceExhausted => error,
        Refusal::ObjectStoreUnavailable(error) => error,
        _other => {
            tracing::debug!(?code, reason, "a call was refused: {refusal}");
            return;
        }
    };
    let mut causes = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        causes.push_str(": ");
        causes.push_str(&error.to_string());
        cause = error.source();
    }
    if code == Code::Unavailable {
        tracing::warn!(reason, error = causes, "a call failed for now");
    } else {
        tracing::error!(reason, error = causes, "a call failed");
    }
}

fn clip(text: &str) -> String {
    summary::clip(text, MAX_DETAIL_BYTES)
}
