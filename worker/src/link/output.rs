//! Output on its way up: one stream for all runs, on a connection of its own so that bulk never delays control.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use taskyard_proto::v1;
use taskyard_proto::v1::worker_service_client::WorkerServiceClient;
use taskyard_telemetry::metrics::table;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::backoff::Backoff;
use super::convert::{lease_to_wire, signed};
use crate::access::AuthorizedChannel;
use crate::lease::Lease;
use crate::output::upload::{OutputFrame, OutputSink, Positions, SinkEvent};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Frames between the runs and the socket; each has at most half a MiB.
const FRAMES_MAX: usize = 4;
/// A stream on which nothing that was sent was answered for so long is dead.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

/// Where runs open their ports. Clones are the same.
#[derive(Debug, Clone)]
pub struct OutputLink {
    ports: Arc<Ports>,
    connection: watch::Receiver<Option<Connection>>,
}

/// The sending side; [`OutputConnection::run`] is its life.
#[derive(Debug)]
pub struct OutputConnection {
    client: WorkerServiceClient<AuthorizedChannel>,
    ports: Arc<Ports>,
    connection: watch::Sender<Option<Connection>>,
}

/// The way up for one run. Dropping it closes it.
#[derive(Debug)]
pub struct OutputPort {
    key: PortKey,
    lease: Lease,
    head_cap: u64,
    tail_cap: u64,
    ports: Arc<Ports>,
    connection: watch::Receiver<Option<Connection>>,
    answers: watch::Receiver<Option<Answer>>,
    /// Number of the connection that was told with the last event; 0: none.
    told_connection: u64,
}

/// Frames of a connection end with it: a frame for a broken one goes nowhere.
#[derive(Debug, Clone)]
struct Connection {
    number: u64,
    frames: mpsc::Sender<v1::PushOutputRequest>,
}

#[derive(Debug, Default)]
struct Ports {
    open: Mutex<HashMap<PortKey, watch::Sender<Option<Answer>>>>,
    opened: Notify,
    /// Since when something that was sent waits for any answer.
    unanswered_since: Mutex<Option<Instant>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct PortKey {
    task_id: String,
    run: i32,
}

/// The newest answer for a run; older ones say less.
#[derive(Debug, Clone)]
struct Answer {
    connection: u64,
    response: v1::PushOutputResponse,
}

impl OutputLink {
    pub fn new(channel: AuthorizedChannel) -> (OutputLink, OutputConnection) {
        let ports = Arc::new(Ports::default());
        let (sender, connection) = watch::channel(None);
        let client = WorkerServiceClient::new(channel);
        (
            OutputLink {
                ports: ports.clone(),
                connection,
            },
            OutputConnection {
                client,
                ports,
                connection: sender,
            },
        )
    }

    /// The way up for one run, of which `head_cap` and `tail_cap` bytes of each stream are kept.
    pub fn open(&self, lease: &Lease, run: i32, head_cap: u64, tail_cap: u64) -> OutputPort {
        let key = PortKey {
            task_id: lease.task_id.clone(),
            run,
        };
        let (sender, answers) = watch::channel(None);
        self.ports.lock().insert(key.clone(), sender);
        self.ports.opened.notify_one();
        OutputPort {
            key,
            lease: lease.clone(),
            head_cap,
            tail_cap,
            ports: self.ports.clone(),
            connection: self.connection.clone(),
            answers,
            told_connection: 0,
        }
    }
}

impl OutputSink for OutputPort {
    async fn event(&mut self) -> SinkEvent {
        loop {
            let current = self
                .connection
                .borrow_and_update()
                .as_ref()
                .map_or(0, |connection| connection.number);
            if current != self.told_connection {
                let was_connected = self.told_connection != 0;
                // A change from one connection to another is told in two steps.
                self.told_connection = if was_connected { 0 } else { current };
                return if was_connected {
                    SinkEvent::Disconnected
                } else {
                    SinkEvent::Connected
                };
            }
            let answer = self
                .answers
                .has_changed()
                .unwrap_or(false)
                .then(|| self.answers.borrow_and_update().clone());
            if let Some(answer) = answer.flatten()
                && answer.connection == self.told_connection
                && let Some(event) = event_from_wire(answer.response)
            {
                return event;
            }
            tokio::select! {
                changed = self.connection.changed() => {
                    if changed.is_err() {
                        return SinkEvent::Refused { message: "the worker is shutting down".to_owned() };
                    }
                }
                changed = self.answers.changed() => {
                    if changed.is_err() {
                        return SinkEvent::Refused { message: "another run took the place of this one".to_owned() };
                    }
                    // Looked at in the next round.
                    self.answers.mark_changed();
                }
            }
        }
    }

