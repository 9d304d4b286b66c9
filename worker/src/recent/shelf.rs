//! Where recent results lie: below one folder, a folder for each store that acknowledged them, in it the note on each
//! lease as the ledger had it, and beside it what is left of the run's directory. Nothing waits for the disk: what a
//! failing machine loses here could not be told again, no more.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Component, Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::statvfs;
use sha2::{Digest, Sha256};

use crate::lease::{Lease, StructuredOutput};
use crate::ledger::{FinishedRecord, LedgerEntry};
use crate::workspace::{Workspace, Workspaces, move_beneath};

const KEY_BYTES: usize = 16;
/// Files are kept only while so much of the disk, or an eighth of it, is free.
const ROOM_BYTES: u64 = 1024 * 1024 * 1024;

/// A store, by what its identity hashes to: safe as a file name, whatever the identity looks like.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct StoreKey(String);

impl StoreKey {
    /// None for an identity that says nothing.
    pub fn of(store_id: &str) -> Option<StoreKey> {
        if store_id.is_empty() {
            return None;
        }
        let hash = Sha256::digest(store_id);
        let digits = hash[..KEY_BYTES].iter().map(|byte| format!("{byte:02x}"));
        Some(StoreKey(digits.collect()))
    }

    fn from_name(name: &str) -> Option<StoreKey> {
        let is_hex =
            name.len() == 2 * KEY_BYTES && name.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_hex.then(|| StoreKey(name.to_owned()))
    }
}

/// A result that an earlier boot left.
#[derive(Debug)]
pub(super) struct Left {
    pub(super) lease: Lease,
    pub(super) store: StoreKey,
    pub(super) bytes: u64,
    modified: SystemTime,
}

/// The folder of it all. Everything here blocks.
#[derive(Debug, Clone)]
pub(super) struct Shelf {
    root: PathBuf,
}

impl Shelf {
    /// # Errors
    /// The folder cannot be made.
    pub(super) fn open(root: PathBuf) -> io::Result<Shelf> {
        make_private(&root)?;
        Ok(Shelf { root })
    }

    /// Removes all that is there.
    pub(super) fn clear(&self) -> io::Result<()> {
        fs::remove_dir_all(&self.root)?;
        make_private(&self.root)
    }

    /// What earlier boots left, oldest first. What is no result, or has no note any more, is removed.
    pub(super) fn read(&self) -> io::Result<Vec<Left>> {
        let mut left = Vec::new();
        for folder in fs::read_dir(&self.root)? {
            let folder = folder?.path();
            let store = folder.file_name().and_then(|name| name.to_str());
            match store.and_then(StoreKey::from_name) {
                Some(store) => left.extend(read_folder(&folder, &store)?),
                None => remove(&folder),
            }
        }
        left.sort_by_key(|left| left.modified);
        Ok(left)
    }

    /// Takes the ledger's note on a lease over, and of the run's directory what a delivery reads; says how many bytes
    /// that takes. More than `files_max` of them are not kept, and none that cannot be moved.
    pub(super) fn put(
        &self,
        store: &StoreKey,
        lease: &Lease,
        record: &FinishedRecord,
        (note, from): (&Path, &Workspace),
        files_max: u64,
    ) -> io::Result<u64> {
        let folder = self.folder(store);
        make_private(&folder)?;
        let to = self.workspace(store, lease);
        let mut bytes = 0;
        if has_files(record) && has_room(&folder) {
            match move_files(record, from, &to) {
                Ok(moved) => bytes = moved,
                Err(error) => {
                    tracing::debug!(lease = %lease, %error, "what a run left cannot be kept whole");
                    bytes = taken_below(to.root());
                }
            }
        }
        if bytes > files_max {
            remove(to.root());
            bytes = 0;
        }
        // last, so that there is no note on files that are still elsewhere
        fs::rename(note, folder.join(lease.file_name())).inspect_err(|_| remove(to.root()))?;
        Ok(bytes)
    }

    /// As the ledger noted it; none: the note cannot be read, or says that the run was not over.
    pub(super) fn record(&self, store: &StoreKey, lease: &Lease) -> Option<FinishedRecord> {
        let content = fs::read(self.folder(store).join(lease.file_name())).ok()?;
        match serde_json::from_slice(&content).ok()? {
            LedgerEntry::Finished(record) => Some(*record),
            LedgerEntry::Pending | LedgerEntry::Launching | LedgerEntry::Surviving(_) => None,
        }
    }

    /// Where the run's files are.
    pub(super) fn workspace(&self, store: &StoreKey, lease: &Lease) -> Workspace {
        Workspaces::new(self.folder(store)).of(lease)
    }

