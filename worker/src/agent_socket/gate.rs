//! The decision on each call: refused here, or passed on under the attempt's lease.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use futures::FutureExt;
use futures::future::BoxFuture;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use prost::Message;
use taskyard_proto::v1;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::body::Body;
use tower::Service;

use super::connection::Admission;
use super::guarded_body::GuardedBody;
use super::masked_request::mask_request;
use super::refusal;
use super::waits::{Wait, Waits};
use crate::link::lease_calls::LeaseCalls;
use crate::mask::Masks;

/// Calls of one attempt at a time.
pub(super) const CALLS_MAX: usize = 256;
/// Largest request that is looked into: as large as the control plane takes one.
pub(super) const REQUEST_BYTES_MAX: usize = 4 << 20;
/// Requests that are read whole at a time; others wait.
const LOOKS_MAX: usize = 8;
/// Before each message: whether it is compressed, and its length.
pub(super) const MESSAGE_HEAD_BYTES: usize = 5;
pub(super) const AGENT_SERVICE: &str = "/taskyard.v1.TaskAgentService/";
pub(super) const TASK_SERVICE: &str = "/taskyard.v1.SessionTaskService/";

/// What every call of an attempt passes. Clones are the same.
#[derive(Clone)]
pub(super) struct Gate {
    shared: Arc<Shared>,
}

struct Shared {
    calls: LeaseCalls,
    lost: CancellationToken,
    waits: Waits,
    masks: Masks,
    places: Arc<Semaphore>,
    looks: Semaphore,
}

/// Whether a call waits for something that others do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waiting {
    Never,
    Always,
    /// If its request says so.
    IfAsked(Asking),
}

/// Requests that say whether they wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asking {
    CreateTask,
    ListMessages,
    /// A follower waits until the last byte of the answer, not only for its beginning.
    TailOutput,
}

impl Gate {
    pub(super) fn new(
        calls: LeaseCalls,
        lost: CancellationToken,
        waits: Waits,
        masks: Masks,
    ) -> Gate {
        Gate {
            shared: Arc::new(Shared {
                calls,
                lost,
                waits,
                masks,
                places: Arc::new(Semaphore::new(CALLS_MAX)),
                looks: Semaphore::new(LOOKS_MAX),
            }),
        }
    }
}

impl Service<Request<Body>> for Gate {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let shared = self.shared.clone();
        async move {
            let answer = shared.answer(request).await;
            Ok(answer.unwrap_or_else(Status::into_http))
        }
        .boxed()
    }
}

impl Shared {
    async fn answer(&self, request: Request<Body>) -> Result<Response<Body>, Status> {
        match request.extensions().get::<Admission>() {
            Some(admission) => admission.check()?,
            None => return Err(refusal::stranger()),
        }
        if self.lost.is_cancelled() {
            return Err(refusal::lease_lost());
        }
        let path = request.uri().path();
        let waiting = waiting_of(path).ok_or_else(|| refusal::not_served(path))?;
        let call = self.places.clone().try_acquire_owned();
        let call = call.map_err(|_| refusal::too_many_calls(CALLS_MAX))?;
        let (response, wait) = tokio::select! {
            biased;
            () = self.lost.cancelled() => return Err(refusal::lease_lost()),
            response = self.pass_on(request, waiting) => response?,
        };
        if refusal::says_lease_lost(response.headers()) {
            self.lost.cancel();
        }
        Ok(response.map(|body| Body::new(GuardedBody::new(body, self.lost.clone(), call, wait))))
    }

    /// The answer, and the wait where it goes on. Else the wait is over when there is an answer, whenever that is read.
    async fn pass_on(
        &self,
        request: Request<Body>,
        waiting: Waiting,
    ) -> Result<(Response<Body>, Option<Wait>), Status> {
        let request = if self.masks.is_empty() {
            request
        } else {
            // It is never closed; without a permit the look is only less frugal.
            let _look = self.looks.acquire().await;
            mask_request(&self.masks, request).await?
        };
        let (request, waits) = match waiting {
            Waiting::Never => (request, false),
            Waiting::Always => (request, true),
            Waiting::IfAsked(asking) => {
                // It is never closed; without a permit the look is only less frugal.
                let _look = self.looks.acquire().await;
                look_into(request, asking).await?
            }
        };
        let wait = waits.then(|| self.waits.begin());
        let response = self.calls.pass_on(request).await?;
        let goes_on = waiting == Waiting::IfAsked(Asking::TailOutput);
        Ok((response, wait.filter(|_| goes_on)))
    }
}

