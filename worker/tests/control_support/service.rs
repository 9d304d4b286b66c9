//! The service itself: it notes what it is told and answers as it was told to.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use taskyard_proto::v1;
use taskyard_proto::v1::attach_request::Message as Up;
use taskyard_proto::v1::attach_response::Message as Down;
use taskyard_proto::v1::report_item::Report;
use taskyard_proto::v1::worker_service_server::WorkerService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::{TcpListenerStream, UnboundedReceiverStream};
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

use super::plane::{PlaneState, Shared, StoredStream};

pub struct Service {
    shared: Shared,
}

type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Service {
    pub fn new(shared: Shared) -> Service {
        Service { shared }
    }
}

fn refuses(state: &mut PlaneState, message: &Up) -> bool {
    let Up::Hello(hello) = message else {
        return false;
    };
    let running = v1::HeldStatus::Running;
    let refused = state.refuses_running && hello.held.iter().any(|held| held.status() == running);
    if refused {
        state.hellos.push(hello.clone());
    }
    refused
}

#[tonic::async_trait]
impl WorkerService for Service {
    type AttachStream = Responses<v1::AttachResponse>;
    type PushOutputStream = Responses<v1::PushOutputResponse>;
    type ReadFileStream = Responses<v1::ReadFileResponse>;

    async fn attach(
        &self,
        request: Request<Streaming<v1::AttachRequest>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let mut up = request.into_inner();
        let (down, responses) = mpsc::unbounded_channel();
        let shared = self.shared.clone();
        tokio::spawn(async move {
            while let Some(Ok(message)) = up.next().await {
                let Some(message) = message.message else {
                    continue;
                };
                if refuses(&mut shared.lock(), &message) {
                    let _ = down.send(Err(Status::invalid_argument("is no known status")));
                    return;
                }
                let answers = receive(&mut shared.lock(), message, &down);
                for answer in answers {
                    let _ = down.send(Ok(v1::AttachResponse {
                        message: Some(answer),
                    }));
                }
                shared.changed();
            }
            let mut state = shared.lock();
            state.down.take_if(|newest| newest.same_channel(&down));
        });
        Ok(Response::new(Box::pin(UnboundedReceiverStream::new(
            responses,
        ))))
    }

    /// The worker under test holds a stream.
    async fn acquire_leases(
        &self,
        _request: Request<v1::AcquireLeasesRequest>,
    ) -> Result<Response<v1::AcquireLeasesResponse>, Status> {
        Err(Status::unimplemented(
            "this control plane serves streams only",
        ))
    }

    async fn report(
        &self,
        request: Request<v1::ReportRequest>,
    ) -> Result<Response<v1::ReportResponse>, Status> {
        let verdicts = {
            let mut state = self.shared.lock();
            state.report_calls += 1;
            if let Some(failure) = state.report_failures.pop_front() {
                return Err(failure);
            }
            let items = request.into_inner().items;
            items
                .into_iter()
                .map(|item| judge(&mut state, item))
                .collect()
        };
        self.shared.changed();
        Ok(Response::new(v1::ReportResponse { verdicts }))
    }

    async fn push_output(
        &self,
        request: Request<Streaming<v1::PushOutputRequest>>,
    ) -> Result<Response<Self::PushOutputStream>, Status> {
        let mut frames = request.into_inner();
        let (answers, responses) = mpsc::unbounded_channel();
        let shared = self.shared.clone();
        tokio::spawn(async move {
            while let Some(Ok(frame)) = frames.next().await {
                let answer = {
                    let mut state = shared.lock();
                    if state.output_is_stalled {
                        continue;
                    }
                    if let Some(left) = state.break_output_after.as_mut() {
                        if *left == 0 {
                            state.break_output_after = None;
                            let _ = answers.send(Err(Status::unavailable("broken by the test")));
                            return;
                        }
                        *left -= 1;
                    }
                    store(&mut state, frame)
                };
                let _ = answers.send(Ok(answer));
                shared.changed();
            }
        });
        Ok(Response::new(Box::pin(UnboundedReceiverStream::new(
            responses,
        ))))
    }

