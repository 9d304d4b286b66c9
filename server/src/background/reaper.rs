//! Recovering the work of lost workers.
//!
//! A lease is over when its worker was not heard for the whole of it. After a gap of its own (a paused server, a stalled
//! database, a jump of the clock) the reaper waits one whole lease before it believes any silence: during the gap no
//! heartbeat could be stored either. So it does where the store is another one: it knows heartbeats up to the copy only,
//! and workers have yet to tell it again what ended since.

use crate::{
    app::App,
    commit::{Change, CommitError, Content},
    store::{StoreError, creates, identity, workers},
};
use std::{cmp, time::Duration};
use taskyard_core::{
    Timestamp,
    id::TaskId,
    task::{Event, Loss},
};
use taskyard_telemetry::metrics::table;
use tokio::time::Instant;
use tracing::{info, warn};

/// Leases of one page.
const PAGE: i64 = 200;
/// Bounds of the pause between two looks.
const MIN_PAUSE: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// How far the database's clock may run from ours between two looks.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(1);

/// Runs until the server shuts down.
pub(super) async fn run(app: &App) {
    let shortest = app.lease.retryable.min(app.lease.other);
    let pause = (shortest / 8).clamp(MIN_PAUSE, MAX_PAUSE);
    let tolerated_gap = cmp::max(shortest / 2, pause * 3);
    let mut watch = Watch::default();
    loop {
        tokio::select! {
            () = app.shutdown.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        let looked = async {
            let store = app.events.identity().borrow().clone();
            let now = creates::now(app.store.pool()).await?;
            let since = watch.look(&store, now, tolerated_gap);
            reap(app, since, tolerated_gap, &store).await
        };
        if let Err(error) = looked.await {
            warn!(
                error = &error as &dyn std::error::Error,
                "lost workers could not be looked for"
            );
        }
    }
}

/// When the reaper looked last, and since when it has looked at this store without a gap.
#[derive(Default)]
struct Watch {
    store: String,
    last: Option<(Instant, Timestamp)>,
    since: Option<Timestamp>,
}

impl Watch {
    /// Notes a look; says since when silence counts.
    fn look(&mut self, store: &str, now: Timestamp, tolerated_gap: Duration) -> Timestamp {
        let here = Instant::now();
        let is_same = self.store == store;
        store.clone_into(&mut self.store);
        let is_unbroken = is_same
            && self.last.is_some_and(|(then_here, then)| {
                let ours = here.duration_since(then_here);
                let theirs = Duration::from_micros(u64::try_from(now.0 - then.0).unwrap_or(0));
                ours <= tolerated_gap && ours.abs_diff(theirs) <= CLOCK_TOLERANCE
            });
        self.last = Some((here, now));
        match self.since {
            Some(since) if is_unbroken => since,
            Some(_) | None => *self.since.insert(now),
        }
    }
}

async fn reap(
    app: &App,
    since: Timestamp,
    tolerated_gap: Duration,
    store: &str,
) -> Result<(), StoreError> {
    let mut after = TaskId(0);
    loop {
        let asked_at = Instant::now();
        let page = workers::list_expired(app.store.pool(), since, after, PAGE).await?;
        if asked_at.elapsed() > tolerated_gap {
            // the gap lay within the question itself; the next look will count from its end
            return Ok(());
        }
        let Some(last) = page.last() else { break };
        let present = identity::store_identity(&app.store).await?;
        if present != store {
            // the next look counts from then on
            app.events.notice_store(present);
            return Ok(());
        }
        after = last.lease.task;
        // all are queued before any is waited for, so that they share their transactions
        let mut answers = Vec::with_capacity(page.len());
        for expired in &page {
            let lease = expired.lease;
            let event = Event::Lost {
                epoch: lease.epoch,
                lease_id: lease.lease_id,
                loss: Loss::Gone,
            };
            let change = Change {
                if_renewed_before: Some(expired.renewed_before),
                ..Change::new(lease.task, event, Content::None)
            };
            match app.commits.change_later(lease.session, change) {
                Ok(answer) => answers.push((lease.task, answer)),
                Err(error) => {
                    warn!(task.id = %lease.task, %error, "a lost lease could not be ended")
                }
            }
        }
        for (task, answer) in answers {
            match answer.await.unwrap_or(Err(CommitError::ShuttingDown)) {
                Ok(changed) => {
                    table::REAPED.add(1, &["lease"]);
                    info!(task.id = %task, run = changed.after.task.run, state = changed.after.task.state.as_str(), "recovered from a lost worker");
                }
                Err(CommitError::Rejected { .. } | CommitError::NotFound) => {}
                Err(CommitError::Store(error)) => return Err(error),
                // the next look tries again
                Err(error) => warn!(task.id = %task, %error, "a lost lease could not be ended"),
            }
        }
    }
    let silence = app.lease.retryable.max(app.lease.other);
    for worker in workers::give_up_workers(app.store.pool(), since, silence).await? {
        app.registry.give_up(worker);
        table::REAPED.add(1, &["worker_session"]);
        info!(worker.session = worker.0, "a worker session was given up");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn silence_counts_from_the_last_gap_on() {
        let gap = Duration::from_secs(5);
        let mut watch = Watch::default();
        let second = |n: i64| Timestamp(n * 1_000_000);
        assert_eq!(watch.look("first", second(100), gap), second(100));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(watch.look("first", second(101), gap), second(100));
        // our own pause
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(watch.look("first", second(111), gap), second(111));
        // a jump of the database's clock
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(watch.look("first", second(500), gap), second(500));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(watch.look("first", second(501), gap), second(500));
        // another store
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(watch.look("second", second(502), gap), second(502));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(watch.look("second", second(503), gap), second(502));
    }
}
