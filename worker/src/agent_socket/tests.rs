//! The socket between a caller and a control plane that the test plays. The test itself is the shim, so it may call.

use std::convert::Infallible;
use std::time::Duration;

use futures::{StreamExt, stream};
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use prost::Message;
use taskyard_proto::v1;
use taskyard_proto::v1::session_task_service_client::SessionTaskServiceClient;
use taskyard_proto::v1::task_agent_service_client::TaskAgentServiceClient;
use taskyard_proto::v1::worker_service_client::WorkerServiceClient;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::transport::{Channel, Server};
use tonic::{Code, Status};
use tonic_types::StatusExt;
use tower::service_fn;

use super::{AgentSocket, SocketUse, WaitingAttempts, Waits};
use crate::access::AccessSettings;
use crate::lease::Lease;
use crate::link::Endpoint;
use crate::link::lease_calls::LeaseCalls;
use crate::mask::Masks;

/// Every wait ends, at the latest after this.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the control plane of a test was asked.
struct Asked {
    path: String,
    headers: HeaderMap,
    /// Closed when the call is over there.
    over: mpsc::Receiver<()>,
}

/// A served socket.
struct World {
    asked: mpsc::UnboundedReceiver<Asked>,
    directory: tempfile::TempDir,
    lost: CancellationToken,
    is_waiting: watch::Receiver<bool>,
    over: CancellationToken,
    serving: tokio::task::JoinHandle<()>,
}

impl World {
    async fn new() -> World {
        World::with(Some(std::process::id()), None).await
    }

    async fn with(shim_pid: Option<u32>, endpoint: Option<&str>) -> World {
        let (sender, asked) = mpsc::unbounded_channel();
        let endpoint = match endpoint {
            Some(endpoint) => endpoint.to_owned(),
            None => start_plane(sender).await,
        };
        let endpoint = Endpoint::parse(&endpoint, &AccessSettings::default()).expect("an endpoint");
        let directory = tempfile::tempdir().expect("a temporary directory");
        let socket = AgentSocket::bind(directory.path().join("socket"))
            .await
            .expect("a socket");
        let lost = CancellationToken::new();
        let waits = Waits::new(WaitingAttempts::new());
        let is_waiting = waits.subscribe();
        let used = SocketUse {
            shim_pid,
            calls: LeaseCalls::new(&endpoint, &lease()),
            lost: lost.clone(),
            waits,
            masks: Masks::new(&[]),
        };
        let over = CancellationToken::new();
        let work = over.clone().cancelled_owned();
        World {
            asked,
            directory,
            lost,
            is_waiting,
            over,
            serving: tokio::spawn(socket.serve_while(used, work)),
        }
    }

    fn path(&self) -> std::path::PathBuf {
        self.directory.path().join("socket")
    }

    async fn channel(&self) -> Channel {
        let target = format!("unix:{}", self.path().display());
        let endpoint = tonic::transport::Endpoint::from_shared(target).expect("a target");
        endpoint.connect().await.expect("a connection")
    }

    async fn tasks(&self) -> SessionTaskServiceClient<Channel> {
        SessionTaskServiceClient::new(self.channel().await)
    }

    async fn agent(&self) -> TaskAgentServiceClient<Channel> {
        TaskAgentServiceClient::new(self.channel().await)
    }

    async fn asked(&mut self) -> Asked {
        in_time(self.asked.recv()).await.expect("a call")
    }

    async fn waits(&mut self, expected: bool) {
        let seen = in_time(
            self.is_waiting
                .wait_for(|is_waiting| *is_waiting == expected),
        )
        .await;
        seen.expect("the attempt is not over");
    }
}

