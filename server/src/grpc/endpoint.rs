//! The port: all services on one listener, as gRPC and gRPC-Web, over HTTP/2 and HTTP/1.1.

use super::{
    admin_service::OperatorService, authentication::AuthenticationLayer,
    bad_message::BadMessageLayer, call_telemetry::CallTelemetryLayer, connection,
    external_scaler::Scaler, panic_guard::PanicGuardLayer, parting_body::PartingLayer, serving,
    session_file_service::FileService, session_task_service::TaskService,
    task_agent_service::AgentService, webhook_service::HookService, worker_service,
};
use crate::app::App;
use std::{pin::pin, sync::Arc, time::Duration};
use taskyard_proto::{
    FILE_DESCRIPTOR_SET,
    externalscaler::external_scaler_server::{self, ExternalScalerServer},
    v1::{
        admin_service_server::{self, AdminServiceServer},
        session_file_service_server::{self, SessionFileServiceServer},
        session_task_service_server::{self, SessionTaskServiceServer},
        task_agent_service_server::{self, TaskAgentServiceServer},
        webhook_service_server::{self, WebhookServiceServer},
        worker_service_server::{self, WorkerServiceServer},
    },
};
use tokio::{net::TcpListener, time::timeout};
use tokio_util::sync::CancellationToken;
use tonic::{service::Routes, transport::Server};
use tonic_health::{ServingStatus, server::HealthReporter};
use tonic_web::GrpcWebLayer;

/// Flow-control windows, so that one stream fills a fast but distant link.
const STREAM_WINDOW: u32 = 2 << 20;
const CONNECTION_WINDOW: u32 = 8 << 20;
/// Calls that one connection may have open.
const MAX_CONCURRENT_STREAMS: u32 = 4_096;
/// Most bytes of the headers of a call, names included; and how many streams of a connection may have been reset before
/// they were looked at: beyond that the connection is ended. Resets by the server itself are not bounded: each call that is
/// refused before its message was read counts as one, and a thousand refusals must not cost a client its connection.
const MAX_HEADER_BYTES: u32 = 16 << 10;
const MAX_PENDING_RESETS: usize = 64;
/// A peer that is silent for this long is asked whether it is there, and then has this long to answer.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest message that is taken; a larger one is answered with RESOURCE_EXHAUSTED and this limit.
pub(super) const MAX_MESSAGE_BYTES: usize = 4 << 20;
/// How long calls may take to end once the server shuts down.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// The services whose health is told, beside that of the whole server, whose name is empty.
const SERVICES: [&str; 8] = [
    "",
    session_task_service_server::SERVICE_NAME,
    session_file_service_server::SERVICE_NAME,
    task_agent_service_server::SERVICE_NAME,
    webhook_service_server::SERVICE_NAME,
    worker_service_server::SERVICE_NAME,
    admin_service_server::SERVICE_NAME,
    external_scaler_server::SERVICE_NAME,
];

/// Why the port could not be served.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// The built-in descriptors cannot be read.
    #[error("the descriptors of the services cannot be read")]
    Descriptors(#[from] tonic_reflection::server::Error),
}

/// Serves until `app.shutdown`, then closes the port and gives the calls that are under way five seconds; whatever is
/// still open then is cut. From `app.leaving` on its health says that it is not serving.
///
/// # Errors
/// Any [`EndpointError`].
pub async fn serve(app: Arc<App>, listener: TcpListener) -> Result<(), EndpointError> {
    let (health, health_service) = tonic_health::server::health_reporter();
    for service in SERVICES {
        health
            .set_service_status(service, ServingStatus::Serving)
            .await;
    }
    let (leaving, shutdown) = (app.leaving.clone(), app.shutdown.clone());
    let max_age = app.max_connection_age;
    let cut = CancellationToken::new();
    let tasks = SessionTaskServiceServer::new(TaskService::new(app.clone()))
        .max_decoding_message_size(MAX_MESSAGE_BYTES);
    let agents = TaskAgentServiceServer::new(AgentService::new(app.clone()))
        .max_decoding_message_size(MAX_MESSAGE_BYTES);
    let workers = WorkerServiceServer::new(worker_service::WorkerServiceServer::new(app.clone()))
        .max_decoding_message_size(MAX_MESSAGE_BYTES);
    let files = SessionFileServiceServer::new(FileService::new(app.clone()))
        .max_decoding_message_size(MAX_MESSAGE_BYTES);
    let webhooks = WebhookServiceServer::new(HookService::new(app.clone()))
        .max_decoding_message_size(MAX_MESSAGE_BYTES);
    let scaler = ExternalScalerServer::new(Scaler::new(app.clone()))
        .max_decoding_message_size(MAX_MESSAGE_BYTES);
    let door = AuthenticationLayer::new(app.clone());
    let tls = app.tls.clone();
    let connections = app.connections.clone();
    let admin = AdminServiceServer::new(OperatorService::new(app))
        .max_decoding_message_size(MAX_MESSAGE_BYTES);
    let transport = Server::builder()
        .accept_http1(true)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(MAX_CONCURRENT_STREAMS)
        .http2_max_header_list_size(MAX_HEADER_BYTES)
        .http2_max_pending_accept_reset_streams(Some(MAX_PENDING_RESETS))
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .layer(GrpcWebLayer::new())
        .layer(CallTelemetryLayer)
        .layer(PanicGuardLayer)
        .layer(door)
        .layer(PartingLayer)
        .layer(BadMessageLayer);
    let services = Routes::new(health_service)
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?)
        .add_service(tasks)
        .add_service(files)
        .add_service(workers)
        .add_service(agents)
        .add_service(webhooks)
        .add_service(scaler)
        .add_service(admin)
        .prepare();
    let serve_one = |connection: serving::OneConnection, goodbye: CancellationToken| {
        let (transport, services) = (transport.clone(), services.clone());
        async move {
            let goodbye = goodbye.cancelled_owned();
            // it fails only by making a service, which cannot fail
            let _ = transport
                .serve_with_incoming_shutdown(services, connection, goodbye)
                .await;
        }
    };
    let mut serving = pin!(serving::serve(
        connection::accept(listener, tls, connections, cut.clone()),
        serve_one,
        max_age,
        &shutdown,
    ));
    tokio::select! {
        () = &mut serving => return Ok(()),
        () = leaving.cancelled() => {}
    }
    tell_the_leave(&health).await;
    tokio::select! {
        () = &mut serving => return Ok(()),
        () = shutdown.cancelled() => {}
    }
    let_watchers_go(&health).await;
    if timeout(DRAIN_TIMEOUT, &mut serving).await.is_ok() {
        return Ok(());
    }
    tracing::warn!("calls are still open {DRAIN_TIMEOUT:?} after the shutdown began; they are cut");
    cut.cancel();
    // no connection can be used any more; what is left after that is on its way out
    let _ = timeout(serving::CUT_TIMEOUT, serving).await;
    Ok(())
}

/// Tells those who ask and those who watch that it is over.
async fn tell_the_leave(health: &HealthReporter) {
    for service in SERVICES {
        health
            .set_service_status(service, ServingStatus::NotServing)
            .await;
    }
}

/// Lets go of those who watch the health: their calls would hold up the end.
async fn let_watchers_go(health: &HealthReporter) {
    let mut health = health.clone();
    for service in SERVICES {
        health.clear_service_status(service).await;
    }
}

fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}
