//! What an attempt is told while it runs.

use std::time::Duration;

use tokio::time::Instant;

/// Everything that an attempt was told so far. Orders are only ever added, so the newest set says all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Orders {
    /// When a cancel without a grace of its own came first.
    canceled_with_default_grace_at: Option<Instant>,
    /// The earliest end of the graces of other cancels.
    canceled_until: Option<Instant>,
    /// Number of the signal to begin with, by the first cancel that named one; absent: TERM.
    pub cancel_signal: Option<i32>,
    /// The worker leaves: do not start.
    pub leaving: bool,
    /// The worker ends: kill what runs.
    pub ending: bool,
}

impl Orders {
    /// Takes in a cancel that came `now`. Repeated, it can only bring the kill forward. True when it changed anything.
    pub fn cancel(&mut self, now: Instant, grace: Option<Duration>, signal: Option<i32>) -> bool {
        let before = *self;
        self.cancel_signal = self.cancel_signal.or(signal);
        match grace {
            None => {
                self.canceled_with_default_grace_at.get_or_insert(now);
            }
            Some(grace) => {
                let until = now.checked_add(grace).unwrap_or(now);
                self.canceled_until = Some(
                    self.canceled_until
                        .map_or(until, |before| before.min(until)),
                );
            }
        }
        *self != before
    }

    pub fn is_canceled(&self) -> bool {
        self.canceled_with_default_grace_at.is_some() || self.canceled_until.is_some()
    }

    /// When a cancelled process is to be killed, given the grace of its spec; `None` while it is not cancelled.
    pub fn kill_at(&self, default_grace: Duration) -> Option<Instant> {
        let by_default = self
            .canceled_with_default_grace_at
            .map(|at| at + default_grace);
        match (by_default, self.canceled_until) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_cancel_can_only_bring_the_kill_forward() {
        let grace = Duration::from_secs(5);
        let start = Instant::now();
        let later = start + Duration::from_secs(1);
        let mut orders = Orders::default();
        assert_eq!(orders.kill_at(grace), None);
        assert!(orders.cancel(start, None, None));
        assert!(
            !orders.cancel(later, None, None),
            "a repeated cancel changes nothing"
        );
        assert_eq!(orders.kill_at(grace), Some(start + grace));
        assert!(orders.cancel(later, Some(Duration::from_secs(60)), None));
        assert_eq!(orders.kill_at(grace), Some(start + grace));
        assert!(orders.cancel(later, Some(Duration::ZERO), None));
        assert_eq!(orders.kill_at(grace), Some(later));
    }
}
