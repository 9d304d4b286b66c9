//! One worker's stream, from its welcome to its end.

use super::ending_body::Reader;
use crate::{
    app::App,
    control::{
        attach::{self, Admitted, Attachment},
        heartbeat::{self, Unnamed},
        refusal::Refusal,
    },
    dispatch::Downlink,
};
use std::{sync::Arc, time::Duration};
use taskyard_proto::v1::{
    AttachRequest, AttachResponse, Drain, Heartbeat, HeartbeatAck, Ping, attach_request,
    attach_response,
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};
use tracing::{info, warn};

/// How often a stream is asked for a sign of life.
const PING_INTERVAL: Duration = Duration::from_secs(5);
/// A stream that says nothing for so long is deaf: it gets no more work and is ended.
const DEAF_AFTER: Duration = Duration::from_secs(20);

/// The server's end of a worker's stream.
pub(super) struct WorkerLink {
    app: Arc<App>,
    stream: Attachment,
    downlink: Downlink,
    reader: Reader,
    /// Cancelled when the connection has its age.
    aged: CancellationToken,
    /// As the welcome tells it.
    store_id: String,
    is_leaving: bool,
    beats: Beats,
}

/// The heartbeats of one stream. Each waits for the database, so they go beside the stream, which goes on: one is under
/// way, and of those that come meanwhile the newest waits.
#[derive(Default)]
struct Beats {
    under_way: JoinSet<(Result<HeartbeatAck, Refusal>, Unnamed)>,
    waiting: Option<Heartbeat>,
    unnamed: Unnamed,
}

impl WorkerLink {
    pub(super) fn new(
        app: &Arc<App>,
        stream: Attachment,
        downlink: Downlink,
        reader: Reader,
        aged: CancellationToken,
    ) -> Self {
        Self {
            app: Arc::clone(app),
            stream,
            downlink,
            reader,
            aged,
            store_id: String::new(),
            is_leaving: false,
            beats: Beats::default(),
        }
    }

    /// Welcomes the worker, registers it and serves its stream; says to `closing` why that ended, if there is a why.
    pub(super) async fn run(
        mut self,
        admitted: Admitted,
        messages: Streaming<AttachRequest>,
        closing: mpsc::Sender<Status>,
    ) {
        let Admitted {
            welcome, worker, ..
        } = admitted;
        self.store_id.clone_from(&welcome.store_id);
        if self.send(attach_response::Message::Welcome(welcome)).await {
            self.app.registry.add(worker);
            if let Err(refusal) = self.serve(messages).await {
                if matches!(refusal, Refusal::ShuttingDown) {
                    info!(worker.session = self.stream.worker.0, reason = %refusal, "worker's stream ended");
                } else if !matches!(refusal, Refusal::ConnectionAged) {
                    warn!(worker.session = self.stream.worker.0, reason = %refusal, "worker's stream ended");
                }
                // one place, and nobody else sends
                let _ = closing.try_send(refusal.into());
            }
            self.app.registry.remove(self.stream);
        }
        if self.is_leaving {
            attach::leave(&self.app, self.stream).await;
        }
        info!(worker.session = self.stream.worker.0, "worker detached");
    }

