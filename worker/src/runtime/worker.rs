//! The life of a worker.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{Access, access};
use taskyard_telemetry::metrics::table;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::{Id, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::attempts::Attempts;
use super::descriptors;
use super::isolation::{labels_of, open_isolation};
use super::standing::{WorkerProbe, measure_spools};
use super::survivors::{Survivors, end_leftovers, find_survivors};
use crate::agent_socket::{SocketPlace, WaitingAttempts};
use crate::attempt::{
    ENDING_GRACE, InheritPolicy, SecretPolicy, Services, StorageHealth, SurvivingAttempts,
    deliver_again, deliver_earlier,
};
use crate::config::WorkerConfig;
use crate::error::WorkerError;
use crate::isolation::Isolation;
use crate::lease::{HeldLeases, Lease, LeaseId, Offer};
use crate::ledger::{EarlierLease, EarlierStatus, Ledger, StateDirectory};
use crate::link::Endpoint;
use crate::link::control::{ControlEvent, ControlLink, Identity, SlotsState};
use crate::link::earlier::{EarlierFate, EarlierLeases, ResumedLease};
use crate::link::files::LeaseFiles;
use crate::link::interaction::Interaction;
use crate::link::output::OutputLink;
use crate::link::reports::{Report, Reporter};
use crate::output::upload::WORKER_WINDOW_BYTES;
use crate::recent::{RecentLimits, RecentResults};
use crate::workspace::Workspaces;

const EVENTS_MAX: usize = 1_024;
/// Attempts that give back their slots while they wait. Others that wait keep theirs.
const WAITING_MAX: usize = 10_000;
/// Files that are in memory at a time on their way up.
const TRANSFERS_MAX: usize = 2;
/// Structured results that are in memory at a time while they are checked.
const CONCLUSIONS_MAX: usize = 4;
/// Recent results that are told again at a time.
const RETELLINGS_MAX: usize = 16;
/// Recent results that are kept; a hello names each of them, in some 80 bytes.
const RECENT_ENTRIES_MAX: usize = 2_000;
/// What their files may take on disk.
const RECENT_FILE_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// How long the reports of what was killed at the end may take.
const FLUSH_BOUND: Duration = Duration::from_secs(5);
/// How long the last words on the control link may take.
const CLOSE_BOUND: Duration = Duration::from_secs(1);
/// A release that does not get through lapses by itself.
const RELEASE_BOUND: Duration = Duration::from_secs(15);

/// Runs a worker until `shutdown` is cancelled and everything that it ran is over, within the configured drain, the
/// grace of what has not ended by then, and 5 s.
/// A control plane that cannot be reached is not an error: it is tried for as long as it takes.
///
/// # Errors
/// A configuration or a data directory that cannot be used; see [`WorkerError`].
pub async fn run(config: WorkerConfig, shutdown: CancellationToken) -> Result<(), WorkerError> {
    prepare(config).await?.run(shutdown).await
}

/// Checks the configuration and takes the data directory; nothing is said to the control plane yet.
///
/// # Errors
/// As [`run`].
pub async fn prepare(config: WorkerConfig) -> Result<PreparedWorker, WorkerError> {
    config.check()?;
    let endpoint = Endpoint::parse(&config.endpoint, &config.access)?;
    let shim_program = check_shim(&config.shim_program)?;
    let secret_policy = SecretPolicy::new(&config.secret_env, &config.secret_dirs)?
        .without_files(config.access.private_files());
    let inheritance = InheritPolicy::new(config.inherit_env.as_deref())?;
    let config = WorkerConfig {
        slots: descriptors::slots_within_limit(config.slots),
        ..config
    };
    let state = StateDirectory::open_soon(&config.data_dir).await?;
    let unusable = |source| WorkerError::DataDirectory {
        path: config.data_dir.clone(),
        source,
    };
    let sockets = SocketPlace::open(state.root(), state.place_id()).map_err(|source| {
        WorkerError::Sockets {
            path: config.data_dir.clone(),
            source,
        }
    })?;
    let ledger = Ledger::new(state.ledger());
    let workspaces = Workspaces::new(state.tasks());
    let earlier = ledger.earlier().map_err(unusable)?;
    end_leftovers(&earlier).await;
    let kept: Vec<Lease> = earlier.iter().filter_map(home).collect();
    workspaces.remove_leftovers(&kept).map_err(unusable)?;
    let isolation = open_isolation(&config, &state, &sockets, &shim_program, &kept).await?;
    ledger.probe().await.map_err(unusable)?;
    let limits = RecentLimits {
        age: config.keep_results,
        entries: RECENT_ENTRIES_MAX,
        file_bytes: RECENT_FILE_BYTES_MAX,
    };
    let recents = RecentResults::open(state.recent(), limits).map_err(unusable)?;
    let disk = Disk {
        state,
        ledger,
        workspaces,
        recents,
        sockets,
        shim_program,
        secret_policy,
        inheritance,
        isolation,
    };
    Ok(PreparedWorker {
        config,
        endpoint,
        disk,
        earlier,
        attached: watch::Sender::new(false),
    })
}

/// A worker that has its directory and can begin.
pub struct PreparedWorker {
    config: WorkerConfig,
    endpoint: Endpoint,
    disk: Disk,
    earlier: Vec<EarlierLease>,
    attached: watch::Sender<bool>,
}

impl PreparedWorker {
    /// Looks whether the worker is ready, also while it runs and when it has ended.
    #[must_use]
    pub fn probe(&self) -> WorkerProbe {
        WorkerProbe {
            attached: self.attached.subscribe(),
        }
    }

    /// As the function [`run`].
    ///
    /// # Errors
    /// [`WorkerError::PartEnded`].
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), WorkerError> {
        let (earlier, survivors) =
            find_survivors(&self.disk.ledger, &self.disk.workspaces, self.earlier).await;
        let standing = (earlier, survivors, self.attached);
        let served = Runtime::start(&self.config, &self.endpoint, &self.disk, standing)
            .serve(self.config.drain, shutdown)
            .await;
        self.disk.sockets.leave();
        served
    }
}

