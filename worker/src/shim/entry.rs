//! From the first instruction to the started root.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{
    DumpableBehavior, Signal, set_child_subreaper, set_dumpable_behavior,
    set_parent_process_death_signal,
};
use rustix::time::Timespec;

use super::capture::StreamCapture;
use super::child::{Forked, fork_root, read_failure};
use super::control::Control;
use super::input::LiveInput;
use super::message::{Report, StartFailure, StartStep};
use super::root::Root;
use super::successor::Succession;
use super::supervise::{self, Streams, Supervisor, timespec};
use super::terminal::Terminal;
use crate::boot_time::BootTime;
use crate::mask::Masks;
use crate::output::spool::{SpoolLayout, SpoolWriter};
use crate::process::{Launch, SpoolSpec};

/// The first argument that makes a binary the shim.
pub const ARGUMENT: &str = "__shim";

/// How long the worker may take to send the launch.
const LAUNCH_PATIENCE: Timespec = Timespec {
    tv_sec: 30,
    tv_nsec: 0,
};

/// Runs the shim to its end. A binary that starts processes calls this before anything else when its first argument is
/// [`ARGUMENT`].
pub fn main() -> ! {
    let code = match run() {
        Ok(()) => 0,
        Err(error) => {
            // The worker notices the end of the socket; this is for the reader of its log.
            eprintln!("taskyard shim: {error}");
            1
        }
    };
    std::process::exit(code)
}

fn run() -> io::Result<()> {
    let mut control = Control::new(isolate()?)?;
    let Some(launch) = control.receive_launch(LAUNCH_PATIENCE) else {
        return Ok(());
    };
    let succession = match launch.survival.as_ref().map(Succession::open).transpose() {
        Ok(succession) => succession,
        Err(error) => {
            let errno = error.raw_os_error().unwrap_or(libc::EIO);
            let failure = StartFailure::new(StartStep::Descriptors, errno);
            control.report(&Report::StartFailed(failure));
            return Ok(());
        }
    };
    match start(&launch, &control) {
        Ok(Some(Started {
            root,
            input,
            terminal,
            streams,
        })) => {
            let mut supervisor = Supervisor::new(control, &launch, root, input, streams)?;
            supervisor.terminal = terminal;
            supervisor.succession = succession;
            supervisor.run()
        }
        Ok(None) => Ok(()),
        Err(failure) => {
            control.report(&Report::StartFailed(failure));
            Ok(())
        }
    }
}

/// Lets go of all that was inherited and takes the control socket from standard input.
fn isolate() -> io::Result<OwnedFd> {
    // SAFETY: nothing of this process owns a descriptor beyond the standard ones yet.
    unsafe { libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, 0) };
    let control = rustix::io::fcntl_dupfd_cloexec(io::stdin(), 3)?;
    let null = std::fs::File::open("/dev/null")?;
    // SAFETY: nobody in this process owns standard input.
    if unsafe { libc::dup2(null.as_raw_fd(), 0) } < 0 {
        return Err(io::Error::last_os_error());
    }
    for signal in [
        libc::SIGHUP,
        libc::SIGINT,
        libc::SIGQUIT,
        libc::SIGTERM,
        libc::SIGUSR1,
        libc::SIGUSR2,
        libc::SIGTSTP,
        libc::SIGTTIN,
        libc::SIGTTOU,
        libc::SIGPIPE,
    ] {
        // SAFETY: ignoring a signal runs no code.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
    leave_session();
    // Its own work can freeze this process; the worker's end wakes it, so that it ends the work. The signal comes also
    // when the thread that started it ends, and does nothing then; it stays set while another thread is the parent.
    set_parent_process_death_signal(Some(Signal::CONT))?;
    set_child_subreaper(Some(rustix::process::getpid()))?;
    // The launch holds secrets: no other process of this user may look into this one. It ends at the program's exec.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    rustix::thread::set_name(c"taskyard-shim")?;
    Ok(control)
}

/// Leaves the terminal of the worker, whose signals are not meant for the work. The worker made this process the leader
/// of a group, so that no signal reached it before it ignored them; a leader can leave its session only from another
/// group. Where the worker is gone already, or its group is 0 because it lies outside of our process namespace (which
/// rustix does not bear), this process stays; all signals of terminals are ignored in any case.
fn leave_session() {
    // SAFETY: these calls touch no memory.
    let has_left_group = unsafe {
        let group = libc::getpgid(libc::getppid());
        group > 0 && libc::setpgid(0, group) == 0
    };
    if has_left_group {
        let _ = rustix::process::setsid();
    }
}

