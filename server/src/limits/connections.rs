//! Connections that are open, by address. As many addresses are known as have one.

use super::{callers::CallerKey, settings::ConnectionLimits};
use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};
use taskyard_telemetry::metrics::table;

/// The connections of a server. A cheap clone.
#[derive(Clone, Debug)]
pub struct Connections {
    limits: ConnectionLimits,
    open: Arc<Mutex<Open>>,
    is_refusing: Arc<AtomicBool>,
}

/// The right of one connection to be open. Dropped, it is closed.
#[derive(Debug)]
pub struct ConnectionPermit {
    address: CallerKey,
    open: Arc<Mutex<Open>>,
}

#[derive(Debug, Default)]
struct Open {
    all: usize,
    by_address: HashMap<CallerKey, usize>,
}

impl Connections {
    /// None is open yet.
    #[must_use]
    pub fn new(limits: ConnectionLimits) -> Self {
        Self {
            limits,
            open: Arc::default(),
            is_refusing: Arc::default(),
        }
    }

    /// As many as want to.
    #[cfg(test)]
    pub(crate) fn unlimited() -> Self {
        Self::new(ConnectionLimits {
            server: None,
            address: None,
        })
    }

    /// Counts a connection; none: it must be closed, since there are as many as there may be. That is counted, and told in
    /// the log when it begins.
    #[must_use]
    pub fn admit(&self, address: IpAddr) -> Option<ConnectionPermit> {
        let key = CallerKey::address(address);
        let mut open = lock(&self.open);
        let of_address = open.by_address.get(&key).copied().unwrap_or(0);
        let is_full = |limit: Option<usize>, count| limit.is_some_and(|limit| count >= limit);
        if is_full(self.limits.server, open.all) || is_full(self.limits.address, of_address) {
            table::LIMIT_REFUSALS.add(1, &["TOO_MANY_CONNECTIONS"]);
            if !self.is_refusing.swap(true, Ordering::Relaxed) {
                tracing::warn!(%address, open = open.all, of_address, "connections are refused; there are too many");
            }
            return None;
        }
        self.is_refusing.store(false, Ordering::Relaxed);
        open.all += 1;
        *open.by_address.entry(key.clone()).or_default() += 1;
        Some(ConnectionPermit {
            address: key,
            open: Arc::clone(&self.open),
        })
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let mut open = lock(&self.open);
        open.all -= 1;
        if let Some(count) = open.by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                open.by_address.remove(&self.address);
            }
        }
    }
}

fn lock(open: &Mutex<Open>) -> MutexGuard<'_, Open> {
    open.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_leaves_room_for_another_and_nothing_is_kept_of_closed_ones() {
        let connections = Connections::new(ConnectionLimits {
            server: Some(3),
            address: Some(2),
        });
        let of = |text: &str| connections.admit(text.parse().expect("an address"));
        let first = [of("10.0.0.1"), of("10.0.0.1")];
        assert!(first.iter().all(Option::is_some));
        assert!(of("10.0.0.1").is_none());
        let other = of("10.0.0.2").expect("of another address");
        assert!(of("10.0.0.3").is_none(), "the server has three");
        drop(first);
        drop(of("10.0.0.3").expect("room again"));
        drop(other);
        let open = lock(&connections.open);
        assert_eq!((open.all, open.by_address.len()), (0, 0));
    }
}
