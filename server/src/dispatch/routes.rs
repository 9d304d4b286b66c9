//! What is known of routes and of the queues' virtual times, kept fresh by the dispatcher.

use super::Needs;
use crate::store::{Store, StoreError, claim, creates};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Routes and clocks.
#[derive(Debug, Default)]
pub struct Routes {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    routes: HashMap<RouteName, i32>,
    newest: i32,
    clocks: HashMap<(String, i16), f64>,
}

/// What makes a route.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RouteName {
    /// Queue.
    pub queue: String,
    /// Kind.
    pub kind: String,
    /// Executor.
    pub executor: String,
    /// Labels that a worker must carry.
    pub worker_labels: BTreeMap<String, String>,
}

impl Routes {
    /// Reads what other servers added.
    ///
    /// # Errors
    /// Any [`StoreError`].
    pub async fn refresh(&self, store: &Store) -> Result<(), StoreError> {
        let newest = self.lock().newest;
        let added = claim::list_routes(store.pool(), newest).await?;
        let clocks = claim::list_clocks(store.pool()).await?;
        let mut known = self.lock();
        for route in added {
            let worker_labels = serde_json::from_str(&route.worker_labels_json)
                .map_err(|error| StoreError::corrupt("label set", error))?;
            known.newest = known.newest.max(route.id);
            let name = RouteName {
                queue: route.queue,
                kind: route.kind,
                executor: route.executor,
                worker_labels,
            };
            known.routes.insert(name, route.id);
        }
        known.clocks = clocks.into_iter().collect();
        Ok(())
    }

    /// The number of a route, which is made if it does not exist.
    ///
    /// # Errors
    /// Any [`StoreError`].
    pub async fn ensure(&self, store: &Store, name: &RouteName) -> Result<i32, StoreError> {
        if let Some(id) = self.lock().routes.get(name) {
            return Ok(*id);
        }
        let labels = serde_json::to_string(&name.worker_labels)
            .map_err(|error| StoreError::corrupt("label set", error))?;
        let ensure = || {
            creates::ensure_route(
                store.pool(),
                &name.queue,
                &name.kind,
                &name.executor,
                &labels,
            )
        };
        // The second try sees the row that another transaction was making during the first.
        let id = match ensure().await {
            Err(StoreError::Conflict(_)) => ensure().await?,
            made => made?,
        };
        self.lock().routes.insert(name.clone(), id);
        Ok(id)
    }

    /// The routes whose tasks such a worker may take.
    pub fn matching(&self, needs: &Needs) -> Vec<i32> {
        let carries = |labels: &BTreeMap<String, String>| {
            labels
                .iter()
                .all(|(key, value)| needs.labels.get(key) == Some(value))
        };
        self.lock()
            .routes
            .iter()
            .filter(|(route, _)| {
                needs.queues.contains(&route.queue)
                    && (needs.kinds.is_empty() || needs.kinds.contains(&route.kind))
                    && needs.executors.contains(&route.executor)
                    && carries(&route.worker_labels)
            })
            .map(|(_, id)| *id)
            .collect()
    }

    /// Virtual time of a queue at a priority, as of the last refresh.
    pub fn virtual_time(&self, queue: &str, priority: i16) -> f64 {
        let key = (queue.to_owned(), priority);
        self.lock().clocks.get(&key).copied().unwrap_or(0.0)
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
