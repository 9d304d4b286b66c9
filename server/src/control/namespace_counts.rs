//! What the sessions of a namespace have together: added up from their counts, and remembered for a moment.

use super::refusal::Refusal;
use crate::{
    app::App,
    store::{
        sessions::{self, NamespaceRow},
        times,
    },
};
use lru::LruCache;
use std::{
    num::NonZeroUsize,
    time::{Duration, Instant},
};
use taskyard_proto::v1 as wire;
use tokio::sync::Mutex;

/// Most sessions that are added up.
const MAX_SESSIONS: i64 = 100_000;
/// For how long a count is given out; each server counts a namespace once in this time, however many ask.
const FRESH: Duration = Duration::from_secs(1);
/// Namespaces whose counts are remembered.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(1_024).expect("not zero");

/// What was counted lately, by this server.
#[derive(Debug)]
pub struct NamespaceCounts {
    counted: Mutex<LruCache<i32, (Instant, NamespaceRow)>>,
}

impl Default for NamespaceCounts {
    fn default() -> Self {
        Self {
            counted: Mutex::new(LruCache::new(REMEMBERED)),
        }
    }
}

impl NamespaceCounts {
    /// Counts, unless that was done within the last second. Who comes meanwhile waits for the count that is under way.
    ///
    /// # Errors
    /// [`Refusal::Store`].
    pub async fn read(
        &self,
        app: &App,
        namespace_id: i32,
    ) -> Result<wire::NamespaceCounts, Refusal> {
        let mut counted = self.counted.lock().await;
        let row = match counted.get(&namespace_id) {
            Some((at, row)) if at.elapsed() < FRESH => *row,
            Some(_) | None => {
                let at = Instant::now();
                let row =
                    sessions::count_namespace(app.store.pool(), namespace_id, MAX_SESSIONS).await?;
                counted.put(namespace_id, (at, row));
                row
            }
        };
        Ok(wire::NamespaceCounts {
            sessions: row.sessions,
            open_tasks: row.open_tasks,
            awaiting_input_tasks: row.awaiting_input_tasks,
            succeeded_tasks: row.succeeded_tasks,
            failed_tasks: row.failed_tasks,
            canceled_tasks: row.canceled_tasks,
            is_partial: row.sessions >= MAX_SESSIONS,
            counted_at: Some(times::to_proto(row.counted_at)),
        })
    }
}
