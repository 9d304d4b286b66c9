//! The handle on one shim and the process that it runs.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

use super::error::{CommandError, ProcessError, StartError};
use super::event::ProcessEvent;
use super::keeping::Kept;
use super::launch::{LAUNCH_BYTES_MAX, Launch, Stdin};
use super::leftovers::shim_marks;
use super::lost::{LostProcess, Remains};
use super::shebang;
use super::shim_handle::ShimHandle;
use super::signal::Signal;
use crate::boot_time::BootTime;
use crate::lease::TerminalSize;
use crate::shim::message::{
    Command, Inbox, MESSAGE_BYTES_MAX, Report, StartFailure, StartStep, encode, to_hex,
};

/// How long the shim may take from its start to the program's.
const START_BOUND: Duration = Duration::from_secs(30);
/// Commands that a shim has not taken yet, in bytes; beyond it the shim counts as frozen.
const UNSENT_BYTES_MAX: usize = 16 * 1024 + 2 * INPUT_BYTES_MAX;
/// Bytes of live input that may be written at once.
pub const INPUT_BYTES_MAX: usize = 16 * 1024;
const READ_BYTES: usize = 4096;
/// All that is in a shim's environment: has our allocator (mimalloc) take its memory page by page. By itself it asks for huge
/// pages, of which a shim fills several MiB with zeroes, to use a few dozen KiB.
const SMALL_HEAP: (&str, &str) = ("MIMALLOC_ARENA_EAGER_COMMIT", "0");

/// A running process and its shim. Dropping it kills the process's whole tree, unless it is kept ([`Process::keep`]).
#[derive(Debug)]
pub struct Process {
    pub(super) control: UnixStream,
    pub(super) inbox: Inbox,
    /// Commands that did not fit into the socket yet.
    pub(super) unsent: Mutex<Vec<u8>>,
    pub(super) shim: ShimHandle,
    pub(super) pid: u32,
    pub(super) events: VecDeque<ProcessEvent>,
    pub(super) lost: LostProcess,
    pub(super) phase: Phase,
}

/// A bug must not leave a process to run on without a lease.
impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // One that is gone is what was asked for.
            let _ = self.kill();
        }
    }
}

#[derive(Debug)]
pub(super) enum Phase {
    Running,
    /// The shim is gone; what it left is being killed.
    Clearing(JoinHandle<Remains>),
    Over,
}

impl Process {
    /// Starts the shim and, by it, the program; returns when the program was executed. `shim_program` is a program whose
    /// `main` calls [`crate::shim::main`] when its first argument is [`crate::shim::ARGUMENT`].
    ///
    /// # Errors
    /// Any [`StartError`] but [`StartError::GivenUp`]. Nothing of the process is left, whatever it did to its shim.
    pub async fn spawn(shim_program: &Path, launch: &Launch) -> Result<Process, StartError> {
        Process::spawn_unless(shim_program, launch, std::future::pending()).await
    }

    /// As [`Process::spawn`], until `given_up` comes. To be awaited to its end: dropped half-way it kills the shim and the
    /// root only.
    ///
    /// # Errors
    /// Any [`StartError`].
    pub async fn spawn_unless(
        shim_program: &Path,
        launch: &Launch,
        given_up: impl Future<Output = ()>,
    ) -> Result<Process, StartError> {
        launch.check()?;
        let frame = encode(launch).map_err(|error| StartError::ShimProtocol {
            what: error.to_string(),
        })?;
        if frame.len() > LAUNCH_BYTES_MAX {
            return Err(StartError::LaunchTooLarge {
                bytes: frame.len(),
                max: LAUNCH_BYTES_MAX,
            });
        }
        let (shim, control) = start_shim(shim_program, shim_marks(&launch.env)).await?;
        let mut process = Process {
            control,
            inbox: Inbox::new(MESSAGE_BYTES_MAX),
            unsent: Mutex::new(Vec::new()),
            shim: ShimHandle::Child(shim),
            pid: 0,
            events: VecDeque::new(),
            lost: LostProcess::of(&launch.env, launch.group.clone()),
            phase: Phase::Running,
        };
        let started = tokio::select! {
            started = process.start(launch, &frame) => started,
            () = tokio::time::sleep(START_BOUND) => Err(StartError::TimedOut(START_BOUND)),
            () = given_up => Err(StartError::GivenUp),
        };
        match started {
            Ok(()) => Ok(process),
            Err(error) => {
                if error.leaves_a_doubt() {
                    // The program may run, and be what silenced the shim.
                    process.clear_up();
                    let _ = process.next_event().await;
                }
                Err(error)
            }
        }
    }