/// The program as an absolute path: it is never searched for.
fn check_shim(program: &Path) -> Result<PathBuf, WorkerError> {
    let unusable = |source| WorkerError::Shim {
        program: program.to_owned(),
        source,
    };
    let program = std::path::absolute(program).map_err(unusable)?;
    let metadata = std::fs::metadata(&program).map_err(unusable)?;
    if !metadata.is_file() {
        return Err(unusable(std::io::Error::other("it is not a file")));
    }
    access(&program, Access::EXEC_OK).map_err(|errno| unusable(errno.into()))?;
    Ok(program)
}

fn is_finished(earlier: &EarlierLease) -> bool {
    fate(&earlier.status) == EarlierFate::Finished
}

/// The lease that names the directory of a run that is not over with.
fn home(earlier: &EarlierLease) -> Option<Lease> {
    match &earlier.status {
        EarlierStatus::NotStarted | EarlierStatus::Unknown => None,
        EarlierStatus::Surviving(record) => Some(record.home.clone()),
        EarlierStatus::Finished(record) => {
            Some(record.home.clone().unwrap_or(earlier.lease.clone()))
        }
    }
}

fn fate(status: &EarlierStatus) -> EarlierFate {
    match status {
        EarlierStatus::NotStarted => EarlierFate::NotStarted,
        EarlierStatus::Unknown => EarlierFate::Unknown,
        EarlierStatus::Surviving(record) => match record.next {
            Some(next) => EarlierFate::Running { next },
            None => EarlierFate::Unknown,
        },
        EarlierStatus::Finished(_) => EarlierFate::Finished,
    }
}

/// What the worker has on disk; the directory is its own for as long as this lives.
struct Disk {
    state: StateDirectory,
    ledger: Ledger,
    workspaces: Workspaces,
    recents: RecentResults,
    sockets: SocketPlace,
    shim_program: PathBuf,
    secret_policy: SecretPolicy,
    inheritance: InheritPolicy,
    isolation: Arc<Isolation>,
}

