//! Why a worker cannot run.

use std::io;
use std::path::PathBuf;

use crate::access::AccessError;
use crate::isolation::{IsolationConfigError, RESERVED_LABELS};

/// Why [`crate::run`] did not run, or ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    #[error("bad worker name {name:?}: use 1 to 64 letters, digits, '.', '_' or '-'")]
    BadName { name: String },
    #[error("bad number of slots {slots}: use 1 to {max}")]
    BadSlots { slots: u32, max: u32 },
    #[error("bad pattern {glob:?} for variables that tasks may have: use names with '*' and '?'")]
    BadSecretGlob { glob: String },
    #[error("bad name {glob:?} for variables that tasks may copy: use names with *, ? and [...]")]
    BadInheritGlob { glob: String },
    #[error("bad folder {path} for files that tasks may have: use an absolute path")]
    BadSecretDirectory { path: PathBuf },
    #[error(
        "bad label {label:?}: labels that begin with `{RESERVED_LABELS}` say what a worker can give, and it sets them itself"
    )]
    ReservedLabel { label: String },
    #[error("--isolation-min {min} asks for more than --isolation-max {max} gives")]
    BadIsolation {
        min: &'static str,
        max: &'static str,
    },
    #[error(transparent)]
    Isolation(#[from] IsolationConfigError),
    #[error("bad endpoint {endpoint:?}: use an address such as http://127.0.0.1:8275 ({reason})")]
    BadEndpoint { endpoint: String, reason: String },
    #[error(
        "cannot use the data directory {path}: it must be a directory that this user can write"
    )]
    DataDirectory { path: PathBuf, source: io::Error },
    #[error("the data directory {path} is in use by another worker: give each worker its own")]
    DataDirectoryLocked { path: PathBuf },
    #[error(
        "cannot make the sockets of tasks: neither the data directory {path} nor the directory for temporary files takes one"
    )]
    Sockets { path: PathBuf, source: io::Error },
    #[error("cannot use the exec shim {program}: it must be a program that this user can execute")]
    Shim { program: PathBuf, source: io::Error },
    #[error("bad pool {pool:?}: use 1 to 64 letters, digits, '.', '_' or '-'")]
    BadPool { pool: String },
    #[error(transparent)]
    Access(#[from] AccessError),
    #[error("a part of the worker ended unexpectedly: {part}")]
    PartEnded { part: &'static str },
}
