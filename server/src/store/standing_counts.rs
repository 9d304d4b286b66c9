//! What stands in the queues of all namespaces, and what waits to be handed out: for the metrics.

use super::StoreError;
use sqlx::PgExecutor;

/// Most tasks of one route that are counted in each state, and most of all else.
const MAX_COUNTED: i64 = 10_000;

/// What one namespace has of one kind in one queue.
#[derive(Clone, Debug)]
pub struct StandingRow {
    /// Name of the namespace.
    pub namespace: String,
    /// Name of the queue.
    pub queue: String,
    /// The kind.
    pub kind: String,
    /// Tasks that could start now.
    pub queued: i64,
    /// Tasks that cannot start yet: held, delayed, or backing off.
    pub waiting: i64,
    /// Tasks that run.
    pub running: i64,
    /// Tasks that ask.
    pub awaiting_input: i64,
    /// Seconds for which one of them could have started, at most; none: none could.
    pub oldest_age: Option<f64>,
}

impl StandingRow {
    /// Takes another one's tasks in.
    pub fn add(&mut self, other: &Self) {
        self.queued += other.queued;
        self.waiting += other.waiting;
        self.running += other.running;
        self.awaiting_input += other.awaiting_input;
        let ages = self.oldest_age.into_iter().chain(other.oldest_age);
        self.oldest_age = ages.reduce(f64::max);
    }
}

/// What waits to be handed out.
#[derive(Clone, Copy, Debug)]
pub struct PendingRow {
    /// Wakes that nobody has acknowledged.
    pub wakes: i64,
    /// Deliveries to webhooks that are to be made.
    pub deliveries: i64,
}

/// What all queues hold.
///
/// # Errors
/// Any [`StoreError`].
pub async fn count_tasks(db: impl PgExecutor<'_>) -> Result<Vec<StandingRow>, StoreError> {
    Ok(sqlx::query_file_as!(
        StandingRow,
        "src/store/sql/standing_counts.sql",
        MAX_COUNTED
    )
    .fetch_all(db)
    .await?)
}

/// What waits to be handed out.
///
/// # Errors
/// Any [`StoreError`].
pub async fn count_pending(db: impl PgExecutor<'_>) -> Result<PendingRow, StoreError> {
    Ok(sqlx::query_as!(
        PendingRow,
        r#"select (select count(*) from (select 1 from wake limit $1) w) as "wakes!",
             (select count(*) from (select 1 from webhook_delivery where state = 1 limit $1) d) as "deliveries!""#,
        MAX_COUNTED
    )
    .fetch_one(db)
    .await?)
}
