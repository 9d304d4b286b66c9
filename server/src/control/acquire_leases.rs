//! AcquireLeases: one call that attaches, renews and waits for offers, for workers without a stream.

use super::{
    attach,
    heartbeat::{self, Unnamed},
    refusal::Refusal,
    wire_time::duration_field,
};
use crate::{
    app::App,
    dispatch::{DOWNLINK_CAPACITY, Registry},
    identity::Identity,
    store::workers::Attachment,
};
use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};
use taskyard_proto::v1::{
    AcquireLeasesRequest, AcquireLeasesResponse, AttachResponse, CancelLease, Heartbeat, Offer,
    SignalLease, attach_response,
};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout_at},
};

/// Longest wait for an offer.
const MAX_WAIT: Duration = Duration::from_secs(30);
/// Number of a boot's first stream.
const FIRST: i64 = 1;
/// Most offers of one answer: each carries a spec of up to 64 KiB.
const MAX_OFFERS: i32 = 32;

/// Attaches, renews, waits for the first offer, and takes with it what came at the same moment. `attached` is told as
/// soon as the worker is attached whether that was the first time for its boot.
///
/// # Errors
/// [`Refusal::InvalidField`], [`Refusal::ProtocolMismatch`], [`Refusal::ShuttingDown`], or what the store says.
pub async fn acquire_leases(
    app: &App,
    identity: &Identity,
    request: AcquireLeasesRequest,
    attached: impl FnOnce(bool),
) -> Result<AcquireLeasesResponse, Refusal> {
    let wait = duration_field("wait", request.wait.as_ref(), Duration::ZERO, MAX_WAIT)?
        .unwrap_or_default();
    if !(0..=MAX_OFFERS).contains(&request.max_offers) {
        return Err(Refusal::invalid(
            "max_offers",
            format!("must be 0 to {MAX_OFFERS}"),
        ));
    }
    let mut hello = request
        .hello
        .ok_or_else(|| Refusal::invalid("hello", "is required"))?;
    hello.free_slots = request.max_offers;
    let (downlink, mut messages) = mpsc::channel(DOWNLINK_CAPACITY);
    let admitted = attach::attach(app, identity, hello, downlink).await?;
    attached(admitted.stream.attach_no == FIRST);
    let beat = match request.heartbeat {
        Some(beat) => beat,
        None => unstated(app, admitted.stream).await?,
    };
    let store_id = &admitted.welcome.store_id;
    // what one call does not name is asked for again, and never counts as lost
    let mut unnamed = Unnamed::default();
    let mut heartbeat_ack =
        heartbeat::heartbeat(app, admitted.stream, beat, store_id, &mut unnamed).await?;
    let mut offers = Vec::new();
    if request.max_offers > 0 {
        app.registry.add(admitted.worker);
        let _detached = Detach {
            registry: &app.registry,
            stream: admitted.stream,
        };
        let mut cancels = Cancels::default();
        let until = Instant::now() + wait;
        let mut signals = Signals::default();
        while offers.is_empty() && cancels.is_empty() && signals.is_empty() {
            let message = tokio::select! {
                () = app.shutdown.cancelled() => return Err(Refusal::ShuttingDown),
                message = timeout_at(until, messages.recv()) => message,
            };
            let Ok(Some(message)) = message else { break };
            sort(message, &mut offers, &mut cancels, &mut signals);
            while let Ok(message) = messages.try_recv() {
                sort(message, &mut offers, &mut cancels, &mut signals);
            }
        }
        heartbeat_ack.cancels.extend(cancels.into_values());
        heartbeat_ack.signals.extend(signals.into_values());
    }
    Ok(AcquireLeasesResponse {
        welcome: Some(admitted.welcome),
        offers,
        heartbeat_ack: Some(heartbeat_ack),
    })
}

/// Cancels that came during the wait, by lease.
type Cancels = HashMap<Vec<u8>, CancelLease>;

/// Signals that came during the wait, by number.
type Signals = BTreeMap<i64, SignalLease>;

fn sort(
    message: AttachResponse,
    offers: &mut Vec<Offer>,
    cancels: &mut Cancels,
    signals: &mut Signals,
) {
    match message.message {
        Some(attach_response::Message::Offer(offer)) => offers.push(offer),
        Some(attach_response::Message::Cancel(cancel)) => {
            let lease_id = cancel.lease.as_ref().map(|lease| lease.lease_id.to_vec());
            cancels.insert(lease_id.unwrap_or_default(), cancel);
        }
        Some(attach_response::Message::Signal(signal)) => {
            signals.insert(signal.number, signal);
        }
        Some(
            attach_response::Message::Welcome(_)
            | attach_response::Message::Drop(_)
            | attach_response::Message::HeartbeatAck(_)
            | attach_response::Message::Ping(_)
            | attach_response::Message::Drain(_),
        )
        | None => {}
    }
}

/// A heartbeat of a worker that does not say what it holds: it holds what the store thinks.
async fn unstated(app: &App, stream: Attachment) -> Result<Heartbeat, Refusal> {
    let leases = crate::store::claim::list_leases(app.store.pool(), &[stream.worker]).await?;
    let digest = leases
        .iter()
        .fold(0, |digest, lease| digest ^ lease.lease_id.0);
    Ok(Heartbeat {
        held_count: i32::try_from(leases.len()).unwrap_or(i32::MAX),
        held_digest: digest.to_be_bytes().to_vec().into(),
        ..Heartbeat::default()
    })
}

/// Takes the worker off the registry when the call ends, however it ends.
struct Detach<'a> {
    registry: &'a Registry,
    stream: Attachment,
}

impl Drop for Detach<'_> {
    fn drop(&mut self) {
        self.registry.remove(self.stream);
    }
}
