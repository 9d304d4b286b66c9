//! The hub: who can tell what, and who can hear it.

use super::{
    feed::SessionFeed,
    payload::Payload,
    sessions::{SessionRegistry, SessionTouches},
    taps::{Appended, OutputTap, TapRegistry},
};
use crate::store::Store;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use taskyard_core::id::{SessionUid, TaskId, WorkerSessionId};
use taskyard_proto::v1::Progress;
use tokio::sync::{Notify, broadcast, watch};
use tokio_util::sync::CancellationToken;

/// Touches of workers that one listener may be behind with before it is told "all".
const MAX_WORKER_LAG: usize = 1_024;

/// The hub of one server. A clone is another handle to the same hub.
#[derive(Clone)]
pub struct Events {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub(super) store: Store,
    /// Random; tells this server's notifications from those of others.
    pub(super) name: String,
    /// Identity of the store; changes when the store behind the address does.
    pub(super) identity: watch::Sender<String>,
    pub(super) sessions: SessionRegistry,
    pub(super) taps: TapRegistry,
    /// Sessions that do not exist yet and are waited for.
    pub(super) arrivals: Mutex<Arrivals>,
    /// What other servers are still to be told.
    pub(super) outgoing: Mutex<Payload>,
    pub(super) outgoing_ready: Notify,
    queue: watch::Sender<()>,
    wakes: watch::Sender<()>,
    webhooks: watch::Sender<()>,
    workers: broadcast::Sender<Touched<WorkerSessionId>>,
}

/// Awaited sessions by namespace and id, each with who is told its number.
type Arrivals = HashMap<(i32, String), watch::Sender<Option<SessionUid>>>;

/// What was touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Touched<T> {
    /// This one.
    One(T),
    /// Maybe every one: something was not heard.
    All,
}

/// Tells that there may be new work to claim, new wakes to hand out, or webhooks to call.
pub struct Touches {
    receiver: watch::Receiver<()>,
}

/// Tells for which workers there may be orders.
pub struct WorkerTouches {
    receiver: broadcast::Receiver<Touched<WorkerSessionId>>,
}

impl Events {
    /// A hub for a store with this identity. It does its part between servers, and for watchers, while [`Events::run`]
    /// runs.
    #[must_use]
    pub fn new(store: Store, identity: String) -> Self {
        Self {
            shared: Arc::new(Shared {
                store,
                name: format!("{:016x}", rand::random::<u64>()),
                identity: watch::Sender::new(identity),
                sessions: SessionRegistry::default(),
                taps: TapRegistry::default(),
                arrivals: Mutex::default(),
                outgoing: Mutex::default(),
                outgoing_ready: Notify::new(),
                queue: watch::Sender::new(()),
                wakes: watch::Sender::new(()),
                webhooks: watch::Sender::new(()),
                workers: broadcast::Sender::new(MAX_WORKER_LAG),
            }),
        }
    }

    /// Runs the hub's loops until the shutdown: they listen to other servers, tell them, and read the watched logs.
    pub async fn run(&self, shutdown: CancellationToken) {
        tokio::join!(
            super::peers::listen(&self.shared, &shutdown),
            super::peers::tell(&self.shared, &shutdown),
            super::log_reader::read_watched_logs(&self.shared, &shutdown),
        );
    }

    /// Tells that something in the session was committed.
    pub fn session_touched(&self, session: SessionUid) {
        self.shared.session_touched(session);
        self.shared
            .tell_others(|payload| payload.add_session(session));
    }

    /// Tells of a task's latest progress. Watchers may miss it.
    pub fn progress(&self, session: SessionUid, task: TaskId, progress: Progress) {
        self.shared.sessions.progress(session, task, progress);
        lock(&self.shared.outgoing).add_progress(session);
    }