    async fn get_lease_spec(
        &self,
        request: Request<v1::GetLeaseSpecRequest>,
    ) -> Result<Response<v1::GetLeaseSpecResponse>, Status> {
        let lease = request.into_inner().lease.unwrap_or_default();
        let spec = self.shared.lock().specs.get(&lease.task_id).cloned();
        Ok(Response::new(v1::GetLeaseSpecResponse { spec }))
    }

    async fn get_lease_secrets(
        &self,
        _request: Request<v1::GetLeaseSecretsRequest>,
    ) -> Result<Response<v1::GetLeaseSecretsResponse>, Status> {
        Err(Status::unimplemented("no test has secrets"))
    }

    async fn read_terminal_size(
        &self,
        _request: Request<v1::ReadTerminalSizeRequest>,
    ) -> Result<Response<v1::ReadTerminalSizeResponse>, Status> {
        Err(Status::unimplemented("there are no terminals here"))
    }

    async fn read_input(
        &self,
        _request: Request<v1::ReadInputRequest>,
    ) -> Result<Response<v1::ReadInputResponse>, Status> {
        Err(Status::unimplemented("no test has live input"))
    }

    async fn confirm_signal(
        &self,
        _request: Request<v1::ConfirmSignalRequest>,
    ) -> Result<Response<v1::ConfirmSignalResponse>, Status> {
        Err(Status::unimplemented("no test sends a signal"))
    }

    async fn list_files(
        &self,
        _request: Request<v1::ListFilesRequest>,
    ) -> Result<Response<v1::ListFilesResponse>, Status> {
        Err(Status::unimplemented("no test lists files"))
    }

    async fn read_file(
        &self,
        _: Request<v1::ReadFileRequest>,
    ) -> Result<Response<Self::ReadFileStream>, Status> {
        Err(Status::not_found("no test reads files"))
    }

    async fn write_file(
        &self,
        request: Request<Streaming<v1::WriteFileRequest>>,
    ) -> Result<Response<v1::WriteFileResponse>, Status> {
        let mut pieces = request.into_inner();
        let mut key = None;
        let mut content = Vec::new();
        while let Some(piece) = pieces.next().await {
            let piece = piece?;
            key = key.or_else(|| piece.lease.map(|lease| (lease.task_id, piece.name)));
            content.extend_from_slice(&piece.data);
        }
        let key = key.ok_or_else(|| Status::invalid_argument("the first piece names no lease"))?;
        self.shared.lock().files.insert(key, content);
        self.shared.changed();
        Ok(Response::new(v1::WriteFileResponse { file: None }))
    }
}

fn receive(state: &mut PlaneState, message: Up, down: &super::plane::Down) -> Vec<Down> {
    match message {
        Up::Hello(hello) => {
            state.hellos.push(hello);
            state.down = Some(down.clone());
            let interval = state
                .heartbeat_interval
                .unwrap_or(std::time::Duration::from_millis(200));
            vec![Down::Welcome(v1::Welcome {
                worker_session_id: "worker-session".to_owned(),
                attach_no: state.hellos.len() as i64,
                protocol: 1,
                heartbeat_interval: Some(super::to_wire(interval)),
                store_id: "store".to_owned(),
                resumed: Vec::new(),
            })]
        }
        Up::Slots(slots) => {
            state.slots.push(slots);
            Vec::new()
        }
        Up::Heartbeat(heartbeat) => {
            let number = heartbeat.number;
            state.heartbeats.push(heartbeat);
            if state.heartbeats_are_ignored {
                return Vec::new();
            }
            let send_held = std::mem::take(&mut state.next_ack_asks_for_all);
            vec![Down::HeartbeatAck(v1::HeartbeatAck {
                number,
                send_held,
                ..Default::default()
            })]
        }
        Up::Pong(pong) => {
            state.pongs.push(pong.number);
            Vec::new()
        }
        Up::Goodbye(v1::Goodbye {}) => {
            state.goodbyes += 1;
            Vec::new()
        }
    }
}

