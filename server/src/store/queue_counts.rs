//! What queues hold.

use super::StoreError;
use chrono::{DateTime, Utc};
use sqlx::PgExecutor;

/// Most tasks of one route that are counted in each state.
pub const MAX_COUNTED: i64 = 10_000;

/// What a queue holds.
#[derive(Clone, Debug)]
pub struct QueueRow {
    /// Its name.
    pub queue: String,
    /// Tasks that could start now.
    pub queued: i64,
    /// Tasks that run.
    pub running: i64,
    /// Tasks that ask.
    pub awaiting_input: i64,
    /// When the oldest queued one was created.
    pub oldest_queued_at: Option<DateTime<Utc>>,
    /// Whether there is more than was counted.
    pub is_partial: bool,
    /// When it was counted.
    pub counted_at: DateTime<Utc>,
}

/// What all queues hold, by name.
///
/// # Errors
/// Any [`StoreError`].
pub async fn count_queues(db: impl PgExecutor<'_>) -> Result<Vec<QueueRow>, StoreError> {
    Ok(
        sqlx::query_file_as!(QueueRow, "src/store/sql/count_queues.sql", MAX_COUNTED)
            .fetch_all(db)
            .await?,
    )
}
