//! The shim's loop: one thread that waits for output, exits, commands and the deadline, and never for the worker.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

use super::capture::{Pumped, READ_BYTES, StreamCapture};
use super::control::Control;
use super::input::LiveInput;
use super::message::{Command, Report, from_hex};
use super::root::Root;
use super::successor::Succession;
use super::terminal::Terminal;
use super::tree;
use crate::boot_time::BootTime;
use crate::process::{Launch, Signal};

/// The least time between two reports of output, but for the first.
const OUTPUT_PAUSE: Duration = Duration::from_millis(5);
/// Reads from one stream in a row, so that a firehose cannot keep commands waiting.
const READS_IN_A_ROW: u32 = 4;

pub(super) struct Streams {
    pub(super) stdout: StreamCapture,
    pub(super) stderr: StreamCapture,
}

/// Everything that the loop looks after.
pub(super) struct Supervisor {
    pub(super) control: Control,
    pub(super) root: Root,
    /// Standard input, where it comes live.
    input: Option<LiveInput>,
    told_input: u64,
    /// In place of pipes.
    pub(super) terminal: Option<Terminal>,
    pub(super) streams: Streams,
    /// Readable when a child changed.
    pub(super) child_signal: OwnedFd,
    /// Readable when the deadline passed, on a clock that counts through suspends.
    deadline_timer: OwnedFd,
    pub(super) deadline: BootTime,
    /// Of a process that outlives its worker.
    pub(super) succession: Option<Succession>,
    /// The cgroup of the tree.
    pub(super) group: Option<PathBuf>,
    drain: Duration,
    /// When the root was over.
    pub(super) exited_at: Option<BootTime>,
    /// End of the drain; set when the root is over.
    drain_until: Option<BootTime>,
    /// End of the grace; set by the first Terminate.
    kill_at: Option<BootTime>,
    told_totals: (u64, u64),
    told_at: Option<BootTime>,
    pub(super) buffer: Box<[u8]>,
}

/// Why the loop is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Finish {
    /// The root is over, and its output as far as it will be waited for.
    RootIsOver,
    KillRequested,
    DeadlinePassed,
    WorkerGone,
}

/// Whether children other than the root are left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Orphans {
    None,
    Some,
}

impl Supervisor {
    pub(super) fn new(
        control: Control,
        launch: &Launch,
        root: Root,
        input: Option<LiveInput>,
        streams: Streams,
    ) -> rustix::io::Result<Supervisor> {
        let timer_flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let supervisor = Supervisor {
            control,
            root,
            input,
            told_input: 0,
            terminal: None,
            streams,
            child_signal: child_signal_fd()?,
            deadline_timer: timerfd_create(TimerfdClockId::Boottime, timer_flags)?,
            deadline: launch.deadline,
            succession: None,
            group: launch.group.clone(),
            drain: launch.drain,
            exited_at: None,
            drain_until: None,
            kill_at: None,
            told_totals: (0, 0),
            told_at: None,
            buffer: vec![0; READ_BYTES].into_boxed_slice(),
        };
        supervisor.arm_deadline()?;
        Ok(supervisor)
    }

    /// From the start of the program to the end of the last process.
    pub(super) fn run(mut self) -> io::Result<()> {
        let pid = self.root.pid();
        self.control.report(&Report::Started { pid });
        let finish = loop {
            self.wait()?;
            let kill_requested = self.take_commands()?;
            self.receive_successor();
            self.enforce_timeout();
            self.pump();
            self.report_input();
            // In this order: a process hands its children on before it is over.
            self.observe_root();
            let orphans = self.reap_orphans();
            self.report_output();
            self.control.flush();
            if let Some(finish) = self.verdict(kill_requested, orphans) {
                break finish;
            }
        };
        self.end(finish);
        Ok(())
    }

    /// Looks whether the root is over and tells so at once.
    pub(super) fn observe_root(&mut self) {
        if self.root.observe() {
            self.root_is_over();
        }
    }

    fn root_is_over(&mut self) {
        let now = BootTime::now();
        self.exited_at = Some(now);
        self.drain_until = Some(now.plus(self.drain));
        if let Some(terminal) = &mut self.terminal {
            terminal.release();
            // Nobody types for whoever is left in front of it.
            self.input = None;
        }
        if let Some(status) = self.root.exit() {
            self.control.report(&Report::Exited(status));
        }
    }

