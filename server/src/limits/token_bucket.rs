//! The arithmetic of a rate with a burst. It has no clock of its own.

use std::{num::NonZeroU32, time::Duration};

/// Nanoseconds of a second.
const SECOND: u128 = 1_000_000_000;

/// How often something may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How often in a second, in the long run.
    pub per_second: NonZeroU32,
    /// How often at once, after a time of rest.
    pub burst: NonZeroU32,
}

/// A bucket of tokens that is filled steadily. It holds one number: when it will be full again, if nothing more is taken.
///
/// That number counts in nanoseconds divided by the rate, in which the time that one token takes is whole, so nothing is
/// ever rounded. A bucket must be asked with the same rate all its life.
#[derive(Clone, Copy, Debug, Default)]
pub struct TokenBucket {
    full_at: u128,
}

impl TokenBucket {
    /// Takes a token. `now` is any clock that does not go back; where it does, the bucket fills later.
    ///
    /// # Errors
    /// There is none; the time until there is one, more than nothing and at most a second.
    pub fn take(&mut self, rate: Rate, now: Duration) -> Result<(), Duration> {
        let per_second = u128::from(rate.per_second.get());
        let now = now.as_nanos() * per_second;
        let room = u128::from(rate.burst.get()) * SECOND;
        let full_at = self.full_at.max(now) + SECOND;
        let missing = full_at.saturating_sub(now + room);
        if missing > 0 {
            let wait = missing.div_ceil(per_second).min(SECOND);
            return Err(Duration::from_nanos(
                u64::try_from(wait).unwrap_or(u64::MAX),
            ));
        }
        self.full_at = full_at;
        Ok(())
    }

    /// Whether it holds all that it can.
    #[must_use]
    pub fn is_full(&self, rate: Rate, now: Duration) -> bool {
        self.full_at <= now.as_nanos() * u128::from(rate.per_second.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rate(per_second: u32, burst: u32) -> Rate {
        Rate {
            per_second: NonZeroU32::new(per_second).expect("not zero"),
            burst: NonZeroU32::new(burst).expect("not zero"),
        }
    }

    #[test]
    fn a_burst_is_given_at_once_and_the_rest_at_the_rate() {
        let rate = rate(10, 3);
        let mut bucket = TokenBucket::default();
        let start = Duration::from_secs(5);
        for _ in 0..3 {
            assert_eq!(bucket.take(rate, start), Ok(()));
        }
        assert_eq!(bucket.take(rate, start), Err(Duration::from_millis(100)));
        let later = start + Duration::from_millis(100);
        assert_eq!(bucket.take(rate, later), Ok(()));
        assert!(bucket.take(rate, later).is_err());
        assert!(!bucket.is_full(rate, start + Duration::from_millis(399)));
        assert!(bucket.is_full(rate, start + Duration::from_millis(400)));
    }

    #[test]
    fn a_clock_that_goes_back_gives_nothing_twice() {
        let rate = rate(1, 1);
        let mut bucket = TokenBucket::default();
        assert_eq!(bucket.take(rate, Duration::from_secs(9)), Ok(()));
        assert_eq!(
            bucket.take(rate, Duration::from_secs(3)),
            Err(Duration::from_secs(1))
        );
    }

    proptest! {
        /// Whatever is asked when: what was given in any stretch of time is at most the burst and what the rate gives in
        /// it; who waits as told gets a token; and who is refused has really had them all.
        #[test]
        fn never_more_than_the_burst_and_the_rate(
            per_second in 1_u32..2_000_000,
            burst in 1_u32..50,
            pauses in prop::collection::vec(0_u64..2_000_000_000, 1..120),
        ) {
            let rate = rate(per_second, burst);
            let mut bucket = TokenBucket::default();
            let mut now = Duration::ZERO;
            let mut given: Vec<Duration> = Vec::new();
            for pause in pauses {
                // most pauses are near the time of one token
                now += Duration::from_nanos(pause / u64::from(per_second));
                match bucket.take(rate, now) {
                    Ok(()) => given.push(now),
                    Err(wait) => {
                        prop_assert!(wait > Duration::ZERO && wait <= Duration::from_secs(1));
                        let early = wait - Duration::from_nanos(1);
                        prop_assert!(bucket.clone().take(rate, now + early).is_err());
                        prop_assert_eq!(bucket.clone().take(rate, now + wait), Ok(()));
                        prop_assert!(given.len() >= burst as usize);
                    }
                }
            }
            for (first, from) in given.iter().enumerate() {
                for (count, to) in (1_u128..).zip(&given[first..]) {
                    let stretch = (*to - *from).as_nanos();
                    let most = u128::from(burst) * SECOND + stretch * u128::from(per_second);
                    prop_assert!(count * SECOND <= most, "{count} in {stretch} ns");
                }
            }
        }
    }
}