#[tokio::test]
async fn a_call_goes_through_under_the_lease_of_the_attempt_alone() {
    let mut world = World::new().await;
    let mut tasks = world.tasks().await;
    let mut request = tonic::Request::new(v1::GetTaskRequest::default());
    request.set_timeout(Duration::from_secs(20));
    let forged = tonic::metadata::BinaryMetadataValue::from_bytes(b"forged");
    request
        .metadata_mut()
        .append_bin("taskyard-lease-bin", forged.clone());
    request
        .metadata_mut()
        .append_bin("taskyard-lease-bin", forged);
    request
        .metadata_mut()
        .insert("x-kept", "yes".parse().expect("text"));
    let answer = in_time(tasks.get_task(request)).await.expect("an answer");
    assert_eq!(
        answer.metadata().get("x-answer").map(|x| x.as_bytes()),
        Some(b"too".as_ref())
    );
    assert_eq!(answer.into_inner().result_json, "{}");
    let asked = world.asked().await;
    assert_eq!(asked.path, "/taskyard.v1.SessionTaskService/GetTask");
    assert_eq!(
        asked.headers.get("x-kept").map(|x| x.as_bytes()),
        Some(b"yes".as_ref())
    );
    assert!(asked.headers.contains_key("grpc-timeout"));
    let leases: Vec<_> = asked.headers.get_all("taskyard-lease-bin").iter().collect();
    assert_eq!(leases.len(), 1);
    let metadata = tonic::metadata::MetadataMap::from_headers(asked.headers.clone());
    let encoded = metadata.get_bin("taskyard-lease-bin").expect("a lease");
    let encoded = encoded.to_bytes().expect("bytes");
    let named = v1::Lease::decode(encoded).expect("a lease");
    assert_eq!((named.task_id.as_str(), named.epoch), ("task_1", 3));
}

#[tokio::test]
async fn other_services_are_not_there() {
    let world = World::new().await;
    let mut workers = WorkerServiceClient::new(world.channel().await);
    let refused = in_time(workers.report(v1::ReportRequest::default())).await;
    let refused = refused.expect_err("refused");
    assert_eq!(
        (refused.code(), reason(&refused)),
        (Code::Unimplemented, "NOT_SERVED_HERE".to_owned())
    );
}

#[tokio::test]
async fn a_process_outside_the_attempt_is_refused() {
    let mut other = std::process::Command::new("sleep")
        .arg("600")
        .spawn()
        .expect("a process");
    for shim_pid in [Some(other.id()), None] {
        let world = World::with(shim_pid, None).await;
        let refused = in_time(world.agent().await.get_self(v1::GetSelfRequest {})).await;
        let refused = refused.expect_err("refused");
        assert_eq!(
            (refused.code(), reason(&refused)),
            (Code::PermissionDenied, "NOT_THIS_ATTEMPT".to_owned())
        );
    }
    other.kill().expect("it is killed");
    other.wait().expect("it ends");
}

#[tokio::test]
async fn a_lost_lease_ends_what_is_under_way_and_what_comes_later() {
    let mut world = World::new().await;
    let mut tail = in_time(
        world
            .tasks()
            .await
            .tail_output(v1::TailOutputRequest::default()),
    )
    .await
    .expect("a stream")
    .into_inner();
    in_time(tail.message()).await.expect("a first item");
    let mut waiter = world.tasks().await;
    let waiting =
        tokio::spawn(async move { waiter.wait_tasks(v1::WaitTasksRequest::default()).await });
    let mut asked = [world.asked().await, world.asked().await];
    world.waits(true).await;
    world.lost.cancel();
    let ended = in_time(tail.message()).await.expect_err("ended");
    let waited = in_time(waiting)
        .await
        .expect("no panic")
        .expect_err("ended");
    let late = in_time(world.agent().await.get_self(v1::GetSelfRequest {})).await;
    for status in [ended, waited, late.expect_err("refused")] {
        assert_eq!(
            (status.code(), reason(&status)),
            (Code::Aborted, "LEASE_LOST".to_owned())
        );
    }
    for asked in &mut asked {
        assert!(in_time(asked.over.recv()).await.is_none());
    }
    world.waits(false).await;
}

#[tokio::test]
async fn what_the_control_plane_says_of_the_lease_is_believed() {
    let world = World::new().await;
    let post = v1::PostRequest::default();
    let refused = in_time(world.agent().await.post(post)).await;
    let refused = refused.expect_err("refused");
    assert_eq!(refused.message(), "said by the control plane");
    in_time(world.lost.cancelled()).await;
}

