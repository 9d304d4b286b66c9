//! One stream of the control link, from its welcome to its end.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use taskyard_proto::v1;
use taskyard_proto::v1::attach_request::Message as Up;
use taskyard_proto::v1::attach_response::Message as Down;
use taskyard_telemetry::metrics::table;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};
use tonic::Streaming;

use super::control::{ControlEvent, ControlLink, StreamEnd, failed, slots_to_wire};
use super::convert::{duration_from_wire, lease_from_wire, lease_to_wire, offer_from_wire, signed};
use crate::boot_time::BootTime;
use crate::lease::SignalOrder;

const LEAVE_TIMEOUT: Duration = Duration::from_millis(500);
const HEARTBEATS_REMEMBERED_MAX: usize = 16;
/// A stream from which nothing came for so long is deaf: the server pings more than twice in the time. Answers to
/// heartbeats may be late for as long as its database is away.
const SILENCE: Duration = Duration::from_secs(12);

/// One stream after its welcome.
pub(super) struct AttachedStream<'a> {
    pub(super) link: &'a mut ControlLink,
    pub(super) up: mpsc::Sender<v1::AttachRequest>,
    pub(super) down: Streaming<v1::AttachResponse>,
    pub(super) interval: Duration,
    /// Offers of this boot that came down on earlier streams.
    pub(super) offers_before: u64,
    /// Heartbeats that are not acknowledged yet, oldest first.
    pub(super) sent: VecDeque<SentHeartbeat>,
    pub(super) next_number: i64,
}

pub(super) struct SentHeartbeat {
    number: i64,
    at: BootTime,
    complete: bool,
    /// Whether it was counted as late, its answer or not.
    is_late: bool,
}

impl SentHeartbeat {
    /// Counts it as late, once, if it waits, or has waited, for longer than an interval.
    fn count_if_late(&mut self, now: BootTime, interval: Duration) {
        if !self.is_late && now.saturating_since(self.at) > interval {
            self.is_late = true;
            table::WORKER_HEARTBEATS.add(1, &["late"]);
        }
    }
}

