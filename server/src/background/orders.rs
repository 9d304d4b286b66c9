//! Telling workers of cancels and signals at once. A push that is lost is repaired by the next heartbeat.

use crate::{
    app::App,
    control::{attach::Attachment, heartbeat, refusal::Refusal},
    events::Touched,
};
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
    match orders(app, stream).await {
        Ok(orders) => {
            for order in orders {
                let message = AttachResponse {
                    message: Some(order),
                };
                if downlink.try_send(message).is_err() {
                    return;
                }
            }
        }
        Err(error) => warn!(
            error = &error as &dyn std::error::Error,
            "a worker could not be told of its orders"
        ),
    }
}

async fn orders(app: &App, stream: Attachment) -> Result<Vec<attach_response::Message>, Refusal> {
    let cancels = heartbeat::pending_cancels(app, stream).await?;
    let signals = heartbeat::pending_signals(app, stream).await?;
    let cancels = cancels.into_iter().map(attach_response::Message::Cancel);
    let signals = signals.into_iter().map(attach_response::Message::Signal);
    Ok(cancels.chain(signals).collect())
}
