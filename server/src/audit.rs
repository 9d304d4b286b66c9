//! The audit log: who did what, and who was denied what. Entries are written in batches, beside the calls that they
//! tell of.
//!
//! A call that changes something gets its place in the queue before it is made, so what happened is not left out
//! because of load: where there is no place within 5 s, the call is refused. No caller who had to say who it is holds more than
//! an eighth of the places, so that one who makes many calls and does not go on with them stops nobody else. Denials take what is left; in a flood of
//! them those beyond 50 a second are counted in one entry. What a server that is killed had not written yet, at most
//! the last moments, is lost.

use crate::{
    control::refusal::Refusal,
    store::{Store, audit::insert},
};
use std::{
    collections::HashMap,
    mem::take,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI32, Ordering},
    },
    time::{Duration, Instant},
};
use taskyard_telemetry::metrics::table::AUDIT_LOST;
use tokio::{
    sync::{
        OwnedSemaphorePermit, Semaphore,
        mpsc::{self, OwnedPermit, error::TrySendError},
    },
    task::JoinSet,
    time::timeout,
};

/// Entries that wait to be written.
const QUEUE: usize = 4_096;
/// Places that one caller holds at most.
const SHARE: usize = QUEUE / 8;
/// Callers whose shares are kept before those that hold nothing are forgotten.
const SHARES_KEPT: usize = 1_024;
/// Most entries in one statement, and how long the first of them waits for others.
const BATCH: usize = 500;
const GATHER: Duration = Duration::from_millis(50);
/// How long a call waits for a place.
const PATIENCE: Duration = Duration::from_secs(5);
/// Denials that get an entry of their own, each second.
const DENIALS_A_SECOND: u32 = 50;
/// Pauses between tries to write; after this many what cannot be written is given up, and told in the log.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
const MAX_TRIES: u32 = 20;

/// How a call was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It was let through and done.
    Allowed = 1,
    /// It was denied.
    Denied = 2,
    /// It was let through and refused for another reason, or failed.
    Failed = 3,
}

/// One entry.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Name of the caller.
    pub who: String,
    /// Its role.
    pub role: &'static str,
    /// What it showed.
    pub credential: &'static str,
    /// Where it called from.
    pub peer: String,
    /// Path of the method.
    pub method: &'static str,
    /// Namespace that the request names.
    pub namespace: String,
    /// Session that the request names.
    pub session_id: String,
    /// Task that the request names.
    pub task: String,
    /// The request's own id.
    pub request_id: String,
    /// Name of the worker that it attaches.
    pub worker: String,
    /// Pool of that worker.
    pub pool: String,
    /// How it was decided.
    pub decision: Decision,
    /// Code of the answer; empty: OK.
    pub code: String,
    /// Calls that it stands for.
    pub calls: i32,
}

impl Entry {
    /// The same with the code of the answer.
    #[must_use]
    pub fn with_code(mut self, code: &str) -> Self {
        code.clone_into(&mut self.code);
        self
    }
}

/// The way into the log.
#[derive(Debug)]
pub struct AuditLog {
    sender: mpsc::Sender<Entry>,
    denials: Arc<Denials>,
    shares: Mutex<HashMap<String, Arc<Semaphore>>>,
}

/// A place in the queue, for a call that is about to be made.
#[derive(Debug)]
pub struct Place {
    permit: OwnedPermit<Entry>,
    _share: Option<OwnedSemaphorePermit>,
}

#[derive(Debug, Default)]
struct Denials {
    window: Mutex<Option<(Instant, u32)>>,
    uncounted: AtomicI32,
}

impl AuditLog {
    /// Starts the writer, which ends when nobody can give it anything any more.
    #[must_use]
    pub fn start(store: &Store, writers: &mut JoinSet<()>) -> Self {
        let (sender, entries) = mpsc::channel(QUEUE);
        let denials = Arc::new(Denials::default());
        writers.spawn(write(store.clone(), entries, Arc::clone(&denials)));
        Self {
            sender,
            denials,
            shares: Mutex::default(),
        }
    }

