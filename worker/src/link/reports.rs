//! Reports on leases: all that wait go together, one call at a time.

use std::collections::VecDeque;
use std::time::Duration;

use prost::Message;
use taskyard_proto::v1;
use taskyard_proto::v1::worker_service_client::WorkerServiceClient;
use taskyard_telemetry::metrics::table;
use tokio::sync::{mpsc, oneshot};
use tonic::{Code, Status};

use super::backoff::Backoff;
use super::convert::{report_to_wire, verdict_from_wire};
use crate::access::AuthorizedChannel;
use crate::lease::{Finish, Lease};

const BATCH_ITEMS_MAX: usize = 1_000;
/// Below the 4 MiB that a server takes by default, with room for one largest item more.
const BATCH_BYTES_MAX: usize = 3 * 1024 * 1024;
const QUEUE_ITEMS_MAX: usize = 1_024;
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// What is told about a lease.
#[derive(Debug, Clone)]
pub enum Report {
    /// The worker is about to launch the work.
    Start,
    Artifact {
        name: String,
        path: String,
    },
    Finish(Box<Finish>),
    /// The worker gives the lease back; the work surely never ran.
    Release {
        reason: String,
    },
}

/// What became of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Applied,
    AlreadyApplied,
    LeaseLost,
    Terminal,
    OutputPending,
    Rejected { message: String },
    Canceled,
}

/// Why a report has no verdict and will get none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReportError {
    #[error("the control plane refused the report: {message}")]
    Refused { message: String },
    #[error("the worker is shutting down")]
    Closed,
}

/// Sends reports. Clones share one queue.
#[derive(Debug, Clone)]
pub struct Reporter {
    queue: mpsc::Sender<Waiting>,
}

/// A report on its way. Dropped, it is not tried again.
#[derive(Debug)]
pub struct PendingReport {
    verdict: oneshot::Receiver<Result<Verdict, ReportError>>,
}

/// The sending side; [`ReportSender::run`] is its life.
#[derive(Debug)]
pub struct ReportSender {
    client: WorkerServiceClient<AuthorizedChannel>,
    queue: mpsc::Receiver<Waiting>,
    backlog: VecDeque<Waiting>,
    /// How many items of the backlog are sent one by one, because a batch with them was refused as a whole.
    alone: usize,
}

#[derive(Debug)]
struct Waiting {
    item: v1::ReportItem,
    answer: oneshot::Sender<Result<Verdict, ReportError>>,
}

enum CallFailure {
    /// It may go better later.
    Transport(Status),
    Refused(String),
}

impl Reporter {
    pub fn new(channel: AuthorizedChannel) -> (Reporter, ReportSender) {
        let (queue, receiver) = mpsc::channel(QUEUE_ITEMS_MAX);
        let client = WorkerServiceClient::new(channel);
        (
            Reporter { queue },
            ReportSender {
                client,
                queue: receiver,
                backlog: VecDeque::new(),
                alone: 0,
            },
        )
    }

    /// Reports and waits for the verdict, for as long as it takes: whoever does not want to wait drops this, and the
    /// item is not tried again. Items of one lease keep the order in which they are put into the queue; where one does
    /// not wait for the verdict on the other, they are put there by [`Reporter::enqueue`].
    pub async fn report(
        &self,
        lease: &Lease,
        item_no: i64,
        report: Report,
    ) -> Result<Verdict, ReportError> {
        self.enqueue(lease, item_no, report).await?.verdict().await
    }

    /// Puts the report into the queue, and waits for room in it, but not for the verdict.
    pub async fn enqueue(
        &self,
        lease: &Lease,
        item_no: i64,
        report: Report,
    ) -> Result<PendingReport, ReportError> {
        let (answer, verdict) = oneshot::channel();
        let item = report_to_wire(lease, item_no, report);
        self.queue
            .send(Waiting { item, answer })
            .await
            .map_err(|_| ReportError::Closed)?;
        Ok(PendingReport { verdict })
    }
}

impl PendingReport {
    /// Waits for the verdict, for as long as it takes.
    pub async fn verdict(self) -> Result<Verdict, ReportError> {
        self.verdict.await.unwrap_or(Err(ReportError::Closed))
    }
}

