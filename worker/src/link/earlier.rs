//! Leases of earlier boots, as hellos name them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use taskyard_proto::v1;

use super::convert::lease_to_wire;
use crate::lease::{Lease, LeaseId};

/// What became of a lease of an earlier boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EarlierFate {
    NotStarted,
    Finished,
    Unknown,
    /// It can go on, under a lease of this id.
    Running {
        next: LeaseId,
    },
}

/// A run that goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResumedLease {
    /// As the hello named it.
    pub earlier: Lease,
    /// Under which it goes on.
    pub lease: Lease,
}

/// Leases of earlier boots that a hello still has to name. Clones share one set.
#[derive(Debug, Clone, Default)]
pub struct EarlierLeases {
    leases: Arc<Mutex<Vec<(Lease, EarlierFate)>>>,
}

impl EarlierLeases {
    pub fn new(leases: Vec<(Lease, EarlierFate)>) -> EarlierLeases {
        EarlierLeases {
            leases: Arc::new(Mutex::new(leases)),
        }
    }

    /// A lease whose finish was acknowledged needs no mention any more.
    pub fn forget(&self, lease: &Lease) {
        self.lock().retain(|(earlier, _)| earlier != lease);
    }

    /// After a hello was accepted only finished ones stay, until their reports are.
    pub(super) fn settle(&self) {
        self.lock()
            .retain(|(_, fate)| *fate == EarlierFate::Finished);
    }

    /// The hello was refused as malformed: the other side may be too old to know of runs that go on.
    pub(super) fn forsake_running(&self) {
        for (lease, fate) in self.lock().iter_mut() {
            if let EarlierFate::Running { .. } = fate {
                tracing::warn!(lease = %lease, "the control plane cannot give a run back");
                *fate = EarlierFate::Unknown;
            }
        }
    }

    /// With the leases of recent results, which are finished, too.
    pub(super) fn to_wire(&self, recent: &[Lease]) -> Vec<v1::HeldLease> {
        let to_wire = |(lease, fate): &(Lease, EarlierFate)| {
            let status = match fate {
                EarlierFate::NotStarted => v1::HeldStatus::NotStarted,
                EarlierFate::Finished => v1::HeldStatus::Finished,
                EarlierFate::Unknown => v1::HeldStatus::Unknown,
                EarlierFate::Running { .. } => v1::HeldStatus::Running,
            };
            let next = match fate {
                EarlierFate::Running { next } => Bytes::copy_from_slice(next.as_bytes()),
                EarlierFate::NotStarted | EarlierFate::Finished | EarlierFate::Unknown => {
                    Bytes::new()
                }
            };
            v1::HeldLease {
                lease: Some(lease_to_wire(lease)),
                status: status.into(),
                next_lease_id: next,
            }
        };
        let recent = recent
            .iter()
            .map(|lease| (lease.clone(), EarlierFate::Finished));
        let mut named = self.lock().clone();
        named.extend(recent);
        named.iter().map(to_wire).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Lease, EarlierFate)>> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
