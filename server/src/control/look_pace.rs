//! How often a wait looks at its tasks: at once for the few changes of most tasks, and paced in a busy session.

use std::time::Duration;
use tokio::time::Instant;

/// Between two looks, on the average.
const INTERVAL: Duration = Duration::from_millis(10);
/// So many looks need not wait for each other: a task that nobody holds up is created, starts and ends within an
/// interval or two, and whoever waits for its end is to hear of it then.
const AT_ONCE: u32 = 4;

/// Counts the looks of one wait.
#[derive(Debug)]
pub(super) struct LookPace {
    /// When the next look would be due at the average pace.
    due: Instant,
}

impl LookPace {
    pub(super) fn new(now: Instant) -> Self {
        Self { due: now }
    }

    /// Counts a look at `now`; tells when the next one may be, which can be over already.
    pub(super) fn look(&mut self, now: Instant) -> Instant {
        self.due = self.due.max(now) + INTERVAL;
        self.due.checked_sub(INTERVAL * AT_ONCE).unwrap_or(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_looks_are_at_once_and_more_are_paced() {
        let begun = Instant::now() + Duration::from_secs(60);
        let mut pace = LookPace::new(begun);
        for _ in 0..AT_ONCE {
            assert!(pace.look(begun) <= begun);
        }
        let fifth = pace.look(begun);
        assert_eq!(fifth, begun + INTERVAL);
        assert_eq!(pace.look(fifth), fifth + INTERVAL);
    }

    #[test]
    fn looks_in_a_row_keep_to_the_average() {
        let begun = Instant::now() + Duration::from_secs(60);
        let mut pace = LookPace::new(begun);
        let mut now = begun;
        for _ in 0..1_000 {
            now = pace.look(now).max(now);
        }
        let least = INTERVAL * (1_000 - AT_ONCE);
        assert!(now.duration_since(begun) >= least, "{now:?}");
    }

    #[test]
    fn after_a_rest_a_few_are_at_once_again() {
        let begun = Instant::now() + Duration::from_secs(60);
        let mut pace = LookPace::new(begun);
        for _ in 0..100 {
            pace.look(begun);
        }
        let later = begun + Duration::from_secs(10);
        assert!(pace.look(later) <= later);
    }
}