struct Runtime {
    services: Arc<Services>,
    held: HeldLeases,
    slots: usize,
    free: watch::Sender<SlotsState>,
    offers_counted: u64,
    attempts: Attempts,
    /// Releases, and finishes of earlier boots.
    deliveries: JoinSet<()>,
    leases_of_deliveries: HashMap<Id, Lease>,
    /// Leases of earlier boots, until the first hello was accepted.
    unsettled: Vec<EarlierLease>,
    earlier: EarlierLeases,
    /// Those of them that still run, or ended by themselves; they take slots.
    survivors: Survivors,
    events: mpsc::Receiver<ControlEvent>,
    storage_is_good: watch::Receiver<bool>,
    /// Attempts that have given back their slot.
    waiting: watch::Receiver<usize>,
    /// Attempts that can be left to their shims.
    surviving: watch::Receiver<usize>,
    leaving: CancellationToken,
    /// Links; they end with this.
    parts: JoinSet<&'static str>,
}

impl Runtime {
    fn start(
        config: &WorkerConfig,
        endpoint: &Endpoint,
        disk: &Disk,
        (unsettled, survivors, attached): (Vec<EarlierLease>, Survivors, watch::Sender<bool>),
    ) -> Runtime {
        let control = endpoint.connect();
        let bulk = endpoint.connect();
        let (reporter, report_sender) = Reporter::new(control.clone());
        let (output, output_connection) = OutputLink::new(bulk.clone());
        let (events_sender, events) = mpsc::channel(EVENTS_MAX);
        let renewed = watch::Sender::new(None);
        let free = watch::Sender::new(SlotsState {
            free: config
                .slots
                .saturating_sub(u32::try_from(survivors.len()).unwrap_or(u32::MAX)),
            offers_counted: 0,
        });
        let held = HeldLeases::default();
        // The very first heartbeat must name what the hello called finished, else it would count as lost.
        for earlier in unsettled.iter().filter(|earlier| is_finished(earlier)) {
            held.insert(&earlier.lease);
        }
        let waiting = WaitingAttempts::new();
        let surviving = SurvivingAttempts::new();
        let leaving = CancellationToken::new();
        let storage = StorageHealth::new();
        let fates = unsettled
            .iter()
            .map(|earlier| (earlier.lease.clone(), fate(&earlier.status)));
        let earlier = EarlierLeases::new(fates.collect());
        let services = Arc::new(Services {
            reporter,
            files: LeaseFiles::new(control.clone(), bulk),
            interaction: Interaction::new(control.clone()),
            output,
            output_window: Arc::new(Semaphore::new(WORKER_WINDOW_BYTES)),
            transfers: Semaphore::new(TRANSFERS_MAX),
            conclusions: Semaphore::new(CONCLUSIONS_MAX),
            retellings: Semaphore::new(RETELLINGS_MAX),
            ledger: disk.ledger.clone(),
            workspaces: disk.workspaces.clone(),
            recents: disk.recents.clone(),
            storage: storage.clone(),
            secret_policy: disk.secret_policy.clone(),
            inheritance: disk.inheritance.clone(),
            shim_program: disk.shim_program.clone(),
            isolation: disk.isolation.clone(),
            sockets: disk.sockets.clone(),
            endpoint: endpoint.clone(),
            waiting: waiting.clone(),
            surviving: surviving.clone(),
            presence: Arc::new(()),
            renewed: renewed.subscribe(),
        });
        let link = ControlLink {
            channel: control,
            identity: Identity {
                name: config.name.clone(),
                instance_id: Uuid::new_v4().into_bytes(),
                state_id: disk.state.state_id(),
                queues: config.queues.clone(),
                kinds: config.kinds.clone(),
                labels: labels_of(config, &disk.isolation),
                slots: config.slots,
            },
            earlier: earlier.clone(),
            recents: disk.recents.clone(),
            held: held.clone(),
            slots: free.subscribe(),
            events: events_sender,
            renewed,
            leaving: leaving.clone(),
            offers_received: 0,
            attached,
        };
        let storage_is_good = storage.subscribe();
        let mut parts = JoinSet::new();
        parts.spawn(named("control link", link.run()));
        parts.spawn(named("reports", report_sender.run()));
        parts.spawn(named("output link", output_connection.run()));
        let aging = disk
            .recents
            .clone()
            .age(services.renewed.clone(), storage.subscribe());
        parts.spawn(named("recent results", aging));
        parts.spawn(named("spools", measure_spools(disk.workspaces.clone())));
        parts.spawn(named(
            "storage recovery",
            storage.recover(disk.ledger.clone()),
        ));
        Runtime {
            attempts: Attempts::new(services.clone(), held.clone()),
            services,
            held,
            slots: config.slots as usize,
            free,
            offers_counted: 0,
            deliveries: JoinSet::new(),
            leases_of_deliveries: HashMap::new(),
            unsettled,
            earlier,
            survivors,
            events,
            storage_is_good,
            waiting: waiting.subscribe(),
            surviving: surviving.subscribe(),
            leaving,
            parts,
        }
    }