    /// The root of the tree, its session and its process group.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The shim: the parent of the tree, and of every process that left its place in it.
    pub fn shim_pid(&self) -> Option<u32> {
        self.shim.pid()
    }

    /// The next event. It may be dropped at any time without losing one, so it suits `select!`.
    ///
    /// # Errors
    /// [`ProcessError::ShimLost`] in place of the end, after what was left of the process was killed (within 5 s);
    /// [`ProcessError::AlreadyEnded`] after the end.
    pub async fn next_event(&mut self) -> Result<ProcessEvent, ProcessError> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(event);
            }
            match &mut self.phase {
                Phase::Running => match self.next_report().await {
                    Ok(report) => self.accept(report),
                    Err(ReportError::Gone | ReportError::Protocol(_)) => self.clear_up(),
                },
                Phase::Clearing(clearing) => {
                    let remains = clearing.await.unwrap_or_default();
                    self.phase = Phase::Over;
                    return Err(ProcessError::ShimLost {
                        killed: remains.killed,
                        survivors: remains.survivors,
                    });
                }
                Phase::Over => return Err(ProcessError::AlreadyEnded),
            }
        }
    }

    /// Moves the instant at which the shim kills the tree by itself. The last call counts, earlier or later.
    pub fn extend(&self, deadline: BootTime) -> Result<(), CommandError> {
        self.tell(&Command::Extend { deadline })
    }

    /// Sends `signal` to every process of the tree and, when `grace` has passed, kills what is left of it, also where
    /// the root is gone by then. Repeated, it sends its signal again and can only bring the kill forward.
    pub fn terminate(&self, signal: Signal, grace: Duration) -> Result<(), CommandError> {
        let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        self.tell(&Command::Terminate { signal, grace_ms })
    }

    /// Lets a process that was launched with a [`super::Survival`] outlive this worker from now on, and says what its
    /// shim is to keep for the next boot.
    pub fn keep(&self, kept: Kept) -> Result<(), CommandError> {
        self.tell(&Command::Keep(kept))
    }

    /// Sends a signal to the root's process group, or to the root alone. That the process ends by it is no cancel.
    pub fn signal(&self, signal: Signal, root_only: bool) -> Result<(), CommandError> {
        self.tell(&Command::Signal { signal, root_only })
    }

    /// Brings at most [`INPUT_BYTES_MAX`] bytes to the standard input of a process that was launched with
    /// [`Stdin::Live`]; `ends`: and nothing more. Not again before [`ProcessEvent::InputTaken`] told that all is taken.
    pub fn write_input(&self, data: &[u8], ends: bool) -> Result<(), CommandError> {
        let data = to_hex(data);
        self.tell(&Command::Input { data, ends })
    }

    /// Gives the terminal of a process that was launched with one another size.
    pub fn resize(&self, size: TerminalSize) -> Result<(), CommandError> {
        self.tell(&Command::Resize(size))
    }

    /// Kills the whole tree at once.
    pub fn kill(&self) -> Result<(), CommandError> {
        self.tell(&Command::Kill)
    }

    /// The last resort against a shim that does nothing (frozen, or stuck in the kernel): kills the shim itself, with it
    /// the root, and lets [`Process::next_event`] search for the rest and answer [`ProcessError::ShimLost`].
    pub fn force_end(&mut self) {
        self.shim.kill();
        if let Phase::Running = self.phase {
            self.clear_up();
        }
    }

    async fn start(&mut self, launch: &Launch, frame: &[u8]) -> Result<(), StartError> {
        // A shim that failed early may have hung up before it read everything; its report tells why.
        let _ = self.control.write_all(frame).await;
        match self.next_report().await {
            Ok(Report::Started { pid }) => {
                self.pid = pid.unsigned_abs();
                self.lost.root = Some(pid);
                self.events
                    .push_back(ProcessEvent::Started { pid: self.pid });
                Ok(())
            }
            Ok(Report::StartFailed(failure)) => Err(start_error(launch, failure)),
            Ok(
                Report::Output { .. }
                | Report::InputTaken { .. }
                | Report::Exited(_)
                | Report::Ended(_)
                | Report::Attached(_),
            ) => Err(StartError::ShimProtocol {
                what: "events before the start".to_owned(),
            }),
            Err(ReportError::Gone) => Err(StartError::ShimGone),
            Err(ReportError::Protocol(what)) => Err(StartError::ShimProtocol { what }),
        }
    }

    fn accept(&mut self, report: Report) {
        match report {
            Report::Output {
                stdout_total,
                stderr_total,
            } => {
                self.events.push_back(ProcessEvent::Output {
                    stdout_total,
                    stderr_total,
                });
            }
            Report::InputTaken { total } => {
                self.events.push_back(ProcessEvent::InputTaken { total });
            }
            Report::Exited(status) => self.events.push_back(ProcessEvent::Exited(status)),
            Report::Ended(end) => {
                self.events.push_back(ProcessEvent::Ended(end));
                self.phase = Phase::Over;
            }
            // A second start makes no sense: such a shim is not trusted any further.
            Report::Started { .. } | Report::StartFailed(_) | Report::Attached(_) => {
                self.clear_up();
            }
        }
    }

    fn clear_up(&mut self) {
        self.shim.kill();
        let lost = self.lost.clone();
        self.phase = Phase::Clearing(tokio::task::spawn_blocking(move || lost.kill_remains()));
    }

    /// Everything that was received stays in the inbox when this is dropped while it waits.
    pub(super) async fn next_report(&mut self) -> Result<Report, ReportError> {
        loop {
            if let Some(report) = self
                .inbox
                .next()
                .map_err(|error| ReportError::Protocol(error.to_string()))?
            {
                return Ok(report);
            }
            let sending = self.flush_unsent();
            let interest = match sending {
                Sending::Done => tokio::io::Interest::READABLE,
                Sending::Blocked => tokio::io::Interest::READABLE | tokio::io::Interest::WRITABLE,
            };
            self.control
                .ready(interest)
                .await
                .map_err(|_| ReportError::Gone)?;
            let mut buffer = [0; READ_BYTES];
            match self.control.try_read(&mut buffer) {
                Ok(0) => return Err(ReportError::Gone),
                Ok(length) => self.inbox.push(&buffer[..length]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return Err(ReportError::Gone),
            }
        }
    }

    fn tell(&self, command: &Command) -> Result<(), CommandError> {
        if !matches!(self.phase, Phase::Running) {
            return Err(CommandError::Gone);
        }
        let Ok(frame) = encode(command) else {
            return Err(CommandError::Gone);
        };
        {
            let mut unsent = self.unsent.lock().unwrap_or_else(PoisonError::into_inner);
            if unsent.len() + frame.len() > UNSENT_BYTES_MAX {
                return Err(CommandError::ShimFrozen);
            }
            unsent.extend_from_slice(&frame);
        }
        self.flush_unsent();
        Ok(())
    }

    fn flush_unsent(&self) -> Sending {
        let mut unsent = self.unsent.lock().unwrap_or_else(PoisonError::into_inner);
        while !unsent.is_empty() {
            match self.control.try_write(&unsent) {
                Ok(length) => drop(unsent.drain(..length)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Sending::Blocked,
                // The reading side notices that the shim is gone and says so.
                Err(_) => unsent.clear(),
            }
        }
        Sending::Done
    }
}

enum Sending {
    Done,
    Blocked,
}

pub(super) enum ReportError {
    Gone,
    Protocol(String),
}

/// Starts the shim program with one end of a socket pair as its standard input. Nothing runs between fork and exec, so
/// the standard library uses `posix_spawn`, which is fast whatever the size of the worker.
async fn start_shim(
    shim_program: &Path,
    marks: Vec<String>,
) -> Result<(tokio::process::Child, UnixStream), StartError> {
    let program = shim_program.to_owned();
    let shim_error = |source| StartError::Shim {
        program: shim_program.to_owned(),
        source,
    };
    let spawning =
        tokio::task::spawn_blocking(move || -> io::Result<(tokio::process::Child, UnixStream)> {
            let (ours, theirs) = StdUnixStream::pair()?;
            ours.set_nonblocking(true)?;
            let control = UnixStream::from_std(ours)?;
            let shim = tokio::process::Command::new(program)
                .arg(crate::shim::ARGUMENT)
                .args(marks)
                .env_clear()
                .env(SMALL_HEAP.0, SMALL_HEAP.1)
                .process_group(0)
                .stdin(Stdio::from(OwnedFd::from(theirs)))
                .stdout(Stdio::null())
                .stderr(Stdio::inherit())
                .spawn()?;
            Ok((shim, control))
        });
    match spawning.await {
        Ok(spawned) => spawned.map_err(shim_error),
        Err(join_error) => Err(shim_error(io::Error::other(join_error))),
    }
}

fn start_error(launch: &Launch, failure: StartFailure) -> StartError {
    let source = io::Error::from_raw_os_error(failure.errno);
    let program = launch.argv.first().cloned().unwrap_or_default();
    let prepare = |step: &str, source| StartError::Prepare {
        step: step.to_owned(),
        source,
    };
    match failure.step {
        StartStep::Deadline => StartError::DeadlinePassed,
        StartStep::StdoutSpool => StartError::Spool {
            path: launch.stdout.path.clone(),
            source,
        },
        StartStep::StderrSpool => StartError::Spool {
            path: launch.stderr.path.clone(),
            source,
        },
        StartStep::Stdin => match &launch.stdin {
            Stdin::File(path) => StartError::StdinFile {
                path: path.clone(),
                source,
            },
            Stdin::Null | Stdin::Live => prepare("standard input", source),
        },
        StartStep::Descriptors => prepare("descriptors", source),
        StartStep::Terminal => prepare("terminal", source),
        StartStep::Fork => prepare("fork", source),
        StartStep::Session => prepare("session", source),
        StartStep::Group => StartError::Isolation {
            what: "its cgroup does not take the process",
            source,
        },
        StartStep::Isolation => StartError::Isolation {
            what: "the confinement cannot be put on",
            source,
        },
        StartStep::Nice => StartError::Nice { source },
        StartStep::Rlimit => StartError::Rlimit {
            name: launch
                .rlimits
                .get(usize::from(failure.index))
                .map_or("?", |limit| limit.resource.name())
                .to_owned(),
            source,
        },
        StartStep::Identity => StartError::Identity {
            uid: launch.identity.as_ref().map_or(0, |identity| identity.uid),
            source,
        },
        StartStep::WorkingDirectory => StartError::WorkingDirectory {
            path: launch.cwd.clone(),
            source,
        },
        StartStep::Interpreter => StartError::InterpreterNotFound { program },
        StartStep::Execute => match failure.errno {
            libc::ENOENT => StartError::ProgramNotFound { program },
            libc::EACCES => match shebang::unexecutable_interpreter(launch) {
                Some(interpreter) => StartError::InterpreterNotExecutable {
                    program,
                    interpreter,
                },
                None => StartError::ProgramNotExecutable { program },
            },
            libc::ENOEXEC => StartError::NotAnExecutableFormat { program },
            libc::E2BIG => StartError::ArgumentsTooLong,
            _ => StartError::Execute { program, source },
        },
    }
}
