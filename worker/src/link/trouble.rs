//! Why the worker is not attached: what is logged of it, and when the next try is.

use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::backoff::Backoff;

/// Ceiling of the first wait after a denial. Only people change what is denied, and each try is noted down for them.
const DENIED_FIRST: Duration = Duration::from_secs(4);
/// Ceiling of all waits after denials.
const DENIED_LONGEST: Duration = Duration::from_secs(60);
/// The same while leases are held, which run on meanwhile.
const DENIED_LONGEST_HOLDING: Duration = Duration::from_secs(5);

/// What the control plane answered in place of a welcome, or ended the stream with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("({code:?}{}{reason}): {message}", if .reason.is_empty() { "" } else { " " })]
pub(super) struct Refused {
    pub code: Code,
    /// The stable word for programs; empty where nothing of that was said.
    pub reason: String,
    pub message: String,
}

impl Refused {
    pub(super) fn of(status: &Status) -> Refused {
        Refused {
            code: status.code(),
            reason: status
                .get_details_error_info()
                .map_or_else(String::new, |info| info.reason),
            message: status.message().to_owned(),
        }
    }

    /// Whether it is the credential, or what this worker says that it is, that is not let in.
    pub(super) fn is_denial(&self) -> bool {
        matches!(self.code, Code::PermissionDenied | Code::Unauthenticated)
    }

    /// Whether it is only this server, or the connection, that ends as it was meant to.
    pub(super) fn is_planned_end(&self) -> bool {
        self.code == Code::Unavailable
            && matches!(self.reason.as_str(), "SHUTTING_DOWN" | "CONNECTION_AGED")
    }
}

/// Everything that went wrong since the last welcome.
#[derive(Debug)]
pub(super) struct Troubles {
    backoff: Backoff,
    /// Ceiling of the next wait after a denial.
    denied_ceiling: Duration,
    /// What was logged, as a code and a reason or the words of our own: few in number, as codes and reasons are.
    told: Vec<(Option<Code>, String)>,
}

impl Troubles {
    pub(super) fn new() -> Troubles {
        Troubles {
            backoff: Backoff::new(),
            denied_ceiling: DENIED_FIRST,
            told: Vec::new(),
        }
    }

    /// There was a welcome, whose heartbeats are so far apart: leases run on while nothing is attached, and a wait must not
    /// cost them more than a heartbeat.
    pub(super) fn welcomed(&mut self, heartbeat_interval: Duration) {
        self.backoff.limit(heartbeat_interval);
        self.backoff.reset();
        self.denied_ceiling = DENIED_FIRST;
        self.told.clear();
    }

    /// Whether this kind of trouble is a new one. `refused`: what the control plane said; `words`: ours, where it said
    /// nothing.
    pub(super) fn is_news(&mut self, refused: Option<&Refused>, words: &str) -> bool {
        let kind = match refused {
            Some(refused) => (Some(refused.code), refused.reason.clone()),
            None => (None, words.to_owned()),
        };
        let is_news = !self.told.contains(&kind);
        if is_news {
            self.told.push(kind);
        }
        is_news
    }

    /// How long to wait before the next try.
    pub(super) fn next_wait(&mut self, is_denied: bool, is_holding: bool) -> Duration {
        if !is_denied {
            return self.backoff.next_wait();
        }
        let ceiling = if is_holding {
            self.denied_ceiling.min(DENIED_LONGEST_HOLDING)
        } else {
            self.denied_ceiling
        };
        self.denied_ceiling = (self.denied_ceiling * 2).min(DENIED_LONGEST);
        ceiling.mul_f64(rand::random_range(0.5..=1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic_types::ErrorDetails;

    fn refused(code: Code, reason: &str) -> Refused {
        let details = ErrorDetails::with_error_info(reason, "taskyard.dev", []);
        Refused::of(&Status::with_error_details(
            code,
            "start it with --pool",
            details,
        ))
    }

    #[test]
    fn a_denied_worker_comes_again_seldom_and_a_lonely_one_soon() {
        let mut troubles = Troubles::new();
        let waits: Vec<Duration> = (0..20).map(|_| troubles.next_wait(true, false)).collect();
        assert!(
            waits[0] >= DENIED_FIRST / 2 && waits[0] <= DENIED_FIRST,
            "{waits:?}"
        );
        assert!(
            waits.iter().all(|wait| *wait <= DENIED_LONGEST),
            "{waits:?}"
        );
        assert!(waits[19] >= DENIED_LONGEST / 2, "{waits:?}");
        assert!(troubles.next_wait(false, false) < Duration::from_secs(1));
        // leases must not be lost for a credential that was late
        assert!(troubles.next_wait(true, true) <= DENIED_LONGEST_HOLDING);
        troubles.welcomed(Duration::from_secs(5));
        assert!(troubles.next_wait(true, false) <= DENIED_FIRST);
    }

    #[test]
    fn each_kind_of_trouble_is_news_once_until_the_next_welcome() {
        let mut troubles = Troubles::new();
        let denied = refused(Code::PermissionDenied, "POOL_DENIED");
        for is_news in [true, false] {
            assert_eq!(
                troubles.is_news(None, "nothing was heard for too long"),
                is_news
            );
            assert_eq!(troubles.is_news(Some(&denied), ""), is_news);
        }
        let boot = refused(Code::PermissionDenied, "BOOT_DENIED");
        assert!(troubles.is_news(Some(&boot), ""));
        troubles.welcomed(Duration::from_secs(5));
        assert!(troubles.is_news(Some(&denied), ""));
    }

    #[test]
    fn the_reason_is_part_of_what_is_logged() {
        let denied = refused(Code::PermissionDenied, "POOL_DENIED");
        assert!(denied.is_denial());
        let text = denied.to_string();
        assert_eq!(text, "(PermissionDenied POOL_DENIED): start it with --pool");
        let gone = Refused::of(&Status::unavailable("connection refused"));
        assert!(!gone.is_denial() && !gone.is_planned_end());
        assert!(refused(Code::Unavailable, "SHUTTING_DOWN").is_planned_end());
        assert_eq!(gone.to_string(), "(Unavailable): connection refused");
    }
}
