//! Files that lend their owner's rights. To the task itself they lend nothing, but to others on the machine they would.

use libc::c_long;

use super::seccomp::{Code, IF_ANY_BIT, IF_EQUAL, argument, number, refusal};

const SET_ID: u32 = libc::S_ISUID | libc::S_ISGID;
/// With these a file is made, and only then the mode counts; else it holds whatever was in the register.
const MAKES_A_FILE: u32 = (libc::O_CREAT | (libc::O_TMPFILE & !libc::O_DIRECTORY)) as u32;

/// Calls whose argument is always a mode.
const MODES: &[(c_long, u32)] = &[
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_chmod, 1),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_creat, 1),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_mkdir, 1),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_mknod, 1),
    (libc::SYS_fchmod, 1),
    (libc::SYS_fchmodat, 2),
    (libc::SYS_mkdirat, 2),
    (libc::SYS_mknodat, 2),
];

/// Calls that may make a file, with where their flags are; the mode follows.
const OPENS: &[(c_long, u32)] = &[
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_open, 1),
    (libc::SYS_openat, 2),
];

/// Calls whose mode lies in memory, where no filter sees it, or that are too new for most programs; those have another way.
const UNSEEN: &[c_long] = &[libc::SYS_openat2, SYS_FCHMODAT2];
/// Of one number everywhere; not all versions of libc name it.
const SYS_FCHMODAT2: c_long = 452;

/// Refuses to make such files.
pub(super) fn refuse(code: &mut Code) {
    for call in UNSEEN {
        code.when(IF_EQUAL, number(*call), refusal(libc::ENOSYS));
    }
    for (call, mode) in MODES {
        code.only_for(*call, |code| {
            code.load(argument(*mode));
            code.when(IF_ANY_BIT, SET_ID, refusal(libc::EPERM));
        });
    }
    for (call, flags) in OPENS {
        code.only_for(*call, |code| {
            code.load(argument(*flags));
            // past the mode and its verdict
            code.step(IF_ANY_BIT, 0, 3, MAKES_A_FILE);
            code.load(argument(flags + 1));
            code.when(IF_ANY_BIT, SET_ID, refusal(libc::EPERM));
        });
    }
}
