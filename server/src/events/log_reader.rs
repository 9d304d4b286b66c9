//! The one reader of session logs of a server: it reads what is new in all watched sessions in one query, decodes it
//! once, and hands it to whoever follows. Woken by touches, with a poll behind them.

use super::{
    hub::{Shared, lock},
    peers::Backoff,
};
use crate::error_chain::chain;
use crate::store::{
    StoreError,
    log_read::{self, SessionPage},
};
use std::{
    collections::HashSet,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use taskyard_core::id::SessionUid;
use taskyard_telemetry::metrics::table;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

/// Watched logs, awaited sessions and noted progress are looked at this often, touched or not.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Touches within this time are read together.
const COALESCE: Duration = Duration::from_millis(2);
/// Awaited sessions are looked for at most this often.
const ARRIVAL_INTERVAL: Duration = Duration::from_millis(50);
/// Sessions in one query.
const SESSIONS_PER_READ: usize = 256;
/// Pages of one session in one query.
const PAGES_PER_SESSION: i64 = 8;
/// Tasks with progress in one query.
const MAX_PROGRESS: i64 = 1_000;
/// Progress may become visible this much later than its time says; what is read twice does no harm.
const PROGRESS_OVERLAP_MICROS: i64 = 2_000_000;

/// Reads until the shutdown.
pub(super) async fn read_watched_logs(shared: &Shared, shutdown: &CancellationToken) {
    tokio::join!(read_logs(shared, shutdown), find_arrivals(shared, shutdown));
}

async fn read_logs(shared: &Shared, shutdown: &CancellationToken) {
    let mut poll = tokio::time::interval(POLL_INTERVAL);
    poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut backoff = Backoff::default();
    let mut progress = ProgressReader::default();
    loop {
        let is_poll = tokio::select! {
            () = shutdown.cancelled() => return,
            _ = poll.tick() => true,
            () = shared.sessions.work_ready() => {
                tokio::time::sleep(COALESCE).await;
                false
            }
        };
        match shutdown
            .run_until_cancelled(read_round(shared, &mut progress, is_poll))
            .await
        {
            None => return,
            Some(Ok(())) => backoff = Backoff::default(),
            Some(Err(error)) => {
                // What was taken and not read is found by the next poll, which reads every followed log.
                let wait = backoff.next();
                tracing::warn!(
                    error = chain(&error),
                    ?wait,
                    "watched session logs are not read; trying again"
                );
                shutdown.run_until_cancelled(tokio::time::sleep(wait)).await;
                poll.reset_immediately();
            }
        }
    }
}

async fn read_round(
    shared: &Shared,
    progress: &mut ProgressReader,
    is_poll: bool,
) -> Result<(), StoreError> {
    let work = shared.sessions.take_work();
    progress.noted.extend(work.progress);
    let positions = if is_poll || work.everything {
        shared.sessions.followed()
    } else {
        shared.sessions.positions(work.logs.into_iter())
    };
    if work.everything {
        progress
            .noted
            .extend(positions.iter().map(|(session, _)| *session));
    }
    for some in positions.chunks(SESSIONS_PER_READ) {
        let pages = log_read::read_pages(shared.store.pool(), some, PAGES_PER_SESSION).await?;
        let mut last: Option<(SessionUid, i64)> = None;
        for page in pages {
            let count = match last {
                Some((session, count)) if session == page.session => count + 1,
                _ => 1,
            };
            last = Some((page.session, count));
            if count == PAGES_PER_SESSION {
                shared.sessions.read_on(page.session);
            }
            // what a poll finds may be old: it is whoever comes late that reads it then
            if !is_poll {
                note_lag(&page);
            }
            shared.sessions.fan_out(page);
        }
    }
    if is_poll {
        progress.read(shared).await?;
    }
    Ok(())
}

/// How long the page's newest event took from its commit to here, by the clocks of database and server.
fn note_lag(page: &SessionPage) {
    let Some(at) = page.events.last().and_then(|event| event.at) else {
        return;
    };
    let committed_at = Duration::new(
        at.seconds.max(0).cast_unsigned(),
        at.nanos.max(0).cast_unsigned(),
    );
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let lag = now.unwrap_or_default().saturating_sub(committed_at);
    table::EVENT_LAG.record_time(lag, &[]);
}

/// Reads progress that other servers stored.
#[derive(Default)]
struct ProgressReader {
    noted: HashSet<SessionUid>,
    /// Newest time that was read, in microseconds since 1970; 0: none yet.
    read_to: i64,
}

impl ProgressReader {
    async fn read(&mut self, shared: &Shared) -> Result<(), StoreError> {
        if self.noted.is_empty() {
            return Ok(());
        }
        let sessions: Vec<SessionUid> = std::mem::take(&mut self.noted).into_iter().collect();
        let followed: Vec<SessionUid> = shared
            .sessions
            .positions(sessions.into_iter())
            .into_iter()
            .map(|(session, _)| session)
            .collect();
        let since = self.read_to - PROGRESS_OVERLAP_MICROS;
        for some in followed.chunks(SESSIONS_PER_READ) {
            let found =
                log_read::read_progress(shared.store.pool(), some, since, MAX_PROGRESS).await?;
            for stored in found {
                shared
                    .sessions
                    .progress(stored.session, stored.task, stored.progress);
                self.read_to = self.read_to.max(stored.at_micros);
            }
        }
        Ok(())
    }
}

/// Looks for the sessions that are awaited, all in one query.
async fn find_arrivals(shared: &Shared, shutdown: &CancellationToken) {
    loop {
        let next_poll = Instant::now() + POLL_INTERVAL;
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(ARRIVAL_INTERVAL) => {}
        }
        let wanted: Vec<(i32, String)> = {
            let mut arrivals = lock(&shared.arrivals);
            arrivals.retain(|_, arrival| arrival.receiver_count() > 0);
            arrivals.keys().cloned().collect()
        };
        if !wanted.is_empty() {
            match log_read::find_sessions(shared.store.pool(), &wanted).await {
                Ok(found) => {
                    let mut arrivals = lock(&shared.arrivals);
                    for session in found {
                        if let Some(arrival) = arrivals.remove(&(session.namespace_id, session.id))
                        {
                            arrival.send_replace(Some(session.uid));
                        }
                    }
                }
                // The log reader tells of the store's trouble; the next poll looks again.
                Err(error) => {
                    tracing::debug!(error = chain(&error), "awaited sessions are not looked for")
                }
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep_until(next_poll) => {}
            () = shared.sessions.any.notified() => {}
        }
    }
}
