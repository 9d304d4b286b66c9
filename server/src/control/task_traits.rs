//! Kind and group of tasks, remembered: events of a change name the task only, and watches filter by both.

use crate::{
    app::App,
    store::{
        StoreError,
        log_read::{self, TaskTraits},
    },
};
use lru::LruCache;
use std::{
    collections::HashMap,
    num::NonZeroUsize,
    sync::{Arc, Mutex, PoisonError},
};
use taskyard_core::id::TaskId;

/// Tasks that are remembered; at most about 300 bytes each.
const CAPACITY: NonZeroUsize = NonZeroUsize::new(32_768).expect("not zero");
/// Tasks that are looked up at once.
const IDS_PER_READ: usize = 1_000;

/// Traits of tasks that were seen lately. A task never changes them.
#[derive(Debug)]
pub struct TraitCache {
    known: Mutex<LruCache<TaskId, Arc<TaskTraits>>>,
    /// Held while the store is asked, so that a thousand watchers of one event ask it once.
    asking: tokio::sync::Mutex<()>,
}

impl Default for TraitCache {
    fn default() -> Self {
        Self {
            known: Mutex::new(LruCache::new(CAPACITY)),
            asking: tokio::sync::Mutex::default(),
        }
    }
}

impl TraitCache {
    /// Remembers those of one task.
    pub fn remember(&self, task: TaskId, traits: TaskTraits) {
        self.known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .put(task, Arc::new(traits));
    }

    fn get(&self, task: TaskId) -> Option<Arc<TaskTraits>> {
        self.known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&task)
            .cloned()
    }
}

/// Traits of these tasks; those that are no longer stored are left out.
///
/// # Errors
/// Any [`StoreError`].
pub async fn find(
    app: &App,
    tasks: &[TaskId],
) -> Result<HashMap<TaskId, Arc<TaskTraits>>, StoreError> {
    let mut found = HashMap::new();
    let mut unknown = look_up(app, tasks, &mut found);
    if unknown.is_empty() {
        return Ok(found);
    }
    let _turn = app.task_traits.asking.lock().await;
    unknown = look_up(app, &unknown, &mut found);
    for some in unknown.chunks(IDS_PER_READ) {
        for (task, traits) in log_read::read_traits(app.store.pool(), some).await? {
            app.task_traits.remember(task, traits.clone());
            found.insert(task, Arc::new(traits));
        }
    }
    Ok(found)
}

/// Puts what is remembered into `found`; answers with the others, each once.
fn look_up(
    app: &App,
    tasks: &[TaskId],
    found: &mut HashMap<TaskId, Arc<TaskTraits>>,
) -> Vec<TaskId> {
    let mut unknown = Vec::new();
    for task in tasks {
        if found.contains_key(task) {
            continue;
        }
        match app.task_traits.get(*task) {
            Some(traits) => drop(found.insert(*task, traits)),
            None => unknown.push(*task),
        }
    }
    unknown.sort_unstable();
    unknown.dedup();
    unknown
}