    /// Tells of bytes that were stored: `data` begins at `start_offset` of `stream` (1 stdout, 2 stderr); `order` is
    /// their order among the chunks of the run.
    #[expect(
        clippy::too_many_arguments,
        reason = "the fields of one stored chunk, as its writer has them"
    )]
    pub fn output_appended(
        &self,
        task: TaskId,
        run: i32,
        stream: i16,
        start_offset: i64,
        data: Bytes,
        at: DateTime<Utc>,
        order: i64,
    ) {
        let appended = Appended {
            run,
            stream,
            start: start_offset,
            data,
            at,
            order,
        };
        if self.shared.taps.appended(task, appended) {
            self.shared.tell_others(|payload| payload.add_output(task));
        }
    }

    /// Tells that there may be new work to claim.
    pub fn queue_touched(&self) {
        self.shared.queue_touched();
        self.shared.tell_others(Payload::add_queue);
    }

    /// Tells that webhooks are to be called. Other servers find out when they look next.
    pub fn webhooks_touched(&self) {
        self.shared.webhooks.send_replace(());
    }

    /// Hears that webhooks are to be called, from now on.
    #[must_use]
    pub fn subscribe_webhooks(&self) -> Touches {
        Touches {
            receiver: self.shared.webhooks.subscribe(),
        }
    }

    /// Tells that there are new wakes. Other servers find them when they look next.
    pub fn wakes_touched(&self) {
        self.shared.wakes.send_replace(());
    }

    /// Hears of new wakes that this server stores, from now on.
    #[must_use]
    pub fn subscribe_wakes(&self) -> Touches {
        Touches {
            receiver: self.shared.wakes.subscribe(),
        }
    }

    /// Tells that there may be an order for a worker.
    pub fn worker_touched(&self, worker: WorkerSessionId) {
        self.shared.worker_touched(Touched::One(worker));
        self.shared
            .tell_others(|payload| payload.add_worker(worker));
    }

    /// Hears of new work, from now on.
    #[must_use]
    pub fn subscribe_queue(&self) -> Touches {
        Touches {
            receiver: self.shared.queue.subscribe(),
        }
    }

    /// Hears of orders for workers, from now on.
    #[must_use]
    pub fn subscribe_workers(&self) -> WorkerTouches {
        WorkerTouches {
            receiver: self.shared.workers.subscribe(),
        }
    }

    /// Hears of changes in one session, from now on.
    #[must_use]
    pub fn subscribe_session(&self, session: SessionUid) -> SessionTouches {
        self.shared.sessions.subscribe(session)
    }

    /// Hears of output of one task from now on: the bytes that this server stores, and that another one stores some.
    #[must_use]
    pub fn subscribe_output(&self, task: TaskId) -> OutputTap {
        self.shared
            .tell_others(|payload| payload.add_followed(task));
        self.shared.taps.subscribe(task)
    }

    /// Identity of the store, which changes when the store behind the address does.
    #[must_use]
    pub fn identity(&self) -> watch::Receiver<String> {
        self.shared.identity.subscribe()
    }

    /// Somebody found this identity behind the address, maybe before the listener did.
    pub fn notice_store(&self, identity: String) {
        self.shared.notice_store(identity);
    }

    /// Follows the log of a session from the event after `seq` on.
    #[must_use]
    pub fn follow(&self, session: SessionUid, seq: i64) -> SessionFeed {
        SessionFeed::new(Arc::clone(&self.shared), session, seq)
    }

    /// Waits until a session exists, for as long as the caller cares to.
    pub async fn session_arrives(&self, namespace_id: i32, id: &str) -> SessionUid {
        loop {
            let mut arrival = lock(&self.shared.arrivals)
                .entry((namespace_id, id.to_owned()))
                .or_insert_with(|| watch::Sender::new(None))
                .subscribe();
            self.shared.sessions.any.notify_one();
            // Its sender goes only once the session was found.
            if let Ok(found) = arrival.wait_for(Option::is_some).await
                && let Some(uid) = *found
            {
                return uid;
            }
        }
    }
}

impl Shared {
    pub(super) fn notice_store(&self, identity: String) {
        self.identity.send_if_modified(|known| {
            let is_new = *known != identity;
            if is_new {
                tracing::warn!(
                    store = identity,
                    "the store behind the address is another one"
                );
                *known = identity;
            }
            is_new
        });
    }

    pub(super) fn session_touched(&self, session: SessionUid) {
        self.sessions.touched(session);
    }

    pub(super) fn queue_touched(&self) {
        self.queue.send_replace(());
    }

    pub(super) fn worker_touched(&self, touched: Touched<WorkerSessionId>) {
        // An error says that nobody listens.
        let _ = self.workers.send(touched);
    }

    /// Something may have been missed: everybody looks.
    pub(super) fn all_touched(&self) {
        self.sessions.all_touched();
        self.queue_touched();
        self.worker_touched(Touched::All);
    }

    fn tell_others(&self, add: impl FnOnce(&mut Payload)) {
        add(&mut lock(&self.outgoing));
        self.outgoing_ready.notify_one();
    }
}

impl Touches {
    /// Waits until there may be something new since the last call. Safe to drop and call again.
    pub async fn touched(&mut self) {
        if self.receiver.changed().await.is_err() {
            // The hub is gone, and with it the server: nothing will come.
            std::future::pending::<()>().await;
        }
    }
}

impl WorkerTouches {
    /// Waits for the next worker for which there may be an order. Safe to drop and call again.
    pub async fn touched(&mut self) -> Touched<WorkerSessionId> {
        match self.receiver.recv().await {
            Ok(touched) => touched,
            Err(broadcast::error::RecvError::Lagged(_)) => Touched::All,
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }
}

/// A lock whose holder panicked still guards whole values: every change under it is one call on a collection.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
