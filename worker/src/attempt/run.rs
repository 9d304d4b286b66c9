//! The steps of an attempt, in order.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::again::{deliver_again, keep};
use super::deliver::{Abandoned, deliver_files, report_finish, unless_lost};
use super::inputs::{InputFailure, fetch_inputs};
use super::isolate::isolate;
use super::orders::Orders;
use super::prepare::{
    add_variables, hand_over_to_user, ledger_failed, prepare, socket_failed, start_failed,
};
use super::resume::{self, Survivor};
use super::secrets::{ResolvedSecrets, SecretFailure, fetch_secrets};
use super::services::Services;
use super::spans::AttemptSpans;
use super::start_files::fetch_start_files;
use super::supervise::shim_deadline;
use super::watch::Hold;
use crate::agent_socket::AgentSocket;
use crate::lease::{
    CommandWork, ErrorFacts, Finish, Lease, Offer, SignalOrder, StartFault, StopCause, Work,
};
use crate::ledger::{FinishedRecord, LedgerEntry, SurvivingRecord};
use crate::link::files::FileError;
use crate::link::reports::{Report, ReportError, Verdict};
use crate::mask::Masks;
use crate::output::upload::UploadEnd;
use crate::recent::StoreKey;
use crate::workspace::Workspace;
use crate::{
    boot_time::BootTime,
    process::{Launch, Process, StartError},
};

pub(super) const START_ITEM_NO: i64 = 1;
const RELEASE_ITEM_NO: i64 = 1;
/// Of a lease that was started.
const LATE_RELEASE_ITEM_NO: i64 = 2;

/// Reasons of errors that pass when other attempts end.
const SHORTAGES: [&str; 4] = ["EMFILE", "ENFILE", "EAGAIN", "ENOMEM"];
/// How long a start that is asked to end may take to become a process that can be told so.
const START_PATIENCE: Duration = Duration::from_secs(2);

/// One offer that a slot was found for, or a run of the boot before.
pub struct Attempt {
    pub services: Arc<Services>,
    pub offer: Offer,
    pub orders: watch::Receiver<Orders>,
    pub signals: mpsc::Receiver<SignalOrder>,
    /// Cancelled when the lease is lost, by whoever learns it first.
    pub lost: CancellationToken,
    /// An attempt at the same task under an older lease; cancelled when nothing is left of it.
    pub predecessor: Option<CancellationToken>,
    pub source: Source,
    /// The lease that names the run's directory.
    pub home: Lease,
    /// What is told of it; begun with the attempt itself.
    pub spans: AttemptSpans,
}

/// Where the work of an attempt comes from.
pub enum Source {
    /// It is to be started.
    Offered,
    /// It has outlived the boot before.
    Survived(Box<Survivor>),
}

/// A finished run whose finish is noted but not yet acknowledged.
pub(super) struct Concluded {
    pub(super) record: FinishedRecord,
    pub(super) output: UploadEnd,
}

impl Attempt {
    /// Takes the attempt to its acknowledged finish, or to the point where nobody wants it any more.
    pub async fn run(mut self) {
        let lease = self.offer.lease.clone();
        let source = std::mem::replace(&mut self.source, Source::Offered);
        let earlier = match &source {
            Source::Offered => None,
            Source::Survived(survivor) => Some(survivor.earlier.clone()),
        };
        self.spans = AttemptSpans::begin(&self.offer);
        let trace = self.spans.context();
        // a field without a value is not logged
        let trace_id = Some(trace.trace_id()).filter(|id| !id.is_empty());
        let logged = tracing::info_span!(
            "attempt",
            session.id = self.offer.session_id,
            run = self.offer.run,
            trace.id = trace_id
        );
        let store = self.services.recents.store();
        let carried_out = self
            .carry_out(source, &store)
            .instrument(logged.clone())
            .await;
        std::mem::take(&mut self.spans).over(&carried_out);
        let mut is_settled = true;
        match carried_out {
            Ok(record) => {
                logged.in_scope(|| {
                    tracing::info!(task.id = lease.task_id, lease = %lease, "the attempt is finished");
                });
                is_settled = keep(&self.services, store, &lease, record, &self.workspace()).await;
            }
            Err(Abandoned::Undelivered) => return,
            Err(
                abandoned @ (Abandoned::Lost
                | Abandoned::Canceled
                | Abandoned::Released { .. }
                | Abandoned::Refused { .. }),
            ) => logged.in_scope(|| {
                tracing::info!(task.id = lease.task_id, lease = %lease, reason = %abandoned, "the attempt is abandoned");
            }),
        }
        self.workspace().remove().await;
        self.services.ledger.forget(&lease).await;
        if let Some(earlier) = earlier {
            self.services.ledger.forget(&earlier).await;
        }
        if !is_settled {
            deliver_again(&self.services, &lease).await;
        }
    }

