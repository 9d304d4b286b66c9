//! How many more live tasks and sessions a namespace may have, where that is limited.
//!
//! The count is that of its sessions, read at most once a second by each server, with what this server has begun to
//! create since. So it is exceeded at most by what other servers create within a second, and what ended within that
//! second is seen a little late. Without a limit nothing is read.

use crate::{
    limits::settings::TaskLimits,
    store::{Store, StoreError, sessions},
};
use lru::LruCache;
use std::{
    num::NonZeroUsize,
    time::{Duration, Instant},
};
use tokio::sync::Mutex;

/// For how long a count is believed.
const FRESH: Duration = Duration::from_secs(1);
/// Namespaces whose counts are remembered.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(1_024).expect("not zero");
/// Most sessions that are added up where their number is not limited.
const MAX_SESSIONS: u64 = 100_000;

/// What namespaces may have, and what they had a moment ago.
#[derive(Debug)]
pub struct NamespaceRoom {
    limits: TaskLimits,
    counted: Mutex<LruCache<i32, Count>>,
}

/// Something that a namespace has too much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRoom {
    /// The limit.
    pub limit: u64,
}

#[derive(Clone, Copy, Debug)]
struct Count {
    at: Instant,
    tasks: u64,
    sessions: u64,
}

impl NamespaceRoom {
    /// Nothing was counted yet.
    #[must_use]
    pub fn new(limits: TaskLimits) -> Self {
        Self {
            limits,
            counted: Mutex::new(LruCache::new(REMEMBERED)),
        }
    }

    /// Counts a task that is to be created.
    ///
    /// # Errors
    /// Any [`StoreError`]; inside, that there is no room for it.
    pub async fn add_task(
        &self,
        store: &Store,
        namespace_id: i32,
    ) -> Result<Result<(), NoRoom>, StoreError> {
        let Some(limit) = self.limits.namespace else {
            return Ok(Ok(()));
        };
        self.add(store, namespace_id, limit, |count| &mut count.tasks)
            .await
    }

    /// Counts a session that is to be made.
    ///
    /// # Errors
    /// As [`NamespaceRoom::add_task`].
    pub async fn add_session(
        &self,
        store: &Store,
        namespace_id: i32,
    ) -> Result<Result<(), NoRoom>, StoreError> {
        let Some(limit) = self.limits.sessions else {
            return Ok(Ok(()));
        };
        self.add(store, namespace_id, limit, |count| &mut count.sessions)
            .await
    }

    async fn add(
        &self,
        store: &Store,
        namespace_id: i32,
        limit: u64,
        of: impl FnOnce(&mut Count) -> &mut u64,
    ) -> Result<Result<(), NoRoom>, StoreError> {
        // who comes while one counts waits for that count
        let mut counted = self.counted.lock().await;
        let mut count = match counted.get(&namespace_id) {
            Some(count) if count.at.elapsed() < FRESH => *count,
            Some(_) | None => self.count(store, namespace_id).await?,
        };
        let there = of(&mut count);
        let answer = if *there < limit {
            *there += 1;
            Ok(())
        } else {
            Err(NoRoom { limit })
        };
        counted.put(namespace_id, count);
        Ok(answer)
    }

    async fn count(&self, store: &Store, namespace_id: i32) -> Result<Count, StoreError> {
        let at = Instant::now();
        let most = self.limits.sessions.unwrap_or(0).max(MAX_SESSIONS);
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let row = sessions::count_namespace(store.pool(), namespace_id, most).await?;
        Ok(Count {
            at,
            tasks: u64::try_from(row.open_tasks).unwrap_or(0),
            sessions: u64::try_from(row.sessions).unwrap_or(0),
        })
    }
}
