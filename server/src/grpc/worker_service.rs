//! `WorkerService`: the workers' streams, translated.

use crate::{
    app::App,
    control::{
        acquire_leases,
        attach::{self, Admitted, Attachment},
        heartbeat::{self, Unnamed},
        lease_ref::LeaseRef,
        lease_spec,
        push_output::{self, Pushed},
        refusal::Refusal,
        report, worker_files,
    },
    dispatch::{DOWNLINK_CAPACITY, Downlink},
};
use bytes::Bytes;
use futures::{Stream, StreamExt, stream, stream::BoxStream};
use std::{sync::Arc, time::Duration};
use taskyard_proto::v1::{
    AcquireLeasesRequest, AcquireLeasesResponse, AttachRequest, AttachResponse, Drain,
    GetLeaseSpecRequest, GetLeaseSpecResponse, Ping, PushOutputRequest, PushOutputResponse,
    ReadFileRequest, ReadFileResponse, ReportRequest, ReportResponse, WriteFileRequest,
    WriteFileResponse, attach_request, attach_response, worker_service_server::WorkerService,
};
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use tracing::{info, warn};

/// Longest wait for a stream's first message.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a quiet stream is asked for a sign of life.
const PING_INTERVAL: Duration = Duration::from_secs(5);
/// A stream that says nothing for so long is deaf: it gets no more work and is ended.
const DEAF_AFTER: Duration = Duration::from_secs(20);
/// Frames of one output stream that may be on their way into the store.
const PUSHES_UNDER_WAY: usize = 64;

/// The service.
#[derive(Clone)]
pub struct WorkerServiceServer {
    app: Arc<App>,
}

impl WorkerServiceServer {
    /// The service of this server.
    #[must_use]
    pub fn new(app: Arc<App>) -> Self {
        Self { app }
    }
}

#[tonic::async_trait]
impl WorkerService for WorkerServiceServer {
    type AttachStream = BoxStream<'static, Result<AttachResponse, Status>>;
    type PushOutputStream = BoxStream<'static, Result<PushOutputResponse, Status>>;
    type ReadFileStream = BoxStream<'static, Result<ReadFileResponse, Status>>;

    async fn attach(
        &self,
        request: Request<Streaming<AttachRequest>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let mut messages = request.into_inner();
        let first = timeout(HELLO_TIMEOUT, messages.message())
            .await
            .map_err(|_| Status::from(Refusal::invalid("hello", "must come within 10 s")))??;
        let Some(attach_request::Message::Hello(hello)) = first.and_then(|first| first.message)
        else {
            return Err(Refusal::invalid("hello", "must be the first message").into());
        };
        let name = hello.name.clone();
        let (downlink, responses) = mpsc::channel(DOWNLINK_CAPACITY);
        let admitted = attach::attach(&self.app, hello, downlink.clone()).await?;
        info!(worker = %name, session = admitted.stream.worker.0, attach_no = admitted.stream.attach_no, "worker attached");
        let (closing, closed) = mpsc::channel(1);
        let link = Link {
            app: Arc::clone(&self.app),
            stream: admitted.stream,
            downlink,
            is_leaving: false,
            unnamed: Unnamed::default(),
        };
        tokio::spawn(link.run(admitted, messages, closing));
        let responses = ReceiverStream::new(responses).map(Ok);
        // the last item is why the stream ended, if there is a why
        let end = ReceiverStream::new(closed).map(Err);
        Ok(Response::new(until_end(responses, end).boxed()))
    }

    async fn acquire_leases(
        &self,
        request: Request<AcquireLeasesRequest>,
    ) -> Result<Response<AcquireLeasesResponse>, Status> {
        let acquired = acquire_leases::acquire_leases(&self.app, request.into_inner()).await?;
        Ok(Response::new(acquired))
    }

    async fn report(
        &self,
        request: Request<ReportRequest>,
    ) -> Result<Response<ReportResponse>, Status> {
        Ok(Response::new(
            report::report(&self.app, request.into_inner()).await?,
        ))
    }

    async fn push_output(
        &self,
        request: Request<Streaming<PushOutputRequest>>,
    ) -> Result<Response<Self::PushOutputStream>, Status> {
        let app = Arc::clone(&self.app);
        let shutdown = app.shutdown.clone();
        let answers = request
            .into_inner()
            .then(move |frame| {
                let app = Arc::clone(&app);
                async move { Ok::<Pushed, Status>(push_output::push(&app, frame?).await?) }
            })
            .map(|pushed| async move { Ok(pushed?.answer().await?) })
            .buffered(PUSHES_UNDER_WAY)
            .take_until(async move { shutdown.cancelled().await });
        Ok(Response::new(answers.boxed()))
    }

