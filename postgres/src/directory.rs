//! The data directory: made, checked and locked before anything is done in it.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::account::{self, Account};
use crate::error::ClusterError;

/// What a new cluster and its first WAL take, with something to spare.
pub(crate) const NEW_CLUSTER_MIB: u64 = 96;

/// Below this an existing cluster that fails is taken to have failed for lack of space: one WAL segment.
const RUNNING_CLUSTER_MIB: u64 = 16;

/// A data directory that this process holds alone until it drops this.
#[derive(Debug)]
pub(crate) struct DataDirectory {
    /// Absolute, with symbolic links resolved.
    pub path: PathBuf,
    /// Who runs PostgreSQL in it.
    pub account: Account,
    _lock: File,
}

impl DataDirectory {
    pub fn open(wanted: &Path) -> Result<DataDirectory, ClusterError> {
        let existing_pgdata = fs::metadata(wanted.join("pgdata")).ok();
        let account = Account::choose(existing_pgdata.as_ref())?;
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(wanted)
            .map_err(|source| ClusterError::file("create", wanted, &account.name, source))?;
        let path = fs::canonicalize(wanted)
            .map_err(|source| ClusterError::file("look at", wanted, &account.name, source))?;
        if let Some(closed) = account.first_closed_directory(&path) {
            return Err(ClusterError::Unreachable {
                path,
                closed,
                user: account.name,
            });
        }
        let lock = take_lock(&path, &account)?;
        let directory = DataDirectory {
            path,
            account,
            _lock: lock,
        };
        directory.check_owner()?;
        Ok(directory)
    }

    pub fn pgdata(&self) -> PathBuf {
        self.path.join("pgdata")
    }

    pub fn unfinished_pgdata(&self) -> PathBuf {
        self.path.join("pgdata.init")
    }

    pub fn log(&self) -> PathBuf {
        self.path.join("postgres.log")
    }

    /// Names the error of a file operation in this directory.
    pub fn file_error(
        &self,
        action: &'static str,
        path: &Path,
        source: std::io::Error,
    ) -> ClusterError {
        ClusterError::file(action, path, &self.account.name, source)
    }

    /// The major version of the cluster here; none where there is no cluster yet.
    pub fn existing_major(&self) -> Result<Option<u32>, ClusterError> {
        let path = self.pgdata().join("PG_VERSION");
        match fs::read_to_string(&path) {
            Ok(text) => match text.trim().parse() {
                Ok(major) => Ok(Some(major)),
                Err(_) => Err(ClusterError::DamagedVersion { path }),
            },
            // A `pgdata` without it is not for us to overwrite, nor is it a cluster.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                if self.pgdata().exists() {
                    Err(ClusterError::DamagedVersion { path })
                } else {
                    Ok(None)
                }
            }
            Err(source) => Err(self.file_error("read", &path, source)),
        }
    }

    /// Refuses early where a new cluster would not fit.
    pub fn check_space_for_new_cluster(&self) -> Result<(), ClusterError> {
        self.check_space(NEW_CLUSTER_MIB)
    }

    /// The better explanation for a server that did not come up: a full or read-only file system.
    pub fn check_space_after_failure(&self) -> Result<(), ClusterError> {
        let is_read_only = rustix::fs::statvfs(&self.path)
            .is_ok_and(|found| found.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY));
        if is_read_only {
            return Err(ClusterError::ReadOnly {
                path: self.path.clone(),
            });
        }
        self.check_space(RUNNING_CLUSTER_MIB)
    }

    fn check_space(&self, needed_mib: u64) -> Result<(), ClusterError> {
        match available_mib(&self.path) {
            Some(available_mib) if available_mib < needed_mib => Err(ClusterError::DiskFull {
                path: self.path.clone(),
                available_mib,
                needed_mib,
            }),
            _ => Ok(()),
        }
    }

    fn check_owner(&self) -> Result<(), ClusterError> {
        let path = self.pgdata();
        match fs::symlink_metadata(&path) {
            Ok(found) if found.uid() != self.account.uid => Err(ClusterError::WrongOwner {
                path,
                owner: account::name_of(found.uid()),
                user: self.account.name.clone(),
            }),
            _ => Ok(()),
        }
    }
}

/// Free space for ordinary users, in MiB; none where the system does not tell.
pub(crate) fn available_mib(path: &Path) -> Option<u64> {
    let existing = path.ancestors().find(|ancestor| ancestor.exists())?;
    let found = rustix::fs::statvfs(existing).ok()?;
    Some(found.f_bavail.saturating_mul(found.f_frsize) >> 20)
}

/// The lock goes with the process, however it ends; the number inside is only for the message.
fn take_lock(data_dir: &Path, account: &Account) -> Result<File, ClusterError> {
    let path = data_dir.join("lock");
    let named =
        |action: &'static str, source| ClusterError::file(action, &path, &account.name, source);
    let mut file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(|source| named("open", source))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            let _ = file.read_to_string(&mut holder);
            return Err(ClusterError::InUse {
                data_dir: data_dir.to_path_buf(),
                holder: holder.trim().parse().ok(),
            });
        }
        Err(TryLockError::Error(source)) => return Err(named("lock", source)),
    }
    file.set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .map_err(|source| named("write", source))?;
    Ok(file)
}