    async fn push(&mut self, frame: OutputFrame) {
        let connection = self.connection.borrow().clone();
        // Without the connection that this port knows of, the frame is as lost as one on the way: the next event tells.
        let Some(connection) =
            connection.filter(|connection| connection.number == self.told_connection)
        else {
            return;
        };
        let bytes: usize = frame.chunks.iter().map(|chunk| chunk.data.len()).sum();
        let request = self.frame_to_wire(frame);
        if connection.frames.send(request).await.is_ok() {
            table::WORKER_OUTPUT.add(bytes as u64, &[]);
            self.ports.note_sent();
        }
    }
}

impl OutputPort {
    fn frame_to_wire(&self, frame: OutputFrame) -> v1::PushOutputRequest {
        let at = prost_types::Timestamp::from(SystemTime::now());
        let chunks = frame.chunks.into_iter().map(|chunk| v1::OutputChunk {
            stream: stream_to_wire(chunk.stream).into(),
            offset: signed(chunk.offset),
            data: chunk.data,
            at: Some(at),
            order: signed(chunk.order),
        });
        let totals = (0..)
            .zip(frame.totals)
            .map(|(stream, total)| v1::OutputPosition {
                stream: stream_to_wire(stream).into(),
                offset: signed(total),
            });
        v1::PushOutputRequest {
            lease: Some(lease_to_wire(&self.lease)),
            run: self.key.run,
            chunks: chunks.collect(),
            head_bytes: signed(self.head_cap),
            tail_bytes: signed(self.tail_cap),
            totals: totals.collect(),
        }
    }
}

impl Drop for OutputPort {
    fn drop(&mut self) {
        let mut open = self.ports.lock();
        // A later port for the same run may have taken the place; its sender has a receiver still.
        if open
            .get(&self.key)
            .is_some_and(|answers| answers.subscribe().same_channel(&self.answers))
        {
            open.remove(&self.key);
        }
    }
}

impl OutputConnection {
    /// Connects when a port is open, and again whenever the stream broke. It ends only by being dropped.
    pub async fn run(mut self) {
        let mut backoff = Backoff::new();
        let mut number = 0;
        loop {
            self.ports.wait_until_any_is_open().await;
            number += 1;
            let mut answered = false;
            let end = self.serve(number, &mut answered).await;
            self.connection.send_replace(None);
            if answered {
                backoff.reset();
            }
            tracing::debug!(code = ?end.code(), message = end.message(), "the output stream ended");
            tokio::time::sleep(backoff.wait_after(&end)).await;
        }
    }

    async fn serve(&mut self, number: u64, answered: &mut bool) -> Status {
        let (frames, requests) = mpsc::channel(FRAMES_MAX);
        self.ports.note_answered();
        let opening = self.client.push_output(ReceiverStream::new(requests));
        let mut responses = match tokio::time::timeout(CONNECT_TIMEOUT, opening).await {
            Ok(Ok(response)) => response.into_inner(),
            Ok(Err(status)) => return status,
            Err(_) => return Status::deadline_exceeded("the output stream was not opened in time"),
        };
        self.connection
            .send_replace(Some(Connection { number, frames }));
        self.distribute(number, &mut responses, answered).await
    }