    async fn serve(&mut self, mut messages: Streaming<AttachRequest>) -> Result<(), Refusal> {
        let mut pings = interval(PING_INTERVAL);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut ping_number = 0;
        let mut heard_at = Instant::now();
        let shutdown = self.app.shutdown.clone();
        let aged = self.aged.clone();
        let downlink = self.downlink.clone();
        let mut identity = self.app.events.identity();
        let welcomed_to = self.store_id.clone();
        loop {
            tokio::select! {
                // nobody reads the answer any more, or its reader's credential has ended
                () = downlink.closed() => return Ok(()),
                () = shutdown.cancelled() => {
                    let reason = "the server is shutting down".to_owned();
                    self.send(attach_response::Message::Drain(Drain { reason })).await;
                    return Err(Refusal::ShuttingDown);
                }
                () = aged.cancelled() => {
                    let reason = "the connection has reached its age".to_owned();
                    self.send(attach_response::Message::Drain(Drain { reason })).await;
                    return Err(Refusal::ConnectionAged);
                }
                () = another_store(&mut identity, &welcomed_to) => {
                    let reason = "the store is another one; attach again to be told which".to_owned();
                    self.send(attach_response::Message::Drain(Drain { reason })).await;
                    return Ok(());
                }
                message = messages.message() => {
                    heard_at = Instant::now();
                    match message {
                        Ok(Some(message)) => self.receive(message).await?,
                        Ok(None) => return Ok(()),
                        Err(status) => {
                            info!(worker.session = self.stream.worker.0, %status, "worker's stream broke");
                            return Ok(());
                        }
                    }
                }
                Some(beaten) = self.beats.under_way.join_next() => {
                    let (ack, unnamed) = beaten.map_err(|_| Refusal::ShuttingDown)?;
                    self.beats.unnamed = unnamed;
                    self.acknowledge(ack).await?;
                    self.beat();
                }
                _ = pings.tick() => {
                    if heard_at.elapsed() > DEAF_AFTER {
                        return Err(Refusal::WorkerSessionLost);
                    }
                    // the answer ends by this, too, but not for who does not read it
                    if !self.reader.is_known() {
                        return Err(Refusal::CredentialEnded);
                    }
                    ping_number += 1;
                    self.send(attach_response::Message::Ping(Ping { number: ping_number })).await;
                }
            }
        }
    }

    async fn receive(&mut self, message: AttachRequest) -> Result<(), Refusal> {
        match message.message {
            Some(attach_request::Message::Slots(slots)) if !self.is_leaving => {
                self.app
                    .registry
                    .set_free(self.stream, slots.free, slots.offers_received);
            }
            Some(attach_request::Message::Slots(_) | attach_request::Message::Pong(_)) => {}
            Some(attach_request::Message::Heartbeat(beat)) => {
                self.beats.waiting = Some(beat);
                self.beat();
            }
            Some(attach_request::Message::Goodbye(_)) => {
                self.is_leaving = true;
                self.app.registry.stop_offering(self.stream);
                attach::drain(&self.app, self.stream).await;
            }
            Some(attach_request::Message::Hello(_)) => {
                return Err(Refusal::invalid(
                    "hello",
                    "must be the first message, and only that",
                ));
            }
            None => {
                return Err(Refusal::invalid(
                    "message",
                    "is none that this server knows",
                ));
            }
        }
        Ok(())
    }

    /// Starts the heartbeat that waits, unless one is under way.
    fn beat(&mut self) {
        if !self.beats.under_way.is_empty() {
            return;
        }
        if let Some(beat) = self.beats.waiting.take() {
            let (app, stream) = (Arc::clone(&self.app), self.stream);
            let mut unnamed = std::mem::take(&mut self.beats.unnamed);
            let store_id = self.store_id.clone();
            self.beats.under_way.spawn(async move {
                let ack = heartbeat::heartbeat(&app, stream, beat, &store_id, &mut unnamed).await;
                (ack, unnamed)
            });
        }
    }

    async fn acknowledge(&mut self, ack: Result<HeartbeatAck, Refusal>) -> Result<(), Refusal> {
        match ack {
            Ok(ack) => {
                self.send(attach_response::Message::HeartbeatAck(ack)).await;
                Ok(())
            }
            // The database is away for a moment: the worker's lease runs on, the next heartbeat may get through.
            Err(Refusal::Store(error)) => {
                warn!(
                    error = &error as &dyn std::error::Error,
                    "a heartbeat could not be stored"
                );
                Ok(())
            }
            Err(refusal) => Err(refusal),
        }
    }

    /// Whether the worker is still there. A stream that does not take a message for long is deaf.
    async fn send(&self, message: attach_response::Message) -> bool {
        let response = AttachResponse {
            message: Some(message),
        };
        matches!(
            timeout(DEAF_AFTER, self.downlink.send(response)).await,
            Ok(Ok(()))
        )
    }
}

/// Waits until the store is another one than `known`.
async fn another_store(identity: &mut watch::Receiver<String>, known: &str) {
    let changed = identity.wait_for(|store| store != known).await.is_ok();
    if !changed {
        // nobody looks any more: the server ends
        std::future::pending::<()>().await;
    }
}
