//! TakeWakes: hands out wakes under a lease, and removes those that were handled.

use super::{definition::check_text, namespace, refusal::Refusal, wire_time::duration_field};
use crate::{
    app::App,
    store::{
        sessions,
        wakes::{self, WakeQuery},
    },
};
use std::time::Duration;
use taskyard_proto::v1::{TakeWakesRequest, TakeWakesResponse};
use taskyard_telemetry::metrics::table;
use tokio::time::Instant;

const MAX_SESSIONS: usize = 1_000;
const MAX_CONSUMER: usize = 128;
const MAX_ACKS: usize = 1_000;
const MAX_WAKES: i32 = 500;
const DEFAULT_WAKES: i32 = 50;
const MAX_WAIT: Duration = Duration::from_secs(60);
const MIN_LEASE: Duration = Duration::from_secs(1);
const MAX_LEASE: Duration = Duration::from_secs(60 * 60);
const DEFAULT_LEASE: Duration = Duration::from_secs(60);
/// What other servers stored, and whose lease has passed, is looked for this often.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// Acknowledges, then takes, waiting for the first wake where that is asked for.
///
/// # Errors
/// [`Refusal::InvalidField`], [`Refusal::NotFound`] for the namespace, [`Refusal::ShuttingDown`], [`Refusal::Store`].
///
/// `is_confined` tells that the caller reaches the sessions that it names only: it acknowledges no others' wakes.
pub async fn take_wakes(
    app: &App,
    request: TakeWakesRequest,
    is_confined: bool,
) -> Result<TakeWakesResponse, Refusal> {
    let limit = check(&request)?;
    let _open = table::STREAMS.hold(&["wakes"]);
    let wait = duration_field("wait", request.wait.as_ref(), Duration::ZERO, MAX_WAIT)?;
    let lease = duration_field("lease", request.lease.as_ref(), MIN_LEASE, MAX_LEASE)?
        .unwrap_or(DEFAULT_LEASE);
    let namespace_id = namespace::find_namespace(app, &request.namespace).await?;
    let mut acknowledged = 0;
    if !request.ack_ids.is_empty() {
        let pool = app.store.pool();
        let own = if is_confined {
            Some(sessions::find_sessions(pool, namespace_id, &request.session_ids).await?)
        } else {
            None
        };
        let (consumer, ids) = (&request.consumer, &request.ack_ids);
        acknowledged =
            wakes::acknowledge(pool, namespace_id, consumer, ids, own.as_deref()).await?;
    }
    let ends_at = Instant::now() + wait.unwrap_or_default();
    // Heard before the first look, so that nothing falls between.
    let mut touches = app.events.subscribe_wakes();
    let wakes = loop {
        let looked_at = Instant::now();
        // sessions may come to be while the call waits
        let sessions = if request.session_ids.is_empty() {
            None
        } else {
            Some(
                sessions::find_sessions(app.store.pool(), namespace_id, &request.session_ids)
                    .await?,
            )
        };
        let query = WakeQuery {
            namespace_id,
            sessions: sessions.as_deref(),
            consumer: &request.consumer,
            limit,
            lease,
        };
        let taken = wakes::take(app.store.pool(), &query).await?;
        if !taken.is_empty() || looked_at >= ends_at {
            break taken;
        }
        let next_look = ends_at.min(looked_at + POLL_INTERVAL);
        tokio::select! {
            _ = tokio::time::timeout_at(next_look, touches.touched()) => {}
            () = app.shutdown.cancelled() => return Err(Refusal::ShuttingDown),
        }
    };
    Ok(TakeWakesResponse {
        wakes,
        acknowledged: i32::try_from(acknowledged).unwrap_or(i32::MAX),
    })
}

/// Checks what has a bound; how many wakes one answer holds.
fn check(request: &TakeWakesRequest) -> Result<i64, Refusal> {
    if request.consumer.is_empty() {
        return Err(Refusal::invalid(
            "consumer",
            "is required: name whoever takes the wakes, the same in every call",
        ));
    }
    check_text("consumer", &request.consumer, MAX_CONSUMER)?;
    if request.session_ids.len() > MAX_SESSIONS {
        return Err(Refusal::invalid(
            "session_ids",
            format!("at most {MAX_SESSIONS} are allowed"),
        ));
    }
    for session_id in &request.session_ids {
        namespace::check_session_id(session_id)?;
    }
    if request.ack_ids.len() > MAX_ACKS {
        return Err(Refusal::invalid(
            "ack_ids",
            format!("at most {MAX_ACKS} are allowed"),
        ));
    }
    match request.max_wakes {
        0 => Ok(i64::from(DEFAULT_WAKES)),
        1..=MAX_WAKES => Ok(i64::from(request.max_wakes)),
        _ => Err(Refusal::invalid(
            "max_wakes",
            format!("must be 1 to {MAX_WAKES}"),
        )),
    }
}
