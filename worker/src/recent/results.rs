//! Which results are kept, and for how long.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::shelf::{Shelf, StoreKey};
use crate::boot_time::BootTime;
use crate::lease::Lease;
use crate::ledger::FinishedRecord;
use crate::workspace::Workspace;

/// How often it is looked whether the store is still heard, and what is old. Longer than the pause between two
/// heartbeats.
const LOOK_INTERVAL: Duration = Duration::from_secs(60);

/// Bounds of what is kept.
#[derive(Debug, Clone, Copy)]
pub struct RecentLimits {
    /// For how long after its acknowledgement a result is kept, as far as the store was heard in that time: while it is
    /// away for a restore, nothing ages. Zero: nothing is kept.
    pub age: Duration,
    /// Most results; beyond it the oldest go.
    pub entries: usize,
    /// Most bytes of output, artifacts and other files; beyond it the oldest results lose theirs. A result that has more
    /// than a quarter of this keeps none.
    pub file_bytes: u64,
}

/// Results that were acknowledged not long ago. Clones share them.
#[derive(Debug, Clone)]
pub struct RecentResults {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    shelf: Shelf,
    limits: RecentLimits,
    index: Mutex<Index>,
}

#[derive(Debug, Default)]
struct Index {
    /// The store behind the control plane, as the newest welcome told it.
    store: Option<StoreKey>,
    /// Oldest first.
    entries: VecDeque<Entry>,
    /// For how long the store was heard in this boot.
    heard: Duration,
}

#[derive(Debug)]
struct Entry {
    lease: Lease,
    /// The store that acknowledged it.
    store: StoreKey,
    bytes: u64,
    /// [`Index::heard`] at the acknowledgement.
    kept_at: Duration,
    /// It is being told to another store, and is not touched meanwhile.
    is_offered: bool,
}

/// What a bound takes away.
#[derive(Debug)]
enum Removal {
    Files(StoreKey, Lease),
    All(StoreKey, Lease),
}

impl RecentResults {
    /// Finds what earlier boots left. It blocks.
    ///
    /// # Errors
    /// The folder cannot be made or read.
    pub fn open(root: PathBuf, limits: RecentLimits) -> io::Result<RecentResults> {
        let shelf = Shelf::open(root)?;
        if limits.age.is_zero() {
            shelf.clear()?;
        }
        let entries = shelf.read()?.into_iter().map(|left| Entry {
            lease: left.lease,
            store: left.store,
            bytes: left.bytes,
            kept_at: Duration::ZERO,
            is_offered: false,
        });
        let mut index = Index {
            entries: entries.collect(),
            ..Index::default()
        };
        for removal in index.enforce(&limits) {
            removal.carry_out(&shelf);
        }
        Ok(RecentResults {
            shared: Arc::new(Shared {
                shelf,
                limits,
                index: Mutex::new(index),
            }),
        })
    }

    /// The store behind the control plane, if it is known.
    pub fn store(&self) -> Option<StoreKey> {
        self.lock().store.clone()
    }

    /// Notes which store it is; answers with the leases of the results that another one acknowledged. They are offered
    /// from then on, until [`RecentResults::settle`] or [`RecentResults::forget`].
    pub fn learn_store(&self, store_id: &str) -> Vec<Lease> {
        let mut index = self.lock();
        index.store = StoreKey::of(store_id);
        let Some(store) = index.store.clone() else {
            return Vec::new();
        };
        let others = index
            .entries
            .iter_mut()
            .filter(|entry| entry.store != store && !entry.is_offered);
        others
            .map(|entry| {
                entry.is_offered = true;
                entry.lease.clone()
            })
            .collect()
    }

    /// All of them, as a hello names them.
    pub fn leases(&self) -> Vec<Lease> {
        let index = self.lock();
        index
            .entries
            .iter()
            .map(|entry| entry.lease.clone())
            .collect()
    }

    /// Keeps a result that `store` has acknowledged: takes over the ledger's note and the run's files. False: the store
    /// is another one by now, to which it is to be offered.
    pub async fn keep(
        &self,
        store: Option<StoreKey>,
        lease: &Lease,
        record: FinishedRecord,
        note: PathBuf,
        workspace: Workspace,
    ) -> bool {
        let Some(store) = store.filter(|_| !self.shared.limits.age.is_zero()) else {
            return true;
        };
        let (key, of) = (store.clone(), lease.clone());
        let files_max = self.shared.limits.file_bytes / 4;
        let put = self
            .on_shelf(move |shelf| shelf.put(&key, &of, &record, (&note, &workspace), files_max));
        let bytes = match put.await {
            Ok(bytes) => bytes,
            Err(error) => {
                tracing::warn!(lease = %lease, %error, "a result cannot be kept for the case of a restore");
                return true;
            }
        };
        let (is_current, removals) = {
            let mut index = self.lock();
            let is_current = index.store.as_ref() == Some(&store);
            let kept_at = index.heard;
            index.entries.retain(|entry| entry.lease != *lease);
            index.entries.push_back(Entry {
                lease: lease.clone(),
                store,
                bytes,
                kept_at,
                is_offered: !is_current,
            });
            (is_current, index.enforce(&self.shared.limits))
        };
        self.carry_out(removals).await;
        is_current
    }

    /// What was noted of it; none: it is not kept.
    pub async fn record(&self, lease: &Lease) -> Option<FinishedRecord> {
        let (store, of) = (self.store_of(lease)?, lease.clone());
        let read = self.on_shelf(move |shelf| Ok(shelf.record(&store, &of)));
        read.await.ok().flatten()
    }

