//! What the gauges say: read every few seconds, by every server for itself. What lies in the database is counted only
//! where somebody reads metrics, and comes to the same on every server.

use crate::{
    app::App,
    store::{
        StoreError, migrate,
        standing_counts::{self, StandingRow},
    },
};
use std::time::Duration;
use taskyard_telemetry::{
    metrics::{labels::capped, table},
    pipeline,
};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

/// How often they are read.
const INTERVAL: Duration = Duration::from_secs(5);
/// How long the database may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(4);
/// Labels of a queue's rows that callers choose: namespace, queue, kind.
const CAPPED: [usize; 3] = [0, 1, 2];

/// Reads until the server shuts down.
pub(super) async fn run(app: &App) {
    let mut tick = interval(INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failed = false;
    loop {
        tokio::select! {
            () = app.shutdown.cancelled() => return,
            _ = tick.tick() => {}
        }
        read_process(app);
        let was_failing = std::mem::replace(&mut failed, !read_database(app).await);
        if failed && !was_failing {
            tracing::warn!("the database does not answer in time; its gauges stand still");
        }
    }
}

/// What this process knows by itself.
fn read_process(app: &App) {
    table::COMMIT_QUEUE.set(app.commits.waiting(), &[]);
    let (workers, free) = app.registry.standing();
    table::WORKERS_ATTACHED.set(workers, &[]);
    table::SLOTS_FREE.set(free, &[]);
    #[expect(clippy::cast_precision_loss, reason = "times stay far below 2^52")]
    let end = app.authenticator.soonest_expiry().map(|end| end as f64);
    table::TOKEN_EXPIRY.replace(end.map(|end| (Vec::new(), end)));
    let (open, idle) = app.store.connections();
    table::DATABASE_CONNECTIONS.set(idle, &["idle"]);
    table::DATABASE_CONNECTIONS.set(open.saturating_sub(idle), &["used"]);
}

/// What the database knows; false if it does not tell.
async fn read_database(app: &App) -> bool {
    let asked_at = Instant::now();
    let answered = timeout(ANSWER_TIMEOUT, migrate::is_current(&app.store)).await;
    let is_up = matches!(answered, Ok(Ok(_)));
    table::DATABASE_UP.set(usize::from(is_up), &[]);
    table::DATABASE_PING.set_exact(asked_at.elapsed().as_secs_f64(), &[]);
    if !is_up || !pipeline::is_read() {
        return is_up;
    }
    matches!(timeout(ANSWER_TIMEOUT, count(app)).await, Ok(Ok(())))
}

async fn count(app: &App) -> Result<(), StoreError> {
    let rows = standing_counts::count_tasks(app.store.pool()).await?;
    let rows = rows.into_iter().map(|row| {
        let labels = vec![row.namespace.clone(), row.queue.clone(), row.kind.clone()];
        (labels, row)
    });
    let weight = |row: &StandingRow| row.queued + row.waiting + row.running + row.awaiting_input;
    let rows = capped(rows.collect(), &CAPPED, weight, StandingRow::add);
    table::QUEUE_TASKS.replace(rows.iter().flat_map(|(labels, row)| {
        [
            ("queued", row.queued),
            ("waiting", row.waiting),
            ("running", row.running),
            ("awaiting_input", row.awaiting_input),
        ]
        .into_iter()
        .filter(|(_, count)| *count > 0)
        .map(|(state, count)| {
            let mut labels = labels.clone();
            labels.push(state.to_owned());
            #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
            let count = count as f64;
            (labels, count)
        })
    }));
    table::QUEUE_OLDEST_AGE.replace(
        rows.iter()
            .filter_map(|(labels, row)| Some((labels.clone(), row.oldest_age?.max(0.0)))),
    );
    let pending = standing_counts::count_pending(app.store.pool()).await?;
    let count = |count: i64| usize::try_from(count).unwrap_or(0);
    table::WAKES_PENDING.set(count(pending.wakes), &[]);
    table::WEBHOOKS_PENDING.set(count(pending.deliveries), &[]);
    Ok(())
}
