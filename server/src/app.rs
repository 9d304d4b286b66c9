//! What every call works with. Made once, when the server starts, and shared.

use crate::{
    audit::AuditLog,
    commit::Commits,
    control::{
        lease_holders::LeaseHolders, list_queues::QueueCounts, namespace::NameCache,
        namespace_counts::NamespaceCounts, namespace_room::NamespaceRoom,
        task_sessions::TaskSessions, task_traits::TraitCache,
    },
    dispatch::{Registry, Routes},
    events::Events,
    identity::{Authenticator, tls::Tls},
    key_ring::KeyRing,
    limits::{callers::Callers, connections::Connections},
    objects::ObjectStorage,
    output::OutputWriters,
    store::{Store, file_usage::FileQuotas},
};
use std::{sync::Arc, time::Duration};
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
    /// Kind and group of tasks that were seen lately.
    pub task_traits: TraitCache,
    /// How long leases last.
    pub lease: LeaseDurations,
    /// No monitor fires more often.
    pub min_monitor_interval: Duration,
    /// Numbers of namespaces and sessions that were looked up lately.
    pub names: NameCache,
    /// What the queues held a moment ago.
    pub queue_counts: QueueCounts,
    /// What the namespaces had a moment ago.
    pub namespace_counts: NamespaceCounts,
    /// How much more namespaces may have.
    pub namespace_room: NamespaceRoom,
    /// How much files may take.
    pub file_quotas: FileQuotas,
    /// Where large content is kept; none: in the database.
    pub objects: Option<ObjectStorage>,
    /// For how long content that nobody refers to is kept.
    pub object_grace: Duration,
    /// The keys under which values of secrets are kept; there may be none.
    pub secret_keys: KeyRing,
    /// Whether webhooks may be delivered to addresses that are not of the public internet.
    pub allow_private_webhooks: bool,
    /// Who is known, and by what.
    pub authenticator: Arc<Authenticator>,
    /// How connections are encrypted; none: they are not.
    pub tls: Option<Arc<Tls>>,
    /// Who calls how often, and what each has open.
    pub callers: Callers,
    /// Connections that are open.
    pub connections: Connections,
    /// Who did what.
    pub audit: AuditLog,
    /// For how long that is kept.
    pub audit_retention: Duration,
    /// Whose leases are whose.
    pub lease_holders: LeaseHolders,
    /// How old connections become, on average; none: as old as their clients please.
    pub max_connection_age: Option<Duration>,
    /// Cancelled when the server is told to stop: it is not ready any more, and serves on until `shutdown`.
    pub leaving: CancellationToken,
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