    /// Where its files are; none: it is not kept.
    pub fn workspace(&self, lease: &Lease) -> Option<Workspace> {
        let store = self.store_of(lease)?;
        Some(self.shared.shelf.workspace(&store, lease))
    }

    /// `store` has acknowledged it, too. False: the store is another one by now, to which it is to be offered.
    pub async fn settle(&self, lease: &Lease, store: StoreKey) -> bool {
        let Some(from) = self.store_of(lease) else {
            return true;
        };
        let (of, to) = (lease.clone(), store.clone());
        let relabeled = self.on_shelf(move |shelf| match from == to {
            true => Ok(()),
            false => shelf.relabel(&of, &from, &to),
        });
        if let Err(error) = relabeled.await {
            tracing::warn!(lease = %lease, %error, "a result cannot be kept for the case of a restore");
            self.forget(lease).await;
            return true;
        }
        let mut index = self.lock();
        let is_current = index.store.as_ref() == Some(&store);
        if let Some(entry) = index.find(lease) {
            entry.store = store;
            entry.is_offered = !is_current;
        }
        is_current
    }

    /// Nobody wants it any more.
    pub async fn forget(&self, lease: &Lease) {
        let Some(store) = self.store_of(lease) else {
            return;
        };
        self.lock().entries.retain(|entry| entry.lease != *lease);
        self.carry_out(vec![Removal::All(store, lease.clone())])
            .await;
    }

    /// Lets results age while the store is heard, and gives their files up as soon as the disk is in trouble. It ends only
    /// by being dropped.
    pub async fn age(
        self,
        renewed: watch::Receiver<Option<BootTime>>,
        mut storage_is_good: watch::Receiver<bool>,
    ) {
        let mut before = *renewed.borrow();
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK_INTERVAL) => {
                    let heard = *renewed.borrow();
                    self.look(&mut before, heard).await;
                }
                () = turned(&mut storage_is_good, false) => {
                    self.make_room().await;
                    turned(&mut storage_is_good, true).await;
                }
            }
        }
    }

    /// Work that needs the disk comes first.
    async fn make_room(&self) {
        let removals = {
            let mut index = self.lock();
            let with_files = index
                .entries
                .iter_mut()
                .filter(|entry| entry.bytes > 0 && !entry.is_offered);
            with_files
                .map(|entry| {
                    entry.bytes = 0;
                    Removal::Files(entry.store.clone(), entry.lease.clone())
                })
                .collect()
        };
        self.carry_out(removals).await;
    }

    /// However long nothing was heard before, it counts no more than one look.
    async fn look(&self, before: &mut Option<BootTime>, heard: Option<BootTime>) {
        if heard != std::mem::replace(before, heard) {
            self.pass(LOOK_INTERVAL).await;
        }
    }

    async fn pass(&self, time: Duration) {
        let removals = {
            let mut index = self.lock();
            index.heard += time;
            index.enforce(&self.shared.limits)
        };
        self.carry_out(removals).await;
    }

    async fn carry_out(&self, removals: Vec<Removal>) {
        if removals.is_empty() {
            return;
        }
        let removing = self.on_shelf(move |shelf| {
            for removal in removals {
                removal.carry_out(shelf);
            }
            Ok(())
        });
        // it tells of its failures by itself
        let _ = removing.await;
    }

    async fn on_shelf<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shelf) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let shared = self.shared.clone();
        tokio::task::spawn_blocking(move || work(&shared.shelf))
            .await
            .unwrap_or_else(|join_error| Err(io::Error::other(join_error)))
    }

    fn store_of(&self, lease: &Lease) -> Option<StoreKey> {
        self.lock().find(lease).map(|entry| entry.store.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Index> {
        self.shared
            .index
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

async fn turned(state: &mut watch::Receiver<bool>, to: bool) {
    let is_there = state.wait_for(|now| *now == to).await.is_ok();
    if !is_there {
        // nobody looks at the disk any more: the worker ends
        std::future::pending::<()>().await;
    }
}

impl Index {
    fn find(&mut self, lease: &Lease) -> Option<&mut Entry> {
        // those that are asked for are mostly new
        self.entries
            .iter_mut()
            .rev()
            .find(|entry| entry.lease == *lease)
    }

    /// Takes out what is beyond the bounds. What is offered stays; so does what only waits to be, if it is not too much.
    fn enforce(&mut self, limits: &RecentLimits) -> Vec<Removal> {
        let mut removals = Vec::new();
        let mut surplus = self.entries.len().saturating_sub(limits.entries);
        let (heard, store) = (self.heard, self.store.clone());
        self.entries.retain(|entry| {
            let is_old = heard.saturating_sub(entry.kept_at) >= limits.age
                && store.as_ref() == Some(&entry.store);
            let goes = !entry.is_offered && (is_old || surplus > 0);
            if goes {
                surplus = surplus.saturating_sub(1);
                removals.push(Removal::All(entry.store.clone(), entry.lease.clone()));
            }
            !goes
        });
        let mut bytes: u64 = self.entries.iter().map(|entry| entry.bytes).sum();
        for entry in &mut self.entries {
            if bytes <= limits.file_bytes {
                break;
            }
            if entry.bytes > 0 && !entry.is_offered {
                bytes -= entry.bytes;
                entry.bytes = 0;
                removals.push(Removal::Files(entry.store.clone(), entry.lease.clone()));
            }
        }
        removals
    }
}

impl Removal {
    fn carry_out(self, shelf: &Shelf) {
        match self {
            Removal::Files(store, lease) => shelf.strip(&store, &lease),
            Removal::All(store, lease) => shelf.remove(&store, &lease),
        }
    }
}

#[cfg(test)]
mod tests;