#[tokio::test]
async fn a_control_plane_that_is_away_is_told_with_a_time_to_try_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("its address");
    drop(listener);
    let endpoint = format!("http://{address}");
    let world = World::with(Some(std::process::id()), Some(&endpoint)).await;
    let refused = in_time(world.agent().await.get_self(v1::GetSelfRequest {})).await;
    let refused = refused.expect_err("refused");
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(refused.get_error_details().retry_info().is_some());
}

#[tokio::test]
async fn a_stream_that_breaks_ends_as_one_to_be_resumed() {
    let world = World::new().await;
    let broken = match in_time(world.tasks().await.watch(v1::WatchRequest::default())).await {
        Ok(watch) => in_time(watch.into_inner().message()).await.err(),
        // It can break before the answer began.
        Err(status) => Some(status),
    };
    let broken = broken.expect("it broke");
    assert_eq!(broken.code(), Code::Unavailable, "{broken:?}");
    assert!(broken.get_error_details().retry_info().is_some());
}

#[tokio::test]
async fn a_caller_that_goes_away_is_gone_there_too_and_waits_no_more() {
    let mut world = World::new().await;
    let mut agent = world.agent().await;
    let asking = tokio::spawn(async move { agent.ask(v1::AskRequest::default()).await });
    let mut asked = world.asked().await;
    world.waits(true).await;
    asking.abort();
    assert!(in_time(asked.over.recv()).await.is_none());
    world.waits(false).await;
}

#[tokio::test]
async fn a_request_that_is_a_stream_passes() {
    let world = World::new().await;
    let part = |text: &str| v1::PublishArtifactRequest {
        data: text.to_owned().into(),
        ..Default::default()
    };
    let parts = stream::iter([part("one"), part("two")]);
    let answer = in_time(world.agent().await.publish_artifact(parts)).await;
    let artifact = answer.expect("an answer").into_inner().artifact;
    assert_eq!(artifact.expect("an artifact").name, "onetwo");
}

#[tokio::test]
async fn connections_and_calls_have_a_bound() {
    let mut world = World::new().await;
    let mut open = Vec::new();
    for _ in 0..64 {
        let mut agent = world.agent().await;
        in_time(agent.get_self(v1::GetSelfRequest {}))
            .await
            .expect("an answer");
        open.push(agent);
    }
    let refused = in_time(world.agent().await.get_self(v1::GetSelfRequest {})).await;
    let refused = refused.expect_err("refused");
    assert_eq!(
        (refused.code(), reason(&refused)),
        (Code::ResourceExhausted, "TOO_MANY_CONNECTIONS".to_owned())
    );
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..256 {
        let mut agent = open[0].clone();
        waiting.spawn(async move { agent.ask(v1::AskRequest::default()).await });
    }
    let mut asked = Vec::new();
    while asked.len() < 256 {
        let next = world.asked().await;
        if next.path.ends_with("/Ask") {
            asked.push(next);
        }
    }
    let refused = in_time(open[1].get_self(v1::GetSelfRequest {})).await;
    let refused = refused.expect_err("refused");
    assert_eq!(
        (refused.code(), reason(&refused)),
        (Code::ResourceExhausted, "TOO_MANY_CALLS".to_owned())
    );
}

#[tokio::test]
async fn the_end_of_the_attempt_cuts_its_callers_and_removes_the_file() {
    let mut world = World::new().await;
    let mut agent = world.agent().await;
    let asking = tokio::spawn(async move { agent.ask(v1::AskRequest::default()).await });
    let mut asked = world.asked().await;
    assert!(world.path().exists());
    world.over.cancel();
    in_time(&mut world.serving).await.expect("no panic");
    assert!(!world.path().exists());
    in_time(asking)
        .await
        .expect("no panic")
        .expect_err("it was cut");
    assert!(in_time(asked.over.recv()).await.is_none());
}

