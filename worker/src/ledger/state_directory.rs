//! The worker's own directory: locked by one worker at a time, with an identity that survives its boots.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use uuid::Uuid;

use crate::error::WorkerError;

const STATE_ID_BYTES: usize = 16;
const STATE_ID_FILE: &str = "state_id";
const LOCK_PATIENCE: Duration = Duration::from_secs(2);
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// A data directory that belongs to this process until it is dropped.
#[derive(Debug)]
pub struct StateDirectory {
    root: PathBuf,
    state_id: [u8; STATE_ID_BYTES],
    /// Holds the lock; children do not inherit it.
    _lock: File,
}

impl StateDirectory {
    /// As [`StateDirectory::open`], waiting a moment for the lock: that of a boot that has just crashed lasts until the last
    /// process that it was about to start is itself, or is over.
    ///
    /// # Errors
    /// As [`StateDirectory::open`]; [`WorkerError::DataDirectoryLocked`] after two seconds.
    pub async fn open_soon(root: &Path) -> Result<StateDirectory, WorkerError> {
        let until = Instant::now() + LOCK_PATIENCE;
        loop {
            match StateDirectory::open(root) {
                Err(WorkerError::DataDirectoryLocked { .. }) if Instant::now() < until => {
                    tokio::time::sleep(LOCK_PAUSE).await;
                }
                opened => return opened,
            }
        }
    }

    /// Creates what is missing and takes the lock.
    ///
    /// # Errors
    /// [`WorkerError::DataDirectory`] and [`WorkerError::DataDirectoryLocked`].
    pub fn open(root: &Path) -> Result<StateDirectory, WorkerError> {
        let unusable = |source| WorkerError::DataDirectory {
            path: root.to_owned(),
            source,
        };
        let root = std::path::absolute(root).map_err(unusable)?;
        create_private_directory(&root).map_err(unusable)?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(root.join("lock"))
            .map_err(unusable)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(WorkerError::DataDirectoryLocked { path: root });
            }
            Err(errno) => return Err(unusable(errno.into())),
        }
        for name in ["ledger", "tasks"] {
            create_private_directory(&root.join(name)).map_err(unusable)?;
        }
        let state_id = read_or_create_state_id(&root).map_err(unusable)?;
        Ok(StateDirectory {
            root,
            state_id,
            _lock: lock,
        })
    }

    pub fn state_id(&self) -> [u8; STATE_ID_BYTES] {
        self.state_id
    }

    /// The directory itself, absolute.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What places outside of the directory are named after: as random and lasting as [`StateDirectory::state_id`], which
    /// cannot be told from it. Others see such names; who knows the state id itself can speak for this worker's leases.
    pub fn place_id(&self) -> [u8; STATE_ID_BYTES] {
        let hash = Sha256::new()
            .chain_update(b"places of a state directory")
            .chain_update(self.state_id)
            .finalize();
        let mut id = [0; STATE_ID_BYTES];
        id.copy_from_slice(&hash[..STATE_ID_BYTES]);
        id
    }

    /// The file with [`StateDirectory::state_id`].
    pub fn state_id_file(&self) -> PathBuf {
        self.root.join(STATE_ID_FILE)
    }

    /// Where the ledger keeps one file per lease.
    pub fn ledger(&self) -> PathBuf {
        self.root.join("ledger")
    }

    /// Where results are kept that were acknowledged not long ago.
    pub fn recent(&self) -> PathBuf {
        self.root.join("recent")
    }

    /// Where each lease has its directory.
    pub fn tasks(&self) -> PathBuf {
        self.root.join("tasks")
    }
}

/// Writes `content` so that, whatever happens, the file is either the old one or the new one, and on disk.
pub(super) fn write_durably(path: &Path, content: &[u8]) -> io::Result<()> {
    let temporary = temporary_beside(path);
    let written = write_synced(&temporary, content).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // It may not exist, and a later boot removes it anyway.
        let _ = fs::remove_file(&temporary);
    }
    written?;
    match path.parent() {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

fn write_synced(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

fn temporary_beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    PathBuf::from(name)
}

fn create_private_directory(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
}

fn read_or_create_state_id(root: &Path) -> io::Result<[u8; STATE_ID_BYTES]> {
    let path = root.join(STATE_ID_FILE);
    match fs::read(&path) {
        Ok(content) => {
            if let Ok(state_id) = <[u8; STATE_ID_BYTES]>::try_from(content.as_slice()) {
                return Ok(state_id);
            }
            tracing::warn!(path = %path.display(), "the state id is damaged and made anew");
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let state_id = Uuid::new_v4().into_bytes();
    write_durably(&path, &state_id)?;
    Ok(state_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_id_survives_and_the_lock_keeps_a_second_worker_out() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let first = StateDirectory::open(directory.path()).expect("it opens");
        let refused = StateDirectory::open(directory.path()).expect_err("it is locked");
        assert!(
            matches!(refused, WorkerError::DataDirectoryLocked { .. }),
            "{refused:?}"
        );
        let (state_id, place_id) = (first.state_id(), first.place_id());
        drop(first);
        let second = StateDirectory::open(directory.path()).expect("it opens again");
        assert_eq!(second.state_id(), state_id);
        assert_eq!(second.place_id(), place_id);
        assert!(place_id != state_id, "the id itself is shown to nobody");
    }

    #[tokio::test]
    async fn the_lock_of_a_boot_that_has_just_crashed_is_waited_for() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let first = StateDirectory::open(directory.path()).expect("it opens");
        let refused = StateDirectory::open_soon(directory.path()).await;
        assert!(matches!(
            refused,
            Err(WorkerError::DataDirectoryLocked { .. })
        ));
        let (second, ()) = tokio::join!(StateDirectory::open_soon(directory.path()), async {
            tokio::time::sleep(LOCK_PAUSE).await;
            drop(first);
        });
        assert!(second.is_ok(), "{second:?}");
    }

    #[test]
    fn a_file_in_place_of_the_directory_is_told() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("file");
        fs::write(&path, b"x").expect("the file is written");
        let refused = StateDirectory::open(&path).expect_err("it is no directory");
        assert!(
            matches!(refused, WorkerError::DataDirectory { .. }),
            "{refused:?}"
        );
    }
}
