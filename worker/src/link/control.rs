//! The control link: attached for as long as the worker lives, again and again.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use taskyard_proto::v1;
use taskyard_proto::v1::attach_request::Message as Up;
use taskyard_proto::v1::attach_response::Message as Down;
use taskyard_proto::v1::worker_service_client::WorkerServiceClient;
use taskyard_telemetry::metrics::table;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use super::convert::{duration_from_wire, lease_from_wire};
use super::earlier::{EarlierLeases, ResumedLease};
use super::stream::AttachedStream;
use super::trouble::{Refused, Troubles};
use crate::access::AuthorizedChannel;
use crate::boot_time::BootTime;
use crate::lease::{HeldLeases, Lease, Offer, SignalOrder};
use crate::recent::RecentResults;

const PROTOCOL: i32 = 1;
/// What this worker can beyond the protocol: it reads what goes on from the welcome.
const FEATURES: [&str; 1] = ["reattach"];
const WELCOME_TIMEOUT: Duration = Duration::from_secs(10);
const UP_MESSAGES_MAX: usize = 32;
const HEARTBEAT_INTERVAL_DEFAULT: Duration = Duration::from_secs(5);
const HEARTBEAT_INTERVAL_MIN: Duration = Duration::from_millis(20);
const HEARTBEAT_INTERVAL_MAX: Duration = Duration::from_secs(60);

/// Who the worker is.
#[derive(Debug, Clone)]
pub struct Identity {
    pub name: String,
    /// Random id of this boot.
    pub instance_id: [u8; 16],
    pub state_id: [u8; 16],
    pub queues: Vec<String>,
    pub kinds: Vec<String>,
    pub labels: BTreeMap<String, String>,
    pub slots: u32,
}

/// What comes down the link. Renewals come by their own way, see [`ControlLink::renewed`].
#[derive(Debug)]
pub enum ControlEvent {
    /// A hello was accepted. What goes on is counted among the held leases; other runs of the boot before are lost.
    Attached {
        resumed: Vec<ResumedLease>,
        /// Recent results that the store may not know: it is another one than acknowledged them. Counted among the held
        /// leases, too.
        untold: Vec<Lease>,
    },
    /// Already counted among the held leases.
    Offer(Box<Offer>),
    /// An offer of what is held already, or one that cannot be understood. Nothing is to be done but to count it.
    IdleOffer,
    /// Stop the work of a lease; without a grace, with that of its spec; without a signal, by TERM.
    Cancel {
        lease: Lease,
        grace: Option<Duration>,
        signal: Option<i32>,
    },
    /// Send a signal to the process of a lease.
    Signal { lease: Lease, order: SignalOrder },
    /// The lease is lost.
    Drop(Lease),
}

/// What goes up as slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotsState {
    /// Offers that can be taken now.
    pub free: u32,
    /// Offers of this boot that `free` takes into account; what the link received beyond them is still to be counted.
    pub offers_counted: u64,
}

/// The link and everything that it tells and asks.
#[derive(Debug)]
pub struct ControlLink {
    pub channel: AuthorizedChannel,
    pub identity: Identity,
    pub earlier: EarlierLeases,
    /// Results that were acknowledged not long ago: hellos name them, for the store may be a copy by now in which their
    /// leases are held.
    pub recents: RecentResults,
    pub held: HeldLeases,
    /// Each change goes up.
    pub slots: watch::Receiver<SlotsState>,
    pub events: mpsc::Sender<ControlEvent>,
    /// When the newest heartbeat that was acknowledged was sent: every lease lasts from there.
    pub renewed: watch::Sender<Option<BootTime>>,
    /// Cancelled: say goodbye, but stay attached.
    pub leaving: CancellationToken,
    /// Offers that came down in this boot.
    pub offers_received: u64,
    /// Whether there is a stream now.
    pub attached: watch::Sender<bool>,
}