    async fn distribute(
        &self,
        number: u64,
        responses: &mut Streaming<v1::PushOutputResponse>,
        answered: &mut bool,
    ) -> Status {
        let mut look = tokio::time::interval(ANSWER_TIMEOUT / 5);
        loop {
            tokio::select! {
                response = responses.message() => match response {
                    Ok(Some(response)) => {
                        *answered = true;
                        self.ports.note_answered();
                        self.ports.deliver(number, response);
                    }
                    Ok(None) => return Status::unavailable("the control plane closed the stream"),
                    Err(status) => return status,
                },
                _ = look.tick() => {
                    if self.ports.is_unanswered_for(ANSWER_TIMEOUT) {
                        return Status::deadline_exceeded("nothing that was pushed is answered");
                    }
                }
            }
        }
    }
}

impl Ports {
    async fn wait_until_any_is_open(&self) {
        loop {
            let opened = self.opened.notified();
            if !self.lock().is_empty() {
                return;
            }
            opened.await;
        }
    }

    /// Newer positions replace older ones that were not looked at yet; a verdict against the run is never replaced.
    fn deliver(&self, connection: u64, response: v1::PushOutputResponse) {
        let key = PortKey {
            task_id: response.task_id.clone(),
            run: response.run,
        };
        if let Some(answers) = self.lock().get(&key) {
            answers.send_modify(|newest| {
                let judged = newest.as_ref().is_some_and(|answer| {
                    answer.connection == connection && is_against_the_run(answer.response.verdict())
                });
                if !judged {
                    *newest = Some(Answer {
                        connection,
                        response,
                    });
                }
            });
        }
    }

    fn note_sent(&self) {
        self.lock_unanswered().get_or_insert_with(Instant::now);
    }

    fn note_answered(&self) {
        *self.lock_unanswered() = None;
    }

    fn is_unanswered_for(&self, bound: Duration) -> bool {
        self.lock_unanswered()
            .is_some_and(|since| since.elapsed() > bound)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PortKey, watch::Sender<Option<Answer>>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_unanswered(&self) -> MutexGuard<'_, Option<Instant>> {
        self.unanswered_since
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_against_the_run(verdict: v1::Verdict) -> bool {
    match verdict {
        v1::Verdict::LeaseLost
        | v1::Verdict::Terminal
        | v1::Verdict::Canceled
        | v1::Verdict::Rejected => true,
        v1::Verdict::Unspecified
        | v1::Verdict::Applied
        | v1::Verdict::AlreadyApplied
        | v1::Verdict::OutputPending => false,
    }
}

fn event_from_wire(response: v1::PushOutputResponse) -> Option<SinkEvent> {
    match response.verdict() {
        v1::Verdict::LeaseLost | v1::Verdict::Terminal | v1::Verdict::Canceled => {
            return Some(SinkEvent::Lost);
        }
        v1::Verdict::Rejected => {
            return Some(SinkEvent::Refused {
                message: response.message,
            });
        }
        v1::Verdict::Unspecified
        | v1::Verdict::Applied
        | v1::Verdict::AlreadyApplied
        | v1::Verdict::OutputPending => {}
    }
    let mut durable = [None; 2];
    for position in &response.durable {
        let stream = match position.stream() {
            v1::OutputStream::Stdout => 0,
            v1::OutputStream::Stderr => 1,
            v1::OutputStream::Unspecified => continue,
        };
        durable[stream] = u64::try_from(position.offset).ok();
    }
    Some(SinkEvent::Positions(Positions { durable }))
}

fn stream_to_wire(stream: usize) -> v1::OutputStream {
    if stream == 0 {
        v1::OutputStream::Stdout
    } else {
        v1::OutputStream::Stderr
    }
}
