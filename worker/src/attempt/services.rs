//! What all attempts of a worker share.

use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};

use super::inheritance::InheritPolicy;
use super::secrets::SecretPolicy;
use super::surviving::SurvivingAttempts;
use crate::agent_socket::{SocketPlace, WaitingAttempts};
use crate::boot_time::BootTime;
use crate::isolation::Isolation;
use crate::ledger::Ledger;
use crate::link::Endpoint;
use crate::link::files::LeaseFiles;
use crate::link::interaction::Interaction;
use crate::link::output::OutputLink;
use crate::link::reports::Reporter;
use crate::recent::RecentResults;
use crate::workspace::Workspaces;

const PROBE_INTERVAL: Duration = Duration::from_secs(2);

/// Links and places that attempts use.
#[derive(Debug)]
pub struct Services {
    pub reporter: Reporter,
    pub files: LeaseFiles,
    pub interaction: Interaction,
    pub output: OutputLink,
    /// Bytes of output on their way, of all attempts.
    pub output_window: Arc<Semaphore>,
    /// Whole files in memory at a time.
    pub transfers: Semaphore,
    /// Recent results that are told again at a time.
    pub retellings: Semaphore,
    /// Results that are read and checked at a time.
    pub conclusions: Semaphore,
    pub ledger: Ledger,
    pub workspaces: Workspaces,
    /// Results that were acknowledged not long ago.
    pub recents: RecentResults,
    pub storage: StorageHealth,
    /// Which of the worker's own variables and files tasks may have.
    pub secret_policy: SecretPolicy,
    /// Which of its own variables tasks may copy.
    pub inheritance: InheritPolicy,
    pub shim_program: PathBuf,
    /// What tasks may reach and use.
    pub isolation: Arc<Isolation>,
    /// Where attempts have their sockets.
    pub sockets: SocketPlace,
    /// Where calls from those sockets go.
    pub endpoint: Endpoint,
    /// How many attempts have given back their slot.
    pub waiting: WaitingAttempts,
    /// Held by each attempt that is being launched or runs, so that they can be counted.
    pub presence: Arc<()>,
    /// How many attempts could be left to their shims.
    pub surviving: SurvivingAttempts,
    /// When the newest acknowledged heartbeat was sent.
    pub renewed: watch::Receiver<Option<BootTime>>,
}

/// Whether the data directory can be written. Clones are the same.
#[derive(Debug, Clone)]
pub struct StorageHealth {
    is_good: watch::Sender<bool>,
}

impl StorageHealth {
    pub fn new() -> StorageHealth {
        StorageHealth {
            is_good: watch::Sender::new(true),
        }
    }

    pub fn subscribe(&self) -> watch::Receiver<bool> {
        self.is_good.subscribe()
    }

    /// No more work is taken until a probe write succeeds.
    pub fn report_failure(&self, error: &dyn Error) {
        if self.is_good.send_replace(false) {
            tracing::error!(
                error = chain(error),
                "the data directory cannot be written; taking no more work until it can"
            );
        }
    }

    /// Probes the ledger's directory after each failure until it can be written again. It ends only by being dropped.
    pub async fn recover(self, ledger: Ledger) {
        let mut is_good = self.is_good.subscribe();
        loop {
            // The sender lives in `self`.
            let _ = is_good.wait_for(|is_good| !is_good).await;
            tokio::time::sleep(PROBE_INTERVAL).await;
            match ledger.probe().await {
                Ok(()) => {
                    tracing::info!("the data directory can be written again");
                    self.is_good.send_replace(true);
                }
                Err(error) => tracing::debug!(%error, "the data directory still cannot be written"),
            }
        }
    }
}

impl Default for StorageHealth {
    fn default() -> StorageHealth {
        StorageHealth::new()
    }
}

/// True for errors that say something about the disk and not about the path.
pub(super) fn is_trouble_of_the_disk(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::ENOSPC
                | libc::EDQUOT
                | libc::EROFS
                | libc::EIO
                | libc::EMFILE
                | libc::ENFILE
                | libc::EACCES
        )
    )
}

/// An error and all that it came from, in one line.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
