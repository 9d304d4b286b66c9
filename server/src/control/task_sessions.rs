//! Which session a task belongs to, remembered: workers name tasks only, and the committers go by session.

use crate::{
    app::App,
    store::{StoreError, claim},
};
use lru::LruCache;
use std::{
    collections::HashMap,
    num::NonZeroUsize,
    sync::{Mutex, PoisonError},
};
use taskyard_core::id::{SessionUid, TaskId};

/// Tasks that are remembered; about 64 bytes each.
const CAPACITY: NonZeroUsize = NonZeroUsize::new(65_536).expect("not zero");

/// Sessions of tasks that were seen lately. A task never changes its session.
#[derive(Debug)]
pub struct TaskSessions {
    known: Mutex<LruCache<TaskId, SessionUid>>,
}

impl Default for TaskSessions {
    fn default() -> Self {
        Self {
            known: Mutex::new(LruCache::new(CAPACITY)),
        }
    }
}

impl TaskSessions {
    /// Remembers one.
    pub fn remember(&self, task: TaskId, session: SessionUid) {
        self.known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .put(task, session);
    }

    fn get(&self, task: TaskId) -> Option<SessionUid> {
        self.known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&task)
            .copied()
    }
}

/// The sessions of these tasks; unknown tasks are left out.
///
/// # Errors
/// Any [`StoreError`].
pub async fn find(app: &App, tasks: &[TaskId]) -> Result<HashMap<TaskId, SessionUid>, StoreError> {
    let mut found = HashMap::with_capacity(tasks.len());
    let mut unknown = Vec::new();
    for task in tasks {
        match app.task_sessions.get(*task) {
            Some(session) => drop(found.insert(*task, session)),
            None => unknown.push(*task),
        }
    }
    if !unknown.is_empty() {
        for (task, session) in claim::find_sessions(app.store.pool(), &unknown).await? {
            app.task_sessions.remember(task, session);
            found.insert(task, session);
        }
    }
    Ok(found)
}