/// Why a stream was left.
#[derive(Debug, thiserror::Error)]
pub(super) enum StreamEnd {
    #[error("cannot attach {0}")]
    Failed(Refused),
    #[error("no welcome came in time")]
    NoWelcome,
    #[error("the first message is no welcome")]
    Protocol,
    #[error("nothing was heard for too long")]
    Deaf,
    #[error("the control plane closed the stream")]
    Closed,
    #[error("the control plane asks to attach elsewhere: {reason}")]
    Drained { reason: String },
    #[error("the worker itself is ending")]
    Abandoned,
}

impl ControlLink {
    /// Attaches and attaches again. It ends only with whoever listens to its events.
    pub async fn run(mut self) {
        let mut troubles = Troubles::new();
        loop {
            let mut welcomed = None;
            let Err(end) = self.attach(&mut welcomed).await;
            self.attached.send_replace(false);
            table::WORKER_ATTACHED.set(0, &[]);
            if let StreamEnd::Abandoned = end {
                return;
            }
            let refused = match &end {
                StreamEnd::Failed(refused) => Some(refused),
                StreamEnd::NoWelcome
                | StreamEnd::Protocol
                | StreamEnd::Deaf
                | StreamEnd::Closed
                | StreamEnd::Drained { .. }
                | StreamEnd::Abandoned => None,
            };
            let is_invalid =
                refused.is_some_and(|refused| refused.code == tonic::Code::InvalidArgument);
            if is_invalid && welcomed.is_none() {
                self.earlier.forsake_running();
            }
            // a stream that was served may end for its credential, which has its successor in the file
            let is_denied = welcomed.is_none() && refused.is_some_and(Refused::is_denial);
            if let Some(heartbeat_interval) = welcomed {
                troubles.welcomed(heartbeat_interval);
            }
            if let StreamEnd::Drained { reason } = &end {
                tracing::info!(
                    worker.name = self.identity.name,
                    reason,
                    "the control plane asks to attach again"
                );
            } else if troubles.is_news(refused, &end.to_string()) {
                if refused.is_some_and(Refused::is_planned_end) {
                    tracing::info!(worker.name = self.identity.name, reason = %end, "the control plane asks to attach again");
                } else {
                    tracing::warn!(worker.name = self.identity.name, reason = %end, "not attached to the control plane; trying on");
                }
            }
            let is_holding = self.held.summary().count > 0;
            tokio::select! {
                () = tokio::time::sleep(troubles.next_wait(is_denied, is_holding)) => {}
                () = self.events.closed() => return,
            }
        }
    }

    /// One stream, from its hello to its end; `welcomed` gets the interval of its heartbeats, if it comes so far.
    async fn attach(
        &mut self,
        welcomed: &mut Option<Duration>,
    ) -> Result<std::convert::Infallible, StreamEnd> {
        let hello_sent_at = BootTime::now();
        let (up, down, welcome) = tokio::time::timeout(WELCOME_TIMEOUT, self.say_hello())
            .await
            .unwrap_or(Err(StreamEnd::NoWelcome))?;
        self.attached.send_replace(true);
        table::WORKER_ATTACHED.set(1, &[]);
        table::WORKER_ATTACHES.add(1, &[]);
        self.earlier.settle();
        self.renewed.send_if_modified(|renewed| {
            let first = renewed.is_none();
            renewed.get_or_insert(hello_sent_at);
            first
        });
        tracing::info!(
            worker.name = self.identity.name,
            worker.session_id = welcome.worker_session_id,
            attach_no = welcome.attach_no,
            "attached to the control plane"
        );
        let interval = welcome
            .heartbeat_interval
            .as_ref()
            .and_then(duration_from_wire);
        let interval = interval
            .unwrap_or(HEARTBEAT_INTERVAL_DEFAULT)
            .clamp(HEARTBEAT_INTERVAL_MIN, HEARTBEAT_INTERVAL_MAX);
        *welcomed = Some(interval);
        // Before the first heartbeat: what that does not name is lost.
        let resumed = self.resumed(&welcome);
        let untold = self.recents.learn_store(&welcome.store_id);
        if !untold.is_empty() {
            tracing::warn!(
                store = welcome.store_id,
                count = untold.len(),
                "the store is another one; recent results are told again"
            );
        }
        for lease in &untold {
            self.held.insert(lease);
        }
        self.tell(ControlEvent::Attached { resumed, untold })
            .await?;
        let offers_before = self.offers_received;
        let sent = VecDeque::new();
        AttachedStream {
            link: self,
            up,
            down,
            interval,
            offers_before,
            sent,
            next_number: 1,
        }
        .serve()
        .await
    }

