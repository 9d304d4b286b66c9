//! What the control plane of a test was told, and what it will answer.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use taskyard_proto::v1;
use taskyard_proto::v1::task_agent_service_server::TaskAgentServiceServer;
use taskyard_proto::v1::worker_service_server::WorkerServiceServer;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::Status;

use super::PATIENCE;
use super::agent::Agent;
use super::service::Service;

pub type Down = mpsc::UnboundedSender<Result<v1::AttachResponse, Status>>;

/// A control plane that can be stopped and started again on the same address.
pub struct ControlPlane {
    address: SocketAddr,
    shared: Shared,
    server: Option<JoinHandle<()>>,
}

/// State and a signal that it changed.
#[derive(Clone)]
pub struct Shared {
    state: Arc<Mutex<PlaneState>>,
    changes: watch::Sender<u64>,
}

#[derive(Default)]
pub struct PlaneState {
    pub hellos: Vec<v1::Hello>,
    pub heartbeats: Vec<v1::Heartbeat>,
    pub slots: Vec<v1::Slots>,
    pub pongs: Vec<i64>,
    pub goodbyes: usize,
    pub reports: Vec<v1::ReportItem>,
    pub report_calls: usize,
    /// Streams by task, run and stream.
    pub output: BTreeMap<(String, i32, i32), StoredStream>,
    pub files: BTreeMap<(String, String), Vec<u8>>,
    /// What went against the protocol.
    pub violations: Vec<String>,
    /// The leases under which questions were asked.
    pub asked: Vec<v1::Lease>,
    /// The tasks whose questions are answered.
    pub answered: BTreeSet<String>,

    /// Answers to the next starts and finishes; then APPLIED.
    pub start_verdicts: VecDeque<v1::Verdict>,
    pub finish_verdicts: VecDeque<v1::Verdict>,
    pub output_verdicts: VecDeque<v1::Verdict>,
    /// Calls that fail before they are looked at.
    pub report_failures: VecDeque<Status>,
    pub specs: BTreeMap<String, v1::TaskSpec>,
    /// As a server that is too old to know of runs that go on.
    pub refuses_running: bool,
    pub heartbeats_are_ignored: bool,
    pub next_ack_asks_for_all: bool,
    pub heartbeat_interval: Option<Duration>,
    /// Output is neither stored nor answered.
    pub output_is_stalled: bool,
    /// Break the output stream after so many frames.
    pub break_output_after: Option<usize>,
    pub down: Option<Down>,
}

#[derive(Default, Clone)]
pub struct StoredStream {
    /// Pieces by offset, without overlap.
    pub pieces: BTreeMap<u64, Vec<u8>>,
    pub durable: u64,
    pub total: u64,
}

impl StoredStream {
    /// All bytes, given that none is missing.
    pub fn text(&self) -> String {
        let mut bytes = Vec::new();
        for (offset, piece) in &self.pieces {
            assert_eq!(*offset, bytes.len() as u64, "there is a gap");
            bytes.extend_from_slice(piece);
        }
        String::from_utf8(bytes).expect("the output is text")
    }
}

impl Shared {
    pub fn lock(&self) -> MutexGuard<'_, PlaneState> {
        self.state.lock().expect("no test panics under the lock")
    }

    pub fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    /// Waits until the state is as wanted.
    pub async fn until(&self, is_there: impl Fn(&PlaneState) -> bool) {
        let mut changes = self.changes.subscribe();
        while !is_there(&self.lock()) {
            // Some states change without a signal.
            let _ = tokio::time::timeout(Duration::from_millis(100), changes.changed()).await;
        }
    }
}

impl ControlPlane {
    pub async fn start() -> ControlPlane {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let shared = Shared {
            state: Arc::default(),
            changes: watch::Sender::new(0),
        };
        let server = Some(serve(listener, shared.clone()));
        ControlPlane {
            address,
            shared,
            server,
        }
    }

