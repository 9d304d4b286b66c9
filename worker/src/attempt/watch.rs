//! Watching a run to its end, and what goes on meanwhile: output, input, signals and the calls of the work itself.

use std::time::SystemTime;

use taskyard_telemetry::trace::span::Span;
use tokio::sync::watch;

use super::deliver::{Abandoned, deliver_files, unless_lost};
use super::live_input::live_input;
use super::outcome::conclude;
use super::run::{Attempt, Concluded};
use super::spans::exited;
use super::supervise::{Bounds, Ears, Resumed, SignalEar, SignalOutcome, Supervised, supervise};
use super::terminal_sizes::terminal_sizes;
use crate::agent_socket::{AgentSocket, SocketUse, Waits};
use crate::isolation::RunIsolation;
use crate::lease::{CommandWork, ErrorFacts, Finish};
use crate::ledger::FinishedRecord;
use crate::link::lease_calls::LeaseCalls;
use crate::mask::Masks;
use crate::output::upload::{Totals, UploadEnd, UploadPlan, upload};
use crate::process::Process;

/// How often output that is refused is offered anew, from where the other end says.
const REFUSALS_MAX: u32 = 3;

/// A process and what is needed to hold it.
pub(super) struct Hold {
    pub(super) process: Process,
    /// Of the process; none: it was begun by the boot before.
    pub(super) span: Option<Span>,
    /// Absent: it could not be made again.
    pub(super) socket: Option<AgentSocket>,
    pub(super) resumed: Option<Resumed>,
    /// What is hidden in what the work says.
    pub(super) masks: Masks,
    /// Number of the size that its terminal has.
    pub(super) terminal_size_number: i64,
}

impl Attempt {
    /// Watches the process, and pushes its output all the while.
    pub(super) async fn watch(
        &mut self,
        hold: Hold,
        work: &CommandWork,
        isolation: RunIsolation,
    ) -> Result<Concluded, Abandoned> {
        tracing::info!(
            task.id = self.offer.lease.task_id,
            run = self.offer.run,
            pid = hold.process.pid(),
            "the task is running"
        );
        let services = self.services.clone();
        let (lease, workspace, lost) = (self.lease().clone(), self.workspace(), self.lost.clone());
        let (totals_sender, totals) = watch::channel(Totals::default());
        let run = self.offer.run;
        let mut plan = UploadPlan {
            spools: workspace.spools(),
            // Something may have been pushed by the boot before.
            resumed: hold.resumed.is_some(),
        };
        let pushing = async {
            let mut refusals = 0;
            let end = loop {
                let mut port = services
                    .output
                    .open(&lease, run, work.head_cap, work.tail_cap);
                let window = services.output_window.clone();
                let pushed = upload(plan.clone(), totals.clone(), &mut port, window);
                match unless_lost(&lost, pushed).await {
                    // A store that was restored from a copy has less than was durable: it says from where to go on.
                    Ok(UploadEnd::Refused { .. }) if refusals < REFUSALS_MAX => {
                        refusals += 1;
                        plan.resumed = true;
                    }
                    Ok(end) => break end,
                    Err(_) => break UploadEnd::Lost,
                }
            };
            if end == UploadEnd::Lost {
                lost.cancel();
            }
            end
        };
        let watching = self.watch_to_the_end(hold, work, totals_sender, isolation);
        let (record, output) = tokio::join!(watching, pushing);
        Ok(Concluded {
            record: record?,
            output,
        })
    }

    async fn watch_to_the_end(
        &mut self,
        hold: Hold,
        work: &CommandWork,
        totals: watch::Sender<Totals>,
        mut isolation: RunIsolation,
    ) -> Result<FinishedRecord, Abandoned> {
        let Hold {
            process,
            socket,
            span,
            resumed,
            masks,
            terminal_size_number,
        } = hold;
        let bounds = Bounds {
            grace: work.grace,
            timeout: self.offer.timeout,
            lease_duration: self.offer.lease_duration,
            survives: work.survives.then(|| self.services.surviving.clone()),
            resumed,
        };
        let mut renewed = self.services.renewed.clone();
        let waits = Waits::new(self.services.waiting.clone());
        let mut waiting = waits.subscribe();
        let socket_use = SocketUse {
            shim_pid: process.shim_pid(),
            calls: LeaseCalls::new(&self.services.endpoint, self.lease()),
            lost: self.lost.clone(),
            waits,
            masks: masks.clone(),
        };
        let interaction = self.services.interaction.clone();
        let (run, lease) = (self.offer.run, self.offer.lease.clone());
        let (feed, input) = live_input();
        let (sizes, terminal) = terminal_sizes();
        let confirm = |outcome: SignalOutcome| {
            // By itself, since the process may end by the signal, and the attempt with it.
            let (interaction, lease) = (interaction.clone(), lease.clone());
            tokio::spawn(async move {
                let SignalOutcome {
                    number,
                    was_delivered,
                } = outcome;
                interaction
                    .confirm_signal(&lease, number, was_delivered)
                    .await;
            });
        };
        let ears = Ears {
            orders: &mut self.orders,
            renewed: &mut renewed,
            waiting: &mut waiting,
            input,
            terminal,
            signals: SignalEar {
                orders: &mut self.signals,
                confirm: &confirm,
            },
            lost: &self.lost,
        };
        let supervising = supervise(process, &bounds, ears, &totals);
        let feeding = async {
            if work.stdin_live {
                feed.run(&interaction, &lease, run).await;
            }
            std::future::pending::<Supervised>().await
        };
        let sizing = async {
            if work.terminal.is_some() {
                sizes
                    .run(&interaction, &lease, run, terminal_size_number)
                    .await;
            }
            std::future::pending::<Supervised>().await
        };
        let serving = async {
            match socket {
                Some(socket) => socket.serve_while(socket_use, supervising).await,
                None => supervising.await,
            }
        };
        let supervised = tokio::select! {
            supervised = serving => supervised,
            never = feeding => never,
            never = sizing => never,
        };
        let exited_at = SystemTime::now();
        isolation.reclaim();
        if self.offer.has_secrets {
            self.workspace().remove_secrets().await;
        }
        if self.lost.is_cancelled() {
            return Err(Abandoned::Lost);
        }
        let (run, home, work, workspace, storage) = (
            self.offer.run,
            self.home.clone(),
            work.clone(),
            self.workspace(),
            self.services.storage.clone(),
        );
        // It is never closed; without a permit the conclusion is only less frugal.
        let permit = self.services.conclusions.acquire().await;
        let concluding = tokio::task::spawn_blocking(move || FinishedRecord {
            home: Some(home),
            ..conclude(
                supervised, run, &work, &masks, &workspace, &storage, isolation,
            )
        })
        .await;
        let record = concluding.unwrap_or_else(|join_error| {
            let message = format!("the worker failed to conclude the run: {join_error}");
            self.record(Finish::without_process(
                None,
                Some(ErrorFacts::of_worker(message, "")),
            ))
        });
        drop(permit);
        if let Some(span) = span {
            exited(span, &record.finish, exited_at);
        }
        totals.send_replace(Totals {
            bytes: [
                record.finish.stdout.total_bytes,
                record.finish.stderr.total_bytes,
            ],
            ended: true,
        });
        let mut record = self.note_finished(record).await;
        deliver_files(
            &self.services,
            self.lease(),
            &self.workspace(),
            &mut record,
            &self.lost,
        )
        .await?;
        Ok(record)
    }
}
