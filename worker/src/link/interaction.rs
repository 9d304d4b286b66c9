//! What clients say to a running process: its live input and the size of its terminal are fetched, and signals to it are
//! confirmed.

use std::time::Duration;

use bytes::Bytes;
use taskyard_proto::v1;
use taskyard_proto::v1::worker_service_client::WorkerServiceClient;
use tonic::{Code, Status};

use super::backoff::Backoff;
use super::convert::{duration_to_wire, lease_to_wire, signed, terminal_size};
use super::files::in_time;
use super::reports::is_worth_another_try;
use crate::access::AuthorizedChannel;
use crate::lease::{Lease, TerminalSize};

/// How long the control plane may wait for a byte, and how much longer its answer may take.
const INPUT_WAIT: Duration = Duration::from_secs(20);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// A signal whose outcome is not told by then is nobody's any more: whoever sent it has been told so.
const CONFIRM_BOUND: Duration = Duration::from_secs(30);

/// Calls of one lease about its running process. Clones share the connection.
#[derive(Debug, Clone)]
pub struct Interaction {
    client: WorkerServiceClient<AuthorizedChannel>,
}

/// The next bytes of a live input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputPart {
    pub data: Bytes,
    /// End of file follows the bytes.
    pub ends: bool,
}

/// There is no more input to be had under this lease: it is lost, or the control plane refuses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the control plane gives no more input: {message}")]
pub struct NoMoreInput {
    pub message: String,
}

impl Interaction {
    pub fn new(channel: AuthorizedChannel) -> Interaction {
        Interaction {
            client: WorkerServiceClient::new(channel),
        }
    }

    /// What comes from `offset` on, within a while; all before it counts as delivered. It tries until there is an answer;
    /// whoever does not want to wait drops this.
    pub async fn read_input(
        &self,
        lease: &Lease,
        run: i32,
        offset: u64,
        may_wait: bool,
    ) -> Result<InputPart, NoMoreInput> {
        let request = v1::ReadInputRequest {
            lease: Some(lease_to_wire(lease)),
            run,
            offset: signed(offset),
            wait: may_wait.then(|| duration_to_wire(INPUT_WAIT)),
        };
        let mut backoff = Backoff::new();
        loop {
            let mut client = self.client.clone();
            let reading = client.read_input(request.clone());
            match in_time(INPUT_WAIT + ANSWER_TIMEOUT, reading).await {
                Ok(answer) => {
                    let answer = answer.into_inner();
                    return Ok(InputPart {
                        data: answer.data,
                        ends: answer.eof,
                    });
                }
                Err(status) => {
                    judge(&status)?;
                    tokio::time::sleep(backoff.wait_after(&status)).await;
                }
            }
        }
    }

    /// The newest size of the run's terminal, with its number, if it is newer than the one with the number `after`, within
    /// a while. It tries until there is an answer; whoever does not want to wait drops this.
    pub async fn read_terminal_size(
        &self,
        lease: &Lease,
        run: i32,
        after: i64,
        may_wait: bool,
    ) -> Result<Option<(i64, TerminalSize)>, NoMoreInput> {
        let request = v1::ReadTerminalSizeRequest {
            lease: Some(lease_to_wire(lease)),
            run,
            after,
            wait: may_wait.then(|| duration_to_wire(INPUT_WAIT)),
        };
        let mut backoff = Backoff::new();
        loop {
            let mut client = self.client.clone();
            let reading = client.read_terminal_size(request.clone());
            match in_time(INPUT_WAIT + ANSWER_TIMEOUT, reading).await {
                Ok(answer) => {
                    let answer = answer.into_inner();
                    let size = terminal_size(answer.rows, answer.columns);
                    return Ok((answer.number > after).then_some((answer.number, size)));
                }
                Err(status) => {
                    judge(&status)?;
                    tokio::time::sleep(backoff.wait_after(&status)).await;
                }
            }
        }
    }

    /// Tells what became of a signal; tried for a while, since whoever sent it waits no longer.
    pub async fn confirm_signal(&self, lease: &Lease, number: i64, was_delivered: bool) {
        let outcome = if was_delivered {
            v1::SignalOutcome::Delivered
        } else {
            v1::SignalOutcome::NotRunning
        };
        let request = v1::ConfirmSignalRequest {
            lease: Some(lease_to_wire(lease)),
            number,
            outcome: outcome.into(),
        };
        let confirming = async {
            let mut backoff = Backoff::new();
            loop {
                let mut client = self.client.clone();
                let confirmed = client.confirm_signal(request.clone());
                match in_time(ANSWER_TIMEOUT, confirmed).await {
                    Ok(_) => return,
                    Err(status) if judge(&status).is_err() => return,
                    Err(status) => tokio::time::sleep(backoff.wait_after(&status)).await,
                }
            }
        };
        if tokio::time::timeout(CONFIRM_BOUND, confirming)
            .await
            .is_err()
        {
            tracing::debug!(lease = %lease, number, "the outcome of a signal could not be told");
        }
    }
}

/// `Ok` where another try may help.
fn judge(status: &Status) -> Result<(), NoMoreInput> {
    match status.code() {
        Code::Aborted => Err(NoMoreInput {
            message: "the lease is lost".to_owned(),
        }),
        code if is_worth_another_try(code) => Ok(()),
        _ => Err(NoMoreInput {
            message: status.message().to_owned(),
        }),
    }
}
