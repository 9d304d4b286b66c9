//! What a superuser may do, taken away: without it a process of root is one that owns root's files, and no more.

use super::confinement::last_errno;

const CAPABILITY_VERSION_3: u32 = 0x2008_0522;
/// More than any kernel has; the first that it does not know ends the walk.
const CAPABILITIES_MAX: libc::c_ulong = 64;

#[repr(C)]
struct Header {
    version: u32,
    /// Zero: this thread.
    pid: i32,
}

/// Gives up all capabilities of this thread, and the ways to get new ones by executing a program. System calls and
/// nothing else, for use after a fork. `no_new_privs` must follow or be set: it keeps root from getting them back.
pub fn give_up() -> Result<(), i32> {
    let nothing = [0u32; 6];
    let header = Header {
        version: CAPABILITY_VERSION_3,
        pid: 0,
    };
    // SAFETY: plain calls on structures of the layout that version 3 has.
    unsafe {
        for capability in 0..CAPABILITIES_MAX {
            // Refused to whoever may not change it, and then has none to lose: see `no_new_privs` above.
            if libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) < 0 {
                break;
            }
        }
        libc::prctl(
            libc::PR_CAP_AMBIENT,
            libc::PR_CAP_AMBIENT_CLEAR_ALL,
            0,
            0,
            0,
        );
        if libc::syscall(libc::SYS_capset, &raw const header, nothing.as_ptr()) < 0 {
            return Err(last_errno());
        }
    }
    Ok(())
}

/// No program that this thread executes can give it more than it has.
pub fn keep_down() -> Result<(), i32> {
    // SAFETY: a plain call.
    match unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } {
        0 => Ok(()),
        _ => Err(last_errno()),
    }
}
