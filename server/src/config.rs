//! What a server must be told.

pub use crate::{
    identity::{AuthSettings, ClientAuth, TlsSettings},
    limits::{
        settings::{CallLimits, ConnectionLimits, TaskLimits},
        token_bucket::Rate,
    },
    objects::ObjectLocation,
    store::file_usage::{FileQuota, FileQuotas},
};

use crate::app::LeaseDurations;
use std::{net::SocketAddr, ops::RangeInclusive, path::PathBuf, time::Duration};
use taskyard_core::task::TreeLimits;

/// What a server must be told.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Where the database is, such as `postgres://user@host:5432/name`.
    pub database_url: String,
    /// Where to listen; port 0: a free one.
    pub listen: SocketAddr,
    /// How long leases last without a heartbeat, 1 s to 1 h; none: 30 s where another run may follow, else 120 s.
    pub lease: Option<Duration>,
    /// No monitor fires more often, 100 ms to 24 h; none: 10 s.
    pub min_monitor_interval: Option<Duration>,
    /// How large a tree of tasks may grow; servers of one database should agree.
    pub tree: TreeLimits,
    /// What callers may take.
    pub limits: ServerLimits,
    /// How much files may take.
    pub file_quotas: FileQuotas,
    /// Where content of more than 1 MiB is kept; none: in the database.
    pub object_store: Option<ObjectLocation>,
    /// For how long content that no file refers to stays in the object store, 1 s to 30 days. Readers of a file that is
    /// overwritten or deleted have so long to end.
    pub object_grace: Duration,
    /// File with the keys under which values of secrets are kept, one of 32 bytes a line, in base64 or hexadecimal: the
    /// first encrypts, all decrypt. None: values of secrets are refused.
    pub secret_key_file: Option<PathBuf>,
    /// Deliver webhooks to private, loopback and link-local addresses, too.
    pub allow_private_webhooks: bool,
    /// How connections are encrypted; none: they are not.
    pub tls: Option<TlsSettings>,
    /// Whose credentials are believed.
    pub auth: AuthSettings,
    /// For how long entries of the audit log are kept, 7 days to 10 years; servers of one database should agree.
    pub audit_retention: Duration,
    /// How old connections become on average, 1 s to 24 h; none: as old as their clients please. At its age a connection
    /// takes no new calls, and its streams are asked to go on upon another one.
    pub max_connection_age: Option<Duration>,
    /// How long the server serves on after it was told to stop, while its health says that it leaves; at most 10 min.
    pub shutdown_delay: Duration,
}

/// What callers may take of a server, and how much may be stored for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerLimits {
    /// Calls and streams of one caller.
    pub calls: CallLimits,
    /// Connections.
    pub connections: ConnectionLimits,
    /// Live tasks and sessions.
    pub tasks: TaskLimits,
}

impl ServerLimits {
    /// Where nobody says otherwise.
    pub const DEFAULT: Self = Self {
        calls: CallLimits::DEFAULT,
        connections: ConnectionLimits::DEFAULT,
        tasks: TaskLimits::DEFAULT,
    };
}

/// How old connections become where nobody says otherwise. New servers and new certificates are in use by all within that
/// time, and a client opens two connections an hour.
pub const DEFAULT_CONNECTION_AGE: Duration = Duration::from_secs(30 * 60);

/// Ages of connections that make sense: younger ones are mostly handshakes.
pub(crate) const CONNECTION_AGE_RANGE: RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(24 * 60 * 60);

/// Longest delay between the word to stop and the stop.
pub(crate) const MAX_SHUTDOWN_DELAY: Duration = Duration::from_secs(10 * 60);

/// Ages of the audit log that make sense; the database lets nobody delete younger entries.
pub(crate) const AUDIT_RETENTION_RANGE: RangeInclusive<Duration> =
    Duration::from_secs(7 * 24 * 60 * 60)..=Duration::from_secs(10 * 366 * 24 * 60 * 60);

/// How long entries of the audit log are kept where nobody says otherwise.
pub const DEFAULT_AUDIT_RETENTION: Duration = Duration::from_secs(90 * 24 * 60 * 60);

/// Graces that make sense.
pub(crate) const OBJECT_GRACE_RANGE: RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(30 * 24 * 60 * 60);

/// Leases that make sense: shorter ones are lost by any hiccup, longer ones leave lost work lying.
pub(crate) const LEASE_RANGE: RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(60 * 60);

/// Minimum interval of monitors where nobody says otherwise.
const MIN_MONITOR_INTERVAL: Duration = Duration::from_secs(10);

impl ServerConfig {
    /// No monitor fires more often.
    pub(crate) fn monitor_interval(&self) -> Duration {
        self.min_monitor_interval.unwrap_or(MIN_MONITOR_INTERVAL)
    }

    /// How long leases last; none where the wanted duration is out of range.
    pub(crate) fn lease_durations(&self) -> Option<LeaseDurations> {
        match self.lease {
            None => Some(LeaseDurations::DEFAULT),
            Some(lease) if LEASE_RANGE.contains(&lease) => Some(LeaseDurations::uniform(lease)),
            Some(_) => None,
        }
    }
}
