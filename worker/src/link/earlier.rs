//! Leases of earlier boots, as hellos name them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use taskyard_proto::v1;

use super::convert::lease_to_wire;
use crate::lease::Lease;

/// What became of a lease of an earlier boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EarlierFate {
    NotStarted,
    Finished,
    Unknown,
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

    pub(super) fn to_wire(&self) -> Vec<v1::HeldLease> {
        let to_wire = |(lease, fate): &(Lease, EarlierFate)| {
            let status = match fate {
                EarlierFate::NotStarted => v1::HeldStatus::NotStarted,
                EarlierFate::Finished => v1::HeldStatus::Finished,
                EarlierFate::Unknown => v1::HeldStatus::Unknown,
            };
            v1::HeldLease {
                lease: Some(lease_to_wire(lease)),
                status: status.into(),
            }
        };
        self.lock().iter().map(to_wire).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Lease, EarlierFate)>> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
