//! Landlock: rules over files, TCP ports, signals and abstract sockets that a process cannot take off again, nor anything
//! that it starts. A process in such a domain can also trace, and read the memory and environment of, only processes of
//! the same domain; that is the kernel's rule for every domain.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

const CREATE_RULESET_VERSION: libc::c_ulong = 1;
const RULE_PATH_BENEATH: libc::c_ulong = 1;

const EXECUTE: u64 = 1 << 0;
const WRITE_FILE: u64 = 1 << 1;
const READ_FILE: u64 = 1 << 2;
const READ_DIR: u64 = 1 << 3;
const MAKE_CHAR: u64 = 1 << 6;
const MAKE_BLOCK: u64 = 1 << 11;
const TRUNCATE: u64 = 1 << 14;
const IOCTL_DEV: u64 = 1 << 15;
/// The rights of the first version; each later one has named more.
const FIRST_RIGHTS: u64 = (1 << 13) - 1;
const REFER: u64 = 1 << 13;

const BIND_TCP: u64 = 1 << 0;
const CONNECT_TCP: u64 = 1 << 1;
const SCOPE_ABSTRACT_SOCKET: u64 = 1 << 0;
const SCOPE_SIGNAL: u64 = 1 << 1;

/// The oldest version that keeps the promise about files: before it, any file could be truncated by its path.
pub const ABI_MIN: u32 = 3;

/// What a rule allows on a file, or on all that is below a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Read, list, execute.
    Read,
    /// The same, and create, write, remove and rename; but make no devices.
    Write,
    /// Read and write, and the device's own operations.
    Device,
}

/// Rules that are being written; nothing is restricted by them yet.
#[derive(Debug)]
pub struct Ruleset {
    ruleset: OwnedFd,
    handled: u64,
}

#[repr(C)]
struct RulesetAttributes {
    handled_fs: u64,
    handled_net: u64,
    scoped: u64,
}

#[repr(C, packed)]
struct PathBeneath {
    allowed: u64,
    parent: i32,
}

/// The version of Landlock that the kernel has.
///
/// # Errors
/// `ENOSYS` where the kernel has none, `EOPNOTSUPP` where it is switched off, or what a container's filter says.
pub fn abi() -> io::Result<u32> {
    // SAFETY: with this flag the kernel reads no structure.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<RulesetAttributes>(),
            0usize,
            CREATE_RULESET_VERSION,
        )
    };
    u32::try_from(answer).map_err(|_| io::Error::last_os_error())
}

impl Ruleset {
    /// Rules that allow nothing yet of what this version can forbid. TCP is forbidden only without a network; signals
    /// and abstract sockets never leave the domain, from version 6 on.
    pub fn new(abi: u32, without_network: bool) -> io::Result<Ruleset> {
        let handled = handled(abi);
        let attributes = RulesetAttributes {
            handled_fs: handled,
            handled_net: if without_network && abi >= 4 {
                BIND_TCP | CONNECT_TCP
            } else {
                0
            },
            scoped: if abi >= 6 {
                SCOPE_ABSTRACT_SOCKET | SCOPE_SIGNAL
            } else {
                0
            },
        };
        // What the kernel does not know is zero, and it takes a longer structure whose rest is zero.
        // SAFETY: the structure is as long as we say; the new descriptor belongs to nobody else.
        unsafe {
            let answer = libc::syscall(
                libc::SYS_landlock_create_ruleset,
                &raw const attributes,
                size_of::<RulesetAttributes>(),
                0 as libc::c_ulong,
            );
            match i32::try_from(answer) {
                Ok(fd) if fd >= 0 => Ok(Ruleset {
                    ruleset: OwnedFd::from_raw_fd(fd),
                    handled,
                }),
                Ok(_) | Err(_) => Err(io::Error::last_os_error()),
            }
        }
    }

    /// Allows `access` on what `target` was opened for, and below it where that is a directory.
    pub fn allow(&mut self, target: BorrowedFd<'_>, access: Access) -> io::Result<()> {
        let on_a_file = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV;
        let is_directory =
            rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(target)?.st_mode).is_dir();
        let applicable = if is_directory { u64::MAX } else { on_a_file };
        let rule = PathBeneath {
            allowed: rights(access) & self.handled & applicable,
            parent: target.as_raw_fd(),
        };
        // SAFETY: the structure is of the type that this kind of rule takes, and the descriptor is open.
        let answer = unsafe {
            libc::syscall(
                libc::SYS_landlock_add_rule,
                self.ruleset.as_raw_fd(),
                RULE_PATH_BENEATH,
                &raw const rule,
                0 as libc::c_ulong,
            )
        };
        if answer == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }
}

impl AsFd for Ruleset {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ruleset.as_fd()
    }
}

/// Puts the rules on this thread and all that it starts. A system call and nothing else, for use after a fork.
pub fn restrict_self(ruleset: BorrowedFd<'_>) -> Result<(), i32> {
    // SAFETY: a plain call.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_landlock_restrict_self,
            ruleset.as_raw_fd(),
            0 as libc::c_ulong,
        )
    };
    if answer == 0 {
        Ok(())
    } else {
        Err(super::confinement::last_errno())
    }
}

fn handled(abi: u32) -> u64 {
    let mut handled = FIRST_RIGHTS;
    for (since, right) in [(2, REFER), (3, TRUNCATE), (5, IOCTL_DEV)] {
        if abi >= since {
            handled |= right;
        }
    }
    handled
}

fn rights(access: Access) -> u64 {
    match access {
        Access::Read => EXECUTE | READ_FILE | READ_DIR,
        Access::Write => (FIRST_RIGHTS | REFER | TRUNCATE | IOCTL_DEV) & !(MAKE_CHAR | MAKE_BLOCK),
        Access::Device => READ_FILE | READ_DIR | WRITE_FILE | TRUNCATE | IOCTL_DEV,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_is_asked_for_what_its_version_knows_only() {
        assert_eq!(handled(1), 0x1fff);
        assert_eq!(handled(2), 0x3fff);
        assert_eq!(handled(3), 0x7fff);
        assert_eq!(handled(4), 0x7fff);
        assert_eq!(handled(7), 0xffff);
    }

    #[test]
    fn devices_are_made_nowhere_and_reading_writes_nothing() {
        assert_eq!(rights(Access::Write) & (MAKE_CHAR | MAKE_BLOCK), 0);
        assert_eq!(rights(Access::Read) & (WRITE_FILE | TRUNCATE | REFER), 0);
        assert_eq!(rights(Access::Device) & EXECUTE, 0);
    }
}
