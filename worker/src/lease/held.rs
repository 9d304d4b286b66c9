//! The leases that this worker holds, as its heartbeats tell them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::id::{Lease, LeaseId};

/// Leases that were received and not yet settled. Clones share one set.
#[derive(Debug, Clone, Default)]
pub struct HeldLeases {
    leases: Arc<Mutex<BTreeMap<LeaseId, Lease>>>,
}

/// What a heartbeat says about the set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldSummary {
    pub count: usize,
    /// XOR of all lease ids.
    pub digest: [u8; 16],
}

impl HeldLeases {
    /// True when the lease was not held before.
    pub fn insert(&self, lease: &Lease) -> bool {
        self.lock().insert(lease.id, lease.clone()).is_none()
    }

    pub fn remove(&self, id: LeaseId) {
        self.lock().remove(&id);
    }

    pub fn summary(&self) -> HeldSummary {
        let leases = self.lock();
        let mut digest = [0; 16];
        for id in leases.keys() {
            for (sum, byte) in digest.iter_mut().zip(id.as_bytes()) {
                *sum ^= byte;
            }
        }
        HeldSummary {
            count: leases.len(),
            digest,
        }
    }

    pub fn all(&self) -> Vec<Lease> {
        self.lock().values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<LeaseId, Lease>> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_does_not_depend_on_order_and_forgets_what_was_removed() {
        let lease = |byte: u8| Lease::new("task_1", 1, &[byte; 16]).expect("a good lease");
        let held = HeldLeases::default();
        assert!(held.insert(&lease(1)));
        assert!(held.insert(&lease(6)));
        assert!(!held.insert(&lease(6)), "a second time it is not new");
        assert_eq!(
            held.summary(),
            HeldSummary {
                count: 2,
                digest: [7; 16]
            }
        );
        held.remove(lease(1).id);
        assert_eq!(
            held.summary(),
            HeldSummary {
                count: 1,
                digest: [6; 16]
            }
        );
    }
}
