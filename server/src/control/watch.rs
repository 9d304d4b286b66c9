//! Watch: the events of many sessions in one stream.

use super::{
    cursor::Cursor,
    namespace,
    outbox::{Outbox, Outgoing, StreamEnd},
    refusal::Refusal,
    watch_filter::WatchFilter,
    watch_session::{SessionWatch, WatchedStream},
    wire_time,
};
use crate::{app::App, limits::turns, store::log_read};
use futures::{StreamExt, stream::FuturesUnordered};
use prost::Message;
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};
use taskyard_proto::v1::{Keepalive, WatchRequest, WatchResponse, watch_response::Item};
use taskyard_telemetry::metrics::table;

/// Most sessions in one stream.
const MAX_SESSIONS: usize = 1_000;
/// Items that wait for the stream's reader.
const BUFFER: usize = 64;
/// Silence before a keepalive: where nothing is said, and its limits.
const DEFAULT_KEEPALIVE: Duration = Duration::from_secs(15);
const MIN_KEEPALIVE: Duration = Duration::from_secs(1);
const MAX_KEEPALIVE: Duration = Duration::from_secs(5 * 60);

/// Follows sessions: each from its cursor on, or with a snapshot first. Ends only when its reader goes or stalls, the
/// store stays away, or the server shuts down.
///
/// # Errors
/// [`Refusal::InvalidField`], [`Refusal::BadToken`] for a cursor that no server made, [`Refusal::NotFound`] for the
/// namespace, [`Refusal::Store`]. The stream itself ends with one of [`Refusal::ShuttingDown`],
/// [`Refusal::ReaderStalled`] and [`Refusal::Store`].
pub async fn watch(
    app: &Arc<App>,
    request: WatchRequest,
) -> Result<Outgoing<WatchResponse>, Refusal> {
    let keepalive = wire_time::duration_field(
        "keepalive",
        request.keepalive.as_ref(),
        MIN_KEEPALIVE,
        MAX_KEEPALIVE,
    )?
    .unwrap_or(DEFAULT_KEEPALIVE);
    if request.sessions.is_empty() || request.sessions.len() > MAX_SESSIONS {
        return Err(Refusal::invalid(
            "sessions",
            format!("must name 1 to {MAX_SESSIONS} sessions"),
        ));
    }
    let filter = WatchFilter::from_request(&request)?;
    let mut seen = HashSet::new();
    let mut places = Vec::with_capacity(request.sessions.len());
    for session in &request.sessions {
        namespace::check_session_id(&session.session_id)?;
        if !seen.insert(&session.session_id) {
            return Err(Refusal::invalid(
                "sessions",
                format!("must name {:?} only once", session.session_id),
            ));
        }
        let cursor = match session.cursor.as_str() {
            "" => None,
            text => Some(Cursor::decode(text)?),
        };
        places.push((session.session_id.clone(), cursor));
    }
    let namespace_id = namespace::find_namespace(app, &request.namespace).await?;
    let wanted: Vec<(i32, String)> = places
        .iter()
        .map(|(id, _)| (namespace_id, id.clone()))
        .collect();
    let mut found: HashMap<String, _> = log_read::find_sessions(app.store.pool(), &wanted)
        .await?
        .into_iter()
        .map(|session| (session.id, session.uid))
        .collect();

    let (outbox, outgoing) = Outbox::open(BUFFER, WatchResponse::encoded_len);
    let app = Arc::clone(app);
    let open = table::STREAMS.hold(&["watch"]);
    turns::spawn(async move {
        let _open = open;
        let mut sessions: FuturesUnordered<_> = places
            .into_iter()
            .map(|(session_id, cursor)| {
                let found = found.remove(&session_id);
                let stream = WatchedStream {
                    app: &app,
                    outbox: &outbox,
                    filter: &filter,
                    keepalive,
                };
                SessionWatch::new(stream, namespace_id, session_id).run(found, cursor)
            })
            .collect();
        let end = tokio::select! {
            () = outbox.closed() => StreamEnd::Gone,
            () = app.shutdown.cancelled() => StreamEnd::Refused(Refusal::ShuttingDown),
            Err(end) = outbox.keep_alive(keepalive, keepalive_item) => end,
            Some(Err(end)) = sessions.next() => end,
        };
        drop(sessions);
        outbox.finish(Err(end));
    });
    Ok(outgoing)
}

fn keepalive_item() -> WatchResponse {
    WatchResponse {
        session_id: String::new(),
        cursor: String::new(),
        item: Some(Item::Keepalive(Keepalive {})),
    }
}