impl ReportSender {
    /// Sends until all reporters are gone.
    pub async fn run(mut self) {
        let mut backoff = Backoff::new();
        let mut reachable = true;
        while self.wait_for_items().await {
            match self.send_batch().await {
                Ok(()) => {
                    table::WORKER_REPORTS.set(self.backlog.len(), &[]);
                    backoff.reset();
                    reachable = true;
                }
                Err(status) => {
                    if std::mem::take(&mut reachable) {
                        tracing::warn!(code = ?status.code(), message = status.message(), "reports cannot be delivered; trying on");
                    }
                    tokio::time::sleep(backoff.wait_after(&status)).await;
                }
            }
        }
    }

    /// Fills the backlog with all that waits; false when nothing can come any more.
    async fn wait_for_items(&mut self) -> bool {
        self.backlog.retain(|waiting| !waiting.answer.is_closed());
        if self.backlog.is_empty() {
            self.alone = 0;
            match self.queue.recv().await {
                Some(waiting) => self.backlog.push_back(waiting),
                None => return false,
            }
        }
        while self.backlog.len() < BATCH_ITEMS_MAX {
            match self.queue.try_recv() {
                Ok(waiting) => self.backlog.push_back(waiting),
                Err(_) => break,
            }
        }
        table::WORKER_REPORTS.set(self.backlog.len(), &[]);
        true
    }

    async fn send_batch(&mut self) -> Result<(), Status> {
        let batch = if self.alone > 0 {
            1
        } else {
            self.batch_length()
        };
        let items = self
            .backlog
            .iter()
            .take(batch)
            .map(|waiting| waiting.item.clone())
            .collect();
        match self.call(v1::ReportRequest { items }).await {
            Ok(response) => self.answer_all(batch, response),
            Err(CallFailure::Transport(status)) => Err(status),
            Err(CallFailure::Refused(message)) => {
                if batch > 1 {
                    self.alone = batch;
                } else if let Some(waiting) = self.take_first() {
                    // Whoever asked may have gone.
                    let _ = waiting.answer.send(Err(ReportError::Refused { message }));
                }
                Ok(())
            }
        }
    }

    fn batch_length(&self) -> usize {
        let mut bytes = 0;
        let fitting = self.backlog.iter().take_while(|waiting| {
            bytes += waiting.item.encoded_len() + 8;
            bytes <= BATCH_BYTES_MAX
        });
        fitting.count().max(1)
    }

    async fn call(
        &mut self,
        request: v1::ReportRequest,
    ) -> Result<v1::ReportResponse, CallFailure> {
        let call = self.client.report(request);
        match tokio::time::timeout(CALL_TIMEOUT, call).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) if is_worth_another_try(status.code()) => {
                Err(CallFailure::Transport(status))
            }
            Ok(Err(status)) => Err(CallFailure::Refused(status.message().to_owned())),
            Err(_) => Err(CallFailure::Transport(Status::deadline_exceeded(
                "no answer in time",
            ))),
        }
    }

    fn answer_all(&mut self, batch: usize, response: v1::ReportResponse) -> Result<(), Status> {
        let verdicts: Option<Vec<Verdict>> = response
            .verdicts
            .into_iter()
            .map(verdict_from_wire)
            .collect();
        let Some(verdicts) = verdicts.filter(|verdicts| verdicts.len() == batch) else {
            return Err(Status::internal("the verdicts do not fit the items"));
        };
        for verdict in verdicts {
            if let Some(waiting) = self.take_first() {
                // Whoever asked may have gone.
                let _ = waiting.answer.send(Ok(verdict));
            }
        }
        Ok(())
    }

    fn take_first(&mut self) -> Option<Waiting> {
        self.alone = self.alone.saturating_sub(1);
        self.backlog.pop_front()
    }
}

/// Whether the same call may go better later: everything that a broken connection, a restart or an overload can look
/// like. What is left is a verdict on the call itself.
pub(super) fn is_worth_another_try(code: Code) -> bool {
    match code {
        Code::Unavailable
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::ResourceExhausted
        | Code::Internal
        | Code::Aborted
        // a credential that expired is replaced while the worker runs
        | Code::Unauthenticated
        | Code::Ok => true,
        Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::DataLoss => false,
    }
}
