//! `WorkerService`: the workers' streams, translated.

use super::{
    attach_note::{AttachNote, note_denied},
    connection::Peer,
    ending_body::Reader,
    inside,
    worker_link::WorkerLink,
};
use crate::{
    app::App,
    control::{
        acquire_leases,
        attach::{self},
        confirm_signal, lease_holders,
        lease_ref::LeaseRef,
        lease_spec,
        push_output::{self, Pushed},
        reach::Subject,
        read_input, read_terminal_size,
        refusal::Refusal,
        report, task_secrets, worker_files,
    },
    dispatch::DOWNLINK_CAPACITY,
};
use bytes::Bytes;
use futures::{Stream, StreamExt, stream, stream::BoxStream};
use std::{sync::Arc, time::Duration};
use taskyard_proto::v1::{
    AcquireLeasesRequest, AcquireLeasesResponse, AttachRequest, AttachResponse,
    ConfirmSignalRequest, ConfirmSignalResponse, GetLeaseSecretsRequest, GetLeaseSecretsResponse,
    GetLeaseSpecRequest, GetLeaseSpecResponse, Hello, Lease, ListFilesRequest, ListFilesResponse,
    PushOutputRequest, PushOutputResponse, ReadFileRequest, ReadFileResponse, ReadInputRequest,
    ReadInputResponse, ReadTerminalSizeRequest, ReadTerminalSizeResponse, ReportRequest,
    ReportResponse, WriteFileRequest, WriteFileResponse, attach_request,
    worker_service_server::WorkerService,
};
use taskyard_telemetry::metrics::table;
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Extensions, Request, Response, Status, Streaming};
use tracing::info;

