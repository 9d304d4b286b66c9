//! Where a run works: one directory per lease.

use std::collections::HashSet;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

use bytes::Bytes;

use crate::lease::Lease;

/// All directories of leases. Clones are the same.
#[derive(Debug, Clone)]
pub struct Workspaces {
    root: PathBuf,
}

/// The directory of one lease.
#[derive(Debug, Clone)]
pub struct Workspace {
    root: PathBuf,
}

/// Why there is no directory to work in.
#[derive(Debug, thiserror::Error)]
pub enum WorkspaceError {
    #[error(
        "the working directory {cwd:?} leaves the task's own directory: use a path without '..', or an absolute one"
    )]
    CwdLeaves { cwd: String },
    #[error("cannot write {path}")]
    Io { path: PathBuf, source: io::Error },
}

impl Workspaces {
    pub fn new(root: PathBuf) -> Workspaces {
        Workspaces { root }
    }

    pub fn of(&self, lease: &Lease) -> Workspace {
        Workspace {
            root: self.root.join(lease.directory_name()),
        }
    }

    /// Bytes that the spools of all runs take on disk. It blocks.
    pub fn spool_bytes(&self) -> u64 {
        let directories = fs::read_dir(&self.root).into_iter().flatten().flatten();
        let spools = directories.flat_map(|directory| {
            let workspace = Workspace {
                root: directory.path(),
            };
            workspace.spools()
        });
        // one that goes away meanwhile takes nothing; holes in a file take nothing either
        let found = spools.filter_map(|spool| fs::symlink_metadata(spool).ok());
        found.map(|metadata| metadata.blocks() * 512).sum()
    }

    /// Removes every directory but those of `kept` leases.
    pub fn remove_leftovers(&self, kept: &[Lease]) -> io::Result<()> {
        let kept: HashSet<String> = kept.iter().map(Lease::directory_name).collect();
        for directory in fs::read_dir(&self.root)? {
            let directory = directory?;
            if directory
                .file_name()
                .to_str()
                .is_some_and(|name| kept.contains(name))
            {
                continue;
            }
            if let Err(error) = remove_whatever(&directory.path()) {
                tracing::warn!(path = %directory.path().display(), %error, "cannot remove a leftover directory");
            }
        }
        Ok(())
    }
}

impl Workspace {
    /// Makes the directory anew with all that a run needs, and returns the working directory.
    pub async fn prepare(
        &self,
        cwd: &str,
        input_json: &str,
        stdin: Option<&Bytes>,
    ) -> Result<PathBuf, WorkspaceError> {
        let cwd = self.resolve(cwd)?;
        let workspace = self.clone();
        let created = cwd.starts_with(self.work()).then(|| cwd.clone());
        let input = (!input_json.is_empty()).then(|| input_json.to_owned());
        let stdin = stdin.cloned();
        let prepared =
            tokio::task::spawn_blocking(move || workspace.create(created, input, stdin)).await;
        prepared.unwrap_or_else(|join_error| {
            Err(WorkspaceError::Io {
                path: self.root.clone(),
                source: io::Error::other(join_error),
            })
        })?;
        Ok(cwd)
    }

    /// Writes files that only this user can read into a folder of their own, and says where they are, in the same order.
    pub async fn write_secrets(
        &self,
        files: Vec<(String, Vec<u8>)>,
    ) -> Result<Vec<PathBuf>, WorkspaceError> {
        if files.is_empty() {
            return Ok(Vec::new());
        }
        let folder = self.secrets();
        let unwritable = |source| WorkspaceError::Io {
            path: self.secrets(),
            source,
        };
        let writing = tokio::task::spawn_blocking(move || {
            fs::DirBuilder::new().mode(0o700).create(&folder)?;
            let mut paths = Vec::with_capacity(files.len());
            for (name, content) in files {
                let path = folder.join(name);
                write_private(&path, &content)?;
                paths.push(path);
            }
            Ok(paths)
        });
        let written = writing.await;
        written
            .unwrap_or_else(|join_error| Err(io::Error::other(join_error)))
            .map_err(unwritable)
    }

    /// Removes the files of [`Workspace::write_secrets`]; what cannot be removed goes with the directory.
    pub async fn remove_secrets(&self) {
        let folder = self.secrets();
        let removed = tokio::task::spawn_blocking(move || remove_whatever(&folder)).await;
        if let Ok(Err(error)) = removed {
            tracing::warn!(path = %self.secrets().display(), %error, "cannot remove the secrets of a run yet");
        }
    }

    /// Removes the directory; what cannot be removed is tried again by the next boot.
    pub async fn remove(&self) {
        let root = self.root.clone();
        let removed = tokio::task::spawn_blocking(move || remove_whatever(&root)).await;
        if let Ok(Err(error)) = removed {
            tracing::warn!(path = %self.root.display(), %error, "cannot remove the directory of a run");
        }
    }

    /// The whole of it, for this user only.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The task's own directory, in which relative working directories lie.
    pub fn work(&self) -> PathBuf {
        self.root.join("work")
    }

    pub fn input(&self) -> PathBuf {
        self.root.join("input.json")
    }

    pub fn stdin(&self) -> PathBuf {
        self.root.join("stdin")
    }