    /// What was noted of the run, once it is acknowledged. `store` is the one that was there at the beginning.
    async fn carry_out(
        &mut self,
        source: Source,
        store: &Option<StoreKey>,
    ) -> Result<FinishedRecord, Abandoned> {
        let concluded = match source {
            Source::Offered => self.begin().await?,
            Source::Survived(survivor) => self.go_on(*survivor).await?,
        };
        let workspace = self.workspace();
        let Concluded { mut record, output } = concluded;
        self.spans.finished(&record.finish);
        self.spans.step("result");
        let (services, lease, lost) = (&self.services, self.lease(), &self.lost);
        if services.recents.store() != *store {
            // they may have gone to one that is not there any more
            deliver_files(services, lease, &workspace, &mut record, lost).await?;
        }
        report_finish(services, lease, &workspace, &record, output, lost).await?;
        Ok(record)
    }

    async fn begin(&mut self) -> Result<Concluded, Abandoned> {
        self.wait_for_predecessor().await?;
        self.note_pending().await?;
        let work = self.fetch_work().await?;
        self.spans.step("start");
        self.report_start().await?;
        self.spans.launching();
        self.launch_and_conclude(work).await
    }

    /// Two attempts at one task never overlap on one worker.
    async fn wait_for_predecessor(&mut self) -> Result<(), Abandoned> {
        match self.predecessor.take() {
            Some(predecessor) => unless_lost(&self.lost, predecessor.cancelled()).await,
            None => Ok(()),
        }
    }

    async fn note_pending(&mut self) -> Result<(), Abandoned> {
        if self.orders.borrow().leaving {
            return Err(self.release("the worker is leaving").await);
        }
        match self
            .services
            .ledger
            .note(self.lease(), LedgerEntry::Pending)
            .await
        {
            Ok(()) => Ok(()),
            Err(error) => {
                self.services.storage.report_failure(&error);
                Err(self
                    .release("the worker's data directory cannot be written")
                    .await)
            }
        }
    }

    async fn fetch_work(&mut self) -> Result<Work, Abandoned> {
        if let Some(work) = self.offer.work.take() {
            return Ok(work);
        }
        let fetched = self
            .while_leased(self.services.files.fetch_work(self.lease()))
            .await?;
        match fetched {
            Ok(work) => Ok(work),
            Err(FileError::LeaseLost) => Err(Abandoned::Lost),
            Err(FileError::Refused { message }) => Err(self
                .release(&format!("the spec cannot be fetched: {message}"))
                .await),
        }
    }

    async fn report_start(&mut self) -> Result<(), Abandoned> {
        if self.orders.borrow().leaving {
            return Err(self.release("the worker is leaving").await);
        }
        let started = self
            .services
            .reporter
            .report(self.lease(), START_ITEM_NO, Report::Start);
        match self.while_leased(started).await? {
            Ok(Verdict::Applied | Verdict::AlreadyApplied) => Ok(()),
            Ok(Verdict::LeaseLost | Verdict::Terminal) => Err(Abandoned::Lost),
            Ok(Verdict::Canceled) => Err(Abandoned::Canceled),
            Ok(Verdict::Rejected { message }) | Err(ReportError::Refused { message }) => {
                Err(Abandoned::Refused { message })
            }
            Ok(Verdict::OutputPending) => Err(Abandoned::Refused {
                message: "the start got a verdict for a finish".to_owned(),
            }),
            Err(ReportError::Closed) => Err(Abandoned::Undelivered),
        }
    }