    /// Another store has acknowledged it.
    pub(super) fn relabel(&self, lease: &Lease, from: &StoreKey, to: &StoreKey) -> io::Result<()> {
        make_private(&self.folder(to))?;
        let (files_from, files_to) = (self.workspace(from, lease), self.workspace(to, lease));
        match fs::rename(files_from.root(), files_to.root()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let name = lease.file_name();
        fs::rename(self.folder(from).join(&name), self.folder(to).join(&name))
    }

    /// Removes the run's files; the result itself stays.
    pub(super) fn strip(&self, store: &StoreKey, lease: &Lease) {
        remove(self.workspace(store, lease).root());
    }

    /// Removes all of a result.
    pub(super) fn remove(&self, store: &StoreKey, lease: &Lease) {
        remove(&self.folder(store).join(lease.file_name()));
        self.strip(store, lease);
        // it goes with its last result
        let _ = fs::remove_dir(self.folder(store));
    }

    fn folder(&self, store: &StoreKey) -> PathBuf {
        self.root.join(&store.0)
    }
}

fn read_folder(folder: &Path, store: &StoreKey) -> io::Result<Vec<Left>> {
    let mut left = Vec::new();
    let mut directories = Vec::new();
    let workspaces = Workspaces::new(folder.to_owned());
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            directories.push(entry.path());
            continue;
        }
        let name = entry.file_name();
        match name.to_str().map(Lease::from_file_name) {
            Some(Ok(lease)) => left.push(Left {
                bytes: taken_below(workspaces.of(&lease).root()),
                modified: entry.metadata()?.modified()?,
                store: store.clone(),
                lease,
            }),
            Some(Err(_)) | None => remove(&entry.path()),
        }
    }
    for directory in directories {
        let is_of = |left: &Left| workspaces.of(&left.lease).root() == directory;
        if !left.iter().any(is_of) {
            remove(&directory);
        }
    }
    Ok(left)
}

fn has_files(record: &FinishedRecord) -> bool {
    let finish = &record.finish;
    finish.stdout.total_bytes > 0
        || finish.stderr.total_bytes > 0
        || finish.output == StructuredOutput::InFile
        || !record.artifacts.is_empty()
        || record.collection.is_some()
}

/// Moves what a delivery of the record reads; the bytes that it takes on disk.
fn move_files(record: &FinishedRecord, from: &Workspace, to: &Workspace) -> io::Result<u64> {
    remove(to.root());
    make_private(to.root())?;
    let mut bytes = 0;
    let totals = [
        record.finish.stdout.total_bytes,
        record.finish.stderr.total_bytes,
    ];
    let spools = from.spools().into_iter().zip(to.spools()).zip(totals);
    for ((from, to), _) in spools.filter(|(_, total)| *total > 0) {
        bytes += move_own(&from, &to)?;
    }
    if record.finish.output == StructuredOutput::InFile {
        bytes += move_own(&from.output(), &to.output())?;
    }
    for name in &record.artifacts {
        make_private(&to.artifacts())?;
        bytes += moved(&from.artifacts(), Path::new(name), &to.artifacts())?;
    }
    if let Some(collection) = &record.collection {
        make_private(&to.work())?;
        for file in &collection.files {
            let path = Path::new(&collection.cwd).join(&file.from);
            let path: PathBuf = path
                .components()
                .filter(|part| *part != Component::CurDir)
                .collect();
            bytes += moved(&from.work(), &path, &to.work())?;
        }
    }
    Ok(bytes)
}

/// A file that no work can reach; one that is not there takes nothing.
fn move_own(from: &Path, to: &Path) -> io::Result<u64> {
    match fs::symlink_metadata(from) {
        Ok(metadata) => fs::rename(from, to).map(|()| taken(&metadata)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error),
    }
}

/// A file of the work's; one that is in the way of being moved is left behind, and missing then.
fn moved(from: &Path, path: &Path, to: &Path) -> io::Result<u64> {
    match move_beneath(from, path, to) {
        Ok(metadata) => Ok(metadata.unwrap_or(0)),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound
            | io::ErrorKind::PermissionDenied
            | io::ErrorKind::InvalidInput => Ok(0),
            _ => Err(error),
        },
    }
}

fn taken(metadata: &fs::Metadata) -> u64 {
    metadata.blocks() * 512
}

/// Bytes that all files below a directory take on disk, without following any symbolic link. What goes away meanwhile
/// takes nothing.
fn taken_below(directory: &Path) -> u64 {
    let mut bytes = 0;
    let mut pending = vec![directory.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            if metadata.is_dir() {
                pending.push(entry.path());
            } else {
                bytes += taken(&metadata);
            }
        }
    }
    bytes
}

/// The work of others needs the disk more. One that does not say counts as full.
fn has_room(folder: &Path) -> bool {
    statvfs(folder).is_ok_and(|disk| {
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        let whole = disk.f_blocks.saturating_mul(disk.f_frsize);
        free >= ROOM_BYTES.min(whole / 8)
    })
}

fn make_private(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
}

/// What cannot be removed is tried again by the next boot.
fn remove(path: &Path) {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    if let Err(error) = removed
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "a recent result cannot be removed");
    }
}
