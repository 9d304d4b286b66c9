//! Where the sockets of attempts lie.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use crate::lease::Lease;

/// Longest path of a socket that every Unix takes, without its closing zero.
const PATH_BYTES_MAX: usize = 107;
/// Bytes of a socket's own name: enough of a random lease id that no two that live have the same.
const NAME_BYTES: usize = 16;
const PROBE: &str = "probe";

/// The directory of a worker's sockets, which only its user can enter. Clones are the same.
///
/// It lies in the worker's data directory, where it is locked by one worker, and found and cleared by its next boot. That
/// directory may have too long a path for a socket, or lie on a file system that has none (NFS, shared folders of
/// virtual machines); then it lies in the directory for temporary files, named after the worker's place id, which is
/// random, lasts, and so leads the next boot to what is left.
#[derive(Debug, Clone)]
pub struct SocketPlace {
    directory: PathBuf,
    /// It lies where others have theirs, too.
    is_temporary: bool,
}

impl SocketPlace {
    /// Makes the directory and removes what an earlier boot left in it.
    ///
    /// # Errors
    /// There is no place where a socket can be made; the error is that of the last one that was tried.
    pub fn open(data_directory: &Path, place_id: [u8; 16]) -> io::Result<SocketPlace> {
        let name = format!("taskyard-{:032x}", u128::from_be_bytes(place_id));
        let candidates = [
            data_directory.join("sockets"),
            std::env::temp_dir().join(&name),
            Path::new("/tmp").join(&name),
        ];
        let mut trouble = io::Error::other("the paths of all places are too long for a socket");
        let mut chosen = None;
        for directory in candidates {
            if !fits(&directory) || chosen.as_ref() == Some(&directory) {
                continue;
            }
            if chosen.is_some() {
                // Left by a boot that found another place to be the best.
                let _ = clear(&directory).and_then(|()| fs::remove_dir(&directory));
                continue;
            }
            match take(&directory) {
                Ok(()) => chosen = Some(directory),
                Err(error) => trouble = error,
            }
        }
        let directory = chosen.ok_or(trouble)?;
        Ok(SocketPlace {
            is_temporary: !directory.starts_with(data_directory),
            directory,
        })
    }

    /// The worker ends: leaves nothing among the temporary files, unless something of an attempt is left in it.
    pub fn leave(&self) {
        if self.is_temporary {
            let _ = fs::remove_dir(&self.directory);
        }
    }

    /// The directory itself.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The path of an attempt's socket, short enough for every program.
    pub fn of(&self, lease: &Lease) -> PathBuf {
        let id = lease.id.to_string();
        self.directory.join(id.get(..NAME_BYTES).unwrap_or(&id))
    }
}

fn fits(directory: &Path) -> bool {
    directory.is_absolute() && directory.as_os_str().len() + 1 + NAME_BYTES <= PATH_BYTES_MAX
}

/// Makes the directory this user's alone, empties it, and tries whether it takes a socket.
fn take(directory: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        Ok(()) | Err(_) => {}
    }
    clear(directory)?;
    let probe = directory.join(PROBE);
    let bound = UnixListener::bind(&probe);
    let removed = fs::remove_file(&probe);
    bound.and(removed)
}

/// Removes what is in a directory that is surely ours: in a place that others can write, somebody may have put one of
/// this name, or a link, before us.
fn clear(directory: &Path) -> io::Result<()> {
    let found = fs::symlink_metadata(directory)?;
    if !found.is_dir() || found.uid() != rustix::process::geteuid().as_raw() {
        return Err(io::Error::other(format!(
            "{} belongs to somebody else; remove it",
            directory.display()
        )));
    }
    fs::set_permissions(directory, fs::Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(directory)? {
        fs::remove_file(entry?.path())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease() -> Lease {
        Lease::new("task_1", 3, &[0xab; 16]).expect("a good lease")
    }

    #[test]
    fn the_data_directory_is_the_place_and_what_was_left_in_it_goes() {
        let data = tempfile::tempdir().expect("a temporary directory");
        let place = SocketPlace::open(data.path(), [7; 16]).expect("a place");
        let path = place.of(&lease());
        assert_eq!(path, data.path().join("sockets").join("abababababababab"));
        drop(UnixListener::bind(&path).expect("it takes a socket"));
        assert!(path.exists(), "a socket outlives who made it");
        SocketPlace::open(data.path(), [7; 16]).expect("a place again");
        assert!(!path.exists());
    }

    #[test]
    fn a_path_that_is_too_long_leads_to_the_directory_for_temporary_files() {
        let data = tempfile::tempdir().expect("a temporary directory");
        let deep = data.path().join("d".repeat(100));
        fs::create_dir(&deep).expect("a deep directory");
        let place_id = uuid::Uuid::new_v4().into_bytes();
        let place = SocketPlace::open(&deep, place_id).expect("a place");
        let path = place.of(&lease());
        assert!(path.as_os_str().len() <= PATH_BYTES_MAX, "{path:?}");
        assert!(!path.starts_with(data.path()));
        let directory = path.parent().expect("a directory").to_owned();
        let mode = fs::metadata(&directory).expect("it is there").mode();
        assert_eq!(mode & 0o777, 0o700);
        place.leave();
        assert!(!directory.exists());
    }

    #[test]
    fn a_directory_that_somebody_put_there_is_not_used() {
        let data = tempfile::tempdir().expect("a temporary directory");
        let elsewhere = data.path().join("elsewhere");
        fs::create_dir(&elsewhere).expect("a directory");
        std::os::unix::fs::symlink(&elsewhere, data.path().join("link")).expect("a link");
        assert!(take(&data.path().join("link")).is_err());
    }
}
