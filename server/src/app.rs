//! What every call works with. Made once, when the server starts, and shared.

use crate::{
    commit::Commits,
    control::{files::FileSlots, namespace::NameCache, task_sessions::TaskSessions},
    dispatch::{Registry, Routes},
    events::Events,
    output::OutputWriters,
    store::Store,
};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The parts of a running control plane.
pub struct App {
    /// The database.
    pub store: Store,
    /// Who is told what was touched.
    pub events: Events,
    /// The door to every change of a task.
    pub commits: Commits,
    /// The door to the store of output.
    pub outputs: OutputWriters,
    /// The workers whose streams end here.
    pub registry: Registry,
    /// Which workers may take which tasks.
    pub routes: Routes,
    /// Sessions of tasks that were seen lately.
    pub task_sessions: TaskSessions,
    /// How long leases last.
    pub lease: LeaseDurations,
    /// No monitor fires more often.
    pub min_monitor_interval: Duration,
    /// Numbers of namespaces and sessions that were looked up lately.
    pub names: NameCache,
    /// How many files may be on their way into the store at once.
    pub file_slots: FileSlots,
    /// Cancelled when the server begins to shut down; every long stream ends then.
    pub shutdown: CancellationToken,
}

/// How long a lease lasts without a heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseDurations {
    /// Where another run may follow a lost one.
    pub retryable: Duration,
    /// Where none may.
    pub other: Duration,
}

impl LeaseDurations {
    /// Where nobody says otherwise: 30 s, and 120 s for what must not run twice.
    pub const DEFAULT: Self = Self {
        retryable: Duration::from_secs(30),
        other: Duration::from_secs(120),
    };

    /// One duration for all leases.
    #[must_use]
    pub fn uniform(duration: Duration) -> Self {
        Self {
            retryable: duration,
            other: duration,
        }
    }
}
