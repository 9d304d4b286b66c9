//! Tokens that are signed with a key that is not known: whether the keys are fetched for them, who waits for that, and
//! who is told to come again. One who makes up names of keys must neither make us fetch all the time nor hold up others.
//!
//! A key can have come to be after the last fetch. So a token is refused for good only if a fetch that began after its
//! key was asked for did not bring it; all others are told when to come again.

use super::authenticator::digest;
use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

/// Unknown keys make us fetch once in this time, not more often.
pub const QUIET_TIME: Duration = Duration::from_secs(10);
/// Names of keys that are remembered from one fetch to the next; those beyond are never refused for good.
const MAX_NAMES: usize = 1_024;
/// When to come again where no better time is known.
const SOON: Duration = Duration::from_secs(1);

/// What becomes of a token whose key is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Miss {
    /// A fetch has to begin, and is waited for.
    Fetch,
    /// A fetch is under way, and is waited for.
    Wait,
    /// There is no such key.
    Absent,
    /// There was a fetch a moment ago, before the key was asked for; the next may bring it.
    Later(Duration),
}

type Names = HashSet<[u8; 32]>;

/// What is known of keys that are not known.
#[derive(Debug, Default)]
pub struct KeyMisses {
    begun_at: Option<Instant>,
    is_under_way: bool,
    /// Asked for since the last fetch began.
    asked: Names,
    /// Asked for before the fetch that is under way began.
    sought: Names,
    /// Not brought by the last fetch, which looked for them.
    absent: Names,
}

impl KeyMisses {
    /// A token names a key that is not known. On [`Miss::Fetch`] the caller has a fetch begun.
    pub fn ask(&mut self, kid: &str, now: Instant) -> Miss {
        let name = digest(kid.as_bytes());
        if self.asked.len() < MAX_NAMES {
            self.asked.insert(name);
        }
        if self.is_under_way {
            return Miss::Wait;
        }
        if let Some(left) = self.quiet_for(now) {
            return self.judge_name(&name, left);
        }
        // nobody else has one begun
        (self.begun_at, self.is_under_way) = (Some(now), true);
        Miss::Fetch
    }

    /// What becomes of a token whose key is not known still, after the fetch that was waited for: [`Miss::Absent`] or
    /// [`Miss::Later`].
    #[must_use]
    pub fn judge(&self, kid: &str, now: Instant) -> Miss {
        let left = self.quiet_for(now).unwrap_or(SOON);
        self.judge_name(&digest(kid.as_bytes()), left)
    }

    /// A fetch begins, for whatever reason.
    pub fn begin(&mut self, now: Instant) {
        (self.begun_at, self.is_under_way) = (Some(now), true);
        self.sought = std::mem::take(&mut self.asked);
    }

    /// The fetch is over, and brought keys or nothing. One that failed tells nothing of any key.
    pub fn end(&mut self, brought_keys: bool) {
        self.is_under_way = false;
        let sought = std::mem::take(&mut self.sought);
        self.absent = if brought_keys { sought } else { Names::new() };
    }

    fn judge_name(&self, name: &[u8; 32], left: Duration) -> Miss {
        if self.absent.contains(name) {
            Miss::Absent
        } else {
            Miss::Later(left.max(SOON))
        }
    }

    fn quiet_for(&self, now: Instant) -> Option<Duration> {
        let since = now.saturating_duration_since(self.begun_at?);
        QUIET_TIME.checked_sub(since).filter(|left| !left.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_comes_during_a_fetch_waits_for_it() {
        let (mut misses, now) = (KeyMisses::default(), Instant::now());
        assert_eq!(misses.ask("new", now), Miss::Fetch);
        assert_eq!(misses.ask("other", now), Miss::Wait);
        misses.begin(now);
        assert_eq!(misses.ask("late", now), Miss::Wait);
        misses.end(true);
        // two were asked for before it began, and one after
        assert_eq!(misses.judge("new", now), Miss::Absent);
        assert_eq!(misses.judge("other", now), Miss::Absent);
        assert_eq!(misses.judge("late", now), Miss::Later(QUIET_TIME));
    }

    #[test]
    fn made_up_names_bring_one_fetch_in_the_quiet_time() {
        let (mut misses, start) = (KeyMisses::default(), Instant::now());
        let mut fetches = 0;
        for tenth in 0..600_u32 {
            let now = start + Duration::from_millis(100) * tenth;
            match misses.ask(&format!("made-up-{tenth}"), now) {
                Miss::Fetch => {
                    fetches += 1;
                    misses.begin(now);
                    misses.end(true);
                }
                Miss::Later(left) => assert!(left <= QUIET_TIME && left >= SOON),
                other @ (Miss::Wait | Miss::Absent) => panic!("{other:?}"),
            }
        }
        assert_eq!(fetches, 6);
        for number in 0..2 * MAX_NAMES {
            misses.ask(&number.to_string(), start);
        }
        assert_eq!(misses.asked.len(), MAX_NAMES);
    }

    #[test]
    fn a_key_that_was_looked_for_and_not_brought_is_absent_until_it_is_brought() {
        let (mut misses, start) = (KeyMisses::default(), Instant::now());
        misses.ask("gone", start);
        misses.begin(start);
        misses.end(true);
        let soon = start + Duration::from_secs(3);
        assert_eq!(misses.ask("gone", soon), Miss::Absent);
        assert_eq!(
            misses.ask("new", soon),
            Miss::Later(Duration::from_secs(7)),
            "this one may have come to be since"
        );
        // the next fetch looks for both
        let next = start + QUIET_TIME;
        assert_eq!(misses.ask("gone", next), Miss::Fetch);
        misses.begin(next);
        misses.end(true);
        assert_eq!(misses.judge("new", next), Miss::Absent);
    }

    #[test]
    fn a_fetch_that_fails_refuses_nobody_for_good() {
        let (mut misses, now) = (KeyMisses::default(), Instant::now());
        misses.ask("new", now);
        misses.begin(now);
        misses.end(false);
        assert_eq!(misses.judge("new", now), Miss::Later(QUIET_TIME));
    }
}
