//! The shim as a process: a child of this worker, or one that an earlier boot started.

use std::os::fd::OwnedFd;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::process::Child;

/// A shim, to be named and killed.
#[derive(Debug)]
pub(super) enum ShimHandle {
    /// The runtime reaps it, also when this is dropped first.
    Child(Child),
    /// Pinned, so that its id is not somebody else's when it is used.
    Adopted { pid: u32, pinned: OwnedFd },
    /// It was gone before this worker came.
    Gone,
}

impl ShimHandle {
    /// Pins the process with this id.
    pub(super) fn adopt(pid: i32) -> ShimHandle {
        let pinned = Pid::from_raw(pid).and_then(|raw| pidfd_open(raw, PidfdFlags::empty()).ok());
        match pinned {
            Some(pinned) => ShimHandle::Adopted {
                pid: pid.unsigned_abs(),
                pinned,
            },
            None => ShimHandle::Gone,
        }
    }

    pub(super) fn pid(&self) -> Option<u32> {
        match self {
            ShimHandle::Child(child) => child.id(),
            ShimHandle::Adopted { pid, .. } => Some(*pid),
            ShimHandle::Gone => None,
        }
    }

    /// Kills it. One that is gone already is what was asked for.
    pub(super) fn kill(&mut self) {
        match self {
            ShimHandle::Child(child) => {
                let _ = child.start_kill();
            }
            ShimHandle::Adopted { pinned, .. } => {
                let _ = pidfd_send_signal(pinned, Signal::KILL);
            }
            ShimHandle::Gone => {}
        }
    }
}