    /// Reaps every orphan that has exited.
    pub(super) fn reap_orphans(&mut self) -> Orphans {
        loop {
            // The root is a child of the keeper thread and must stay; see `child::fork_root`.
            let only_own = if self.root.is_reaped() {
                0
            } else {
                libc::__WNOTHREAD
            };
            let mut status = 0;
            // SAFETY: the status is a valid place to write to.
            match unsafe { libc::waitpid(-1, &mut status, libc::WNOHANG | only_own) } {
                0 => return Orphans::Some,
                pid if pid > 0 => {
                    if pid == self.root.pid() && !self.root.is_reaped() {
                        self.root.was_reaped(status);
                        self.root_is_over();
                    }
                }
                _ => return Orphans::None,
            }
        }
    }

    /// Takes commands; tells whether a kill is among them.
    pub(super) fn take_commands(&mut self) -> io::Result<bool> {
        let mut kill_requested = false;
        while let Some(command) = self.control.receive::<Command>() {
            match command {
                Command::Extend { deadline } => {
                    self.deadline = deadline;
                    self.arm_deadline()?;
                }
                Command::Terminate { signal, grace_ms } => {
                    self.terminate(signal, Duration::from_millis(grace_ms));
                }
                Command::Kill => kill_requested = true,
                Command::Keep(kept) => {
                    if let Some(succession) = &mut self.succession {
                        succession.keep(kept);
                    }
                }
                Command::Signal { signal, root_only } => {
                    if root_only {
                        self.root.signal(signal.number());
                    } else {
                        self.root.signal_group(signal.number());
                    }
                }
                Command::Input { data, ends } => {
                    if let (Some(input), Some(data)) = (&mut self.input, from_hex(&data)) {
                        input.push(&data, ends);
                    }
                }
                Command::Resize(size) => {
                    if let Some(terminal) = &self.terminal {
                        // A terminal that nobody has any more keeps its size.
                        let _ = terminal.resize(size);
                    }
                }
            }
        }
        Ok(kill_requested)
    }

    /// Signals the tree; what is left of it after the grace is killed. Repeated, it can only bring the kill forward.
    pub(super) fn terminate(&mut self, signal: Signal, grace: Duration) {
        let kill_at = BootTime::now().plus(grace);
        self.kill_at = Some(self.kill_at.map_or(kill_at, |earlier| earlier.min(kill_at)));
        self.signal_tree(signal);
    }

    fn verdict(&self, kill_requested: bool, orphans: Orphans) -> Option<Finish> {
        let now = BootTime::now();
        if self.control.worker_is_gone() && !self.is_unattended() {
            return Some(Finish::WorkerGone);
        }
        if now >= self.deadline {
            return Some(Finish::DeadlinePassed);
        }
        if kill_requested || self.kill_at.is_some_and(|kill_at| now >= kill_at) {
            return Some(Finish::KillRequested);
        }
        let drain_until = self.drain_until?;
        let at_end = self.streams.stdout.at_end() && self.streams.stderr.at_end();
        // Whoever was asked to end has its grace, also where it outlives the root.
        let is_ending = self.kill_at.is_some() && orphans == Orphans::Some;
        ((at_end && !is_ending) || now >= drain_until).then_some(Finish::RootIsOver)
    }

    fn signal_tree(&self, signal: Signal) {
        let shim_pid = rustix::process::getpid().as_raw_nonzero().get();
        let root_group = self.root.pid();
        for number in [signal.number(), libc::SIGCONT] {
            self.root.signal_group(number);
            tree::visit_descendants(shim_pid, |pid, stat| {
                if stat.group != root_group {
                    tree::signal_verified(pid, number, || tree::is_descendant(shim_pid, pid));
                }
            });
        }
    }

    /// Tells how much of the live input was taken, once all that came is.
    fn report_input(&mut self) {
        let Some(input) = &mut self.input else {
            return;
        };
        input.pump();
        let total = input.taken();
        if input.pipe().is_none() && total != self.told_input {
            self.told_input = total;
            self.control.report(&Report::InputTaken { total });
        }
    }

    fn pump(&mut self) {
        for stream in [&mut self.streams.stdout, &mut self.streams.stderr] {
            for _ in 0..READS_IN_A_ROW {
                match stream.pump(&mut self.buffer) {
                    Pumped::Bytes(_) => {}
                    Pumped::NothingYet | Pumped::EndOfFile => break,
                }
            }
        }
    }

