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

/// How long a stream must have been open to count as one although nothing came on it: so a server that accepts each try
/// only to leave it is neither asked ever faster nor forever, nor in silence.
const LASTED: Duration = Duration::from_secs(1);

/// The state of one stream that is to last.
#[derive(Debug)]
pub struct Reconnection {
    backoff: Backoff,
    /// For refusals with a time to come back, which are obeyed for longer than a silence is.
    limited: Backoff,
    /// When a server accepted the stream that is open now.
    opened_at: Option<Instant>,
    notices: Notices,
}

impl Reconnection {
    /// Tries for at most `patience` while nobody answers, and for five minutes at least while a server refuses for a limit.
    pub fn within(patience: Duration) -> Reconnection {
        Reconnection {
            backoff: Backoff::within(patience),
            limited: Backoff::within(patience.max(LIMIT_BUDGET)),
            opened_at: None,
            notices: Notices::default(),
        }
    }

    /// A server accepted the stream. That alone is no success: see what comes on it, or how it ends.
    pub fn opened(&mut self) {
        self.opened_at = Some(Instant::now());
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
        let now = Instant::now();
        let lasted = self.opened_at.take().map(|opened_at| now - opened_at);
        if is_end_of_service(status, lasted) {
            self.backoff.succeeded();
            self.limited.succeeded();
        }
        self.notices.broken(status, lasted, now)
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
    /// `lasted`: how long the stream was open; none: it could not be opened.
    fn broken(
        &mut self,
        status: &Status,
        lasted: Option<Duration>,
        now: Instant,
    ) -> Option<String> {
        if is_end_of_service(status, lasted) {
            self.quiet_until = None;
        }
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

/// Whether it was a server that had taken the stream back up, and served it in silence, that ended it as it had said.
fn is_end_of_service(status: &Status, lasted: Option<Duration>) -> bool {
    lasted.is_some_and(|lasted| lasted >= LASTED) && is_planned_end(status)
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
            assert_eq!(notices.broken(&broke, None, now).as_deref(), BROKE);
            assert_eq!(notices.broken(&broke, None, now + QUIET), None);
            assert_eq!(notices.resumed(), Some("connected again"));
        }
    }

    #[test]
    fn an_announced_end_is_told_only_where_nobody_is_back_soon() {
        let (mut notices, now) = (Notices::default(), Instant::now());
        for reason in ["CONNECTION_AGED", "SHUTTING_DOWN"] {
            let planned = said(Code::Unavailable, reason);
            assert_eq!(notices.broken(&planned, None, now), None, "{reason}");
            // the port of the one that ends may still be there
            assert_eq!(
                notices.broken(&Status::unavailable("refused"), None, now),
                None
            );
            assert_eq!(notices.resumed(), None);
        }
        let planned = said(Code::Unavailable, "SHUTTING_DOWN");
        assert_eq!(notices.broken(&planned, None, now), None);
        let told = notices.broken(&Status::unavailable("refused"), None, now + QUIET);
        assert!(told.is_some_and(|told| told.contains("none is back yet")));
        assert_eq!(notices.broken(&planned, None, now + QUIET), None);
        assert_eq!(notices.resumed(), Some("connected again"));
        // a later break is one of its own
        let broken = notices.broken(&Status::unavailable("gone"), None, now + QUIET);
        assert_eq!(broken.as_deref(), BROKE);
    }

    #[test]
    fn two_announced_ends_with_silence_between_are_both_silent() {
        let (mut notices, now) = (Notices::default(), Instant::now());
        let planned = said(Code::Unavailable, "SHUTTING_DOWN");
        let refused = Status::unavailable("refused");
        for n_before in 0..3 {
            let ended_at = now + (QUIET + LASTED) * n_before;
            assert_eq!(notices.broken(&planned, Some(LASTED), ended_at), None);
            assert_eq!(notices.broken(&refused, None, ended_at + LASTED), None);
        }
        let told = notices.broken(&refused, None, now + (QUIET + LASTED) * 3);
        assert!(told.is_some_and(|told| told.contains("none is back yet")));
        // what was told is not told again before something came
        let later = now + (QUIET + LASTED) * 4;
        assert_eq!(notices.broken(&planned, Some(LASTED), later), None);
        assert_eq!(notices.broken(&refused, None, later + QUIET), None);
        assert_eq!(notices.resumed(), Some("connected again"));
    }

    #[test]
    fn a_server_that_accepts_only_to_leave_is_told_of() {
        let (mut notices, now) = (Notices::default(), Instant::now());
        let planned = said(Code::Unavailable, "SHUTTING_DOWN");
        let at_once = Some(Duration::ZERO);
        assert_eq!(notices.broken(&planned, at_once, now), None);
        let told = notices.broken(&planned, at_once, now + QUIET);
        assert!(told.is_some_and(|told| told.contains("none is back yet")));
    }

    #[tokio::test]
    async fn each_announced_end_of_a_silent_stream_starts_a_new_series_of_tries() {
        let mut reconnection = Reconnection::within(Duration::from_millis(150));
        let planned = said(Code::Unavailable, "SHUTTING_DOWN");
        for _ in 0..6 {
            reconnection.opened_at = Instant::now().checked_sub(LASTED);
            assert_eq!(reconnection.broken(&planned), None);
            assert!(reconnection.pause(&planned).await);
        }
        // accepted only to be left, which ends with the patience
        let mut n_tries = 0;
        while reconnection.pause(&planned).await {
            n_tries += 1;
            reconnection.opened();
            assert_eq!(reconnection.broken(&planned), None);
        }
        assert!(n_tries < 6, "{n_tries}");
    }

    #[test]
    fn a_refusal_for_a_limit_is_no_broken_connection() {
        let (mut notices, now) = (Notices::default(), Instant::now());
        let refused = said(Code::ResourceExhausted, "TOO_MANY_STREAMS");
        let told = notices.broken(&refused, None, now);
        assert_eq!(told.as_deref(), Some("so it is; trying again"));
    }
}