    /// From here on the run counts: whatever happens, a finish is noted and reported.
    async fn launch_and_conclude(&mut self, work: Work) -> Result<Concluded, Abandoned> {
        let _presence = self.services.presence.clone();
        let work = match work {
            Work::Command(work) => work,
            Work::Unsupported { reason } => {
                let message = format!("this worker cannot run the task: {reason}");
                let facts = ErrorFacts::start_failed(StartFault::Unsupported, message);
                return self.not_launched(facts).await;
            }
        };
        if let Err(problem) = self.services.inheritance.check(&work.inherit_env) {
            let facts = ErrorFacts::start_failed(StartFault::Env, problem);
            return self.not_launched(facts).await;
        }
        if let Err(facts) = self.note_launch(LedgerEntry::Launching).await {
            return self.not_launched(facts).await;
        }
        let (secrets, masks) = match self.fetch_secrets().await? {
            Ok(fetched) => fetched,
            Err(facts) => return self.not_launched(facts).await,
        };
        let workspace = self.workspace();
        let socket_path = self.services.sockets.of(self.lease());
        let socket = match AgentSocket::bind(socket_path).await {
            Ok(socket) => socket,
            Err(error) => {
                let facts = socket_failed(&error, &self.services.storage);
                return self.not_launched(facts).await;
            }
        };
        let deadline = self.shim_deadline();
        let prepared = prepare(
            &self.offer,
            &work,
            &workspace,
            socket.path(),
            deadline,
            secrets,
            &self.services.storage,
        )
        .await;
        let mut launch = match prepared {
            Ok(launch) => launch,
            Err(facts) => return self.not_launched(facts).await,
        };
        let isolated = isolate(
            &self.services.isolation,
            self.lease(),
            &work,
            &workspace,
            &mut launch,
        )
        .await;
        let mut isolation = match isolated {
            Ok(isolation) => isolation,
            Err(facts) => return self.not_launched(facts).await,
        };
        match self.fetch_inputs(&work, &launch.cwd).await? {
            Ok(()) => {}
            Err(InputFailure::LeaseLost) => return Err(Abandoned::Lost),
            Err(InputFailure::Failed(facts)) => {
                return self.not_launched(facts).await;
            }
        }
        match self.fetch_start_files(&work).await? {
            Ok(variables) => add_variables(&mut launch, variables, &work),
            Err(InputFailure::LeaseLost) => return Err(Abandoned::Lost),
            Err(InputFailure::Failed(facts)) => {
                return self.not_launched(facts).await;
            }
        }
        if let Err(facts) = hand_over_to_user(&launch, &workspace, socket.path()).await {
            return self.not_launched(facts).await;
        }
        if work.survives {
            let trace = self.spans.context();
            let token = resume::token();
            let record = SurvivingRecord::new(&self.offer, &work, &isolation, token, &trace);
            launch.survival = Some(resume::survival(&self.services.workspaces, &record));
            let entry = LedgerEntry::Surviving(Box::new(record));
            if let Err(facts) = self.note_launch(entry).await {
                return self.not_launched(facts).await;
            }
        }
        let terminal_size_number = self.fetch_terminal_size(&mut launch).await?;
        // fetching may have taken its time
        let deadline = self.shim_deadline();
        launch.deadline = deadline;
        if self.orders.borrow().is_canceled() {
            return self
                .conclude_without_process(Some(StopCause::Canceled), None)
                .await;
        }
        if self.orders.borrow().ending {
            let reason = "the worker was shut down before the task was launched";
            return Err(self.give_back(reason, LATE_RELEASE_ITEM_NO).await);
        }
        if deadline <= BootTime::now() {
            return self
                .conclude_without_process(Some(StopCause::LeaseExpired), None)
                .await;
        }
        let process_span = self.spans.process(&mut launch);
        let spawned = Process::spawn_unless(
            &self.services.shim_program,
            &launch,
            start_is_in_vain(self.lost.clone(), self.orders.clone()),
        )
        .await;
        match spawned {
            Ok(process) => {
                self.spans.spawned();
                let hold = Hold {
                    span: Some(process_span),
                    process,
                    socket: Some(socket),
                    resumed: None,
                    masks,
                    terminal_size_number,
                };
                if work.survives {
                    isolation.leave();
                }
                self.watch(hold, &work, isolation).await
            }
            Err(StartError::GivenUp) if self.lost.is_cancelled() => Err(Abandoned::Lost),
            Err(StartError::GivenUp) => {
                let cause = match self.orders.borrow().is_canceled() {
                    true => StopCause::Canceled,
                    false => StopCause::WorkerShutdown,
                };
                self.conclude_without_process(Some(cause), None).await
            }
            Err(error) => {
                let facts = start_failed(&error, &self.services.storage);
                self.not_launched(facts).await
            }
        }
    }

