//! A process that outlives its worker: the socket on which the worker's next boot asks for it, and what is kept meanwhile.
//!
//! There is one holder at a time: a newer one is taken only when the connection of the one before has ended, which it
//! does with the worker's process. The kernel says who connects; this user's processes may, but none of the task itself.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use rustix::event::PollFlags;
use rustix::net::sockopt::socket_peercred;

use super::control::Control;
use super::message::{AttachRequest, Attached, Report};
use super::supervise::Supervisor;
use super::tree;
use crate::boot_time::BootTime;
use crate::lease::StopCause;
use crate::process::{Kept, LastWords, ProcessEnd, Signal, Survival};

/// How long who connected may take to say what it wants.
const REQUEST_BOUND: Duration = Duration::from_secs(5);

/// The way for the next boot. Nothing is kept before the worker has asked for it.
pub(super) struct Succession {
    survival: Survival,
    listener: UnixListener,
    /// Who has connected and not said what it wants. One at a time; others wait in the kernel's queue.
    visitor: Option<Visitor>,
    kept: Option<Kept>,
}

struct Visitor {
    control: Control,
    until: BootTime,
}

impl Succession {
    /// Listens, and lets go of the worker's standard error, which may be a pipe that its reader wants to see end.
    pub(super) fn open(survival: &Survival) -> io::Result<Succession> {
        let directory = std::fs::File::open(&survival.directory)?;
        // The path may be longer than an address of a socket.
        let place = format!("/proc/self/fd/{}", directory.as_raw_fd());
        let path = Survival::socket(Path::new(&place));
        let listener = UnixListener::bind(&path)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        let null = std::fs::File::options().write(true).open("/dev/null")?;
        // SAFETY: nobody in this process owns standard error.
        if unsafe { libc::dup2(null.as_raw_fd(), 2) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Succession {
            survival: survival.clone(),
            listener,
            visitor: None,
            kept: None,
        })
    }

    pub(super) fn keep(&mut self, kept: Kept) {
        self.kept = Some(kept);
    }

    pub(super) fn is_kept(&self) -> bool {
        self.kept.is_some()
    }

    /// What to wait for: a visitor, or what it says.
    pub(super) fn poll_interest(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        match &self.visitor {
            Some(visitor) => visitor.control.poll_interest(),
            None => Some((self.listener.as_fd(), PollFlags::IN)),
        }
    }

    /// When it is to be looked at again, whatever is said.
    pub(super) fn wakes_at(&self, is_unattended: bool) -> Option<BootTime> {
        let patience = self.visitor.as_ref().map(|visitor| visitor.until);
        let timeout = self.kept.as_ref().and_then(Kept::times_out_at);
        patience
            .into_iter()
            .chain(timeout.filter(|_| is_unattended))
            .min()
    }

    /// Who asks for the process by the right word, if somebody does.
    fn next_visitor(&mut self) -> Option<Control> {
        if self.visitor.is_none() {
            self.visitor = self.admit();
        }
        let visitor = self.visitor.as_mut()?;
        if let Some(request) = visitor.control.receive::<AttachRequest>() {
            let visitor = self.visitor.take()?;
            return (request.token == self.survival.token).then_some(visitor.control);
        }
        if visitor.control.worker_is_gone() || BootTime::now() >= visitor.until {
            self.visitor = None;
        }
        None
    }

    /// Those who are turned away are closed without a word.
    fn admit(&self) -> Option<Visitor> {
        let (stream, _) = self.listener.accept().ok()?;
        if !is_welcome(&stream) {
            return None;
        }
        let mut control = Control::new(OwnedFd::from(stream)).ok()?;
        control.expect_commands();
        Some(Visitor {
            control,
            until: BootTime::now().plus(REQUEST_BOUND),
        })
    }
}

impl Kept {
    /// When the run's time is up, unless it is being ended already.
    fn times_out_at(&self) -> Option<BootTime> {
        self.runs_out_at.filter(|_| self.stop.is_none())
    }
}

impl Supervisor {
    /// Whether the worker is gone and the process is to go on without it.
    pub(super) fn is_unattended(&self) -> bool {
        let is_kept = self.succession.as_ref().is_some_and(Succession::is_kept);
        is_kept && self.control.worker_is_gone()
    }

    /// Hands the process to the worker's next boot, once the boot before is gone.
    pub(super) fn receive_successor(&mut self) {
        let is_unattended = self.is_unattended();
        let Some(succession) = &mut self.succession else {
            return;
        };
        let Some(control) = succession.next_visitor() else {
            return;
        };
        // One that comes too early tries again.
        let (true, Some(kept)) = (is_unattended, succession.kept.clone()) else {
            return;
        };
        self.control = control;
        let (stdout_total, stderr_total) = self.totals();
        self.control.report(&Report::Attached(Attached {
            pid: self.root.pid(),
            stdout_total,
            stderr_total,
            exit: self.root.exit(),
            exited_at: self.exited_at,
            kept,
        }));
    }

    /// While nobody is there to do it, ends a run whose time is up.
    pub(super) fn enforce_timeout(&mut self) {
        if !self.is_unattended() || self.root.is_over() {
            return;
        }
        let now = BootTime::now();
        let Some(kept) = self
            .succession
            .as_mut()
            .and_then(|succession| succession.kept.as_mut())
            .filter(|kept| kept.times_out_at().is_some_and(|at| now >= at))
        else {
            return;
        };
        kept.stop = Some(StopCause::TimedOut);
        let grace = kept.grace;
        self.terminate(Signal::Term, grace);
    }

    /// Leaves the end for whoever comes later; the worker of now may be gone before it has noted it.
    pub(super) fn leave_last_words(&self, end: &ProcessEnd) {
        let Some(succession) = &self.succession else {
            return;
        };
        let Some(kept) = succession.kept.clone() else {
            return;
        };
        let words = LastWords {
            pid: self.root.pid(),
            end: end.clone(),
            exited_at: self.exited_at,
            kept,
        };
        // A worker that does not find them says that the outcome is unknown.
        let _ = write_whole(&succession.survival.last_words(), &words);
    }
}

/// Whole or not at all, and on disk: the machine may go down before the next boot.
fn write_whole(path: &Path, words: &LastWords) -> io::Result<()> {
    let draft = path.with_extension("draft");
    let content = serde_json::to_vec(words).map_err(io::Error::other)?;
    let mut file = std::fs::File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&draft)?;
    io::Write::write_all(&mut file, &content)?;
    file.sync_all()?;
    std::fs::rename(&draft, path)
}

/// This user's processes, but not those of the task, which could hold on to itself.
fn is_welcome(stream: &UnixStream) -> bool {
    let Ok(peer) = socket_peercred(stream) else {
        return false;
    };
    let own = rustix::process::getpid().as_raw_nonzero().get();
    peer.uid == rustix::process::geteuid()
        && !tree::is_descendant(own, peer.pid.as_raw_nonzero().get())
}
