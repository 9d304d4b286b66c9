//! Processes that outlived their worker: its next boot goes on with them, each under the lease that its hello proposes.
//!
//! The worker draws the id of the next lease and keeps it on its disk before it says it. So every step may be repeated,
//! by this boot or a later one, whichever answer was lost: a lease that bears the proposed id was taken over before.

use super::{lease_ref::LeaseRef, refusal::Refusal};
use crate::{
    app::App,
    commit::{Change, CommitError, Content},
    store::{
        claim::{self, HeldLease},
        workers::Attachment,
    },
};
use std::collections::HashMap;
use taskyard_core::{
    id::{Epoch, LeaseId, TaskId},
    task::{Event, Lease, Rejected},
};
use taskyard_proto::v1::{HeldStatus, Hello, ResumedLease};
use tracing::info;

/// What a worker must announce to be given leases back.
const FEATURE: &str = "reattach";

/// The processes that a hello says are in its hands again.
pub(super) struct Survivors {
    by_lease: HashMap<(TaskId, LeaseId), Survivor>,
    by_next: HashMap<(TaskId, LeaseId), Survivor>,
}

#[derive(Clone, Copy)]
struct Survivor {
    /// As the worker knows it.
    lease: LeaseRef,
    /// The id that its next lease is to have.
    next: LeaseId,
}

impl Survivors {
    /// # Errors
    /// [`Refusal::InvalidField`] for what can be no lease.
    pub(super) fn of(hello: &Hello) -> Result<Self, Refusal> {
        let (mut by_lease, mut by_next) = (HashMap::new(), HashMap::new());
        if hello.features.iter().any(|feature| feature == FEATURE) {
            for held in &hello.held {
                if held.status() != HeldStatus::Running || held.next_lease_id.is_empty() {
                    continue;
                }
                let next = <[u8; 16]>::try_from(held.next_lease_id.as_ref()).map_err(|_| {
                    Refusal::invalid("hello.held.next_lease_id", "must have 16 bytes")
                })?;
                let lease = held
                    .lease
                    .as_ref()
                    .ok_or_else(|| Refusal::invalid("hello.held.lease", "is required"))?;
                let survivor = Survivor {
                    lease: LeaseRef::try_from(lease)?,
                    next: LeaseId(u128::from_be_bytes(next)),
                };
                by_lease.insert((survivor.lease.task, survivor.lease.lease_id), survivor);
                by_next.insert((survivor.lease.task, survivor.next), survivor);
            }
        }
        Ok(Self { by_lease, by_next })
    }

    /// Takes what goes on out of the leases of earlier boots: puts it under the lease that is proposed for it, held by
    /// this stream, and answers with the other leases.
    ///
    /// # Errors
    /// What the store says. The same hello, said again, goes on where this one ended.
    pub(super) async fn take_over(
        &self,
        app: &App,
        stream: Attachment,
        worker: &str,
        leases: Vec<HeldLease>,
    ) -> Result<Vec<HeldLease>, Refusal> {
        let mut others = Vec::with_capacity(leases.len());
        let mut taken_before = Vec::new();
        let mut answers = Vec::new();
        for lease in leases {
            let known = self.by_lease.get(&(lease.task, lease.lease_id));
            if lease.is_offered {
                others.push(lease);
            } else if let Some(survivor) = known {
                let event = Event::Reattach {
                    epoch: lease.epoch,
                    lease_id: lease.lease_id,
                    next: Lease {
                        worker: stream.worker,
                        epoch: Epoch(lease.epoch.0.saturating_add(1)),
                        id: survivor.next,
                        item_no: 0,
                    },
                };
                let change = Change::new(lease.task, event, Content::Holder(worker.to_owned()));
                answers.push((lease.task, app.commits.change_later(lease.session, change)?));
            } else if self.by_next.contains_key(&(lease.task, lease.lease_id)) {
                taken_before.push((lease.task, lease.lease_id));
            } else {
                others.push(lease);
            }
        }
        for (task, answer) in answers {
            match answer.await.unwrap_or(Err(CommitError::ShuttingDown)) {
                Ok(_) => {
                    info!(task.id = %task, worker.session = stream.worker.0, "a run goes on under its worker's next boot")
                }
                Err(CommitError::Rejected {
                    rejected: Rejected::AlreadyApplied,
                    ..
                }) => {}
                // it was ended meanwhile: the worker is not given it back
                Err(CommitError::Rejected { .. } | CommitError::NotFound) => {}
                Err(error) => return Err(error.into()),
            }
        }
        claim::adopt_leases(
            app.store.pool(),
            &taken_before,
            stream.worker,
            stream.attach_no,
        )
        .await?;
        Ok(others)
    }

    /// What of this is held by the worker session now, as its welcome says it.
    ///
    /// # Errors
    /// What the store says.
    pub(super) async fn resumed(
        &self,
        app: &App,
        stream: Attachment,
    ) -> Result<Vec<ResumedLease>, Refusal> {
        if self.by_lease.is_empty() {
            return Ok(Vec::new());
        }
        let leases = claim::list_leases(app.store.pool(), &[stream.worker]).await?;
        let resumed = leases.iter().filter_map(|lease| {
            let survivor = self.by_next.get(&(lease.task, lease.lease_id))?;
            let next = LeaseRef {
                task: lease.task,
                epoch: lease.epoch,
                lease_id: lease.lease_id,
            };
            Some(ResumedLease {
                earlier: Some(survivor.lease.into()),
                lease: Some(next.into()),
            })
        });
        Ok(resumed.collect())
    }
}
