//! Whether and when a failed or lost run is followed by another.

use crate::id::TaskId;
use std::time::Duration;

/// When to run again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryPolicy {
    /// Most runs in all; 1: no retry.
    pub max_runs: u32,
    /// Wait before the second run.
    pub initial_backoff: Duration,
    /// Longest wait.
    pub max_backoff: Duration,
    /// Factor from one wait to the next, at least 1.
    pub multiplier: f64,
}

impl RetryPolicy {
    /// Most runs that a task may ask for.
    pub const MAX_RUNS: u32 = 100;

    /// One run and no more.
    pub const NEVER: Self = Self {
        max_runs: 1,
        initial_backoff: Duration::from_secs(1),
        max_backoff: Duration::from_secs(60),
        multiplier: 2.0,
    };

    /// Whether another run may ever follow the first.
    #[must_use]
    pub fn may_retry(&self) -> bool {
        self.max_runs > 1
    }

    /// Whether another run may follow after this many.
    #[must_use]
    pub fn has_run_left(&self, runs: u32) -> bool {
        runs < self.max_runs
    }

    /// Wait after this many runs: grows by the multiplier up to the cap, varied by up to a fifth either way but never
    /// beyond the cap. The variation is drawn from the task and the run, so that it is the same for the same history and different
    /// between tasks that failed together.
    #[must_use]
    pub fn backoff(&self, task: TaskId, runs: u32) -> Duration {
        let exponent = i32::try_from(runs.saturating_sub(1)).unwrap_or(i32::MAX);
        let grown = self.initial_backoff.as_secs_f64() * self.multiplier.max(1.0).powi(exponent);
        let capped = grown.min(self.max_backoff.as_secs_f64());
        let shortest = capped * 0.8;
        let longest = (capped * 1.2).min(self.max_backoff.as_secs_f64());
        let varied = shortest + (longest - shortest) * unit_interval(task, runs);
        Duration::try_from_secs_f64(varied)
            .unwrap_or(self.max_backoff)
            .min(self.max_backoff)
    }
}

/// A number in [0, 1) drawn from task and run by the finaliser of SplitMix64 (Steele, Lea and Flood, 2014).
pub(super) fn unit_interval(task: TaskId, runs: u32) -> f64 {
    let folded = (task.0 as u64) ^ ((task.0 >> 64) as u64) ^ (u64::from(runs) << 32);
    let mut bits = folded.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^= bits >> 31;
    (bits >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: RetryPolicy = RetryPolicy {
        max_runs: 5,
        initial_backoff: Duration::from_secs(1),
        max_backoff: Duration::from_secs(10),
        multiplier: 2.0,
    };

    #[test]
    fn waits_grow_to_the_cap_and_vary_by_a_fifth_below_it() {
        for (runs, shortest, longest) in [
            (1, 0.8, 1.2),
            (2, 1.6, 2.4),
            (3, 3.2, 4.8),
            (4, 6.4, 9.6),
            (5, 8.0, 10.0),
            (99, 8.0, 10.0),
        ] {
            for seed in 0..100u128 {
                let wait = POLICY
                    .backoff(TaskId(seed << 70 | seed), runs)
                    .as_secs_f64();
                assert!((shortest..=longest).contains(&wait), "{runs} {wait}");
            }
        }
    }

    #[test]
    fn tasks_that_fail_together_do_not_return_together() {
        for runs in [3, 50] {
            let waits: std::collections::BTreeSet<_> = (0..100u128)
                .map(|seed| POLICY.backoff(TaskId(seed), runs))
                .collect();
            assert!(waits.len() > 90, "after {runs} runs");
        }
    }
}
