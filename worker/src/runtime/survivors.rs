//! The runs that outlived the boot before, from its ledger to the first hello that is accepted.

use std::collections::HashMap;

use futures::{StreamExt, stream};

use crate::attempt::{Survivor, next_lease_id};
use crate::lease::{Lease, LeaseId};
use crate::ledger::{EarlierLease, EarlierStatus, Ledger, LedgerEntry, SurvivingRecord};
use crate::process::{Leftovers, kill_leftovers};
use crate::workspace::Workspaces;

/// Shims that are asked at a time: all that a worker can have, so that several that do not answer cost no more than one.
const ASKED_MAX: usize = 1_024;

/// Runs in this boot's hands whose next leases are not known yet, by the lease that the ledger knows.
pub(super) type Survivors = HashMap<LeaseId, Survivor>;

/// Ends what is left of runs that must not outlive their worker: a shim that was frozen when it died could not. Nothing of
/// them may go on once the control plane has heard that they are over. Within 5 s.
pub(super) async fn end_leftovers(earlier: &[EarlierLease]) {
    let is_lost = |earlier: &&EarlierLease| match earlier.status {
        EarlierStatus::Unknown => true,
        EarlierStatus::NotStarted | EarlierStatus::Surviving(_) | EarlierStatus::Finished(_) => {
            false
        }
    };
    let lost = earlier.iter().filter(is_lost);
    let leases: Vec<(String, i64)> = lost
        .map(|earlier| (earlier.lease.task_id.clone(), earlier.lease.epoch))
        .collect();
    let killing = tokio::task::spawn_blocking(move || kill_leftovers(leases));
    let leftovers = killing.await.unwrap_or_default();
    if leftovers != Leftovers::default() {
        tracing::warn!(
            killed = leftovers.killed,
            survivors = leftovers.survivors,
            "runs of an earlier boot were still there"
        );
    }
}

/// Asks the shims of all runs that may have survived. Those that are not found are unknown from then on.
pub(super) async fn find_survivors(
    ledger: &Ledger,
    workspaces: &Workspaces,
    earlier: Vec<EarlierLease>,
) -> (Vec<EarlierLease>, Survivors) {
    let mut survivors = Survivors::new();
    let found: Vec<(EarlierLease, Option<Survivor>)> = stream::iter(earlier)
        .map(|earlier| find(ledger, workspaces, earlier))
        .buffer_unordered(ASKED_MAX)
        .collect()
        .await;
    let mut earlier = Vec::with_capacity(found.len());
    for (lease, survivor) in found {
        survivors.extend(survivor.map(|survivor| (lease.lease.id, survivor)));
        earlier.push(lease);
    }
    (earlier, survivors)
}

async fn find(
    ledger: &Ledger,
    workspaces: &Workspaces,
    earlier: EarlierLease,
) -> (EarlierLease, Option<Survivor>) {
    let EarlierLease { lease, status } = earlier;
    let record = match status {
        EarlierStatus::Surviving(record) => *record,
        EarlierStatus::NotStarted | EarlierStatus::Unknown | EarlierStatus::Finished(_) => {
            return (EarlierLease { lease, status }, None);
        }
    };
    let home = record.home.clone();
    match Survivor::find(workspaces, lease.clone(), record).await {
        Ok(mut survivor) => {
            survivor.record = with_next(ledger, &lease, survivor.record).await;
            let status = EarlierStatus::Surviving(Box::new(survivor.record.clone()));
            (EarlierLease { lease, status }, Some(survivor))
        }
        Err(error) => {
            tracing::warn!(lease = %lease, %error, "a run did not outlive the worker");
            workspaces.of(&home).remove().await;
            let status = EarlierStatus::Unknown;
            (EarlierLease { lease, status }, None)
        }
    }
}

/// Draws the id of the next lease and notes it before anybody hears of it. Where it cannot be noted it is used all the
/// same: then only a further loss of the worker before it could be noted costs the run.
async fn with_next(ledger: &Ledger, lease: &Lease, record: SurvivingRecord) -> SurvivingRecord {
    if record.next.is_some() {
        return record;
    }
    let record = SurvivingRecord {
        next: Some(next_lease_id()),
        ..record
    };
    let entry = LedgerEntry::Surviving(Box::new(record.clone()));
    if let Err(error) = ledger.note(lease, entry).await {
        tracing::error!(lease = %lease, %error, "the next lease of a run cannot be noted");
    }
    record
}
