//! Waiting between tries: growing, jittered, capped, and within a budget of time without any success.

use std::time::Duration;

use tokio::time::Instant;
use tonic::Status;

use crate::failure::time_to_come_back;

const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(3);
/// Longest time to come back that a server is obeyed in.
const LONGEST_ASKED: Duration = Duration::from_secs(30);

/// One series of tries.
#[derive(Debug)]
pub struct Backoff {
    budget: Duration,
    failing_since: Option<Instant>,
    next_delay: Duration,
}

impl Backoff {
    /// Tries for at most `budget` without a success in between.
    pub fn within(budget: Duration) -> Backoff {
        Backoff {
            budget,
            failing_since: None,
            next_delay: FIRST_DELAY,
        }
    }

    /// A try had success; the next failure starts a new series.
    pub fn succeeded(&mut self) {
        self.failing_since = None;
        self.next_delay = FIRST_DELAY;
    }

    /// True between a failure and the next success.
    pub fn is_failing(&self) -> bool {
        self.failing_since.is_some()
    }

    /// Waits a moment before a call that is to be made again though nothing failed, each caller another one.
    pub async fn breathe(&self) {
        tokio::time::sleep(FIRST_DELAY.mul_f64(rand::random_range(0.1..1.0))).await;
    }

    /// A try failed: waits before the next one. False: the budget is spent and there is no next one.
    pub async fn pause(&mut self) -> bool {
        self.pause_at_least(Duration::ZERO).await
    }

    /// The same, but not shorter than the server asked for with its refusal; and varied beyond that, so that all who were
    /// told the same do not come at once.
    pub async fn pause_after(&mut self, status: &Status) -> bool {
        let asked = time_to_come_back(status).unwrap_or_default();
        self.pause_at_least(asked.min(LONGEST_ASKED)).await
    }

    /// The same, but not shorter than this.
    pub async fn pause_at_least(&mut self, asked: Duration) -> bool {
        let failing_since = *self.failing_since.get_or_insert_with(Instant::now);
        let left = self.budget.saturating_sub(failing_since.elapsed());
        if left.is_zero() {
            return false;
        }
        let delay = self.next_delay.mul_f64(rand::random_range(0.5..1.5));
        self.next_delay = (self.next_delay * 2).min(LONGEST_DELAY);
        tokio::time::sleep((asked + delay).min(left)).await;
        true
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tonic_types::{ErrorDetails, StatusExt};

    use super::*;

    #[tokio::test]
    async fn a_server_that_says_when_to_come_back_is_obeyed() {
        let mut details = ErrorDetails::with_error_info("RATE_LIMITED", "", HashMap::new());
        details.set_retry_info(Some(Duration::from_millis(300)));
        let code = tonic::Code::ResourceExhausted;
        let refused = Status::with_error_details(code, "too often", details);
        let mut backoff = Backoff::within(Duration::from_secs(60));
        let began = Instant::now();
        assert!(backoff.pause_after(&refused).await);
        assert!(began.elapsed() >= Duration::from_millis(300));
    }

    #[tokio::test]
    async fn the_budget_ends_a_series_and_a_success_starts_a_new_one() {
        let mut backoff = Backoff::within(Duration::from_millis(150));
        let mut pauses = 0;
        while backoff.pause().await {
            pauses += 1;
        }
        assert!(pauses >= 1 && backoff.is_failing());
        backoff.succeeded();
        assert!(!backoff.is_failing());
        assert!(backoff.pause().await);
    }
}