/// Absent: not served here.
fn waiting_of(path: &str) -> Option<Waiting> {
    if let Some(method) = path.strip_prefix(AGENT_SERVICE) {
        return Some(match method {
            "Ask" => Waiting::Always,
            _ => Waiting::Never,
        });
    }
    path.strip_prefix(TASK_SERVICE).map(|method| match method {
        "WaitTasks" => Waiting::Always,
        "CreateTask" => Waiting::IfAsked(Asking::CreateTask),
        "ListMessages" => Waiting::IfAsked(Asking::ListMessages),
        "TailOutput" => Waiting::IfAsked(Asking::TailOutput),
        _ => Waiting::Never,
    })
}

/// Reads a request, and whether it waits.
async fn look_into(
    request: Request<Body>,
    asking: Asking,
) -> Result<(Request<Body>, bool), Status> {
    let (head, body) = request.into_parts();
    let collected = Limited::new(body, REQUEST_BYTES_MAX + MESSAGE_HEAD_BYTES).collect();
    let content = match collected.await {
        Ok(content) => content.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => {
            return Err(refusal::message_too_large(REQUEST_BYTES_MAX));
        }
        Err(error) => return Err(Status::from_error(error)),
    };
    let waits = asks_to_wait(content.clone(), asking);
    Ok((
        Request::from_parts(head, Body::new(Full::new(content))),
        waits,
    ))
}

/// What cannot be read does not wait: it is refused by the control plane, or its wait is a short one.
fn asks_to_wait(mut content: Bytes, asking: Asking) -> bool {
    if content.len() < MESSAGE_HEAD_BYTES || content.get_u8() != 0 {
        return false;
    }
    content.advance(MESSAGE_HEAD_BYTES - 1);
    match asking {
        Asking::CreateTask => {
            v1::CreateTaskRequest::decode(content).is_ok_and(|request| request.wait.is_some())
        }
        Asking::ListMessages => {
            v1::ListMessagesRequest::decode(content).is_ok_and(|request| request.wait.is_some())
        }
        Asking::TailOutput => {
            v1::TailOutputRequest::decode(content).is_ok_and(|request| request.follow)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_for_others_is_known_by_its_name() {
        let cases = [
            ("/taskyard.v1.TaskAgentService/Ask", Some(Waiting::Always)),
            ("/taskyard.v1.TaskAgentService/Post", Some(Waiting::Never)),
            (
                "/taskyard.v1.TaskAgentService/ReceiveMessages",
                Some(Waiting::Never),
            ),
            (
                "/taskyard.v1.SessionTaskService/WaitTasks",
                Some(Waiting::Always),
            ),
            (
                "/taskyard.v1.SessionTaskService/CreateTask",
                Some(Waiting::IfAsked(Asking::CreateTask)),
            ),
            (
                "/taskyard.v1.SessionTaskService/TailOutput",
                Some(Waiting::IfAsked(Asking::TailOutput)),
            ),
            (
                "/taskyard.v1.SessionTaskService/GetTask",
                Some(Waiting::Never),
            ),
            ("/taskyard.v1.WorkerService/Report", None),
            ("/taskyard.v1.AdminService/ListWorkers", None),
            ("/grpc.health.v1.Health/Check", None),
            ("/", None),
        ];
        for (path, expected) in cases {
            assert_eq!(waiting_of(path), expected, "{path}");
        }
    }

    #[test]
    fn a_request_waits_if_it_says_so() {
        fn framed(request: &impl Message) -> Bytes {
            let mut content = vec![0, 0, 0, 0, 0];
            request.encode(&mut content).expect("it fits");
            Bytes::from(content)
        }
        let creation = |wait: Option<prost_types::Duration>| {
            framed(&v1::CreateTaskRequest {
                session_id: "s".to_owned(),
                wait,
                ..Default::default()
            })
        };
        let messages = |wait: Option<prost_types::Duration>| {
            framed(&v1::ListMessagesRequest {
                wait,
                ..Default::default()
            })
        };
        let tail = |follow: bool| {
            framed(&v1::TailOutputRequest {
                follow,
                ..Default::default()
            })
        };
        let wait = Some(prost_types::Duration::default());
        for (asking, without, with) in [
            (Asking::CreateTask, creation(None), creation(wait)),
            (Asking::ListMessages, messages(None), messages(wait)),
            (Asking::TailOutput, tail(false), tail(true)),
        ] {
            assert!(!asks_to_wait(without, asking), "{asking:?}");
            assert!(asks_to_wait(with, asking), "{asking:?}");
        }
        for garbage in [&b"\x01\0\0\0\x02zz"[..], &b"\0\0"[..]] {
            assert!(!asks_to_wait(
                Bytes::from_static(garbage),
                Asking::CreateTask
            ));
        }
    }
}