/// A control plane that answers by the method's name.
async fn start_plane(asked: mpsc::UnboundedSender<Asked>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("its address");
    let plane = service_fn(move |request: Request<Body>| {
        let (over_guard, over) = mpsc::channel(1);
        let told = Asked {
            path: request.uri().path().to_owned(),
            headers: request.headers().clone(),
            over,
        };
        let _ = asked.send(told);
        async move { Ok::<_, Infallible>(answer(request, over_guard).await) }
    });
    let incoming = TcpListenerStream::new(listener);
    tokio::spawn(Server::builder().serve_with_incoming(plane, incoming));
    format!("http://{address}")
}

async fn answer(request: Request<Body>, over_guard: mpsc::Sender<()>) -> Response<Body> {
    let method = request.uri().path().rsplit('/').next().unwrap_or_default();
    match method {
        "GetTask" => {
            let message = v1::GetTaskResponse {
                result_json: "{}".to_owned(),
                ..Default::default()
            };
            respond(vec![Ok(framed(&message)), Ok(fine())], None)
        }
        "GetSelf" => respond(
            vec![Ok(framed(&v1::GetSelfResponse::default())), Ok(fine())],
            None,
        ),
        "PublishArtifact" => {
            let body = request
                .into_body()
                .collect()
                .await
                .expect("a whole request");
            let mut content = body.to_bytes();
            let mut name = String::new();
            while content.len() >= 5 {
                let length = u32::from_be_bytes([content[1], content[2], content[3], content[4]]);
                let message = content.split_to(5 + length as usize).split_off(5);
                let part = v1::PublishArtifactRequest::decode(message).expect("a part");
                name.push_str(std::str::from_utf8(&part.data).expect("text"));
            }
            let artifact = v1::Artifact {
                name,
                ..Default::default()
            };
            let message = v1::PublishArtifactResponse {
                artifact: Some(artifact),
            };
            respond(vec![Ok(framed(&message)), Ok(fine())], None)
        }
        "TailOutput" => respond(
            vec![Ok(framed(&v1::TailOutputResponse::default()))],
            Some(over_guard),
        ),
        "Watch" => respond(vec![Err(Status::internal("it breaks"))], None),
        "Post" => {
            let details = tonic_types::ErrorDetails::with_error_info(
                "LEASE_LOST",
                "taskyard.dev",
                std::collections::HashMap::<String, String>::new(),
            );
            Status::with_error_details(Code::Aborted, "said by the control plane", details)
                .into_http()
        }
        // Ask, WaitTasks: the answer never comes.
        _ => {
            std::future::pending::<()>().await;
            drop(over_guard);
            Response::new(Body::empty())
        }
    }
}

/// With `unended` the answer stays open.
fn respond(
    frames: Vec<Result<Frame<bytes::Bytes>, Status>>,
    unended: Option<mpsc::Sender<()>>,
) -> Response<Body> {
    let frames = stream::iter(frames);
    let body = match unended {
        Some(guard) => {
            let rest = stream::once(async move {
                std::future::pending::<()>().await;
                drop(guard);
                Ok(fine())
            });
            Body::new(StreamBody::new(frames.chain(Box::pin(rest))))
        }
        None => Body::new(StreamBody::new(frames)),
    };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(
        "content-type",
        http::HeaderValue::from_static("application/grpc"),
    );
    headers.insert("x-answer", http::HeaderValue::from_static("too"));
    response
}

fn framed(message: &impl Message) -> Frame<bytes::Bytes> {
    let mut content = vec![0];
    let length = u32::try_from(message.encoded_len()).expect("a short message");
    content.extend_from_slice(&length.to_be_bytes());
    message.encode(&mut content).expect("it fits");
    Frame::data(content.into())
}

fn fine() -> Frame<bytes::Bytes> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
    Frame::trailers(trailers)
}

fn lease() -> Lease {
    Lease::new("task_1", 3, &[9; 16]).expect("a good lease")
}

fn reason(status: &Status) -> String {
    let details = status.get_error_details();
    details
        .error_info()
        .map(|info| info.reason.clone())
        .unwrap_or_default()
}

async fn in_time<T>(waiting: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, waiting)
        .await
        .expect("in time")
}