impl AttachedStream<'_> {
    /// Serves the stream to its end.
    pub(super) async fn serve(mut self) -> Result<std::convert::Infallible, StreamEnd> {
        // Interval ticks are taken up again after a delay, never in a burst.
        let mut beat = tokio::time::interval(self.interval);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut deaf_at = Instant::now() + SILENCE;
        let mut first = true;
        let mut said_goodbye = false;
        let events = self.link.events.clone();
        loop {
            tokio::select! {
                // The beat comes first so that a flood from below cannot starve it.
                biased;
                _ = beat.tick() => {
                    // The first one also tells a server that just took over what is held.
                    self.send_heartbeat(std::mem::take(&mut first)).await?;
                }
                () = tokio::time::sleep_until(deaf_at) => return Err(StreamEnd::Deaf),
                () = events.closed() => {
                    if self.link.leaving.is_cancelled() {
                        self.leave(said_goodbye).await?;
                    }
                    return Err(StreamEnd::Abandoned);
                }
                () = self.link.leaving.cancelled(), if !said_goodbye => {
                    said_goodbye = true;
                    self.send(Up::Goodbye(v1::Goodbye {})).await?;
                }
                changed = self.link.slots.changed() => {
                    changed.map_err(|_| StreamEnd::Abandoned)?;
                    self.send_slots().await?;
                }
                message = self.down.message() => {
                    let message = message.map_err(failed)?.ok_or(StreamEnd::Closed)?;
                    deaf_at = Instant::now() + SILENCE;
                    self.receive(message).await?;
                }
            }
        }
    }

    /// Says what is left to say and waits, for a moment, until the other side has heard it.
    async fn leave(mut self, said_goodbye: bool) -> Result<(), StreamEnd> {
        if !said_goodbye {
            self.send(Up::Goodbye(v1::Goodbye {})).await?;
        }
        drop(self.up);
        let ended = async { while let Ok(Some(_)) = self.down.message().await {} };
        // Whoever does not close its side in time has had the time to read.
        let _ = tokio::time::timeout(LEAVE_TIMEOUT, ended).await;
        Ok(())
    }

    async fn receive(&mut self, message: v1::AttachResponse) -> Result<(), StreamEnd> {
        match message.message {
            Some(Down::Offer(offer)) => self.receive_offer(offer).await,
            Some(Down::Cancel(cancel)) => self.cancel(cancel).await,
            Some(Down::Signal(signal)) => self.signal(signal).await,
            Some(Down::Drop(drop)) => self.drop_lease(drop).await,
            Some(Down::HeartbeatAck(ack)) => self.acknowledged(ack).await,
            Some(Down::Ping(ping)) => {
                self.send(Up::Pong(v1::Pong {
                    number: ping.number,
                }))
                .await
            }
            Some(Down::Drain(drain)) => Err(StreamEnd::Drained {
                reason: drain.reason,
            }),
            Some(Down::Welcome(_)) => Err(StreamEnd::Protocol),
            // A message of a newer protocol.
            None => Ok(()),
        }
    }

    async fn receive_offer(&mut self, offer: v1::Offer) -> Result<(), StreamEnd> {
        self.link.offers_received += 1;
        let event = match offer_from_wire(offer) {
            Ok(offer) if self.link.held.insert(&offer.lease) => {
                ControlEvent::Offer(Box::new(offer))
            }
            Ok(_) => ControlEvent::IdleOffer,
            Err(error) => {
                tracing::warn!(%error, "an offer cannot be understood");
                ControlEvent::IdleOffer
            }
        };
        self.link.tell(event).await
    }

    async fn send_slots(&mut self) -> Result<(), StreamEnd> {
        let slots = *self.link.slots.borrow_and_update();
        let counted_on_this_stream = slots.offers_counted.saturating_sub(self.offers_before);
        self.send(Up::Slots(v1::Slots {
            free: slots_to_wire(slots.free),
            offers_received: Some(signed(counted_on_this_stream)),
        }))
        .await
    }

    async fn acknowledged(&mut self, ack: v1::HeartbeatAck) -> Result<(), StreamEnd> {
        // What is lost or to be stopped is told first, so that the renewal that follows does not reach it.
        for drop in ack.drops {
            self.drop_lease(drop).await?;
        }
        for cancel in ack.cancels {
            self.cancel(cancel).await?;
        }
        for signal in ack.signals {
            self.signal(signal).await?;
        }
        let Some(place) = self.sent.iter().position(|sent| sent.number == ack.number) else {
            return Ok(());
        };
        self.count_late();
        // an answer answers those before as well
        table::WORKER_HEARTBEATS.add(place as u64 + 1, &["acknowledged"]);
        let heartbeat = self.sent.drain(..=place).next_back();
        // Where the sets differ, a lease may be lost that the answer could not name: only the answer to the whole set
        // renews.
        if let Some(heartbeat) = heartbeat.filter(|heartbeat| heartbeat.complete || !ack.send_held)
        {
            self.link.renewed.send_if_modified(|renewed| {
                let newer = renewed.is_none_or(|before| before < heartbeat.at);
                if newer {
                    *renewed = Some(heartbeat.at);
                }
                newer
            });
        }
        if ack.send_held {
            self.send_heartbeat(true).await
        } else {
            Ok(())
        }
    }

    fn count_late(&mut self) {
        let now = BootTime::now();
        for sent in &mut self.sent {
            sent.count_if_late(now, self.interval);
        }
    }

    async fn cancel(&mut self, cancel: v1::CancelLease) -> Result<(), StreamEnd> {
        match lease_from_wire(cancel.lease.as_ref()) {
            Ok(lease) => {
                let grace = cancel.grace.as_ref().and_then(duration_from_wire);
                let signal = (cancel.signal != 0).then_some(cancel.signal);
                let event = ControlEvent::Cancel {
                    lease,
                    grace,
                    signal,
                };
                self.link.tell(event).await
            }
            Err(error) => {
                tracing::warn!(%error, "a cancel cannot be understood");
                Ok(())
            }
        }
    }

    async fn signal(&mut self, signal: v1::SignalLease) -> Result<(), StreamEnd> {
        match lease_from_wire(signal.lease.as_ref()) {
            Ok(lease) => {
                let order = SignalOrder {
                    number: signal.number,
                    signal: signal.signal,
                    received_at: Instant::now(),
                    root_only: signal.target() == v1::SignalTarget::Root,
                };
                self.link.tell(ControlEvent::Signal { lease, order }).await
            }
            Err(error) => {
                tracing::warn!(%error, "a signal cannot be understood");
                Ok(())
            }
        }
    }

    async fn drop_lease(&mut self, drop: v1::DropLease) -> Result<(), StreamEnd> {
        match lease_from_wire(drop.lease.as_ref()) {
            Ok(lease) => self.link.tell(ControlEvent::Drop(lease)).await,
            Err(error) => {
                tracing::warn!(%error, "a drop cannot be understood");
                Ok(())
            }
        }
    }

    async fn send_heartbeat(&mut self, complete: bool) -> Result<(), StreamEnd> {
        let summary = self.link.held.summary();
        let held = if complete {
            self.link.held.all()
        } else {
            Vec::new()
        };
        // those that get no answer at all are told of as well
        self.count_late();
        table::WORKER_HEARTBEATS.add(1, &["sent"]);
        let number = self.next_number;
        self.next_number += 1;
        if self.sent.len() == HEARTBEATS_REMEMBERED_MAX {
            self.sent.pop_front();
        }
        // The time is taken before the sending: the lease may count from here, never from later.
        self.sent.push_back(SentHeartbeat {
            number,
            at: BootTime::now(),
            complete,
            is_late: false,
        });
        self.send(Up::Heartbeat(v1::Heartbeat {
            number,
            held_count: i32::try_from(summary.count).unwrap_or(i32::MAX),
            held_digest: Bytes::copy_from_slice(&summary.digest),
            held: held.iter().map(lease_to_wire).collect(),
            held_is_complete: complete,
        }))
        .await
    }

    /// A stream that takes nothing for a whole interval is as good as deaf.
    async fn send(&mut self, message: Up) -> Result<(), StreamEnd> {
        let sending = self.up.send(v1::AttachRequest {
            message: Some(message),
        });
        match tokio::time::timeout(self.interval, sending).await {
            Ok(sent) => sent.map_err(|_| StreamEnd::Closed),
            Err(_) => Err(StreamEnd::Deaf),
        }
    }
}
