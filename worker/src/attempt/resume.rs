//! Going on with a run that outlived the boot before.

use std::time::Duration;

use tokio::time::timeout;

use super::deliver::Abandoned;
use super::run::{Attempt, Concluded};
use super::services::{Services, chain};
use super::supervise::Resumed;
use super::watch::Hold;
use crate::agent_socket::AgentSocket;
use crate::isolation::RunIsolation;
use crate::lease::{Lease, LeaseId};
use crate::ledger::{LedgerEntry, SurvivingRecord};
use crate::mask::Masks;
use crate::process::{Adopted, AttachError, Process, Survival};
use crate::workspace::Workspaces;

/// How long a process that nobody wants may take to be killed before its shim is.
const KILL_BOUND: Duration = Duration::from_secs(10);

/// A run of the boot before, in this boot's hands.
pub struct Survivor {
    /// The lease as the ledger knows it.
    pub earlier: Lease,
    pub record: SurvivingRecord,
    pub adopted: Adopted,
    /// What was put on it. It stays when it is dropped.
    pub isolation: RunIsolation,
}

impl Survivor {
    /// Takes the process from its shim.
    ///
    /// # Errors
    /// [`AttachError`]; nothing that was found of it is left then.
    pub async fn find(
        workspaces: &Workspaces,
        earlier: Lease,
        record: SurvivingRecord,
    ) -> Result<Survivor, AttachError> {
        let survival = survival(workspaces, &record);
        let group = record.group.clone();
        let adopted = Process::attach(&survival, &markers(&record.home), group).await;
        let isolation = RunIsolation::left(record.isolation, record.group.clone());
        match adopted {
            Ok(adopted) => Ok(Survivor {
                earlier,
                record,
                adopted,
                isolation,
            }),
            Err(error) => {
                remove(isolation).await;
                Err(error)
            }
        }
    }

    /// The lease is lost: kills the process and forgets the run.
    pub async fn put_down(self, services: &Services) {
        let Survivor {
            earlier,
            record,
            adopted,
            isolation,
        } = self;
        tracing::info!(lease = %earlier, "a run that outlived the worker is not wanted any more");
        let mut process = adopted.process;
        // One that is gone has its last event on its way.
        let _ = process.kill();
        let ending = async { while process.next_event().await.is_ok() {} };
        if timeout(KILL_BOUND, ending).await.is_err() {
            process.force_end();
            // It searches for a bounded time.
            while process.next_event().await.is_ok() {}
        }
        remove(isolation).await;
        services.workspaces.of(&record.home).remove().await;
        services.ledger.forget(&earlier).await;
    }
}

impl Attempt {
    /// The run goes on under this attempt's lease.
    pub(super) async fn go_on(&mut self, survivor: Survivor) -> Result<Concluded, Abandoned> {
        let Survivor {
            earlier,
            record,
            adopted,
            isolation,
        } = survivor;
        let entry = SurvivingRecord {
            next: None,
            ..record.clone()
        };
        match self
            .services
            .ledger
            .note(&self.offer.lease, LedgerEntry::Surviving(Box::new(entry)))
            .await
        {
            Ok(()) => self.services.ledger.forget(&earlier).await,
            // The earlier note stays and names this lease as its next: a later boot finds the run by it.
            Err(error) => self.services.storage.report_failure(&error),
        }
        let path = self.services.sockets.of(&record.home);
        let socket = match AgentSocket::bind(path).await {
            Ok(socket) => Some(socket),
            Err(error) => {
                tracing::error!(lease = %self.offer.lease, error = chain(&error), "a run goes on without its socket");
                None
            }
        };
        let hold = Hold {
            span: None,
            process: adopted.process,
            socket,
            resumed: Some(Resumed {
                kept: adopted.kept,
                exited_at: adopted.exited_at,
            }),
            // A task with secrets does not outlive its worker.
            masks: Masks::new(&[]),
            // It may be told its size again, which changes nothing.
            terminal_size_number: 0,
        };
        self.watch(hold, &record.work(), isolation).await
    }
}

/// Of a run that is over. It may take a moment, in which others go on.
async fn remove(mut isolation: RunIsolation) {
    isolation.reclaim();
    // Nothing can be done about a panic; the next boot removes what is left.
    let _ = tokio::task::spawn_blocking(move || drop(isolation)).await;
}

/// A new random word.
pub(super) fn token() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

/// The id that the next lease of a run is to have.
pub fn next_lease_id() -> LeaseId {
    LeaseId::random()
}

pub(super) fn survival(workspaces: &Workspaces, record: &SurvivingRecord) -> Survival {
    Survival {
        directory: workspaces.of(&record.home).root().to_owned(),
        token: record.token.clone(),
    }
}

/// The variables of the environment by which the run's processes are known.
fn markers(home: &Lease) -> [(String, String); 2] {
    [
        ("TASKYARD_TASK_ID".to_owned(), home.task_id.clone()),
        ("TASKYARD_LEASE_EPOCH".to_owned(), home.epoch.to_string()),
    ]
}
