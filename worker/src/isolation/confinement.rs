//! The confinement of one process: prepared before the fork, put on between fork and exec.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use serde::{Deserialize, Serialize};

use super::landlock::{self, Access, Ruleset};
use super::paths::{DEVICES, ETC, SYSTEM_ROOTS};
use super::seccomp::{self, Filter};
use super::{level::IsolationLevel, privileges};

/// Entries of `/etc` that are looked at.
const ETC_ENTRIES_MAX: usize = 4_096;
const MODE_OTHERS_READ: u32 = 0o004;
const MODE_OTHERS_ENTER: u32 = 0o001;

/// What a process of the level `restricted` may reach beside what all of them may. It travels to the shim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confinement {
    /// No sockets but unix sockets.
    pub without_network: bool,
    /// Files and directories to write, with all that is below; absolute, without symbolic links.
    pub writable: Vec<PathBuf>,
    /// Files and directories to read and execute, likewise.
    pub readable: Vec<PathBuf>,
}

/// A confinement that only has to be put on.
#[derive(Debug)]
pub struct PreparedConfinement {
    ruleset: Ruleset,
    filter: Filter,
}

impl Confinement {
    /// The level that this is.
    pub fn level(&self) -> IsolationLevel {
        IsolationLevel::Restricted
    }

    /// Opens what is to be reached and writes the rules and the filter.
    ///
    /// # Errors
    /// The kernel has no Landlock, or too old a one; this processor has no filter; or a path is gone or was replaced by
    /// a symbolic link.
    pub fn prepare(&self) -> io::Result<PreparedConfinement> {
        let abi = landlock::abi()?;
        if abi < landlock::ABI_MIN {
            return Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP));
        }
        let filter = seccomp::filter(self.without_network)
            .ok_or_else(|| io::Error::from_raw_os_error(libc::EOPNOTSUPP))?;
        let mut ruleset = Ruleset::new(abi, self.without_network)?;
        for root in SYSTEM_ROOTS {
            allow_if_there(&mut ruleset, Path::new(root), Access::Read)?;
        }
        for entry in world_readable(Path::new(ETC)) {
            allow_if_there(&mut ruleset, &entry, Access::Read)?;
        }
        for device in DEVICES {
            allow_if_there(&mut ruleset, Path::new(device), Access::Device)?;
        }
        for (paths, access) in [
            (&self.readable, Access::Read),
            (&self.writable, Access::Write),
        ] {
            for path in paths {
                ruleset.allow(open_exactly(path)?.as_fd(), access)?;
            }
        }
        Ok(PreparedConfinement { ruleset, filter })
    }
}

impl PreparedConfinement {
    /// Puts it on this thread and all that it starts, for good. System calls and nothing else, for use after a fork;
    /// the error is the operating system's number. What follows must be the exec: the filter comes last.
    pub fn put_on(&self) -> Result<(), i32> {
        privileges::keep_down()?;
        privileges::give_up()?;
        landlock::restrict_self(self.ruleset.as_fd())?;
        self.filter.put_on()
    }
}

/// The number of the last failed call; it allocates nothing.
pub(super) fn last_errno() -> i32 {
    // SAFETY: the place is this thread's own.
    unsafe { *libc::__errno_location() }
}

fn allow_if_there(ruleset: &mut Ruleset, path: &Path, access: Access) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    match rustix::fs::openat(CWD, path, flags, Mode::empty()) {
        Ok(target) => ruleset.allow(target.as_fd(), access),
        // What is not there, or not for this user, is of no use to the task either.
        Err(_) => Ok(()),
    }
}

/// Opens a path that has no symbolic links in it: where somebody has put one since it was looked at, it is refused.
fn open_exactly(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let opened = rustix::fs::openat2(
        CWD,
        path,
        flags,
        Mode::empty(),
        ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS,
    );
    Ok(opened?)
}

/// The entries that everybody may read: a worker of root must not hand on what root alone may, such as password hashes.
fn world_readable(directory: &Path) -> Vec<PathBuf> {
    use std::os::unix::fs::MetadataExt;
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let is_for_all = |path: &PathBuf| {
        // Followed, as the task will.
        std::fs::metadata(path).is_ok_and(|metadata| {
            let needed = if metadata.is_dir() {
                MODE_OTHERS_READ | MODE_OTHERS_ENTER
            } else {
                MODE_OTHERS_READ
            };
            metadata.mode() & needed == needed
        })
    };
    entries
        .take(ETC_ENTRIES_MAX)
        .map(|entry| entry.path())
        .filter(is_for_all)
        .collect()
}
