//! The loop that claims tasks for exactly the free slots of the workers attached here, and offers them.

use super::registry::Registry;
use crate::{
    app::App,
    store::{
        Connection, StoreError,
        claim::{self, Claimed, Slot},
        records::duration_from_ms,
        workers::Attachment,
    },
};
use bytes::Bytes;
use prost::Message;
use std::{collections::HashMap, time::Duration};
use taskyard_core::id::WorkerSessionId;
use taskyard_proto::v1::{AttachResponse, Lease, Offer, attach_response};
use taskyard_telemetry::{
    metrics::table,
    trace::span::{Span, SpanKind},
};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::warn;

/// How often the queue is looked at even if nothing was heard of it.
const POLL: Duration = Duration::from_millis(250);
/// How often routes and clocks of other servers are read, at most: a task of a route that is new here waits for it.
const REFRESH: Duration = Duration::from_millis(200);
/// Most slots of one claim.
const MAX_CLAIM: usize = 256;
/// Largest spec that travels with its offer; a larger one is asked for.
const MAX_OFFERED_SPEC: usize = 64 << 10;
/// Pause after a failed claim.
const FAILURE_PAUSE: Duration = Duration::from_millis(500);

/// Claims and offers until the server shuts down.
pub async fn run(app: &App) {
    let mut connection = None;
    let mut queue = app.events.subscribe_queue();
    let mut poll = interval(POLL);
    poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut refresh_at = Instant::now();
    loop {
        tokio::select! {
            () = app.shutdown.cancelled() => return,
            () = queue.touched() => {}
            () = app.registry.slots_changed() => {}
            _ = poll.tick() => {}
        }
        if let Err(error) = round(app, &mut connection, &mut refresh_at).await {
            connection = None;
            warn!(
                error = &error as &dyn std::error::Error,
                "no tasks could be claimed"
            );
            tokio::time::sleep(FAILURE_PAUSE).await;
        }
    }
}

/// Fills free slots until either they or the tasks for them are used up.
async fn round(
    app: &App,
    connection: &mut Option<Connection>,
    refresh_at: &mut Instant,
) -> Result<(), StoreError> {
    if Instant::now() >= *refresh_at {
        app.routes.refresh(&app.store).await?;
        *refresh_at = Instant::now() + REFRESH;
    }
    for (needs, workers) in app.registry.free_slots() {
        let routes = app.routes.matching(&needs);
        if routes.is_empty() {
            continue;
        }
        let mut slots = deal(workers);
        while !slots.is_empty() {
            let batch: Vec<Slot> = slots.drain(..slots.len().min(MAX_CLAIM)).collect();
            let open = match connection {
                Some(open) => open,
                None => connection.insert(app.store.open().await?),
            };
            let claimed = claim::claim(open, &routes, &batch).await?;
            let is_all = claimed.len() < batch.len();
            offer(app, &app.registry, &batch, claimed);
            if is_all {
                break;
            }
        }
    }
    Ok(())
}

/// The workers' slots one by one, a slot of each worker in turn, so that work spreads.
fn deal(mut workers: Vec<(Attachment, i32)>) -> Vec<Slot> {
    workers.sort_by_key(|(_, free)| -free);
    let most = workers.first().map_or(0, |(_, free)| *free);
    (0..most)
        .flat_map(|turn| workers.iter().filter(move |(_, free)| *free > turn))
        .map(|(stream, _)| Slot {
            worker: stream.worker,
            attach_no: stream.attach_no,
        })
        .collect()
}

fn offer(app: &App, registry: &Registry, slots: &[Slot], claimed: Vec<Claimed>) {
    let streams: HashMap<WorkerSessionId, i64> = slots
        .iter()
        .map(|slot| (slot.worker, slot.attach_no))
        .collect();
    for task in claimed {
        app.task_sessions.remember(task.task, task.session);
        let Some(attach_no) = streams.get(&task.worker) else {
            continue;
        };
        let stream = Attachment {
            worker: task.worker,
            attach_no: *attach_no,
        };
        // A stream that has ended or is full loses the offer; it returns to the queue after a few seconds.
        if let Some(downlink) = registry.note_offer(stream) {
            let message = AttachResponse {
                message: Some(attach_response::Message::Offer(offer_of(task))),
            };
            table::OFFERS.add(1, &[]);
            if downlink.try_send(message).is_err() {
                warn!(
                    worker = stream.worker.0,
                    "an offer did not fit into the worker's stream"
                );
            }
        }
    }
}

/// The span of its wait in the queue, which has just ended; the attempt goes on below it.
fn queue_span(task: &Claimed) -> Span {
    let mut span = Span::begin_at(
        "queue",
        SpanKind::Internal,
        &task.trace,
        false,
        Some(task.queued_at.into()),
    );
    span.set("messaging.system", "taskyard")
        .set("messaging.destination.name", task.queue.clone())
        .set("taskyard.namespace", task.namespace.clone())
        .set("taskyard.session.id", task.session_id.clone())
        .set("taskyard.task.id", task.task.to_string())
        .set("taskyard.task.kind", task.kind.clone())
        .set("taskyard.attempt", i64::from(task.attempt));
    span
}

fn offer_of(task: Claimed) -> Offer {
    let span = queue_span(&task);
    let trace = span.context();
    Offer {
        traceparent: trace.traceparent().to_owned(),
        tracestate: trace.tracestate().to_owned(),
        lease: Some(Lease {
            task_id: task.task.to_string(),
            epoch: task.epoch.0,
            lease_id: Bytes::copy_from_slice(&task.lease_id.0.to_be_bytes()),
        }),
        session_id: task.session_id,
        namespace: task.namespace,
        lease_duration: Some(duration_from_ms(
            i64::try_from(task.lease.as_millis()).unwrap_or(i64::MAX),
        )),
        attempt: task.attempt,
        run: task.run,
        spec: (task.spec.encoded_len() <= MAX_OFFERED_SPEC).then_some(task.spec),
        executor: task.executor,
        timeout: task.timeout_ms.map(duration_from_ms),
        kind: task.kind,
        ordinal: task.ordinal,
        has_secrets: task.has_secrets,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_dealt_in_turn() {
        let stream = |worker: i64| Attachment {
            worker: WorkerSessionId(worker),
            attach_no: 1,
        };
        let dealt = deal(vec![(stream(1), 1), (stream(2), 3)]);
        let workers: Vec<i64> = dealt.iter().map(|slot| slot.worker.0).collect();
        assert_eq!(workers, [2, 1, 2, 2]);
    }
}
