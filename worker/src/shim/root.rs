//! The root process of the tree, observed without being reaped.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process_group, pidfd_open,
    pidfd_send_signal, waitid,
};

use crate::process::ExitStatus;

/// The root. Until [`Root::reap`] its id, and that of its session and process group, cannot be given to anybody else, so
/// signals to them are safe.
pub(super) struct Root {
    pid: i32,
    pinned: OwnedFd,
    over: bool,
    exit: Option<ExitStatus>,
    reaped: bool,
}

impl Root {
    pub(super) fn new(pid: i32) -> rustix::io::Result<Root> {
        let raw = Pid::from_raw(pid).ok_or(rustix::io::Errno::SRCH)?;
        let pinned = pidfd_open(raw, PidfdFlags::empty())?;
        Ok(Root {
            pid,
            pinned,
            over: false,
            exit: None,
            reaped: false,
        })
    }

    pub(super) fn pid(&self) -> i32 {
        self.pid
    }

    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    pub(super) fn is_reaped(&self) -> bool {
        self.reaped
    }

    pub(super) fn exit(&self) -> Option<ExitStatus> {
        self.exit
    }

    /// Readable once the root is over; nothing afterwards.
    pub(super) fn exit_signal(&self) -> Option<BorrowedFd<'_>> {
        (!self.over).then(|| self.pinned.as_fd())
    }

    /// Looks whether the root is over and leaves it a zombie. True when this is the call that found out.
    pub(super) fn observe(&mut self) -> bool {
        if self.over {
            return false;
        }
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        match waitid(WaitId::PidFd(self.pinned.as_fd()), options) {
            Ok(None) => false,
            Ok(Some(status)) => {
                let code = status.exit_status().map(ExitStatus::Code);
                self.exit = code.or_else(|| status.terminating_signal().map(ExitStatus::Signal));
                self.over = true;
                true
            }
            Err(rustix::io::Errno::INTR) => false,
            Err(_) => {
                self.over = true;
                true
            }
        }
    }

    /// A wait for any child got the root by surprise, as kernels do that do not tell children of threads apart.
    pub(super) fn was_reaped(&mut self, wait_status: i32) {
        self.over = true;
        self.reaped = true;
        if libc::WIFEXITED(wait_status) {
            self.exit = Some(ExitStatus::Code(libc::WEXITSTATUS(wait_status)));
        } else if libc::WIFSIGNALED(wait_status) {
            self.exit = Some(ExitStatus::Signal(libc::WTERMSIG(wait_status)));
        }
    }

    /// Gives the root's id back, if the root is over.
    pub(super) fn reap(&mut self) {
        if self.over && !self.reaped {
            let _ = waitid(
                WaitId::PidFd(self.pinned.as_fd()),
                WaitIdOptions::EXITED | WaitIdOptions::NOHANG,
            );
            self.reaped = true;
        }
    }

    pub(super) fn kill(&self) {
        self.signal(libc::SIGKILL);
    }

    /// Signals the root alone.
    pub(super) fn signal(&self, signal: i32) {
        if let Some(signal) = Signal::from_named_raw(signal) {
            // It is over, which is as good.
            let _ = pidfd_send_signal(&self.pinned, signal);
        }
    }

    pub(super) fn kill_group(&self) {
        self.signal_group(libc::SIGKILL);
    }

    /// Signals the root's process group, in one step that no fork can slip through.
    pub(super) fn signal_group(&self, signal: i32) {
        if let (false, Some(group), Some(signal)) = (
            self.reaped,
            Pid::from_raw(self.pid),
            Signal::from_named_raw(signal),
        ) {
            // No such group means that all its members are gone, which is as good.
            let _ = kill_process_group(group, signal);
        }
    }
}
