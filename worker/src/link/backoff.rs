//! Waits between tries.

use std::time::Duration;

use tonic::Status;
use tonic_types::StatusExt;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);

/// Waits that double from 100 ms to 5 s, each varied over its whole length so that many workers do not come at once.
#[derive(Debug)]
pub struct Backoff {
    ceiling: Duration,
    longest: Duration,
}

impl Backoff {
    pub fn new() -> Backoff {
        Backoff {
            ceiling: FIRST,
            longest: LONGEST,
        }
    }

    /// From now on no wait is longer than this, nor than 5 s.
    pub fn limit(&mut self, longest: Duration) {
        self.longest = longest.min(LONGEST);
        self.ceiling = self.ceiling.min(self.longest);
    }

    /// How long to wait before the next try; never nothing, so that no loop can spin.
    pub fn next_wait(&mut self) -> Duration {
        let wait = self.ceiling.mul_f64(rand::random_range(0.1..=1.0));
        self.ceiling = (self.ceiling * 2).min(self.longest);
        wait
    }

    /// The same after a refusal: not before the time that the control plane asked for, if it did, and at most 5 s after it.
    pub fn wait_after(&mut self, status: &Status) -> Duration {
        let asked = status
            .get_details_retry_info()
            .and_then(|retry| retry.retry_delay);
        asked.unwrap_or_default().min(self.longest) + self.next_wait()
    }

    pub fn reset(&mut self) {
        self.ceiling = FIRST.min(self.longest);
    }
}

impl Default for Backoff {
    fn default() -> Backoff {
        Backoff::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic_types::ErrorDetails;

    #[test]
    fn waits_grow_to_a_cap_and_start_again() {
        let mut backoff = Backoff::new();
        for _ in 0..50 {
            let wait = backoff.next_wait();
            assert!(wait >= FIRST / 10 && wait <= LONGEST, "{wait:?}");
        }
        assert_eq!(backoff.ceiling, LONGEST);
        backoff.reset();
        assert!(backoff.next_wait() <= FIRST);
    }

    #[test]
    fn the_time_to_come_back_is_waited_for_and_bounded() {
        let refused = |after| {
            let details = ErrorDetails::with_retry_info(Some(after));
            Status::with_error_details(tonic::Code::ResourceExhausted, "busy", details)
        };
        let mut backoff = Backoff::new();
        let asked = Duration::from_secs(2);
        let wait = backoff.wait_after(&refused(asked));
        assert!(wait > asked && wait <= asked + FIRST, "{wait:?}");
        let wait = backoff.wait_after(&refused(Duration::from_secs(3_600)));
        assert!(wait <= 2 * LONGEST, "{wait:?}");
        assert!(backoff.wait_after(&Status::unavailable("gone")) <= LONGEST);
    }

    #[test]
    fn short_leases_shorten_the_waits() {
        let longest = Duration::from_millis(500);
        let mut backoff = Backoff::new();
        backoff.limit(longest);
        for _ in 0..50 {
            let wait = backoff.next_wait();
            assert!(wait <= longest, "{wait:?}");
        }
        assert_eq!(backoff.ceiling, longest);
    }
}
