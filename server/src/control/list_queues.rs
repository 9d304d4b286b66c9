//! Listing what the queues hold.

use super::{page_token, refusal::Refusal};
use crate::{
    app::App,
    store::{
        queue_counts::{self, QueueRow},
        times,
    },
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use taskyard_proto::v1::{ListQueuesRequest, ListQueuesResponse, Queue};
use tokio::sync::Mutex;

const DEFAULT_PAGE: u32 = 100;
const LARGEST_PAGE: u32 = 500;
const SCOPE: [&str; 1] = ["list queues"];
/// For how long a count is given out; each server counts once in this time, however many ask.
const FRESH: Duration = Duration::from_secs(1);

/// What was counted last, by this server.
#[derive(Debug, Default)]
pub struct QueueCounts {
    counted: Mutex<Option<(Instant, Arc<[QueueRow]>)>>,
}

impl QueueCounts {
    /// Counts, unless that was done within the last second. Who comes meanwhile waits for the count that is under way.
    async fn read(&self, app: &App) -> Result<Arc<[QueueRow]>, Refusal> {
        let mut counted = self.counted.lock().await;
        if let Some((at, rows)) = &*counted
            && at.elapsed() < FRESH
        {
            return Ok(rows.clone());
        }
        let at = Instant::now();
        let rows: Arc<[QueueRow]> = queue_counts::count_queues(app.store.pool()).await?.into();
        *counted = Some((at, rows.clone()));
        Ok(rows)
    }
}

/// Lists the queues, by name.
///
/// # Errors
/// [`Refusal::InvalidField`], [`Refusal::BadToken`], [`Refusal::Store`].
pub async fn list_queues(
    app: &App,
    request: &ListQueuesRequest,
) -> Result<ListQueuesResponse, Refusal> {
    let limit = page_token::page_size(request.page_size, DEFAULT_PAGE, LARGEST_PAGE)? as usize;
    let after = page_token::decode(&SCOPE, &request.page_token)?;
    let rows = app.queue_counts.read(app).await?;
    let start = after.map_or(0, |after| {
        rows.partition_point(|row| row.queue.as_str() <= after.as_str())
    });
    let rest = rows.get(start..).unwrap_or_default();
    let page = rest.get(..limit).unwrap_or(rest);
    Ok(ListQueuesResponse {
        queues: page.iter().map(to_queue).collect(),
        next_page_token: match page.last() {
            Some(last) if rest.len() > page.len() => page_token::encode(&SCOPE, &last.queue),
            Some(_) | None => String::new(),
        },
        counted_at: rows.first().map(|row| times::to_proto(row.counted_at)),
    })
}

fn to_queue(row: &QueueRow) -> Queue {
    Queue {
        name: row.queue.clone(),
        queued: row.queued,
        running: row.running,
        awaiting_input: row.awaiting_input,
        oldest_queued_at: row.oldest_queued_at.map(times::to_proto),
        is_partial: row.is_partial,
    }
}