    /// An address at which nothing listens yet.
    pub async fn reserve() -> ControlPlane {
        let mut plane = ControlPlane::start().await;
        plane.stop().await;
        plane
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Breaks every connection and refuses new ones.
    pub async fn stop(&mut self) {
        if let Some(server) = self.server.take() {
            server.abort();
            let _ = server.await;
        }
        self.state().down = None;
    }

    pub async fn start_again(&mut self) {
        let listening = async {
            loop {
                match TcpListener::bind(self.address).await {
                    Ok(listener) => return listener,
                    Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        };
        let listener = tokio::time::timeout(PATIENCE, listening)
            .await
            .expect("the port is free again");
        self.server = Some(serve(listener, self.shared.clone()));
    }

    pub fn state(&self) -> MutexGuard<'_, PlaneState> {
        self.shared.lock()
    }

    /// Waits until the state gives an answer.
    pub async fn wait_for<T>(
        &self,
        what: &str,
        mut look: impl FnMut(&mut PlaneState) -> Option<T>,
    ) -> T {
        let mut changes = self.shared.changes.subscribe();
        let waiting = async {
            loop {
                changes.mark_unchanged();
                if let Some(found) = look(&mut self.shared.lock()) {
                    return found;
                }
                // Some states change without a signal, such as the end of a stream.
                let _ = tokio::time::timeout(Duration::from_millis(100), changes.changed()).await;
            }
        };
        let found = tokio::time::timeout(PATIENCE, waiting).await;
        found.unwrap_or_else(|_| {
            let state = self.state();
            panic!(
                "waited in vain for: {what}; hellos: {:?}; reports: {:?}",
                state.hellos, state.reports
            )
        })
    }

    /// Waits for an attached worker and sends it a message.
    pub async fn send(&self, message: v1::attach_response::Message) {
        let down = self
            .wait_for("an attached worker", |state| state.down.clone())
            .await;
        down.send(Ok(v1::AttachResponse {
            message: Some(message),
        }))
        .expect("the worker is attached");
    }

    pub async fn offer(&self, offer: v1::Offer) {
        self.send(v1::attach_response::Message::Offer(offer)).await;
    }

    pub async fn cancel(&self, lease: v1::Lease, grace: Option<Duration>) {
        let grace = grace.map(super::to_wire);
        let cancel = v1::CancelLease {
            lease: Some(lease),
            grace,
            signal: 0,
        };
        self.send(v1::attach_response::Message::Cancel(cancel))
            .await;
    }

    /// Waits for the newest finish report on a lease.
    pub async fn finish_of(&self, lease: &v1::Lease) -> v1::FinishReport {
        self.wait_for("a finish", |state| state.finishes(lease).pop())
            .await
    }

    pub async fn output_of(&self, lease: &v1::Lease, stream: v1::OutputStream) -> StoredStream {
        let key = (lease.task_id.clone(), 1, i32::from(stream));
        self.state().output.get(&key).cloned().unwrap_or_default()
    }

    /// Waits until a task has printed this.
    pub async fn printed(&self, lease: &v1::Lease, text: &str) {
        let key = (
            lease.task_id.clone(),
            1,
            i32::from(v1::OutputStream::Stdout),
        );
        self.wait_for(&format!("output {text:?}"), |state| {
            state
                .output
                .get(&key)
                .filter(|stored| stored.text().contains(text))
                .map(|_| ())
        })
        .await;
    }
}

impl PlaneState {
    pub fn finishes(&self, lease: &v1::Lease) -> Vec<v1::FinishReport> {
        let of_lease = self
            .reports
            .iter()
            .filter(|item| item.lease.as_ref() == Some(lease));
        of_lease
            .filter_map(|item| match &item.report {
                Some(v1::report_item::Report::Finish(finish)) => Some(finish.clone()),
                _ => None,
            })
            .collect()
    }

    pub fn has_released(&self, lease: &v1::Lease) -> bool {
        self.reports.iter().any(|item| {
            item.lease.as_ref() == Some(lease)
                && matches!(item.report, Some(v1::report_item::Report::Release(_)))
        })
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            server.abort();
        }
    }
}

fn serve(listener: TcpListener, shared: Shared) -> JoinHandle<()> {
    tokio::spawn(async move {
        // Connections live in tasks of their own; they break when the stream of sockets ends, with this task.
        let agent = TaskAgentServiceServer::new(Agent::new(shared.clone()));
        let service = WorkerServiceServer::new(Service::new(shared));
        let incoming = super::service::breakable(TcpListenerStream::new(listener));
        let served = tonic::transport::Server::builder()
            .add_service(service)
            .add_service(agent)
            .serve_with_incoming(incoming)
            .await;
        served.expect("the control plane serves");
    })
}
