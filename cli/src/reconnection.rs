//! A stream that is opened again whenever it ends before its time: when, for how long, and what a person is told of it.

use std::error::Error;
use std::time::Duration;

use tokio::time::Instant;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::backoff::Backoff;
use crate::connection::LIMIT_BUDGET;
use crate::console;
use crate::failure::{GOODBYE, time_to_come_back};

/// How long nothing is said after an end that the server had announced: another one is there by then, or it itself again.
const QUIET: Duration = Duration::from_secs(2);

/// The state of one stream that is to last.
#[derive(Debug)]
pub struct Reconnection {
    backoff: Backoff,
    /// For refusals with a time to come back, which are obeyed for longer than a silence is.
    limited: Backoff,
    notices: Notices,
}

impl Reconnection {
    /// Tries for at most `patience` while nobody answers, and for five minutes at least while a server refuses for a limit.
    pub fn within(patience: Duration) -> Reconnection {
        Reconnection {
            backoff: Backoff::within(patience),
            limited: Backoff::within(patience.max(LIMIT_BUDGET)),
            notices: Notices::default(),
        }
    }

    /// Something came. What to tell of that, if of the break something was told.
    #[must_use]
    pub fn succeeded(&mut self) -> Option<&'static str> {
        self.backoff.succeeded();
        self.limited.succeeded();
        self.notices.resumed()
    }

    /// It ended, or could not be opened. What to tell of that.
    #[must_use]
    pub fn broken(&mut self, status: &Status) -> Option<String> {
        self.notices.broken(status, Instant::now())
    }

    /// Waits before the next try. False: there is none, the time for that is over.
    pub async fn pause(&mut self, status: &Status) -> bool {
        if is_aged_connection(status) {
            self.backoff.breathe().await;
            true
        } else if time_to_come_back(status).is_some() {
            self.limited.pause_after(status).await
        } else {
            self.backoff.pause().await
        }
    }
}

/// What was told of the break that lasts.
#[derive(Debug, Default)]
struct Notices {
    is_told: bool,
    /// Set by an end that the server had announced.
    quiet_until: Option<Instant>,
}

impl Notices {
    fn broken(&mut self, status: &Status, now: Instant) -> Option<String> {
        let is_first = !self.is_told && self.quiet_until.is_none();
        if is_first && is_planned_end(status) {
            self.quiet_until = Some(now + QUIET);
        }
        let is_quiet = self.quiet_until.is_some_and(|until| now < until);
        if self.is_told || is_quiet {
            return None;
        }
        self.is_told = true;
        Some(if time_to_come_back(status).is_some() {
            format!("{}; trying again", console::clean(status.message()))
        } else if self.quiet_until.is_some() {
            "the server has ended and none is back yet; reconnecting".to_owned()
        } else {
            "the connection broke; reconnecting".to_owned()
        })
    }

    fn resumed(&mut self) -> Option<&'static str> {
        std::mem::take(self).is_told.then_some("connected again")
    }
}

/// Whether a stream ended because its server or its connection was meant to end, and had said so.
pub fn is_planned_end(status: &Status) -> bool {
    let details = status.get_error_details();
    let is_leaving = status.code() == Code::Unavailable
        && details
            .error_info()
            .is_some_and(|info| info.reason == "SHUTTING_DOWN");
    is_leaving || is_aged_connection(status) || is_goodbye(status)
}

/// Whether a stream ended only because its connection has reached its age: it goes on upon the next one, without a word.
fn is_aged_connection(status: &Status) -> bool {
    let details = status.get_error_details();
    status.code() == Code::Unavailable
        && details
            .error_info()
            .is_some_and(|info| info.reason == "CONNECTION_AGED")
}

/// Whether the peer said goodbye to the connection without complaint (GOAWAY).
fn is_goodbye(status: &Status) -> bool {
    let causes = std::iter::successors(status.source(), |&error| error.source());
    causes
        .into_iter()
        .any(|cause| cause.to_string().contains(GOODBYE))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tonic_types::ErrorDetails;

    use super::*;

    const BROKE: Option<&str> = Some("the connection broke; reconnecting");

    fn said(code: Code, reason: &str) -> Status {
        let mut details = ErrorDetails::with_error_info(reason, "taskyard.dev", HashMap::new());
        details.set_retry_info(Some(Duration::from_millis(100)));
        Status::with_error_details(code, "so it is", details)
    }

    #[test]
    fn a_break_is_told_once_and_its_end_too() {
        let (mut notices, now) = (Notices::default(), Instant::now());
        let broke = Status::unavailable("gone");
        for _ in 0..2 {
            assert_eq!(notices.resumed(), None, "nothing was broken");
            assert_eq!(notices.broken(&broke, now).as_deref(), BROKE);
            assert_eq!(notices.broken(&broke, now + QUIET), None);
            assert_eq!(notices.resumed(), Some("connected again"));
        }
    }

    #[test]
    fn an_announced_end_is_told_only_where_nobody_is_back_soon() {
        let (mut notices, now) = (Notices::default(), Instant::now());
        for reason in ["CONNECTION_AGED", "SHUTTING_DOWN"] {
            let planned = said(Code::Unavailable, reason);
            assert_eq!(notices.broken(&planned, now), None, "{reason}");
            // the port of the one that ends may still be there
            assert_eq!(notices.broken(&Status::unavailable("refused"), now), None);
            assert_eq!(notices.resumed(), None);
        }
        let planned = said(Code::Unavailable, "SHUTTING_DOWN");
        assert_eq!(notices.broken(&planned, now), None);
        let told = notices.broken(&Status::unavailable("refused"), now + QUIET);
        assert!(told.is_some_and(|told| told.contains("none is back yet")));
        assert_eq!(notices.broken(&planned, now + QUIET), None);
        assert_eq!(notices.resumed(), Some("connected again"));
        // a later break is one of its own
        let broken = notices.broken(&Status::unavailable("gone"), now + QUIET);
        assert_eq!(broken.as_deref(), BROKE);
    }

    #[test]
    fn a_refusal_for_a_limit_is_no_broken_connection() {
        let (mut notices, now) = (Notices::default(), Instant::now());
        let refused = said(Code::ResourceExhausted, "TOO_MANY_STREAMS");
        let told = notices.broken(&refused, now);
        assert_eq!(told.as_deref(), Some("so it is; trying again"));
    }
}