    fn resumed(&self, welcome: &v1::Welcome) -> Vec<ResumedLease> {
        let mut resumed = Vec::new();
        for entry in &welcome.resumed {
            let leases = lease_from_wire(entry.earlier.as_ref())
                .and_then(|earlier| Ok((earlier, lease_from_wire(entry.lease.as_ref())?)));
            match leases {
                Ok((earlier, lease)) => {
                    self.held.insert(&lease);
                    resumed.push(ResumedLease { earlier, lease });
                }
                Err(error) => tracing::warn!(%error, "a run that goes on cannot be understood"),
            }
        }
        resumed
    }

    async fn say_hello(
        &mut self,
    ) -> Result<
        (
            mpsc::Sender<v1::AttachRequest>,
            Streaming<v1::AttachResponse>,
            v1::Welcome,
        ),
        StreamEnd,
    > {
        let (up, requests) = mpsc::channel(UP_MESSAGES_MAX);
        let hello = v1::AttachRequest {
            message: Some(Up::Hello(self.hello())),
        };
        up.send(hello).await.map_err(|_| StreamEnd::Closed)?;
        let mut client = WorkerServiceClient::new(self.channel.clone());
        let mut down = client
            .attach(ReceiverStream::new(requests))
            .await
            .map_err(failed)?
            .into_inner();
        let first = down
            .message()
            .await
            .map_err(failed)?
            .ok_or(StreamEnd::Closed)?;
        match first.message {
            Some(Down::Welcome(welcome)) => Ok((up, down, welcome)),
            Some(Down::Drain(drain)) => Err(StreamEnd::Drained {
                reason: drain.reason,
            }),
            Some(
                Down::Offer(_)
                | Down::Cancel(_)
                | Down::Drop(_)
                | Down::Signal(_)
                | Down::HeartbeatAck(_)
                | Down::Ping(_),
            )
            | None => Err(StreamEnd::Protocol),
        }
    }

    fn hello(&mut self) -> v1::Hello {
        let identity = &self.identity;
        v1::Hello {
            name: identity.name.clone(),
            instance_id: Bytes::copy_from_slice(&identity.instance_id),
            state_id: Bytes::copy_from_slice(&identity.state_id),
            protocol_min: PROTOCOL,
            protocol_max: PROTOCOL,
            features: FEATURES.map(str::to_owned).to_vec(),
            queues: identity.queues.clone(),
            kinds: identity.kinds.clone(),
            executors: Vec::new(),
            labels: identity.labels.clone().into_iter().collect(),
            slots: slots_to_wire(identity.slots),
            free_slots: slots_to_wire(self.slots.borrow_and_update().free),
            held: self.earlier.to_wire(&self.recents.leases()),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    pub(super) async fn tell(&self, event: ControlEvent) -> Result<(), StreamEnd> {
        self.events
            .send(event)
            .await
            .map_err(|_| StreamEnd::Abandoned)
    }
}

pub(super) fn failed(status: Status) -> StreamEnd {
    StreamEnd::Failed(Refused::of(&status))
}

pub(super) fn slots_to_wire(slots: u32) -> i32 {
    i32::try_from(slots).unwrap_or(i32::MAX)
}
