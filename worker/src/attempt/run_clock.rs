//! How long a run may still take. It stands still while the work waits for others.

use std::time::Duration;

use tokio::time::Instant;

use crate::boot_time::BootTime;

/// The time that a run has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunClock {
    /// When the time is up, if it does not stand still before; absent: never, or it stands still.
    runs_out_at: Option<Instant>,
    /// What was left when it came to stand still.
    left: Option<Duration>,
}

impl RunClock {
    /// Without a timeout it never runs out.
    pub fn start(timeout: Option<Duration>, now: Instant) -> RunClock {
        RunClock {
            runs_out_at: timeout.and_then(|timeout| now.checked_add(timeout)),
            left: None,
        }
    }

    /// As a shim has kept it: when the time is up, or what was left when it came to stand still.
    pub fn resume(runs_out_at: Option<BootTime>, left: Option<Duration>, now: Instant) -> RunClock {
        let runs_out_in = runs_out_at.map(|at| at.saturating_since(BootTime::now()));
        RunClock {
            runs_out_at: runs_out_in.and_then(|left| now.checked_add(left)),
            left,
        }
    }

    /// What [`RunClock::resume`] takes.
    pub fn keep(&self, now: Instant) -> (Option<BootTime>, Option<Duration>) {
        let runs_out_in = self.runs_out_at.map(|at| at.saturating_duration_since(now));
        (
            runs_out_in.map(|left| BootTime::now().plus(left)),
            self.left,
        )
    }

    /// Takes in whether the work waits `now`.
    pub fn wait_or_go_on(&mut self, is_waiting: bool, now: Instant) {
        if is_waiting {
            if let Some(runs_out_at) = self.runs_out_at.take() {
                self.left = Some(runs_out_at.saturating_duration_since(now));
            }
        } else if let Some(left) = self.left.take() {
            self.runs_out_at = now.checked_add(left);
        }
    }

    /// Absent: it never runs out, or stands still.
    pub fn runs_out_at(&self) -> Option<Instant> {
        self.runs_out_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_left_before_a_wait_is_left_after_it() {
        let second = Duration::from_secs(1);
        let start = Instant::now();
        let mut clock = RunClock::start(Some(10 * second), start);
        clock.wait_or_go_on(false, start + second);
        assert_eq!(clock.runs_out_at(), Some(start + 10 * second));
        clock.wait_or_go_on(true, start + 4 * second);
        clock.wait_or_go_on(true, start + 50 * second);
        assert_eq!(clock.runs_out_at(), None);
        clock.wait_or_go_on(false, start + 100 * second);
        assert_eq!(clock.runs_out_at(), Some(start + 106 * second));
        let mut endless = RunClock::start(None, start);
        endless.wait_or_go_on(true, start);
        endless.wait_or_go_on(false, start);
        assert_eq!(endless.runs_out_at(), None);
    }
}