    async fn serve(
        mut self,
        drain: Duration,
        shutdown: CancellationToken,
    ) -> Result<(), WorkerError> {
        while !shutdown.is_cancelled() {
            tokio::select! {
                () = shutdown.cancelled() => {}
                stepped = self.step() => stepped?,
            }
        }
        tracing::info!(
            running = self.attempts.count(),
            surviving = *self.surviving.borrow(),
            "the worker leaves"
        );
        self.leaving.cancel();
        self.attempts.leave();
        self.offer_free_slots();
        self.step_until_idle(Instant::now() + drain).await?;
        self.attempts.end();
        self.step_until_idle(Instant::now() + ENDING_GRACE + FLUSH_BOUND)
            .await?;
        let unfinished = self.unfinished();
        if unfinished > 0 {
            tracing::warn!(
                count = unfinished,
                "some finishes are not acknowledged; the next boot reports them"
            );
        }
        self.close_links().await;
        Ok(())
    }

    /// Without anybody to listen to it the control link says goodbye and ends.
    async fn close_links(self) {
        let Runtime {
            events, mut parts, ..
        } = self;
        drop(events);
        let _ = tokio::time::timeout(CLOSE_BOUND, parts.join_next()).await;
    }

    async fn step_until_idle(&mut self, until: Instant) -> Result<(), WorkerError> {
        while self.unfinished() > 0 || !self.deliveries.is_empty() {
            tokio::select! {
                () = tokio::time::sleep_until(until) => return Ok(()),
                stepped = self.step() => stepped?,
            }
        }
        Ok(())
    }

    /// Attempts that have to end before the worker does. Others are left to their shims, for the next boot.
    fn unfinished(&self) -> usize {
        self.attempts
            .count()
            .saturating_sub(*self.surviving.borrow())
    }

    /// One thing that happens. It may be dropped while it waits.
    async fn step(&mut self) -> Result<(), WorkerError> {
        tokio::select! {
            event = self.events.recv() => match event {
                Some(event) => self.handle(event),
                None => return Err(WorkerError::PartEnded { part: "control link" }),
            },
            () = self.attempts.next_over() => {}
            Some(delivered) = self.deliveries.join_next_with_id() => {
                let task_id = match delivered {
                    Ok((task_id, ())) => task_id,
                    Err(error) => error.id(),
                };
                if let Some(lease) = self.leases_of_deliveries.remove(&task_id) {
                    self.held.remove(lease.id);
                    self.earlier.forget(&lease);
                }
            }
            // The sender lives in the services.
            _ = self.storage_is_good.changed() => {}
            _ = self.waiting.changed() => {}
            _ = self.surviving.changed() => {}
            Some(ended) = self.parts.join_next() => {
                return Err(WorkerError::PartEnded { part: ended.unwrap_or("a link that panicked") });
            }
        }
        self.offer_free_slots();
        Ok(())
    }

    fn handle(&mut self, event: ControlEvent) {
        match event {
            ControlEvent::Attached { resumed, untold } => {
                self.settle_earlier(resumed);
                for lease in untold {
                    let services = self.services.clone();
                    let told = lease.clone();
                    self.deliver(lease, async move { deliver_again(&services, &told).await });
                }
            }
            ControlEvent::Offer(offer) => {
                self.offers_counted += 1;
                self.take_or_release(*offer);
            }
            ControlEvent::IdleOffer => self.offers_counted += 1,
            ControlEvent::Cancel {
                lease,
                grace,
                signal,
            } => self.attempts.cancel(&lease, grace, signal),
            ControlEvent::Signal { lease, order } => self.attempts.signal(&lease, order),
            ControlEvent::Drop(lease) => self.attempts.drop_lease(&lease),
        }
    }

