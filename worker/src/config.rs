//! What a worker is told when it starts.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::access::AccessSettings;
use crate::error::WorkerError;
use crate::isolation::{IsolationConfig, RESERVED_LABELS};

/// How long running work may go on after a shutdown was asked for, where nothing else is said.
pub const DEFAULT_DRAIN: Duration = Duration::from_secs(10);

/// How long acknowledged results are kept, where nothing else is said.
pub const DEFAULT_KEEP_RESULTS: Duration = Duration::from_secs(15 * 60);

const NAME_BYTES_MAX: usize = 64;
const SLOTS_MAX: u32 = 10_000;

/// Configuration of one worker.
#[derive(Debug, Clone)]
pub struct WorkerConfig {
    /// Address of the control plane, such as `http://127.0.0.1:8275`.
    pub endpoint: String,
    /// What to trust there, and what to show.
    pub access: AccessSettings,
    /// Pool that the worker is of, 1 to 64 of `[A-Za-z0-9._-]`: its label `taskyard.dev/pool`. None: of none.
    pub pool: Option<String>,
    /// 1 to 64 of `[A-Za-z0-9._-]`; several boots of one worker share it.
    pub name: String,
    /// Tasks that run at once, 1 to 10,000.
    pub slots: u32,
    /// Queues to serve; empty: `default`.
    pub queues: Vec<String>,
    /// Kinds to take; empty: all.
    pub kinds: Vec<String>,
    /// Labels that tasks can ask for. Those that begin with [`RESERVED_LABELS`] are the worker's own to set.
    pub labels: BTreeMap<String, String>,
    /// Which of its own variables it gives to tasks as secrets: names, with `*`, `?` and `[...]`. Empty: none.
    pub secret_env: Vec<String>,
    /// Absolute folders below which it gives files to tasks as secrets. Empty: none.
    pub secret_dirs: Vec<PathBuf>,
    /// Which of its own variables tasks may copy by naming them: names, with `*`, `?` and `[...]`. None: all whose names
    /// do not look like a secret's.
    pub inherit_env: Option<Vec<String>>,
    /// The worker's own directory; created where it is missing. Two workers cannot share one.
    pub data_dir: PathBuf,
    /// Program that acts as exec shim: its `main` calls [`crate::shim::main`] for the argument [`crate::shim::ARGUMENT`].
    pub shim_program: PathBuf,
    /// How long running work may go on after a shutdown was asked for; [`DEFAULT_DRAIN`] suits most.
    pub drain: Duration,
    /// How long results are kept after they were acknowledged, to be told again to a store that was restored from an older
    /// copy; [`DEFAULT_KEEP_RESULTS`] suits most. Zero: not at all.
    pub keep_results: Duration,
    /// What tasks may reach and use.
    pub isolation: IsolationConfig,
}

impl WorkerConfig {
    pub(crate) fn check(&self) -> Result<(), WorkerError> {
        let speakable =
            |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if self.name.is_empty()
            || self.name.len() > NAME_BYTES_MAX
            || !self.name.bytes().all(speakable)
        {
            return Err(WorkerError::BadName {
                name: self.name.clone(),
            });
        }
        if let Some(pool) = &self.pool
            && (pool.is_empty() || pool.len() > NAME_BYTES_MAX || !pool.bytes().all(speakable))
        {
            return Err(WorkerError::BadPool { pool: pool.clone() });
        }
        if self.slots == 0 || self.slots > SLOTS_MAX {
            return Err(WorkerError::BadSlots {
                slots: self.slots,
                max: SLOTS_MAX,
            });
        }
        let reserved = |label: &&String| label.starts_with(RESERVED_LABELS);
        if let Some(label) = self.labels.keys().find(reserved) {
            return Err(WorkerError::ReservedLabel {
                label: label.clone(),
            });
        }
        if self.isolation.min > self.isolation.max {
            return Err(WorkerError::BadIsolation {
                min: self.isolation.min.as_str(),
                max: self.isolation.max.as_str(),
            });
        }
        Ok(())
    }
}
