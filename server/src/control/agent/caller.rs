//! Who calls from inside a task.

use crate::{
    app::App,
    commit::{Change, Changed, CommitError, Content},
    control::{lease_ref::LeaseRef, refusal::Refusal},
    store::files,
};
use taskyard_core::{
    id::{SessionUid, TaskId},
    task::{Event, Fence, Rejected},
};

/// The attempt on whose behalf a call is made.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    lease: LeaseRef,
    session: SessionUid,
}

impl Caller {
    /// Admits a call whose lease is held.
    ///
    /// # Errors
    /// [`Refusal::LeaseLost`], [`Refusal::Store`].
    pub async fn admit(app: &App, lease: LeaseRef) -> Result<Self, Refusal> {
        let pool = app.store.pool();
        let session =
            files::session_of_lease(pool, lease.task, lease.epoch, lease.lease_id).await?;
        Ok(Self {
            lease,
            session: session.ok_or(Refusal::LeaseLost)?,
        })
    }

    /// The task that the caller runs in.
    #[must_use]
    pub fn task(&self) -> TaskId {
        self.lease.task
    }

    /// Its session.
    #[must_use]
    pub fn session(&self) -> SessionUid {
        self.session
    }

    /// Its lease.
    #[must_use]
    pub fn lease(&self) -> LeaseRef {
        self.lease
    }

    /// What its changes are compared with.
    #[must_use]
    pub fn fence(&self) -> Fence {
        Fence {
            epoch: self.lease.epoch,
            lease_id: self.lease.lease_id,
            item_no: None,
        }
    }

    /// Changes the task that the caller runs in.
    pub(super) async fn change(
        &self,
        app: &App,
        event: Event,
        content: Content,
    ) -> Result<Changed, CommitError> {
        let change = Change::new(self.task(), event, content);
        app.commits.change(self.session, change).await
    }
}

/// A refused change, as the caller is told: whoever runs inside a task that has ended holds it no more.
pub(super) fn refused(error: CommitError) -> Refusal {
    match error {
        CommitError::Rejected {
            rejected: Rejected::Terminal,
            ..
        }
        | CommitError::NotFound => Refusal::LeaseLost,
        error => error.into(),
    }
}