    async fn get_lease_spec(
        &self,
        request: Request<GetLeaseSpecRequest>,
    ) -> Result<Response<GetLeaseSpecResponse>, Status> {
        Ok(Response::new(
            lease_spec::get_lease_spec(&self.app, &request.into_inner()).await?,
        ))
    }

    async fn read_file(
        &self,
        request: Request<ReadFileRequest>,
    ) -> Result<Response<Self::ReadFileStream>, Status> {
        let request = request.into_inner();
        let lease = LeaseRef::try_from(request.lease.as_ref().ok_or_else(lease_missing)?)?;
        let parts = worker_files::read_lease_file(&self.app, lease, &request).await?;
        let responses = parts.map(|part| {
            let part = part?;
            Ok(ReadFileResponse {
                file: part.file,
                data: part.data,
            })
        });
        Ok(Response::new(responses.boxed()))
    }

    async fn write_file(
        &self,
        request: Request<Streaming<WriteFileRequest>>,
    ) -> Result<Response<WriteFileResponse>, Status> {
        let mut messages = request.into_inner();
        let first = timeout(HELLO_TIMEOUT, messages.message())
            .await
            .map_err(|_| Status::from(Refusal::invalid("lease", "must come within 10 s")))??
            .unwrap_or_default();
        let lease = LeaseRef::try_from(first.lease.as_ref().ok_or_else(lease_missing)?)?;
        let rest = messages.map(|message| Ok::<Bytes, Status>(message?.data));
        let parts = stream::once(async { Ok(first.data) }).chain(rest);
        let file = worker_files::write_lease_file(&self.app, lease, &first.name, parts).await?;
        Ok(Response::new(WriteFileResponse { file: Some(file) }))
    }
}

fn lease_missing() -> Status {
    Refusal::invalid("lease", "is required").into()
}

/// Responses until the link says why it ends, or has ended.
fn until_end(
    responses: impl Stream<Item = Result<AttachResponse, Status>> + Send + 'static,
    end: impl Stream<Item = Result<AttachResponse, Status>> + Send + 'static,
) -> impl Stream<Item = Result<AttachResponse, Status>> + Send + 'static {
    responses.chain(end)
}

/// One worker's stream, from its welcome to its end.
struct Link {
    app: Arc<App>,
    stream: Attachment,
    downlink: Downlink,
    is_leaving: bool,
    unnamed: Unnamed,
}

impl Link {
    async fn run(
        mut self,
        admitted: Admitted,
        messages: Streaming<AttachRequest>,
        closing: mpsc::Sender<Status>,
    ) {
        let Admitted {
            welcome, worker, ..
        } = admitted;
        if self.send(attach_response::Message::Welcome(welcome)).await {
            self.app.registry.add(worker);
            if let Err(refusal) = self.serve(messages).await {
                warn!(session = self.stream.worker.0, reason = %refusal, "worker's stream ended");
                // one place, and nobody else sends
                let _ = closing.try_send(refusal.into());
            }
            self.app.registry.remove(self.stream);
        }
        if self.is_leaving {
            attach::leave(&self.app, self.stream).await;
        }
        info!(session = self.stream.worker.0, "worker detached");
    }

    async fn serve(&mut self, mut messages: Streaming<AttachRequest>) -> Result<(), Refusal> {
        let mut pings = interval(PING_INTERVAL);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut ping_number = 0;
        let mut heard_at = Instant::now();
        let shutdown = self.app.shutdown.clone();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => {
                    let reason = "the server is shutting down".to_owned();
                    self.send(attach_response::Message::Drain(Drain { reason })).await;
                    return Err(Refusal::ShuttingDown);
                }
                message = messages.message() => {
                    heard_at = Instant::now();
                    match message {
                        Ok(Some(message)) => self.receive(message).await?,
                        Ok(None) => return Ok(()),
                        Err(status) => {
                            info!(session = self.stream.worker.0, %status, "worker's stream broke");
                            return Ok(());
                        }
                    }
                }
                _ = pings.tick() => {
                    if heard_at.elapsed() > DEAF_AFTER {
                        return Err(Refusal::WorkerSessionLost);
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
                let number = beat.number;
                match heartbeat::heartbeat(&self.app, self.stream, beat, &mut self.unnamed).await {
                    Ok(ack) => {
                        self.send(attach_response::Message::HeartbeatAck(ack)).await;
                    }
                    // The database is away for a moment: the worker's lease runs on, the next heartbeat may get through.
                    Err(Refusal::Store(error)) => {
                        warn!(
                            number,
                            error = &error as &dyn std::error::Error,
                            "a heartbeat could not be stored"
                        );
                    }
                    Err(refusal) => return Err(refusal),
                }
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
