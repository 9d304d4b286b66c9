//! `ConfirmSignal`: a worker says what became of a signal.

use super::{lease_ref::LeaseRef, refusal::Refusal};
use crate::{
    app::App,
    store::task_signals::{self, Outcome},
};
use taskyard_proto::v1::{ConfirmSignalRequest, SignalOutcome};

/// Notes the outcome, for whoever sent the signal. One that nobody waits for any more is no error.
///
/// # Errors
/// [`Refusal::InvalidField`], [`Refusal::Store`].
pub async fn confirm_signal(app: &App, request: &ConfirmSignalRequest) -> Result<(), Refusal> {
    let lease = request
        .lease
        .as_ref()
        .ok_or_else(|| Refusal::invalid("lease", "is required"))?;
    let lease = LeaseRef::try_from(lease)?;
    let outcome = match SignalOutcome::try_from(request.outcome) {
        Ok(SignalOutcome::Delivered) => Outcome::Delivered,
        Ok(SignalOutcome::NotRunning | SignalOutcome::Unspecified) => Outcome::NotRunning,
        Err(_) => return Err(Refusal::invalid("outcome", "is no known outcome")),
    };
    let number = request.number;
    let worker =
        task_signals::confirm_signal(app.store.pool(), number, lease.lease_id, outcome).await?;
    if let Some(worker) = worker {
        app.events.worker_touched(worker);
    }
    Ok(())
}