    /// Nothing has run, so that where the machine is only short of something, and other attempts of this worker will give
    /// it back, the lease is returned and the run does not count.
    async fn not_launched(&mut self, facts: ErrorFacts) -> Result<Concluded, Abandoned> {
        // one is that of the services, one our own
        let has_company = Arc::strong_count(&self.services.presence) > 2;
        if has_company && SHORTAGES.contains(&facts.reason.as_str()) {
            tracing::warn!(
                error = facts.message,
                "a task was not started for want of resources; it is given back"
            );
            return Err(self.give_back(&facts.message, LATE_RELEASE_ITEM_NO).await);
        }
        self.conclude_without_process(None, Some(facts)).await
    }

    /// The task's secrets, and what is to be masked of them.
    async fn fetch_secrets(
        &self,
    ) -> Result<Result<(ResolvedSecrets, Masks), ErrorFacts>, Abandoned> {
        if !self.offer.has_secrets {
            return Ok(Ok((ResolvedSecrets::default(), Masks::new(&[]))));
        }
        let fetching = fetch_secrets(&self.services, self.lease());
        match self.while_leased(fetching).await? {
            Ok(fetched) => Ok(Ok(fetched)),
            Err(SecretFailure::LeaseLost) => Err(Abandoned::Lost),
            Err(SecretFailure::Failed(facts)) => Ok(Err(facts)),
        }
    }

    async fn note_launch(&self, entry: LedgerEntry) -> Result<(), ErrorFacts> {
        let noted = self.services.ledger.note(self.lease(), entry).await;
        noted.map_err(|error| ledger_failed(&error, &self.services.storage))
    }

    /// All files, unless a cancel or the worker's end comes first, which is heeded by whoever asks for them.
    async fn fetch_inputs(
        &self,
        work: &CommandWork,
        cwd: &std::path::Path,
    ) -> Result<Result<(), InputFailure>, Abandoned> {
        let mut orders = self.orders.clone();
        let fetching = async {
            tokio::select! {
                fetched = fetch_inputs(&self.services, self.lease(), work, cwd) => fetched,
                Ok(_) = orders.wait_for(|orders| orders.is_canceled() || orders.ending) => Ok(()),
            }
        };
        self.while_leased(fetching).await
    }

    /// As [`Self::fetch_inputs`], for the files that the command is started with.
    async fn fetch_start_files(
        &self,
        work: &CommandWork,
    ) -> Result<Result<Vec<(String, String)>, InputFailure>, Abandoned> {
        if work.env_files.is_empty() && work.stdin_file.is_empty() {
            return Ok(Ok(Vec::new()));
        }
        let mut orders = self.orders.clone();
        let workspace = self.workspace();
        let fetching = async {
            tokio::select! {
                fetched = fetch_start_files(&self.services, self.lease(), work, &workspace) => fetched,
                Ok(_) = orders.wait_for(|orders| orders.is_canceled() || orders.ending) => Ok(Vec::new()),
            }
        };
        self.while_leased(fetching).await
    }

