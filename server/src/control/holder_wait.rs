//! The holder of a lease waits for news of its run.

use super::{lease_ref::LeaseRef, refusal::Refusal, wire_time::duration_field};
use crate::{
    app::App,
    events::{Touched, WorkerTouches},
    store::task_input,
};
use std::time::Duration;
use taskyard_core::id::WorkerSessionId;
use taskyard_proto::v1::Lease;
use tokio::time::{Instant, timeout};

/// Longest wait.
const MAX_WAIT: Duration = Duration::from_secs(30);
/// How often is looked where nothing was heard.
const POLL: Duration = Duration::from_secs(1);

/// A wait, which hears from its begin on.
pub struct HolderWait<'a> {
    app: &'a App,
    /// The lease.
    pub lease: LeaseRef,
    run: i32,
    until: Instant,
    touches: WorkerTouches,
}

impl<'a> HolderWait<'a> {
    /// Begins a wait as a request asks for it, before the first look, so that nothing is missed in between.
    ///
    /// # Errors
    /// [`Refusal::InvalidField`].
    pub fn begin(
        app: &'a App,
        lease: Option<&Lease>,
        run: i32,
        wait: Option<&prost_types::Duration>,
    ) -> Result<Self, Refusal> {
        let wait = duration_field("wait", wait, Duration::ZERO, MAX_WAIT)?.unwrap_or_default();
        let lease = lease.ok_or_else(|| Refusal::invalid("lease", "is required"))?;
        Ok(Self {
            app,
            lease: LeaseRef::try_from(lease)?,
            run,
            until: Instant::now() + wait,
            touches: app.events.subscribe_workers(),
        })
    }

    /// The worker that holds the lease.
    ///
    /// # Errors
    /// [`Refusal::LeaseLost`], [`Refusal::Store`].
    pub async fn holder(&self) -> Result<WorkerSessionId, Refusal> {
        let LeaseRef {
            task,
            epoch,
            lease_id,
        } = self.lease;
        task_input::find_holder(self.app.store.pool(), task, epoch, lease_id, self.run)
            .await?
            .ok_or(Refusal::LeaseLost)
    }

    /// Whether the time is up.
    #[must_use]
    pub fn is_over(&self) -> bool {
        Instant::now() >= self.until
    }

    /// Waits until it is worth another look: the worker was touched, or a poll is due.
    ///
    /// # Errors
    /// [`Refusal::ShuttingDown`].
    pub async fn next_look(&mut self, worker: WorkerSessionId) -> Result<(), Refusal> {
        let next_look = self.until.min(Instant::now() + POLL);
        let touched = async {
            loop {
                match self.touches.touched().await {
                    Touched::One(touched) if touched != worker => {}
                    Touched::One(_) | Touched::All => return,
                }
            }
        };
        tokio::select! {
            () = self.app.shutdown.cancelled() => Err(Refusal::ShuttingDown),
            // either way it is looked again
            _ = timeout(next_look.saturating_duration_since(Instant::now()), touched) => Ok(()),
        }
    }
}