/// What there is once the program was executed.
struct Started {
    root: Root,
    input: Option<LiveInput>,
    terminal: Option<Terminal>,
    streams: Streams,
}

/// Starts the root and waits until its program was executed. Nothing when the worker went away first; the root is killed
/// then, as it is when the deadline passes.
fn start(launch: &Launch, control: &Control) -> Result<Option<Started>, StartFailure> {
    let stdout_spool = create_spool(&launch.stdout, StartStep::StdoutSpool)?;
    let stderr_spool = create_spool(&launch.stderr, StartStep::StderrSpool)?;
    let too_late = StartFailure::new(StartStep::Deadline, libc::ETIMEDOUT);
    if BootTime::now() >= launch.deadline {
        return Err(too_late);
    }
    let descriptors =
        |errno: Errno| StartFailure::new(StartStep::Descriptors, errno.raw_os_error());
    supervise::block_child_signal().map_err(descriptors)?;
    let Forked { pid, verdict, ours } = fork_root(launch)?;
    let root = Root::new(pid).map_err(descriptors)?;
    let waited = wait_for_verdict(&verdict, control, launch.deadline);
    if waited != Waited::Verdict {
        root.kill_group();
        root.kill();
    }
    match waited {
        Waited::Verdict => {}
        Waited::WorkerGone => return Ok(None),
        Waited::DeadlinePassed => return Err(too_late),
    }
    if let Some(failure) = read_failure(&verdict) {
        return Err(failure);
    }
    // After the fork, so that the program does not wait for it; what it writes meanwhile waits in the pipes.
    let masks = Masks::new(&printed(&launch.secrets, ours.terminal.is_some()));
    let stdout = StreamCapture::new(ours.stdout, stdout_spool, &masks).map_err(descriptors)?;
    let stderr = StreamCapture::new(ours.stderr, stderr_spool, &masks).map_err(descriptors)?;
    Ok(Some(Started {
        root,
        input: ours.input,
        terminal: ours.terminal,
        streams: Streams { stdout, stderr },
    }))
}

/// Secrets as they may come out: a terminal gives a carriage return out before each line feed.
fn printed(secrets: &[Vec<u8>], is_terminal: bool) -> Vec<Vec<u8>> {
    let lines = |secret: &Vec<u8>| {
        let lines: Vec<&[u8]> = secret.split(|byte| *byte == b'\n').collect();
        (is_terminal && lines.len() > 1).then(|| lines.join(&b"\r\n"[..]))
    };
    let by_terminal: Vec<Vec<u8>> = secrets.iter().filter_map(lines).collect();
    [secrets, &by_terminal].concat()
}

fn create_spool(spec: &SpoolSpec, step: StartStep) -> Result<SpoolWriter, StartFailure> {
    let layout = SpoolLayout {
        head_cap: spec.head_cap,
        tail_cap: spec.tail_cap,
    };
    SpoolWriter::create(&spec.path, layout)
        .map_err(|error| StartFailure::new(step, error.raw_os_error().unwrap_or(libc::EIO)))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waited {
    Verdict,
    WorkerGone,
    DeadlinePassed,
}

fn wait_for_verdict(verdict: &OwnedFd, control: &Control, deadline: BootTime) -> Waited {
    loop {
        let left = deadline.saturating_since(BootTime::now());
        if left.is_zero() {
            return Waited::DeadlinePassed;
        }
        let Some((socket, _)) = control.poll_interest() else {
            return Waited::WorkerGone;
        };
        // Without wanted events the socket wakes us only when the worker has hung up.
        let mut fds = [
            PollFd::from_borrowed_fd(verdict.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(socket, PollFlags::empty()),
        ];
        match poll(&mut fds, Some(&timespec(left))) {
            Ok(_) if !fds[0].revents().is_empty() => return Waited::Verdict,
            Ok(_) if !fds[1].revents().is_empty() => return Waited::WorkerGone,
            Ok(_) | Err(Errno::INTR) => {}
            // It does not fail on open descriptors; if it does, there is nothing to supervise with.
            Err(_) => return Waited::WorkerGone,
        }
    }
}
