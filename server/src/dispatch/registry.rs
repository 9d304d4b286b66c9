//! The workers whose streams end at this server.

use crate::store::workers::Attachment;
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
};
use taskyard_core::id::WorkerSessionId;
use taskyard_proto::v1::AttachResponse;
use tokio::sync::{Notify, mpsc};

/// Messages that wait for one worker's stream. What does not fit is lost and repaired: an offer returns after a few
/// seconds, a cancel comes with the next heartbeat.
pub const DOWNLINK_CAPACITY: usize = 1_024;

/// The sending end of a worker's stream.
pub type Downlink = mpsc::Sender<AttachResponse>;

/// Which tasks a worker takes. Workers with the same needs share a claim.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Needs {
    /// Queues that it serves.
    pub queues: Vec<String>,
    /// Kinds that it takes; empty: all.
    pub kinds: Vec<String>,
    /// Executors that it offers.
    pub executors: Vec<String>,
    /// Labels that it carries.
    pub labels: BTreeMap<String, String>,
}

/// A worker that is attached to this server.
#[derive(Clone, Debug)]
pub struct AttachedWorker {
    /// Its stream.
    pub stream: Attachment,
    /// Which tasks it takes.
    pub needs: Needs,
    /// Where to send.
    pub downlink: Downlink,
    /// Offers that it can take now, as far as is known.
    pub free: i32,
    /// Offers sent on this stream.
    pub offers_sent: i64,
}

/// All workers attached to this server.
#[derive(Debug, Default)]
pub struct Registry {
    workers: Mutex<HashMap<WorkerSessionId, AttachedWorker>>,
    slots_changed: Notify,
}

impl Registry {
    /// Adds a worker; an older stream of the same session is replaced, and ends with its sender.
    pub fn add(&self, worker: AttachedWorker) {
        self.lock().insert(worker.stream.worker, worker);
        self.slots_changed.notify_one();
    }

    /// Removes a stream, unless a newer one has taken its place.
    pub fn remove(&self, stream: Attachment) {
        let mut workers = self.lock();
        if workers
            .get(&stream.worker)
            .is_some_and(|worker| worker.stream == stream)
        {
            workers.remove(&stream.worker);
        }
    }

    /// Stops offering to a worker session that was given up; its stream learns that from its next heartbeat.
    pub fn give_up(&self, worker: WorkerSessionId) {
        self.lock().remove(&worker);
    }

    /// Notes a worker's free slots; offers still on their way to it are subtracted. Only where there are more of them
    /// than were known is it worth a look at the queue: mostly a worker says that it has taken the offer just sent.
    pub fn set_free(&self, stream: Attachment, free: i32, offers_received: Option<i64>) {
        let mut workers = self.lock();
        let Some(worker) = workers
            .get_mut(&stream.worker)
            .filter(|worker| worker.stream == stream)
        else {
            return;
        };
        let on_their_way = offers_received.map_or(0, |received| worker.offers_sent - received);
        let known = worker.free;
        worker.free = free.saturating_sub(i32::try_from(on_their_way.max(0)).unwrap_or(i32::MAX));
        if worker.free > known {
            self.slots_changed.notify_one();
        }
    }

    /// Stops offering to a worker.
    pub fn stop_offering(&self, stream: Attachment) {
        self.set_free(stream, 0, None);
    }

    /// Counts an offer that is being sent; gives the way to send it.
    pub fn note_offer(&self, stream: Attachment) -> Option<Downlink> {
        let mut workers = self.lock();
        let worker = workers
            .get_mut(&stream.worker)
            .filter(|worker| worker.stream == stream)?;
        worker.free -= 1;
        worker.offers_sent += 1;
        Some(worker.downlink.clone())
    }

    /// The way to a worker, if it is attached here.
    pub fn downlink(&self, worker: WorkerSessionId) -> Option<(Attachment, Downlink)> {
        let workers = self.lock();
        let worker = workers.get(&worker)?;
        Some((worker.stream, worker.downlink.clone()))
    }

    /// How many workers are attached here, and how many slots they have free.
    #[must_use]
    pub fn standing(&self) -> (usize, usize) {
        let workers = self.lock();
        let free = workers
            .values()
            .map(|worker| worker.free.max(0).unsigned_abs() as usize);
        (workers.len(), free.sum())
    }

    /// The sessions of all workers that are attached here.
    pub fn ids(&self) -> Vec<WorkerSessionId> {
        self.lock().keys().copied().collect()
    }

    /// Workers with free slots, those with the same needs together.
    pub fn free_slots(&self) -> BTreeMap<Needs, Vec<(Attachment, i32)>> {
        let mut free: BTreeMap<Needs, Vec<(Attachment, i32)>> = BTreeMap::new();
        for worker in self.lock().values().filter(|worker| worker.free > 0) {
            free.entry(worker.needs.clone())
                .or_default()
                .push((worker.stream, worker.free));
        }
        free
    }

    /// Resolves when slots may have become free.
    pub async fn slots_changed(&self) {
        self.slots_changed.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<WorkerSessionId, AttachedWorker>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    const STREAM: Attachment = Attachment {
        worker: WorkerSessionId(7),
        attach_no: 1,
    };

    fn is_woken(registry: &Registry) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        pin!(registry.slots_changed()).poll(&mut context) == Poll::Ready(())
    }

    #[test]
    fn the_queue_is_looked_at_for_slots_that_became_free_only() {
        let registry = Registry::default();
        let (downlink, _messages) = mpsc::channel(1);
        registry.add(AttachedWorker {
            stream: STREAM,
            needs: Needs {
                queues: vec!["default".to_owned()],
                kinds: Vec::new(),
                executors: Vec::new(),
                labels: BTreeMap::new(),
            },
            downlink,
            free: 2,
            offers_sent: 0,
        });
        assert!(is_woken(&registry), "a worker came");
        registry.note_offer(STREAM).expect("it is attached");
        registry.set_free(STREAM, 2, Some(0));
        assert!(!is_woken(&registry), "the offer is still on its way");
        registry.set_free(STREAM, 1, Some(1));
        assert!(!is_woken(&registry), "it has taken the offer");
        registry.set_free(STREAM, 2, Some(1));
        assert!(is_woken(&registry), "a run is over");
        registry.stop_offering(STREAM);
        assert!(!is_woken(&registry), "it leaves");
        assert_eq!(registry.standing(), (1, 0));
    }
}
