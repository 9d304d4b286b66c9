//! The server's settings, given on its command line so that an old `postgresql.conf` never overrules them.

/// What the cluster is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tuning {
    /// Data that people keep: every commit is on disk before it is acknowledged.
    Durable,
    /// Data that is thrown away with the process, for tests: nothing waits for the disk, and a power cut ruins it.
    Scratch,
}

/// For every cluster. No replicas means no WAL for them; a queue's tables want vacuuming within seconds, not after
/// the usual minute; compiling plans of short statements costs more than it saves.
const COMMON: &[(&str, &str)] = &[
    ("listen_addresses", ""),
    ("port", crate::socket::PORT_TEXT),
    ("unix_socket_permissions", "0700"),
    ("shared_buffers", "128MB"),
    ("max_wal_size", "2GB"),
    ("checkpoint_timeout", "15min"),
    ("wal_level", "minimal"),
    ("max_wal_senders", "0"),
    ("wal_compression", "on"),
    ("jit", "off"),
    ("autovacuum_naptime", "1s"),
    ("timezone", "UTC"),
    ("log_timezone", "UTC"),
    // The client reports its own errors. Logging them here too would let the log grow with the load.
    ("log_min_messages", "log"),
    ("log_checkpoints", "off"),
    ("log_autovacuum_min_duration", "-1"),
    ("logging_collector", "off"),
    ("log_destination", "stderr"),
];

const DURABLE: &[(&str, &str)] = &[
    ("max_connections", "100"),
    ("fsync", "on"),
    ("synchronous_commit", "on"),
    ("full_page_writes", "on"),
];

/// Many tests at once, each with pools of its own, need more connections than one program does.
const SCRATCH: &[(&str, &str)] = &[
    ("max_connections", "400"),
    ("fsync", "off"),
    ("synchronous_commit", "off"),
    ("full_page_writes", "off"),
];

impl Tuning {
    /// Settings in the form of `-c` arguments.
    pub(crate) fn settings(self) -> impl Iterator<Item = String> {
        let own = match self {
            Tuning::Durable => DURABLE,
            Tuning::Scratch => SCRATCH,
        };
        COMMON
            .iter()
            .chain(own)
            .map(|(name, value)| format!("{name}={value}"))
    }

    /// Whether a new cluster is flushed to disk before its first use.
    pub(crate) fn syncs_new_cluster(self) -> bool {
        match self {
            Tuning::Durable => true,
            Tuning::Scratch => false,
        }
    }
}
