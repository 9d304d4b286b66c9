//! Heartbeats: one row is renewed, whatever the number of leases; the answer lists exceptions only.

use super::{attach, lease_ref::LeaseRef, refusal::Refusal};
use crate::{
    app::App,
    store::{
        claim::{self, HeldLease},
        identity,
        records::duration_from_ms,
        task_signals,
        workers::{self, Attachment},
    },
};
use std::collections::HashSet;
use std::time::Duration;
use taskyard_core::{id::LeaseId, task::Loss};
use taskyard_proto::v1::{
    CancelLease, DropLease, Heartbeat, HeartbeatAck, SignalLease, SignalTarget,
};

/// How long whoever sends a signal waits for its outcome; after that it is not sent any more.
pub(super) const SIGNAL_AGE: Duration = Duration::from_secs(10);
/// Signals that one worker is told of at once; the others come when these are confirmed.
const MAX_SIGNALS: i64 = 256;

/// Running leases of a worker that the last complete set on its stream did not name.
///
/// A set that was slow on its way may be older than a lease that was offered and started since. Only a set that was
/// sent after the question for it, and so after the start, proves that the worker does not hold the lease.
pub type Unnamed = HashSet<LeaseId>;

/// Renews a worker's leases and says which of them are to be stopped or are lost. `unnamed` is what the stream keeps
/// from one heartbeat to the next; `store_id` what its welcome said.
///
/// # Errors
/// [`Refusal::WorkerSessionLost`] if the session is over or a newer stream has taken this one's place;
/// [`Refusal::InvalidField`], or what the store says.
pub async fn heartbeat(
    app: &App,
    stream: Attachment,
    heartbeat: Heartbeat,
    store_id: &str,
    unnamed: &mut Unnamed,
) -> Result<HeartbeatAck, Refusal> {
    if !workers::renew(app.store.pool(), stream).await? {
        return Err(Refusal::WorkerSessionLost);
    }
    let leases = claim::list_leases(app.store.pool(), &[stream.worker]).await?;
    let mut ack = HeartbeatAck {
        number: heartbeat.number,
        cancels: cancels(&leases),
        signals: pending_signals(app, stream).await?,
        ..HeartbeatAck::default()
    };
    if heartbeat.held_is_complete {
        let held = heartbeat
            .held
            .iter()
            .map(LeaseRef::try_from)
            .collect::<Result<Vec<_>, Refusal>>()?;
        let known: HashSet<LeaseId> = leases.iter().map(|lease| lease.lease_id).collect();
        ack.drops = held
            .iter()
            .filter(|lease| !known.contains(&lease.lease_id))
            .map(|lease| DropLease {
                lease: Some((*lease).into()),
            })
            .collect();
        let named: HashSet<LeaseId> = held.iter().map(|lease| lease.lease_id).collect();
        let missing = leases
            .iter()
            .filter(|lease| !lease.is_offered && !named.contains(&lease.lease_id));
        let (lost, in_doubt): (Vec<&HeldLease>, Vec<&HeldLease>) =
            missing.partition(|lease| unnamed.contains(&lease.lease_id));
        if !lost.is_empty() {
            let present = identity::store_identity(&app.store).await?;
            if present != store_id {
                // The worker has told these ends to a store that was replaced by a copy, and does not know of it yet: its
                // stream ends now, and when it is back it tells them again.
                app.events.notice_store(present);
                ack.send_held = true;
                return Ok(ack);
            }
        }
        let lost: Vec<_> = lost.into_iter().map(|lease| (*lease, Loss::Gone)).collect();
        attach::lose(app, &lost).await?;
        ack.send_held = !in_doubt.is_empty();
        *unnamed = in_doubt.into_iter().map(|lease| lease.lease_id).collect();
    } else {
        ack.send_held = !agrees(&leases, &heartbeat);
    }
    Ok(ack)
}

/// What a worker must be told at once: the cancels of the leases it holds.
///
/// # Errors
/// What the store says.
pub async fn pending_cancels(app: &App, stream: Attachment) -> Result<Vec<CancelLease>, Refusal> {
    let leases = claim::list_leases(app.store.pool(), &[stream.worker]).await?;
    Ok(cancels(&leases))
}

/// Signals for the processes of the leases that it holds.
///
/// # Errors
/// What the store says.
pub async fn pending_signals(app: &App, stream: Attachment) -> Result<Vec<SignalLease>, Refusal> {
    let pending =
        task_signals::list_signals(app.store.pool(), stream.worker, SIGNAL_AGE, MAX_SIGNALS);
    let signals = pending.await?.into_iter().map(|signal| {
        let lease = LeaseRef {
            task: signal.task,
            epoch: signal.epoch,
            lease_id: signal.lease_id,
        };
        let target = if signal.root_only {
            SignalTarget::Root
        } else {
            SignalTarget::Group
        };
        SignalLease {
            lease: Some(lease.into()),
            number: signal.number,
            signal: i32::from(signal.signal),
            target: target.into(),
        }
    });
    Ok(signals.collect())
}

fn cancels(leases: &[HeldLease]) -> Vec<CancelLease> {
    leases
        .iter()
        .filter_map(|lease| {
            let grace = lease.cancel?;
            Some(CancelLease {
                lease: Some(
                    LeaseRef {
                        task: lease.task,
                        epoch: lease.epoch,
                        lease_id: lease.lease_id,
                    }
                    .into(),
                ),
                grace: grace.map(duration_from_ms),
                signal: lease.cancel_signal.map_or(0, i32::from),
            })
        })
        .collect()
}

/// Whether count and digest are those of the leases that the store knows. Offers that are on their way, or that the
/// worker has not counted yet, make them differ for a moment; the full set then settles it.
fn agrees(leases: &[HeldLease], heartbeat: &Heartbeat) -> bool {
    let digest = |include_offers: bool| {
        leases
            .iter()
            .filter(|lease| include_offers || !lease.is_offered)
            .fold((0, 0u128), |(count, digest), lease| {
                (count + 1, digest ^ lease.lease_id.0)
            })
    };
    let stated =
        <[u8; 16]>::try_from(heartbeat.held_digest.as_ref()).map_or(0, u128::from_be_bytes);
    [true, false]
        .into_iter()
        .any(|include_offers| digest(include_offers) == (heartbeat.held_count, stated))
}