fn judge(state: &mut PlaneState, item: v1::ReportItem) -> v1::ItemVerdict {
    let scripted = match &item.report {
        Some(Report::Start(_)) => state.start_verdicts.pop_front(),
        Some(Report::Finish(_)) => state.finish_verdicts.pop_front(),
        Some(Report::Progress(_) | Report::Artifact(_) | Report::Release(_)) => None,
        None => Some(v1::Verdict::Rejected),
    };
    state.reports.push(item);
    let verdict = scripted.unwrap_or(v1::Verdict::Applied);
    v1::ItemVerdict {
        verdict: verdict.into(),
        message: String::new(),
    }
}

/// Stores as the contract says: overlap must agree, and a gap is allowed beyond the head only.
fn store(state: &mut PlaneState, frame: v1::PushOutputRequest) -> v1::PushOutputResponse {
    let lease = frame.lease.unwrap_or_default();
    let head = frame.head_bytes as u64;
    let mut violations = Vec::new();
    let key = |stream: i32| (lease.task_id.clone(), frame.run, stream);
    for chunk in &frame.chunks {
        let stored = state.output.entry(key(chunk.stream)).or_default();
        if let Err(violation) = append(stored, chunk.offset as u64, &chunk.data, head) {
            violations.push(violation);
        }
    }
    for total in &frame.totals {
        let stored = state.output.entry(key(total.stream)).or_default();
        stored.total = stored.total.max(total.offset as u64);
    }
    state.violations.append(&mut violations);
    let verdict = state
        .output_verdicts
        .pop_front()
        .unwrap_or(v1::Verdict::Applied);
    let durable: Vec<v1::OutputPosition> = [v1::OutputStream::Stdout, v1::OutputStream::Stderr]
        .map(|stream| {
            let stored = state.output.get(&key(stream.into()));
            let offset = stored.map_or(0, |stored| stored.durable);
            v1::OutputPosition {
                stream: stream.into(),
                offset: offset as i64,
            }
        })
        .into();
    v1::PushOutputResponse {
        task_id: lease.task_id.clone(),
        run: frame.run,
        received: durable.clone(),
        durable,
        verdict: verdict.into(),
        message: String::new(),
    }
}

fn append(stored: &mut StoredStream, offset: u64, data: &[u8], head: u64) -> Result<(), String> {
    if offset > stored.durable && stored.durable < head {
        return Err(format!("a gap in the head: {}..{offset}", stored.durable));
    }
    let known = usize::try_from(stored.durable.saturating_sub(offset)).expect("small");
    if known < data.len() {
        stored
            .pieces
            .insert(offset.max(stored.durable), data[known..].to_vec());
        stored.durable = offset + data.len() as u64;
    }
    Ok(())
}

/// Sockets that break when the stream of sockets is dropped, which is what a crash of the server looks like.
pub fn breakable(listener: TcpListenerStream) -> impl Stream<Item = io::Result<Breakable>> {
    let (guard, broken) = oneshot::channel::<()>();
    let guard = Arc::new(guard);
    let broken = futures::FutureExt::shared(broken);
    listener.map(move |socket| {
        let _alive = &guard;
        socket.map(|socket| Breakable {
            socket,
            broken: broken.clone(),
            is_broken: false,
        })
    })
}

pub struct Breakable {
    socket: TcpStream,
    broken: futures::future::Shared<oneshot::Receiver<()>>,
    is_broken: bool,
}

impl Breakable {
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        // A future that is over must not be polled again.
        self.is_broken = self.is_broken || Pin::new(&mut self.broken).poll(context).is_ready();
        if self.is_broken {
            Err(io::ErrorKind::ConnectionReset.into())
        } else {
            Ok(())
        }
    }
}

impl tonic::transport::server::Connected for Breakable {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Breakable {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.socket).poll_read(context, buffer)
    }
}

impl AsyncWrite for Breakable {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check(context)?;
        Pin::new(&mut self.socket).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}