/// Longest wait for a stream's first message.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// Path of the call whose denials come after its answer has begun.
const PUSH_OUTPUT: &str = "/taskyard.v1.WorkerService/PushOutput";
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
        let (_, extensions, mut messages) = request.into_parts();
        let identity = inside::caller_identity(&extensions)?;
        let first = timeout(HELLO_TIMEOUT, messages.message())
            .await
            .map_err(|_| Status::from(Refusal::invalid("hello", "must come within 10 s")))??;
        let Some(attach_request::Message::Hello(hello)) = first.and_then(|first| first.message)
        else {
            return Err(Refusal::invalid("hello", "must be the first message").into());
        };
        name_worker(&extensions, &hello);
        let name = hello.name.clone();
        let (downlink, responses) = mpsc::channel(DOWNLINK_CAPACITY);
        let admitted = attach::attach(&self.app, &identity, hello, downlink.clone()).await?;
        info!(worker = %name, worker.session = admitted.stream.worker.0, attach_no = admitted.stream.attach_no, "worker attached");
        let (closing, closed) = mpsc::channel(1);
        let reader = Reader {
            authenticator: Arc::clone(&self.app.authenticator),
            identity,
            certificate: extensions
                .get::<Peer>()
                .and_then(|peer| peer.certificate.clone()),
        };
        let aged = aged(&extensions);
        let link = WorkerLink::new(&self.app, admitted.stream, downlink, reader, aged);
        let open = table::STREAMS.hold(&["attach"]);
        tokio::spawn(async move {
            let _open = open;
            link.run(admitted, messages, closing).await;
        });
        let responses = ReceiverStream::new(responses).map(Ok);
        // the last item is why the stream ended, if there is a why
        let end = ReceiverStream::new(closed).map(Err);
        Ok(Response::new(until_end(responses, end).boxed()))
    }

    async fn acquire_leases(
        &self,
        request: Request<AcquireLeasesRequest>,
    ) -> Result<Response<AcquireLeasesResponse>, Status> {
        let (_, extensions, request) = request.into_parts();
        let identity = inside::caller_identity(&extensions)?;
        if let Some(hello) = &request.hello {
            name_worker(&extensions, hello);
        }
        let mut note = AttachNote::begin(&self.app, &extensions).await?;
        let attached = |is_first| note.attached(is_first);
        let acquired =
            acquire_leases::acquire_leases(&self.app, &identity, request, attached).await;
        acquired.map(Response::new).map_err(|refusal| {
            let status = Status::from(refusal);
            note.refused(status.code());
            status
        })
    }

    async fn report(
        &self,
        request: Request<ReportRequest>,
    ) -> Result<Response<ReportResponse>, Status> {
        let leases = |request: &ReportRequest| -> Vec<Option<Lease>> {
            request
                .items
                .iter()
                .map(|item| item.lease.clone())
                .collect()
        };
        Ok(Response::new(
            report::report(&self.app, inside::held(&self.app, request, leases).await?).await?,
        ))
    }

    async fn push_output(
        &self,
        request: Request<Streaming<PushOutputRequest>>,
    ) -> Result<Response<Self::PushOutputStream>, Status> {
        let app = Arc::clone(&self.app);
        let shutdown = app.shutdown.clone();
        let (_, extensions, frames) = request.into_parts();
        let aged = aged(&extensions);
        let identity = inside::caller_identity(&extensions)?;
        let extensions = Arc::new(extensions);
        let answers = frames
            .then(move |frame| {
                let (app, identity) = (Arc::clone(&app), Arc::clone(&identity));
                let extensions = Arc::clone(&extensions);
                async move {
                    let frame = frame?;
                    let lease = std::iter::once(frame.lease.as_ref());
                    let held = lease_holders::ensure_held_on_wire(&app, &identity, lease).await;
                    if let Err(refusal) = held {
                        let is_denied = matches!(refusal, Refusal::LeaseLost);
                        let status = Status::from(refusal);
                        if is_denied {
                            inside::name_lease(&extensions, frame.lease.as_ref());
                            note_denied(&app, &extensions, PUSH_OUTPUT, &status);
                        }
                        return Err(status);
                    }
                    Ok::<Pushed, Status>(push_output::push(&app, frame).await?)
                }
            })
            .map(|pushed| async move { Ok(pushed?.answer().await?) })
            .buffered(PUSHES_UNDER_WAY);
        Ok(Response::new(until_told(answers, shutdown, aged).boxed()))
    }

    async fn get_lease_spec(
        &self,
        request: Request<GetLeaseSpecRequest>,
    ) -> Result<Response<GetLeaseSpecResponse>, Status> {
        Ok(Response::new(
            lease_spec::get_lease_spec(
                &self.app,
                &inside::held(&self.app, request, |request| vec![request.lease.clone()]).await?,
            )
            .await?,
        ))
    }

    async fn get_lease_secrets(
        &self,
        request: Request<GetLeaseSecretsRequest>,
    ) -> Result<Response<GetLeaseSecretsResponse>, Status> {
        Ok(Response::new(
            task_secrets::get_lease_secrets(
                &self.app,
                &inside::held(&self.app, request, |request| vec![request.lease.clone()]).await?,
            )
            .await?,
        ))
    }

    async fn read_input(
        &self,
        request: Request<ReadInputRequest>,
    ) -> Result<Response<ReadInputResponse>, Status> {
        Ok(Response::new(
            read_input::read_input(
                &self.app,
                &inside::held(&self.app, request, |request| vec![request.lease.clone()]).await?,
            )
            .await?,
        ))
    }

    async fn read_terminal_size(
        &self,
        request: Request<ReadTerminalSizeRequest>,
    ) -> Result<Response<ReadTerminalSizeResponse>, Status> {
        Ok(Response::new(
            read_terminal_size::read_terminal_size(
                &self.app,
                &inside::held(&self.app, request, |request| vec![request.lease.clone()]).await?,
            )
            .await?,
        ))
    }

    async fn confirm_signal(
        &self,
        request: Request<ConfirmSignalRequest>,
    ) -> Result<Response<ConfirmSignalResponse>, Status> {
        confirm_signal::confirm_signal(
            &self.app,
            &inside::held(&self.app, request, |request| vec![request.lease.clone()]).await?,
        )
        .await?;
        Ok(Response::new(ConfirmSignalResponse {}))
    }

    async fn read_file(
        &self,
        request: Request<ReadFileRequest>,
    ) -> Result<Response<Self::ReadFileStream>, Status> {
        let request =
            inside::held(&self.app, request, |request| vec![request.lease.clone()]).await?;
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

    async fn list_files(
        &self,
        request: Request<ListFilesRequest>,
    ) -> Result<Response<ListFilesResponse>, Status> {
        let request =
            inside::held(&self.app, request, |request| vec![request.lease.clone()]).await?;
        let lease = LeaseRef::try_from(request.lease.as_ref().ok_or_else(lease_missing)?)?;
        Ok(Response::new(
            worker_files::list_lease_files(&self.app, lease, &request).await?,
        ))
    }

    async fn write_file(
        &self,
        request: Request<Streaming<WriteFileRequest>>,
    ) -> Result<Response<WriteFileResponse>, Status> {
        let (_, extensions, mut messages) = request.into_parts();
        let first = timeout(HELLO_TIMEOUT, messages.message())
            .await
            .map_err(|_| Status::from(Refusal::invalid("lease", "must come within 10 s")))??
            .unwrap_or_default();
        let lease = LeaseRef::try_from(first.lease.as_ref().ok_or_else(lease_missing)?)?;
        let identity = inside::caller_identity(&extensions)?;
        inside::name_lease(&extensions, first.lease.as_ref());
        let held = lease_holders::ensure_held(&self.app, &identity, &[lease]).await;
        held.map_err(|refusal| inside::denied_lease(&extensions, refusal))?;
        let rest = messages.map(|message| Ok::<Bytes, Status>(message?.data));
        let parts = stream::once(async { Ok(first.data) }).chain(rest);
        let file = worker_files::write_lease_file(&self.app, lease, &first.name, parts).await?;
        Ok(Response::new(WriteFileResponse { file: Some(file) }))
    }
}

/// Cancelled when the streams of a call's connection shall end.
fn aged(extensions: &Extensions) -> CancellationToken {
    let peer = extensions.get::<Peer>();
    peer.map(|peer| peer.streams_end.clone())
        .unwrap_or_default()
}

/// Answers until the server or the connection ends; then why. What is not answered was not taken, and is sent again.
fn until_told(
    answers: impl Stream<Item = Result<PushOutputResponse, Status>> + Send + 'static,
    shutdown: CancellationToken,
    aged: CancellationToken,
) -> impl Stream<Item = Result<PushOutputResponse, Status>> + Send + 'static {
    let told = async move {
        tokio::select! {
            () = shutdown.cancelled() => Refusal::ShuttingDown,
            () = aged.cancelled() => Refusal::ConnectionAged,
        }
    };
    let both = (Box::pin(answers), Box::pin(told));
    stream::unfold(Some(both), |both| async {
        let (mut answers, mut told) = both?;
        tokio::select! {
            refusal = &mut told => Some((Err(refusal.into()), None)),
            answer = answers.next() => answer.map(|answer| (answer, Some((answers, told)))),
        }
    })
}

/// For the audit log.
fn name_worker(extensions: &Extensions, hello: &Hello) {
    if let Some(subject) = extensions.get::<Subject>() {
        subject.attaches(&hello.name, attach::pool_of(hello));
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
