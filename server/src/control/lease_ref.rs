//! Which lease a worker speaks for.

use super::refusal::Refusal;
use taskyard_core::id::{Epoch, LeaseId, TaskId};
use taskyard_proto::v1::Lease;

/// A lease as a worker names it. Every write of a worker is compared with both its epoch and its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LeaseRef {
    /// The task.
    pub task: TaskId,
    /// Which of the task's leases.
    pub epoch: Epoch,
    /// Its random id.
    pub lease_id: LeaseId,
}

impl TryFrom<&Lease> for LeaseRef {
    type Error = Refusal;

    /// # Errors
    /// [`Refusal::InvalidField`] for what can be no lease.
    fn try_from(lease: &Lease) -> Result<Self, Refusal> {
        let task = lease
            .task_id
            .parse()
            .map_err(|problem: taskyard_core::id::NotATaskId| {
                Refusal::invalid("lease.task_id", problem.to_string())
            })?;
        if lease.epoch < 1 {
            return Err(Refusal::invalid("lease.epoch", "epochs count from 1"));
        }
        let lease_id = <[u8; 16]>::try_from(lease.lease_id.as_ref())
            .map_err(|_| Refusal::invalid("lease.lease_id", "a lease id has 16 bytes"))?;
        Ok(Self {
            task,
            epoch: Epoch(lease.epoch),
            lease_id: LeaseId(u128::from_be_bytes(lease_id)),
        })
    }
}

impl From<LeaseRef> for Lease {
    fn from(lease: LeaseRef) -> Self {
        Self {
            task_id: lease.task.to_string(),
            epoch: lease.epoch.0,
            lease_id: lease.lease_id.0.to_be_bytes().to_vec().into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_survives_the_wire() {
        let lease = LeaseRef {
            task: TaskId(7),
            epoch: Epoch(3),
            lease_id: LeaseId(0xff00),
        };
        assert_eq!(LeaseRef::try_from(&Lease::from(lease)).ok(), Some(lease));
    }

    #[test]
    fn what_can_be_no_lease_is_refused() {
        let good = Lease::from(LeaseRef {
            task: TaskId(7),
            epoch: Epoch(1),
            lease_id: LeaseId(1),
        });
        let bad = [
            Lease {
                task_id: "t1".to_owned(),
                ..good.clone()
            },
            Lease {
                epoch: 0,
                ..good.clone()
            },
            Lease {
                lease_id: vec![1; 15].into(),
                ..good
            },
        ];
        for lease in bad {
            assert!(LeaseRef::try_from(&lease).is_err(), "{lease:?}");
        }
    }
}