    /// The accepted hello settled what an earlier boot left; its finishes are delivered now.
    fn settle_earlier(&mut self, resumed: Vec<ResumedLease>) {
        let mut next: HashMap<LeaseId, Lease> = resumed
            .into_iter()
            .map(|resumed| (resumed.earlier.id, resumed.lease))
            .collect();
        for EarlierLease { lease, status } in std::mem::take(&mut self.unsettled) {
            match status {
                EarlierStatus::NotStarted | EarlierStatus::Unknown => {
                    let ledger = self.services.ledger.clone();
                    let settled = lease.clone();
                    self.deliver(lease, async move { ledger.forget(&settled).await });
                }
                EarlierStatus::Surviving(_) => {
                    let Some(survivor) = self.survivors.remove(&lease.id) else {
                        continue;
                    };
                    match next.remove(&lease.id) {
                        Some(next) => self.attempts.go_on(next, survivor),
                        None => {
                            let services = self.services.clone();
                            let gone = CancellationToken::new();
                            self.attempts.note_dying(&lease, gone.clone());
                            self.deliver(lease, async move {
                                let _gone = gone.drop_guard();
                                survivor.put_down(&services).await;
                            });
                        }
                    }
                }
                EarlierStatus::Finished(record) => {
                    let services = self.services.clone();
                    let delivered = lease.clone();
                    self.deliver(lease, async move {
                        deliver_earlier(&services, &delivered, *record).await
                    });
                }
            }
        }
    }

    fn take_or_release(&mut self, offer: Offer) {
        let refusal = if self.leaving.is_cancelled() {
            "the worker is leaving"
        } else if self.slots_taken() >= self.slots {
            "no slot is free"
        } else if !*self.storage_is_good.borrow() {
            "the worker's data directory cannot be written"
        } else {
            return self.attempts.begin(offer);
        };
        let lease = offer.lease;
        let services = self.services.clone();
        let released = lease.clone();
        self.deliver(lease, async move {
            let report = Report::Release {
                reason: refusal.to_owned(),
            };
            // Whatever comes of it, the lease is not used and lapses.
            let _ = tokio::time::timeout(
                RELEASE_BOUND,
                services.reporter.report(&released, 1, report),
            )
            .await;
        });
    }

    fn deliver(&mut self, lease: Lease, delivery: impl Future<Output = ()> + Send + 'static) {
        let task = self.deliveries.spawn(delivery);
        self.leases_of_deliveries.insert(task.id(), lease);
    }

    /// An attempt that waits has given back its slot. It goes on at once when its wait ends, so there can be more
    /// attempts than slots, until some end.
    fn slots_taken(&self) -> usize {
        let waiting = (*self.waiting.borrow()).min(WAITING_MAX);
        (self.attempts.count() + self.survivors.len()).saturating_sub(waiting)
    }

    fn offer_free_slots(&self) {
        let taken = self.slots_taken();
        table::WORKER_ATTEMPTS.set(self.attempts.count() + self.survivors.len(), &[]);
        table::WORKER_SLOTS.set(taken, &["taken"]);
        table::WORKER_SLOTS.set(self.slots.saturating_sub(taken), &["free"]);
        let takes_work = !self.leaving.is_cancelled() && *self.storage_is_good.borrow();
        let free = if takes_work {
            self.slots.saturating_sub(self.slots_taken())
        } else {
            0
        };
        let free = u32::try_from(free).unwrap_or(u32::MAX);
        let slots = SlotsState {
            free,
            offers_counted: self.offers_counted,
        };
        self.free
            .send_if_modified(|before| std::mem::replace(before, slots) != slots);
    }
}

async fn named(name: &'static str, part: impl Future<Output = ()>) -> &'static str {
    part.await;
    name
}
