//! Who calls how often, and what each has open.
//!
//! At most 16,384 callers are known. One of whom nothing is open and whose rate has recovered may be forgotten; where
//! none of those that were not heard for longest is like that, newcomers share one set of counts until there is, so no
//! number of addresses or names makes this grow, and none of them gets around its limits.

use super::{measure::Measure, settings::CallLimits, token_bucket::TokenBucket, turns::Turns};
use lru::LruCache;
use std::{
    net::IpAddr,
    num::NonZeroUsize,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use taskyard_core::id::SessionUid;

/// Callers that are known.
const KNOWN: NonZeroUsize = NonZeroUsize::new(16_384).expect("not zero");
/// How many of those that were not heard for longest are looked at for a newcomer.
const LOOKS: usize = 4;

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum CallerKey {
    /// Whoever shows a credential of this name.
    Name(String),
    /// Whoever calls from this address, or from this network of IPv6.
    Address(IpAddr),
    /// What runs inside the tasks of this session.
    Inside(SessionUid),
}

/// What there is too much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Exceeded {
    /// Calls in a time.
    #[error(
        "this caller may make {per_second} calls a second, and has made more; call again after a pause"
    )]
    Rate {
        /// How many there may be in a second.
        per_second: u32,
        /// When the next one is let through.
        retry_after: Duration,
    },
    /// Calls under way.
    #[error(
        "this caller has {limit} calls under way, which is the most; call again when some have ended"
    )]
    Calls {
        /// The limit.
        limit: usize,
    },
    /// Open streams.
    #[error("this caller has {limit} streams and waits open, which is the most; close some")]
    Streams {
        /// The limit.
        limit: usize,
    },
    /// Open watches, followed outputs and waits.
    #[error(
        "this caller has {limit} watches, followed outputs and waits open, which is the most; close some"
    )]
    Watchers {
        /// The limit.
        limit: usize,
    },
}

/// All callers of a server.
#[derive(Debug)]
pub struct Callers {
    limits: CallLimits,
    began_at: Instant,
    known: Mutex<LruCache<CallerKey, Arc<Caller>>>,
    others: Arc<Caller>,
}

/// A call that is under way. Dropped, it is over.
#[derive(Debug)]
pub struct Underway {
    caller: Arc<Caller>,
    measure: Measure,
}

#[derive(Debug, Default)]
struct Caller {
    bucket: Mutex<TokenBucket>,
    calls: AtomicUsize,
    streams: AtomicUsize,
    watchers: AtomicUsize,
    turns: Turns,
}

impl CallerKey {
    /// Whoever calls from an address. Who has one of IPv6 has the 2^64 of its network as well, so that is meant.
    #[must_use]
    pub fn address(address: IpAddr) -> Self {
        Self::Address(match address.to_canonical() {
            IpAddr::V4(address) => IpAddr::V4(address),
            IpAddr::V6(address) => {
                let network = address.to_bits() & !u128::from(u64::MAX);
                IpAddr::V6(network.into())
            }
        })
    }
}

impl Callers {
    /// Nobody has called yet.
    #[must_use]
    pub fn new(limits: CallLimits) -> Self {
        Self::with_room(limits, KNOWN)
    }

    fn with_room(limits: CallLimits, room: NonZeroUsize) -> Self {
        Self {
            limits,
            began_at: Instant::now(),
            known: Mutex::new(LruCache::new(room)),
            others: Arc::default(),
        }
    }

    /// Counts a call, for as long as what is returned is kept; none: it counts as nothing.
    ///
    /// # Errors
    /// [`Exceeded`]: it must not be made.
    pub fn enter(&self, key: &CallerKey, measure: Measure) -> Result<Option<Underway>, Exceeded> {
        if measure == Measure::Free {
            return Ok(None);
        }
        let now = self.began_at.elapsed();
        let caller = self.find(key, now);
        if let Some(rate) = self.limits.rate {
            lock(&caller.bucket)
                .take(rate, now)
                .map_err(|retry_after| Exceeded::Rate {
                    per_second: rate.per_second.get(),
                    retry_after,
                })?;
        }
        let CallLimits {
            rate: _,
            calls,
            streams,
            watchers,
        } = self.limits;
        match measure {
            Measure::Free => {}
            Measure::Call => {
                add(&caller.calls, calls).map_err(|limit| Exceeded::Calls { limit })?;
            }
            Measure::Stream => {
                add(&caller.streams, streams).map_err(|limit| Exceeded::Streams { limit })?;
            }
            Measure::Watcher => {
                add(&caller.watchers, watchers).map_err(|limit| Exceeded::Watchers { limit })?;
                if let Err(limit) = add(&caller.streams, streams) {
                    caller.watchers.fetch_sub(1, Ordering::Relaxed);
                    return Err(Exceeded::Streams { limit });
                }
            }
        }
        Ok(Some(Underway { caller, measure }))
    }

    /// The turns of a caller of whom nothing is counted yet.
    #[must_use]
    pub fn turns(&self, key: &CallerKey) -> Turns {
        self.find(key, self.began_at.elapsed()).turns.clone()
    }

    fn find(&self, key: &CallerKey, now: Duration) -> Arc<Caller> {
        let mut known = lock(&self.known);
        if let Some(caller) = known.get(key) {
            return Arc::clone(caller);
        }
        for _ in 0..LOOKS {
            if known.len() < known.cap().get() {
                break;
            }
            match known.pop_lru() {
                // forgotten
                Some((_, caller)) if self.is_idle(&caller, now) => {}
                Some((busy, caller)) => drop(known.put(busy, caller)),
                None => {}
            }
        }
        if known.len() >= known.cap().get() {
            return Arc::clone(&self.others);
        }
        let caller = Arc::<Caller>::default();
        known.put(key.clone(), Arc::clone(&caller));
        caller
    }