    /// The size that the terminal starts with, where it was given another one since the task was created; its number. A
    /// cancel or the worker's end comes first, as with files.
    async fn fetch_terminal_size(&self, launch: &mut Launch) -> Result<i64, Abandoned> {
        let Some(terminal) = &mut launch.terminal else {
            return Ok(0);
        };
        let mut orders = self.orders.clone();
        let interaction = &self.services.interaction;
        let fetching = async {
            tokio::select! {
                read = interaction.read_terminal_size(self.lease(), self.offer.run, 0, false) => read.ok().flatten(),
                Ok(_) = orders.wait_for(|orders| orders.is_canceled() || orders.ending) => None,
            }
        };
        let Some((number, size)) = self.while_leased(fetching).await? else {
            return Ok(0);
        };
        *terminal = size;
        Ok(number)
    }

    async fn conclude_without_process(
        &self,
        stop_cause: Option<StopCause>,
        error: Option<ErrorFacts>,
    ) -> Result<Concluded, Abandoned> {
        let record = self.record(Finish::without_process(stop_cause, error));
        Ok(Concluded {
            record: self.note_finished(record).await,
            output: UploadEnd::Durable,
        })
    }

    /// A finish that cannot be noted is reported all the same; only a later boot would not know it.
    pub(super) async fn note_finished(&self, record: FinishedRecord) -> FinishedRecord {
        let entry = LedgerEntry::Finished(Box::new(record.clone()));
        if let Err(error) = self.services.ledger.note(self.lease(), entry).await {
            self.services.storage.report_failure(&error);
        }
        record
    }

    /// Gives the lease back. The reason to abandon the attempt.
    async fn release(&mut self, reason: &str) -> Abandoned {
        self.give_back(reason, RELEASE_ITEM_NO).await
    }

    async fn give_back(&mut self, reason: &str, item_no: i64) -> Abandoned {
        let report = Report::Release {
            reason: reason.to_owned(),
        };
        let released = self.services.reporter.report(self.lease(), item_no, report);
        match self.while_leased(released).await {
            // Whatever the verdict, the lease is not used.
            Ok(_) => Abandoned::Released {
                reason: reason.to_owned(),
            },
            Err(abandoned) => abandoned,
        }
    }

    /// The outcome of `work`, unless the lease is lost or runs out first.
    async fn while_leased<T>(&self, work: impl Future<Output = T>) -> Result<T, Abandoned> {
        let mut renewed = self.services.renewed.clone();
        let running_out = async {
            loop {
                let left = self.shim_deadline().saturating_since(BootTime::now());
                if left.is_zero() {
                    return;
                }
                tokio::select! {
                    () = tokio::time::sleep(left) => {}
                    changed = renewed.changed() => {
                        if changed.is_err() {
                            return;
                        }
                    }
                }
            }
        };
        tokio::select! {
            outcome = unless_lost(&self.lost, work) => outcome,
            () = running_out => Err(Abandoned::Lost),
        }
    }

    /// Counts from the newest heartbeat that was acknowledged, which was before this lease or during it: never too late.
    fn shim_deadline(&self) -> BootTime {
        let renewed_at = *self.services.renewed.borrow();
        renewed_at.map_or(BootTime::from_nanos(0), |at| {
            shim_deadline(at, self.offer.lease_duration)
        })
    }

    pub(super) fn record(&self, finish: Finish) -> FinishedRecord {
        FinishedRecord {
            run: self.offer.run,
            home: Some(self.home.clone()),
            finish,
            artifacts: Vec::new(),
            collection: None,
            head_cap: 0,
            tail_cap: 0,
        }
    }

    pub(super) fn lease(&self) -> &Lease {
        &self.offer.lease
    }

    pub(super) fn workspace(&self) -> Workspace {
        self.services.workspaces.of(&self.home)
    }
}

/// Comes when nobody wants the process any more, though for a cancel it is waited a moment: told by its process, a run
/// gets its grace.
async fn start_is_in_vain(lost: CancellationToken, mut orders: watch::Receiver<Orders>) {
    let ended = async {
        let told = orders.wait_for(|orders| orders.is_canceled() || orders.ending);
        if told.await.is_err() {
            // No more orders come.
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(START_PATIENCE).await;
    };
    tokio::select! {
        () = lost.cancelled() => {}
        () = ended => {}
    }
}
