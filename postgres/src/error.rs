//! Why a cluster could not be started, used or stopped. Each message says what to do about it.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

/// Failures of [`Cluster`](crate::Cluster).
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    #[error(
        "{path:?} may not be used by {user}; change its owner or mode, or choose another data directory"
    )]
    NotPermitted {
        path: PathBuf,
        user: String,
        source: io::Error,
    },

    #[error("{path:?} is on a read-only file system; choose a data directory that can be written")]
    ReadOnly { path: PathBuf },

    #[error(
        "the file system of {path:?} has {available_mib} MiB left and {needed_mib} MiB are needed; free some space or \
         choose another data directory"
    )]
    DiskFull {
        path: PathBuf,
        available_mib: u64,
        needed_mib: u64,
    },

    #[error("cannot {action} {path:?}")]
    Io {
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },

    #[error(
        "{path:?} belongs to {owner}, not to {user}; run as {owner} or choose another data directory"
    )]
    WrongOwner {
        path: PathBuf,
        owner: String,
        user: String,
    },

    #[error(
        "{user}, who runs Postgres for root, may not enter {closed:?} on the way to {path:?}; choose a directory that \
         every user can reach, such as one below /var/lib"
    )]
    Unreachable {
        path: PathBuf,
        closed: PathBuf,
        user: String,
    },

    #[error(
        "Postgres does not run as root and there is no user to run it as; add one named postgres (`useradd --system \
         postgres`) or start as an ordinary user"
    )]
    NoUnprivilegedUser,

    #[error("{data_dir:?} is in use by {}; stop that process or choose another data directory", holder_text(*.holder))]
    InUse {
        data_dir: PathBuf,
        /// The process that holds the lock, where its file says so.
        holder: Option<u32>,
    },

    #[error(
        "{path:?} does not hold the number of a Postgres version; restore it, or choose another data directory"
    )]
    DamagedVersion { path: PathBuf },

    #[error(
        "{data_dir:?} was made by Postgres {needed} and here is only {available}; install Postgres {needed}, or point \
         TASKYARD_PG_BIN at its programs, or choose another data directory"
    )]
    VersionMismatch {
        data_dir: PathBuf,
        needed: u32,
        /// The versions that were found, such as `18.1, 15.14`.
        available: String,
    },

    #[error("the socket directory {path:?} cannot be trusted: {problem}; remove it")]
    UntrustedSocketDirectory {
        path: PathBuf,
        problem: &'static str,
    },

    #[error(
        "the path of the socket in {path:?} is too long for a unix socket; choose a shorter data directory or TMPDIR"
    )]
    SocketPathTooLong { path: PathBuf },

    #[error("initdb failed ({status}) for {data_dir:?}: {log}")]
    Initialise {
        data_dir: PathBuf,
        status: ExitStatus,
        log: String,
    },

    #[error("{action} took longer than {limit_secs} s; the machine may be overloaded, try again{}", log_text(.log))]
    TooSlow {
        action: &'static str,
        limit_secs: u64,
        log: String,
    },

    #[error("Postgres ended as it started ({status}); the end of {log_path:?}: {log}")]
    Ended {
        status: ExitStatus,
        log_path: PathBuf,
        log: String,
    },

    #[error(
        "Postgres (pid {pid}) runs on {data_dir:?} but does not answer; stop it with `kill -QUIT {pid}` and try again"
    )]
    NotAnswering { data_dir: PathBuf, pid: u32 },

    #[error("cannot {action} in the private Postgres")]
    Database {
        action: &'static str,
        source: sqlx::Error,
    },

    #[error(
        "Postgres (pid {pid}) is still there after SIGKILL; it may wait for a disk that does not answer"
    )]
    NotStopped { pid: u32 },
}

impl ClusterError {
    /// Sorts an error of the file system into the variants that a person can act on.
    pub(crate) fn file(action: &'static str, path: &Path, user: &str, source: io::Error) -> Self {
        let path = path.to_path_buf();
        match source.kind() {
            io::ErrorKind::PermissionDenied => ClusterError::NotPermitted {
                path,
                user: user.to_owned(),
                source,
            },
            io::ErrorKind::ReadOnlyFilesystem => ClusterError::ReadOnly { path },
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                let available_mib = crate::directory::available_mib(&path).unwrap_or(0);
                ClusterError::DiskFull {
                    path,
                    available_mib,
                    needed_mib: crate::directory::NEW_CLUSTER_MIB,
                }
            }
            _ => ClusterError::Io {
                action,
                path,
                source,
            },
        }
    }
}

fn holder_text(holder: Option<u32>) -> String {
    match holder {
        Some(pid) => format!("process {pid}"),
        None => "another process".to_owned(),
    }
}

fn log_text(log: &str) -> String {
    if log.is_empty() {
        String::new()
    } else {
        format!(": {log}")
    }
}