    /// Tells the totals: at once after a pause, else when the pause is over and the worker has taken the last ones.
    fn report_output(&mut self) {
        if self.output_due().is_some_and(|due| BootTime::now() >= due) {
            let totals @ (stdout_total, stderr_total) = self.totals();
            self.control.report(&Report::Output {
                stdout_total,
                stderr_total,
            });
            self.told_totals = totals;
            self.told_at = Some(BootTime::now());
        }
    }

    fn output_due(&self) -> Option<BootTime> {
        let is_due = self.totals() != self.told_totals && self.control.is_flushed();
        is_due.then(|| {
            self.told_at.map_or(BootTime::from_nanos(0), |told_at| {
                told_at.plus(OUTPUT_PAUSE)
            })
        })
    }

    pub(super) fn totals(&self) -> (u64, u64) {
        (self.streams.stdout.total(), self.streams.stderr.total())
    }

    fn wait(&self) -> io::Result<()> {
        let succession = self.succession.as_ref();
        let succession_wake =
            succession.and_then(|succession| succession.wakes_at(self.is_unattended()));
        let wakes = [
            self.kill_at,
            self.drain_until,
            self.output_due(),
            succession_wake,
        ];
        let next_wake = wakes.into_iter().flatten().min();
        let left = next_wake.map(|wake| timespec(wake.saturating_since(BootTime::now())));
        let readable = [
            Some(self.child_signal.as_fd()),
            Some(self.deadline_timer.as_fd()),
            self.root.exit_signal(),
            self.streams.stdout.pipe(),
            self.streams.stderr.pipe(),
        ];
        let mut fds: Vec<PollFd<'_>> = Vec::with_capacity(readable.len() + 2);
        fds.extend(
            readable
                .into_iter()
                .flatten()
                .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)),
        );
        fds.extend(
            [
                self.control.poll_interest(),
                succession.and_then(Succession::poll_interest),
            ]
            .into_iter()
            .flatten()
            .map(|(fd, wanted)| PollFd::from_borrowed_fd(fd, wanted)),
        );
        fds.extend(
            self.input
                .as_ref()
                .and_then(LiveInput::pipe)
                .map(|pipe| PollFd::from_borrowed_fd(pipe, PollFlags::OUT)),
        );
        match poll(&mut fds, left.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        forget_wakes(self.child_signal.as_fd());
        forget_wakes(self.deadline_timer.as_fd());
        Ok(())
    }

    fn arm_deadline(&self) -> rustix::io::Result<()> {
        // Zero would disarm the timer; an instant in the past fires at once.
        let instant = Duration::from_nanos(self.deadline.as_nanos().max(1));
        let never = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let once = Itimerspec {
            it_interval: never,
            it_value: timespec(instant),
        };
        timerfd_settime(&self.deadline_timer, TimerfdTimerFlags::ABSTIME, &once)?;
        Ok(())
    }
}

/// Makes the end of a child something to be read instead of something that interrupts. Before any child is forked.
pub(super) fn block_child_signal() -> rustix::io::Result<()> {
    let set = child_signal_set();
    // SAFETY: the set is initialised; the old one is not asked for.
    match unsafe { libc::sigprocmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(last_errno()),
    }
}

pub(super) fn timespec(duration: Duration) -> Timespec {
    let seconds = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    Timespec {
        tv_sec: seconds,
        tv_nsec: i64::from(duration.subsec_nanos()),
    }
}

/// Empties a signal or timer descriptor; what it was about is looked up, not taken from it.
pub(super) fn forget_wakes(fd: BorrowedFd<'_>) {
    let mut scratch = [0; 1024];
    while rustix::io::read(fd, &mut scratch).is_ok_and(|length| length == scratch.len()) {}
}

fn child_signal_fd() -> rustix::io::Result<OwnedFd> {
    let set = child_signal_set();
    // SAFETY: the set is initialised; the new descriptor belongs to nobody else.
    unsafe {
        match libc::signalfd(-1, &set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) {
            -1 => Err(last_errno()),
            fd => Ok(OwnedFd::from_raw_fd(fd)),
        }
    }
}

fn child_signal_set() -> libc::sigset_t {
    // SAFETY: sigemptyset initialises what zeroed only reserves.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, libc::SIGCHLD);
        set
    }
}

fn last_errno() -> Errno {
    Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO)
}
