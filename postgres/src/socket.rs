//! The directory of the server's socket: private, and short enough for the kernel.

use std::env;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::account::Account;
use crate::error::ClusterError;

/// The port exists only as a part of the socket's name.
pub(crate) const PORT: u16 = 5432;
pub(crate) const PORT_TEXT: &str = "5432";

/// What the kernel takes as a socket's path, without the closing NUL: 108 bytes on Linux, 104 elsewhere.
const LONGEST_SOCKET_PATH: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

/// Makes the socket directory, `socket` in the data directory. Where that path is too long for a socket, it is one
/// named by a hash of the data directory in the user's runtime directory or the temporary one; nobody else may own
/// it, since trust in the cluster rests on it.
pub(crate) fn prepare_directory(
    data_dir: &Path,
    account: &Account,
) -> Result<PathBuf, ClusterError> {
    let directory = choose_directory(data_dir, account)?;
    match DirBuilder::new().mode(0o700).create(&directory) {
        Ok(()) => {
            if account.is_switched {
                std::os::unix::fs::chown(&directory, Some(account.uid), Some(account.gid))
                    .map_err(|source| {
                        ClusterError::file("give away", &directory, &account.name, source)
                    })?;
            }
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(source) => {
            return Err(ClusterError::file(
                "create",
                &directory,
                &account.name,
                source,
            ));
        }
    }
    check_trust(&directory, account)?;
    Ok(directory)
}

/// Removes a socket directory that lies outside the data directory; the other kind is left for the next start.
pub(crate) fn remove_outside_directory(directory: &Path, data_dir: &Path) {
    if !directory.starts_with(data_dir) {
        // Not empty, gone already, or no longer ours: each is fine.
        let _ = fs::remove_dir(directory);
    }
}

fn choose_directory(data_dir: &Path, account: &Account) -> Result<PathBuf, ClusterError> {
    let inside = data_dir.join("socket");
    if fits(&inside) {
        return Ok(inside);
    }
    let name = format!(
        "taskyard-{:016x}",
        stable_hash(data_dir.as_os_str().as_bytes())
    );
    let runtime_directory = env::var_os("XDG_RUNTIME_DIR")
        .map(PathBuf::from)
        .filter(|directory| !account.is_switched && directory.is_absolute() && directory.is_dir());
    [
        runtime_directory,
        Some(env::temp_dir()),
        Some(PathBuf::from("/tmp")),
    ]
    .into_iter()
    .flatten()
    .map(|base| base.join(&name))
    .find(|candidate| {
        fits(candidate)
            && account
                .first_closed_directory(parent_of(candidate))
                .is_none()
    })
    .ok_or(ClusterError::SocketPathTooLong { path: inside })
}

fn fits(directory: &Path) -> bool {
    let socket = directory.join(format!(".s.PGSQL.{PORT}"));
    socket.as_os_str().len() <= LONGEST_SOCKET_PATH
}

fn parent_of(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}

fn check_trust(directory: &Path, account: &Account) -> Result<(), ClusterError> {
    let found = fs::symlink_metadata(directory)
        .map_err(|source| ClusterError::file("look at", directory, &account.name, source))?;
    let refuse = |problem| ClusterError::UntrustedSocketDirectory {
        path: directory.to_path_buf(),
        problem,
    };
    if found.file_type().is_symlink() {
        return Err(refuse("it is a symbolic link"));
    }
    if !found.is_dir() {
        return Err(refuse("it is not a directory"));
    }
    if found.uid() != account.uid {
        return Err(refuse("it belongs to another user"));
    }
    if found.mode() & 0o077 != 0 {
        // It is ours, so a loose mode is an accident (a copied directory, say) and can be put right.
        fs::set_permissions(directory, fs::Permissions::from_mode(0o700)).map_err(|source| {
            ClusterError::file("make private", directory, &account.name, source)
        })?;
    }
    Ok(())
}

/// FNV-1a. It only has to give the same name in every version of this program, which the standard hasher does not
/// promise.
fn stable_hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::{fits, stable_hash};
    use std::path::PathBuf;

    #[test]
    fn a_socket_path_of_exactly_the_limit_fits_and_one_more_does_not() {
        let room = super::LONGEST_SOCKET_PATH - "/.s.PGSQL.5432".len();
        let exact = PathBuf::from(format!("/{}", "d".repeat(room - 1)));
        let longer = PathBuf::from(format!("/{}", "d".repeat(room)));
        assert!(fits(&exact));
        assert!(!fits(&longer));
    }

    #[test]
    fn the_hash_is_the_published_fnv_1a() {
        assert_eq!(stable_hash(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(stable_hash(b"a"), 0xaf63_dc4c_8601_ec8c);
    }
}
