//! What a pool of workers has to do.

use super::{StoreError, queue_counts::MAX_COUNTED};
use sqlx::PgExecutor;

/// What a pool has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backlog {
    /// Tasks that could start now, at most [`MAX_COUNTED`] of each route.
    pub queued: i64,
    /// Tasks that its workers hold, those that wait for an answer among them.
    pub held: i64,
    /// Tasks that those of its workers hold that drain, and take no more.
    pub draining: i64,
}

/// Counts what is queued on routes, and what the workers hold that carry all of these labels (a JSON object) and serve
/// one of these queues.
///
/// # Errors
/// Any [`StoreError`].
pub async fn count_backlog(
    db: impl PgExecutor<'_>,
    routes: &[i32],
    labels_json: &str,
    queues: &[String],
) -> Result<Backlog, StoreError> {
    Ok(sqlx::query_file_as!(
        Backlog,
        "src/store/sql/count_backlog.sql",
        routes,
        labels_json,
        queues,
        MAX_COUNTED
    )
    .fetch_one(db)
    .await?)
}
