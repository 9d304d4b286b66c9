//! Whose leases are whose. A lease is known by its random id; where callers have to say who they are, it is besides
//! taken only from the one whose worker it was given to.

use super::{lease_ref::LeaseRef, refusal::Refusal};
use crate::{app::App, identity::Identity, store::workers};
use lru::LruCache;
use std::{
    num::NonZeroUsize,
    sync::{Mutex, PoisonError},
};
use taskyard_proto::v1::Lease;

/// Leases whose holder is remembered. A lease never changes it but from one boot of a worker to the next.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(16_384).expect("not zero");

/// Holders of leases that were seen lately.
#[derive(Debug)]
pub struct LeaseHolders {
    seen: Mutex<LruCache<(LeaseRef, String), ()>>,
}

impl Default for LeaseHolders {
    fn default() -> Self {
        Self {
            seen: Mutex::new(LruCache::new(REMEMBERED)),
        }
    }
}

/// Makes sure that no lease that is held by another one is used by this caller. One that nobody holds is let through:
/// whatever is done with it is refused by the fence.
///
/// # Errors
/// [`Refusal::LeaseLost`], exactly as for a lease that never was; [`Refusal::Store`].
pub async fn ensure_held(
    app: &App,
    identity: &Identity,
    leases: &[LeaseRef],
) -> Result<(), Refusal> {
    let Some(holder) = identity.holder() else {
        return Ok(());
    };
    let unknown: Vec<LeaseRef> = {
        let mut seen = app
            .lease_holders
            .seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        leases
            .iter()
            .filter(|lease| seen.get(&(**lease, holder.clone())).is_none())
            .copied()
            .collect()
    };
    if unknown.is_empty() {
        return Ok(());
    }
    let keys: Vec<_> = unknown
        .iter()
        .map(|lease| (lease.task, lease.epoch, lease.lease_id))
        .collect();
    let held = workers::find_lease_holders(app.store.pool(), &keys).await?;
    if held.iter().any(|(_, of)| of.as_ref() != Some(&holder)) {
        return Err(Refusal::LeaseLost);
    }
    let mut seen = app
        .lease_holders
        .seen
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    for lease in unknown {
        if held.iter().any(|(task, _)| *task == lease.task) {
            seen.put((lease, holder.clone()), ());
        }
    }
    Ok(())
}

/// As [`ensure_held`], for leases as they stand in a request; those that are none are left to whoever reads them.
///
/// # Errors
/// As [`ensure_held`].
pub async fn ensure_held_on_wire<'a>(
    app: &App,
    identity: &Identity,
    leases: impl Iterator<Item = Option<&'a Lease>>,
) -> Result<(), Refusal> {
    if identity.holder().is_none() {
        return Ok(());
    }
    let mut read: Vec<LeaseRef> = leases
        .flatten()
        .filter_map(|lease| LeaseRef::try_from(lease).ok())
        .collect();
    read.dedup();
    ensure_held(app, identity, &read).await
}
