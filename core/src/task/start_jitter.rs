//! How much later than it would a task becomes due.

use super::retry::unit_interval;
use crate::{Timestamp, id::TaskId};
use std::time::Duration;

/// The time before which a task must not start: `not_before`, or `now` if that is later or there is none, and up to
/// `most` more. How much is drawn from the task, so that tasks that were created together spread.
#[must_use]
pub fn jittered(
    task: TaskId,
    not_before: Option<Timestamp>,
    now: Timestamp,
    most: Duration,
) -> Timestamp {
    let earliest = not_before.map_or(now, |not_before| not_before.max(now));
    earliest.plus(most.mul_f64(unit_interval(task, 0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000);
    const MOST: Duration = Duration::from_secs(10);

    #[test]
    fn tasks_spread_over_the_whole_jitter_and_never_beyond_it() {
        let due: Vec<Duration> = (0..1_000)
            .map(|seed: u128| jittered(TaskId(seed << 70 | seed), None, NOW, MOST).since(NOW))
            .collect();
        assert!(due.iter().all(|wait| *wait <= MOST));
        assert!(due.iter().any(|wait| *wait < MOST / 10));
        assert!(due.iter().any(|wait| *wait > MOST * 9 / 10));
    }

    #[test]
    fn it_counts_from_the_time_that_was_asked_for() {
        let later = NOW.plus(MOST * 100);
        assert!(jittered(TaskId(7), Some(later), NOW, MOST) >= later);
        assert!(jittered(TaskId(7), Some(Timestamp(0)), NOW, MOST) >= NOW);
        assert_eq!(jittered(TaskId(7), Some(later), NOW, Duration::ZERO), later);
    }
}