    /// A place for the entry of a call that is about to be made, of the share of `caller`; none: there are no shares,
    /// since nobody had to say who it is.
    ///
    /// # Errors
    /// [`Refusal::Overloaded`]: there was none for 5 s; [`Refusal::ShuttingDown`].
    pub async fn reserve(&self, caller: Option<&str>) -> Result<Place, Refusal> {
        let share = caller.map(|caller| self.share(caller));
        let reserved = timeout(PATIENCE, async {
            // first of one's own, so that whoever waits for that holds nothing that others wait for
            let share = match share {
                Some(share) => Some(share.acquire_owned().await.ok()?),
                None => None,
            };
            let permit = self.sender.clone().reserve_owned().await.ok()?;
            Some(Place {
                permit,
                _share: share,
            })
        });
        match reserved.await {
            Ok(Some(place)) => Ok(place),
            Ok(None) => Err(Refusal::ShuttingDown),
            Err(_) => Err(Refusal::Overloaded {
                what: "entries of the audit log",
            }),
        }
    }

    fn share(&self, caller: &str) -> Arc<Semaphore> {
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(share) = shares.get(caller) {
            return Arc::clone(share);
        }
        if shares.len() >= SHARES_KEPT {
            // each place, and each call that waits for one, has a hold of its share
            shares.retain(|_, share| Arc::strong_count(share) > 1);
        }
        let share = Arc::new(Semaphore::new(SHARE));
        shares.insert(caller.to_owned(), Arc::clone(&share));
        share
    }