    /// Where the work puts its structured result.
    pub fn result(&self) -> PathBuf {
        self.result_directory().join("result.json")
    }

    /// The directory of the structured result alone, so that it can be replaced in one step.
    pub fn result_directory(&self) -> PathBuf {
        self.root.join("result")
    }

    /// A structured result that goes up as a file.
    pub fn output(&self) -> PathBuf {
        self.root.join("output.json")
    }

    pub fn artifacts(&self) -> PathBuf {
        self.root.join("artifacts")
    }

    /// The files of secrets; there while the process runs, where the task has such.
    pub fn secrets(&self) -> PathBuf {
        self.root.join("secrets")
    }

    pub fn temporary(&self) -> PathBuf {
        self.root.join("tmp")
    }

    /// The home of a task that does not get the worker's.
    pub fn home(&self) -> PathBuf {
        self.root.join("home")
    }

    /// The spools of standard output and standard error.
    pub fn spools(&self) -> [PathBuf; 2] {
        [
            self.root.join("stdout.spool"),
            self.root.join("stderr.spool"),
        ]
    }

    fn resolve(&self, cwd: &str) -> Result<PathBuf, WorkspaceError> {
        let path = Path::new(cwd);
        if path.is_absolute() {
            return Ok(path.to_owned());
        }
        let stays = path.components().all(|part| match part {
            Component::Normal(_) | Component::CurDir => true,
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => false,
        });
        if !stays || cwd.contains('\0') {
            return Err(WorkspaceError::CwdLeaves {
                cwd: cwd.to_owned(),
            });
        }
        Ok(self.work().join(path))
    }

    fn create(
        &self,
        cwd: Option<PathBuf>,
        input: Option<String>,
        stdin: Option<Bytes>,
    ) -> Result<(), WorkspaceError> {
        let unwritable = |path: &Path, source| WorkspaceError::Io {
            path: path.to_owned(),
            source,
        };
        remove_whatever(&self.root).map_err(|source| unwritable(&self.root, source))?;
        let directories = [
            self.work(),
            self.artifacts(),
            self.temporary(),
            self.result_directory(),
            self.home(),
        ];
        for directory in directories.iter().chain(cwd.iter()) {
            let created = fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(directory);
            created.map_err(|source| unwritable(directory, source))?;
        }
        let input = input.map(|text| (self.input(), Bytes::from(text)));
        let stdin = stdin.map(|bytes| (self.stdin(), bytes));
        for (path, content) in input.into_iter().chain(stdin) {
            write_private(&path, &content).map_err(|source| unwritable(&path, source))?;
        }
        Ok(())
    }
}

/// Writes a file that only this user can read.
pub(super) fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = fs::OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(content)
}

/// Removes a directory, a file or nothing; symbolic links are not followed. Directories that their owner locked are
/// opened first.
fn remove_whatever(path: &Path) -> io::Result<()> {
    let kind = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !kind.is_dir() {
        return fs::remove_file(path);
    }
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            unlock_directories(path)?;
            fs::remove_dir_all(path)
        }
        outcome => outcome,
    }
}

fn unlock_directories(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let mut locked = vec![path.to_owned()];
    while let Some(directory) = locked.pop() {
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o700))?;
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                locked.push(entry.path());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workspace(root: &Path) -> Workspace {
        let lease = Lease::new("task_1", 3, &[1; 16]).expect("a good lease");
        Workspaces::new(root.to_owned()).of(&lease)
    }

    #[tokio::test]
    async fn a_relative_directory_is_made_and_an_absolute_one_is_left_alone() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let workspace = workspace(directory.path());
        let cwd = workspace
            .prepare("sub/dir", "{}", Some(&Bytes::from_static(b"in")))
            .await
            .expect("prepared");
        assert_eq!(cwd, workspace.work().join("sub/dir"));
        assert!(cwd.is_dir());
        assert_eq!(fs::read(workspace.stdin()).expect("stdin"), b"in");
        let cwd = workspace
            .prepare("/nowhere/at/all", "", None)
            .await
            .expect("prepared");
        assert_eq!(cwd, Path::new("/nowhere/at/all"));
        assert!(!workspace.input().exists(), "it was made anew");
    }

    #[tokio::test]
    async fn a_directory_that_leaves_is_refused() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        for cwd in ["..", "a/../../b", "a/.."] {
            let refused = workspace(directory.path())
                .prepare(cwd, "", None)
                .await
                .expect_err("refused");
            assert!(
                matches!(refused, WorkspaceError::CwdLeaves { .. }),
                "{refused:?}"
            );
        }
    }

    #[tokio::test]
    async fn leftovers_go_even_where_the_work_locked_its_directories() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().expect("a temporary directory");
        let workspace = workspace(directory.path());
        workspace
            .prepare("deep/er", "", None)
            .await
            .expect("prepared");
        fs::set_permissions(
            workspace.work().join("deep"),
            fs::Permissions::from_mode(0o000),
        )
        .expect("locked");
        Workspaces::new(directory.path().to_owned())
            .remove_leftovers(&[])
            .expect("readable");
        assert!(!workspace.work().exists());
    }
}