    /// Whether a caller that is forgotten and comes back has no more than if it was remembered. Each call that is under
    /// way has a hold of its caller.
    fn is_idle(&self, caller: &Arc<Caller>, now: Duration) -> bool {
        Arc::strong_count(caller) == 1
            && self
                .limits
                .rate
                .is_none_or(|rate| lock(&caller.bucket).is_full(rate, now))
    }
}

impl Underway {
    /// The turns of whose call this is.
    #[must_use]
    pub fn turns(&self) -> &Turns {
        &self.caller.turns
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        let over = |count: &AtomicUsize| {
            count.fetch_sub(1, Ordering::Relaxed);
        };
        match self.measure {
            Measure::Free => {}
            Measure::Call => over(&self.caller.calls),
            Measure::Stream => over(&self.caller.streams),
            Measure::Watcher => {
                over(&self.caller.watchers);
                over(&self.caller.streams);
            }
        }
    }
}

/// One more, unless there are as many as there may be.
fn add(count: &AtomicUsize, limit: Option<usize>) -> Result<(), usize> {
    let most = limit.unwrap_or(usize::MAX);
    count
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |open| {
            (open < most).then_some(open + 1)
        })
        .map(drop)
        .map_err(|_| most)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::token_bucket::Rate;
    use std::num::NonZeroU32;

    const OFF: CallLimits = CallLimits {
        rate: None,
        calls: None,
        streams: None,
        watchers: None,
    };

    fn name(name: &str) -> CallerKey {
        CallerKey::Name(name.to_owned())
    }

    #[test]
    fn one_caller_meets_its_limits_and_another_does_not_notice() {
        let callers = Callers::new(CallLimits {
            calls: Some(1),
            streams: Some(3),
            watchers: Some(2),
            ..OFF
        });
        let call = callers.enter(&name("a"), Measure::Call).expect("the first");
        let refused = callers.enter(&name("a"), Measure::Call);
        assert_eq!(refused.err(), Some(Exceeded::Calls { limit: 1 }));
        callers.enter(&name("b"), Measure::Call).expect("another's");
        drop(call);
        callers.enter(&name("a"), Measure::Call).expect("over");

        let open = |measure| callers.enter(&name("a"), measure);
        let watches = [open(Measure::Watcher), open(Measure::Watcher)];
        assert_eq!(
            open(Measure::Watcher).err(),
            Some(Exceeded::Watchers { limit: 2 })
        );
        let stream = open(Measure::Stream).expect("the third stream");
        assert_eq!(
            open(Measure::Stream).err(),
            Some(Exceeded::Streams { limit: 3 })
        );
        drop(watches);
        let streams: Vec<_> = (0..2).map(|_| open(Measure::Stream)).collect();
        assert!(streams.iter().all(Result::is_ok));
        // refused for its being a stream, it is no watcher either
        for _ in 0..5 {
            assert_eq!(
                open(Measure::Watcher).err(),
                Some(Exceeded::Streams { limit: 3 })
            );
        }
        drop((streams, stream));
        assert!(open(Measure::Watcher).is_ok());
        for _ in 0..100 {
            let free = open(Measure::Free).expect("never counted");
            assert!(free.is_none());
        }
    }

    #[test]
    fn a_rate_is_refused_with_the_time_to_come_back() {
        let one = NonZeroU32::MIN;
        let callers = Callers::new(CallLimits {
            rate: Some(Rate {
                per_second: one,
                burst: one,
            }),
            ..OFF
        });
        drop(callers.enter(&name("a"), Measure::Call).expect("the first"));
        let refused = callers
            .enter(&name("a"), Measure::Stream)
            .expect_err("soon");
        assert!(matches!(refused, Exceeded::Rate { per_second: 1, .. }));
        assert!(callers.enter(&name("b"), Measure::Call).is_ok());
    }

    #[test]
    fn endless_names_share_one_set_of_counts_once_all_places_are_taken() {
        let room = NonZeroUsize::new(8).expect("not zero");
        let limits = CallLimits {
            calls: Some(1),
            ..OFF
        };
        let callers = Callers::with_room(limits, room);
        for caller in 0..100 {
            let call = callers.enter(&name(&caller.to_string()), Measure::Call);
            assert!(call.is_ok(), "idle ones are forgotten");
        }
        assert_eq!(lock(&callers.known).len(), 8);
        let mut held = Vec::new();
        for caller in 0..8 {
            held.push(callers.enter(&name(&format!("busy-{caller}")), Measure::Call));
        }
        assert!(held.iter().all(Result::is_ok));
        let other = callers.enter(&name("new"), Measure::Call);
        assert!(other.is_ok(), "the first of the others");
        assert!(callers.enter(&name("newer"), Measure::Call).is_err());
        assert_eq!(lock(&callers.known).len(), 8);
        drop((held, other));
        assert!(callers.enter(&name("newest"), Measure::Call).is_ok());
    }

    #[test]
    fn a_network_of_ipv6_is_one_caller() {
        let key = |text: &str| CallerKey::address(text.parse().expect("an address"));
        assert_eq!(key("2001:db8:1:2::1"), key("2001:db8:1:2:ffff::9"));
        assert_ne!(key("2001:db8:1:2::1"), key("2001:db8:1:3::1"));
        assert_eq!(key("::ffff:10.0.0.1"), key("10.0.0.1"));
        assert_ne!(key("10.0.0.2"), key("10.0.0.1"));
    }
}