    /// Records a denial, or counts it where there are too many.
    pub fn record_denial(&self, entry: Entry) {
        if !self.denials.admit() {
            self.denials.uncounted.fetch_add(1, Ordering::Relaxed);
            return;
        }
        match self.sender.try_send(entry) {
            Ok(()) | Err(TrySendError::Closed(_)) => {}
            Err(TrySendError::Full(_)) => {
                self.denials.uncounted.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

impl Place {
    /// Records what became of the call.
    pub fn record(self, entry: Entry) {
        self.permit.send(entry);
    }
}

impl Denials {
    #[cfg(test)]
    fn with(uncounted: i32) -> Self {
        Self {
            uncounted: AtomicI32::new(uncounted),
            ..Self::default()
        }
    }

    fn admit(&self) -> bool {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *window {
            Some((since, admitted)) if since.elapsed() < Duration::from_secs(1) => {
                *admitted += 1;
                *admitted <= DENIALS_A_SECOND
            }
            Some(_) | None => {
                *window = Some((Instant::now(), 1));
                true
            }
        }
    }

    /// One entry for all that got none since this was asked before.
    fn summary(&self) -> Option<Entry> {
        let calls = self.uncounted.swap(0, Ordering::Relaxed);
        (calls > 0).then(|| Entry {
            who: String::new(),
            role: "",
            credential: "none",
            peer: String::new(),
            method: "",
            namespace: String::new(),
            session_id: String::new(),
            task: String::new(),
            request_id: String::new(),
            worker: String::new(),
            pool: String::new(),
            decision: Decision::Denied,
            code: String::new(),
            calls,
        })
    }
}

async fn write(store: Store, mut entries: mpsc::Receiver<Entry>, denials: Arc<Denials>) {
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        // a summary is written even if nothing follows the flood
        match timeout(Duration::from_secs(1), entries.recv_many(&mut batch, BATCH)).await {
            Ok(0) => break,
            Ok(_) if batch.len() < BATCH => {
                let _ = timeout(GATHER, gather(&mut entries, &mut batch)).await;
            }
            Ok(_) | Err(_) => {}
        }
        batch.extend(denials.summary());
        if !batch.is_empty() {
            store_batch(&store, &take(&mut batch)).await;
        }
    }
    if let Some(summary) = denials.summary() {
        store_batch(&store, &[summary]).await;
    }
}

async fn gather(entries: &mut mpsc::Receiver<Entry>, batch: &mut Vec<Entry>) {
    while batch.len() < BATCH {
        match entries.recv().await {
            Some(entry) => batch.push(entry),
            None => return,
        }
    }
}

/// Writes entries. Those that the database refuses for what is in them are found by halves and left out, so that each
/// costs nobody but itself; for a database that is away it waits, for all of them together.
async fn store_batch(store: &Store, batch: &[Entry]) {
    let mut parts = vec![batch];
    let mut failures = 0;
    while let Some(part) = parts.pop() {
        let Err(error) = insert(store.pool(), part).await else {
            continue;
        };
        if error.refuses_content() {
            if let [entry] = part {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    method = entry.method,
                    who = entry.who,
                    "an entry of the audit log was refused by the database, and is left out"
                );
                AUDIT_LOST.add(1, &[]);
            } else {
                // the last is taken first, so the order stays
                let (first, second) = part.split_at(part.len() / 2);
                parts.extend([second, first]);
            }
            continue;
        }
        failures += 1;
        parts.push(part);
        let is_last = failures == MAX_TRIES;
        if is_last || failures == 1 {
            let entries = parts.iter().map(|part| part.len()).sum::<usize>();
            if is_last {
                AUDIT_LOST.add(entries as u64, &[]);
            }
            tracing::error!(
                error = &error as &dyn std::error::Error,
                entries,
                given_up = is_last,
                "entries of the audit log could not be written"
            );
        }
        if is_last {
            return;
        }
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_full_queue_slows_calls_and_loses_nothing_of_them() {
        let (sender, mut entries) = mpsc::channel(QUEUE);
        let log = AuditLog {
            sender,
            denials: Arc::default(),
            shares: Mutex::default(),
        };
        let entry = || Denials::with(1).summary().expect("one was not counted");
        for number in 0..QUEUE {
            let caller = format!("caller-{}", number % 16);
            let place = log.reserve(Some(&caller)).await.expect("there is room");
            place.record(entry());
        }
        // what was recorded takes nothing of its caller's share, but the queue is full for everybody
        let refused = log.reserve(Some("another")).await;
        assert!(matches!(refused, Err(Refusal::Overloaded { .. })));
        // denials are counted meanwhile
        log.record_denial(entry());
        log.record_denial(entry());
        assert_eq!(log.denials.summary().map(|told| told.calls), Some(2));
        // who waits gets the place that comes free
        let (reserved, _) = tokio::join!(log.reserve(Some("another")), entries.recv());
        reserved.expect("a place came free").record(entry());
        let mut recorded = 1;
        while entries.try_recv().is_ok() {
            recorded += 1;
        }
        assert_eq!(recorded, QUEUE + 1);
    }

    #[tokio::test(start_paused = true)]
    async fn one_caller_does_not_hold_the_places_of_others() {
        let (sender, _entries) = mpsc::channel(QUEUE);
        let log = AuditLog {
            sender,
            denials: Arc::default(),
            shares: Mutex::default(),
        };
        let mut held = Vec::new();
        for _ in 0..SHARE {
            held.push(log.reserve(Some("greedy")).await.expect("of its share"));
        }
        let refused = log.reserve(Some("greedy")).await;
        assert!(matches!(refused, Err(Refusal::Overloaded { .. })));
        log.reserve(Some("other")).await.expect("of another share");
        held.pop();
        log.reserve(Some("greedy")).await.expect("given back");

        for caller in 0..2 * SHARES_KEPT {
            drop(log.reserve(Some(&caller.to_string())).await);
        }
        let shares = log.shares.lock().expect("nobody panicked");
        assert!(shares.len() <= SHARES_KEPT && shares.contains_key("greedy"));
    }
}
