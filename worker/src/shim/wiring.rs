//! The standard descriptors of a root: the ends that it gets, and the ends that the shim keeps.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};

use super::input::LiveInput;
use super::message::{StartFailure, StartStep};
use super::terminal::Terminal;
use crate::lease::TerminalSize;
use crate::process::{Identity, Launch, Stdin};

/// Both sides, made before the fork.
pub(super) struct Wiring {
    /// Standard input, output and error.
    pub(super) theirs: [OwnedFd; 3],
    pub(super) ours: Ours,
}

/// What the shim keeps.
pub(super) struct Ours {
    pub(super) input: Option<LiveInput>,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
    pub(super) terminal: Option<Terminal>,
}

impl Wiring {
    /// Pipes, or one terminal for all three.
    pub(super) fn new(launch: &Launch) -> Result<Wiring, StartFailure> {
        match launch.terminal {
            Some(size) => Wiring::terminal(launch, size),
            None => Wiring::pipes(launch),
        }
    }

    fn pipes(launch: &Launch) -> Result<Wiring, StartFailure> {
        let open = |path| open_stdin(path).map_err(|error| stdin_failed(&error));
        let (stdin, input) = match &launch.stdin {
            Stdin::Null => (open(Path::new("/dev/null"))?.into(), None),
            Stdin::File(path) => (open(path)?.into(), None),
            Stdin::Live => {
                let (theirs, ours) = pipe()?;
                (theirs, Some(LiveInput::new(ours).map_err(no_descriptor)?))
            }
        };
        let (stdout, stdout_theirs) = pipe()?;
        let (stderr, stderr_theirs) = pipe()?;
        if let Some(identity) = &launch.identity {
            // So that it can open them by name as well, as /dev/stdout.
            let pipes = [&stdout_theirs, &stderr_theirs].into_iter();
            for pipe in pipes.chain(input.is_some().then_some(&stdin)) {
                hand_over(pipe, identity).map_err(no_descriptor)?;
            }
        }
        Ok(Wiring {
            theirs: [stdin, stdout_theirs, stderr_theirs],
            ours: Ours {
                input,
                stdout,
                stderr,
                terminal: None,
            },
        })
    }

    fn terminal(launch: &Launch, size: TerminalSize) -> Result<Wiring, StartFailure> {
        let failed = |errno: Errno| StartFailure::new(StartStep::Terminal, errno.raw_os_error());
        let terminal = Terminal::open(size).map_err(failed)?;
        let master = terminal.master().map_err(failed)?;
        let input = match &launch.stdin {
            Stdin::Null => LiveInput::typed(master, None),
            Stdin::File(path) => {
                let file = open_stdin(path).map_err(|error| stdin_failed(&error))?;
                LiveInput::typed(master, Some(file))
            }
            Stdin::Live => LiveInput::typed_live(master),
        };
        let slave = || {
            let slave = terminal.slave().ok_or(Errno::BADF)?;
            rustix::io::fcntl_dupfd_cloexec(slave, 3)
        };
        let theirs = [
            slave().map_err(failed)?,
            slave().map_err(failed)?,
            slave().map_err(failed)?,
        ];
        if let Some(identity) = &launch.identity {
            let uid = rustix::fs::Uid::from_raw(identity.uid);
            rustix::fs::fchown(&theirs[0], Some(uid), None).map_err(failed)?;
        }
        // At its end from the beginning: whoever wrote to it is dropped here.
        let (stderr, _) = pipe()?;
        Ok(Wiring {
            theirs,
            ours: Ours {
                input: Some(input.map_err(failed)?),
                stdout: terminal.master().map_err(failed)?,
                stderr,
                terminal: Some(terminal),
            },
        })
    }
}

fn pipe() -> Result<(OwnedFd, OwnedFd), StartFailure> {
    pipe_with(PipeFlags::CLOEXEC).map_err(no_descriptor)
}

/// Opens without waiting, which matters for a FIFO that nobody writes to, and refuses directories.
fn open_stdin(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)?;
    if file.metadata()?.is_dir() {
        return Err(io::Error::from_raw_os_error(libc::EISDIR));
    }
    rustix::io::ioctl_fionbio(&file, false)?;
    Ok(file)
}

fn hand_over(pipe: impl AsFd, identity: &Identity) -> rustix::io::Result<()> {
    let uid = rustix::fs::Uid::from_raw(identity.uid);
    let gid = rustix::fs::Gid::from_raw(identity.gid);
    rustix::fs::fchown(pipe, Some(uid), Some(gid))
}

fn stdin_failed(error: &io::Error) -> StartFailure {
    StartFailure::new(StartStep::Stdin, error.raw_os_error().unwrap_or(libc::EIO))
}

fn no_descriptor(errno: Errno) -> StartFailure {
    StartFailure::new(StartStep::Descriptors, errno.raw_os_error())
}
