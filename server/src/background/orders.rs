//! Telling workers of cancels at once. A push that is lost is repaired by the next heartbeat.

use crate::{app::App, control::heartbeat, events::Touched};
use taskyard_core::id::WorkerSessionId;
use taskyard_proto::v1::{AttachResponse, attach_response};
use tracing::warn;

/// Runs until the server shuts down.
pub(super) async fn run(app: &App) {
    let mut touches = app.events.subscribe_workers();
    loop {
        let touched = tokio::select! {
            () = app.shutdown.cancelled() => return,
            touched = touches.touched() => touched,
        };
        match touched {
            Touched::One(worker) => tell(app, worker).await,
            Touched::All => {
                for worker in app.registry.ids() {
                    tell(app, worker).await;
                }
            }
        }
    }
}

async fn tell(app: &App, worker: WorkerSessionId) {
    let Some((stream, downlink)) = app.registry.downlink(worker) else {
        return;
    };
    match heartbeat::pending_cancels(app, stream).await {
        Ok(cancels) => {
            for cancel in cancels {
                let message = AttachResponse {
                    message: Some(attach_response::Message::Cancel(cancel)),
                };
                if downlink.try_send(message).is_err() {
                    return;
                }
            }
        }
        Err(error) => warn!(
            error = &error as &dyn std::error::Error,
            "a worker could not be told of its cancels"
        ),
    }
}
