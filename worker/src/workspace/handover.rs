//! Handing a run's directories to the user that it runs as.
//!
//! The run's own directory stays the worker's, so that the user cannot put a link where the worker, which may be root, will
//! write or read: what is handed over lies in it, and cannot be replaced.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, lchown};
use std::path::Path;

use super::directory::Workspace;
use crate::process::Identity;

/// Lets others pass through a directory whose content they cannot list.
const PASSAGE: u32 = 0o011;

/// Gives the user the working directory with all that is in it, the places for artifacts, temporary files and the result,
/// the run's home, the input and the socket; and the way there, as far as it is the worker's. It blocks.
///
/// # Errors
/// What the operating system says; the worker must be root.
pub fn hand_over(workspace: &Workspace, socket: &Path, identity: &Identity) -> io::Result<()> {
    let own = workspace.root();
    // The directory of one lease lies in that of all, which lies in the worker's data directory.
    for directory in own.ancestors().take(3).chain(socket.parent()) {
        open_passage(directory)?;
    }
    for directory in [
        workspace.work(),
        workspace.artifacts(),
        workspace.temporary(),
        workspace.result_directory(),
        workspace.home(),
    ] {
        give_tree(&directory, identity)?;
    }
    let secrets = workspace.secrets();
    if secrets.try_exists()? {
        give_tree(&secrets, identity)?;
    }
    match give(&workspace.input(), identity) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    give(socket, identity)
}

fn open_passage(directory: &Path) -> io::Result<()> {
    let mode = fs::metadata(directory)?.permissions().mode();
    if mode & PASSAGE == PASSAGE {
        return Ok(());
    }
    fs::set_permissions(directory, Permissions::from_mode(mode | PASSAGE))
}

/// Nothing of the task runs yet, so nothing changes below.
fn give_tree(root: &Path, identity: &Identity) -> io::Result<()> {
    let mut left = vec![root.to_owned()];
    while let Some(path) = left.pop() {
        if fs::symlink_metadata(&path)?.is_dir() {
            for entry in fs::read_dir(&path)? {
                left.push(entry?.path());
            }
        }
        give(&path, identity)?;
    }
    Ok(())
}

fn give(path: &Path, identity: &Identity) -> io::Result<()> {
    lchown(path, Some(identity.uid), Some(identity.gid))
}
