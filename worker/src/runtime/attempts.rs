//! The attempts that are under way, one per slot.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::{Id, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::attempt::{Attempt, AttemptSpans, Orders, Services, Source, Survivor};
use crate::lease::{HeldLeases, Lease, LeaseId, Offer, SignalOrder};

/// Signals to one attempt that wait.
const SIGNALS_MAX: usize = 64;

/// Attempts by lease. Dropping it aborts them all, which kills their processes.
pub struct Attempts {
    services: Arc<Services>,
    held: HeldLeases,
    running: HashMap<LeaseId, RunningAttempt>,
    tasks: JoinSet<()>,
    leases_of_tasks: HashMap<Id, LeaseId>,
    /// By task: processes of the boot before that nobody wants.
    dying: HashMap<String, CancellationToken>,
}

struct RunningAttempt {
    lease: Lease,
    orders: watch::Sender<Orders>,
    signals: mpsc::Sender<SignalOrder>,
    lost: CancellationToken,
    /// Cancelled when nothing is left of the attempt.
    gone: CancellationToken,
}

impl Attempts {
    pub fn new(services: Arc<Services>, held: HeldLeases) -> Attempts {
        Attempts {
            services,
            held,
            running: HashMap::new(),
            tasks: JoinSet::new(),
            leases_of_tasks: HashMap::new(),
            dying: HashMap::new(),
        }
    }

    pub fn count(&self) -> usize {
        self.running.len()
    }

    /// A process of an older lease is being killed; `gone` is cancelled when nothing is left of it.
    pub fn note_dying(&mut self, lease: &Lease, gone: CancellationToken) {
        self.dying.retain(|_, gone| !gone.is_cancelled());
        self.dying.insert(lease.task_id.clone(), gone);
    }

    /// Begins an attempt. A newer lease on a task proves that an older one is lost.
    pub fn begin(&mut self, offer: Offer) {
        let home = offer.lease.clone();
        self.start(offer, Source::Offered, home);
    }

    /// Goes on with a run of the boot before.
    pub fn go_on(&mut self, lease: Lease, survivor: Survivor) {
        let record = &survivor.record;
        let offer = Offer {
            lease,
            session_id: record.session_id.clone(),
            namespace: String::new(),
            attempt: 0,
            run: record.run,
            lease_duration: record.lease_duration,
            // The shim has kept what is left of it.
            timeout: None,
            work: None,
            trace: record.trace(),
            // What has secrets ends with its worker.
            has_secrets: false,
        };
        let home = record.home.clone();
        self.start(offer, Source::Survived(Box::new(survivor)), home);
    }

    fn start(&mut self, offer: Offer, source: Source, home: Lease) {
        let lease = offer.lease.clone();
        let older = self
            .running
            .values()
            .filter(|attempt| attempt.lease.task_id == lease.task_id);
        let predecessor = older
            .max_by_key(|attempt| attempt.lease.epoch)
            .map(|attempt| {
                attempt.lost.cancel();
                attempt.gone.clone()
            })
            .or_else(|| self.dying.remove(&lease.task_id));
        let (orders, orders_of_attempt) = watch::channel(Orders::default());
        let (signals, signals_of_attempt) = mpsc::channel(SIGNALS_MAX);
        let lost = CancellationToken::new();
        let attempt = Attempt {
            signals: signals_of_attempt,
            services: self.services.clone(),
            offer,
            orders: orders_of_attempt,
            lost: lost.clone(),
            predecessor,
            source,
            home,
            spans: AttemptSpans::default(),
        };
        let task = self.tasks.spawn(attempt.run());
        self.leases_of_tasks.insert(task.id(), lease.id);
        self.running.insert(
            lease.id,
            RunningAttempt {
                lease,
                orders,
                signals,
                lost,
                gone: CancellationToken::new(),
            },
        );
    }

    /// Waits until an attempt is over; for ever while there is none.
    pub async fn next_over(&mut self) {
        let task_id = match self.tasks.join_next_with_id().await {
            Some(Ok((task_id, ()))) => task_id,
            Some(Err(error)) => {
                if error.is_panic() {
                    tracing::error!(%error, "an attempt panicked; its process is killed");
                }
                error.id()
            }
            None => return std::future::pending().await,
        };
        let Some(lease_id) = self.leases_of_tasks.remove(&task_id) else {
            return;
        };
        self.held.remove(lease_id);
        if let Some(attempt) = self.running.remove(&lease_id) {
            attempt.gone.cancel();
        }
    }

    pub fn cancel(&self, lease: &Lease, grace: Option<Duration>, signal: Option<i32>) {
        if let Some(attempt) = self.find(lease) {
            attempt
                .orders
                .send_if_modified(|orders| orders.cancel(Instant::now(), grace, signal));
        }
    }

    /// One that does not fit comes again for as long as somebody wants it sent.
    pub fn signal(&self, lease: &Lease, order: SignalOrder) {
        if let Some(attempt) = self.find(lease) {
            let _ = attempt.signals.try_send(order);
        }
    }

    pub fn drop_lease(&self, lease: &Lease) {
        if let Some(attempt) = self.find(lease) {
            attempt.lost.cancel();
        }
    }

    /// What is not started is to be given back.
    pub fn leave(&self) {
        for attempt in self.running.values() {
            attempt.orders.send_modify(|orders| orders.leaving = true);
        }
    }

    /// What runs is to be ended: TERM, then KILL after a short grace.
    pub fn end(&self) {
        for attempt in self.running.values() {
            attempt.orders.send_modify(|orders| orders.ending = true);
        }
    }

    fn find(&self, lease: &Lease) -> Option<&RunningAttempt> {
        self.running
            .get(&lease.id)
            .filter(|attempt| attempt.lease == *lease)
    }
}
