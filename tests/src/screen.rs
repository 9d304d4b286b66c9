//! A terminal with a program in front of it: keys in, a screen out, and the modes that it leaves behind.

use std::os::fd::{AsFd, OwnedFd};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::io::{fcntl_dupfd_cloexec, read, write};
use rustix::process::Signal;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{LocalModes, OutputModes, Winsize, tcgetattr, tcsetwinsize};
use tokio::process::{Child, Command};

use crate::process::send;
use crate::wait::{SOON, eventually, until};

/// The terminal, and the program that it belongs to. Dropping it kills the program.
#[derive(Debug)]
pub struct Screen {
    master: OwnedFd,
    /// So that the terminal outlives the program.
    slave: OwnedFd,
    child: Child,
    shown: Arc<Mutex<Vec<u8>>>,
}

/// What a program may change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Modes {
    /// Echo, lines, signals and the like.
    pub local: LocalModes,
    /// What becomes of output.
    pub output: OutputModes,
}

impl Screen {
    #[expect(
        clippy::disallowed_methods,
        reason = "only the child can make a terminal its own, and this is no worker"
    )]
    /// Starts a program with a terminal of so many rows and columns as all of its standard streams.
    pub fn start(mut command: Command, size: (u16, u16)) -> Screen {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags).expect("a terminal");
        unlockpt(&master).expect("it can be opened");
        let slave = ioctl_tiocgptpeer(&master, flags).expect("its other side");
        resize(&master, size);
        let end = || Stdio::from(slave.try_clone().expect("a descriptor"));
        command.stdin(end()).stdout(end()).stderr(end());
        // SAFETY: both calls may be made between fork and exec.
        unsafe {
            command.pre_exec(|| {
                if libc::setsid() < 0 || libc::ioctl(0, libc::TIOCSCTTY, 0) < 0 {
                    return Err(std::io::Error::last_os_error());
                }
                Ok(())
            });
        }
        let child = command.spawn().expect("the program starts");
        let shown: Arc<Mutex<Vec<u8>>> = Arc::default();
        let sink = Arc::clone(&shown);
        let reader = fcntl_dupfd_cloexec(&master, 3).expect("a descriptor");
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // Until nobody has its other side any more.
            while let Ok(length @ 1..) = read(&reader, &mut buffer) {
                let mut sink = sink.lock().unwrap_or_else(PoisonError::into_inner);
                sink.extend_from_slice(&buffer[..length]);
            }
        });
        Screen {
            master,
            slave,
            child,
            shown,
        }
    }

    /// Types keys.
    pub fn type_keys(&self, mut keys: &[u8]) {
        while !keys.is_empty() {
            let length = write(&self.master, keys).expect("keys can be typed");
            keys = &keys[length..];
        }
    }

    /// Gives it another size.
    pub fn resize(&self, size: (u16, u16)) {
        resize(&self.master, size);
    }

    /// Everything that was shown so far.
    pub fn text(&self) -> String {
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&shown).into_owned()
    }

    /// Waits until it has shown `text`.
    pub async fn shows(&self, text: &str) {
        let waiting = until(text, SOON * 2, async || self.text().contains(text));
        if tokio::time::timeout(SOON, waiting).await.is_err() {
            panic!(
                "waited for {text:?} on the screen; it shows\n{}",
                self.text()
            );
        }
    }

    /// The modes as they are.
    pub fn modes(&self) -> Modes {
        let modes = tcgetattr(self.slave.as_fd()).expect("modes");
        Modes {
            local: modes.local_modes,
            output: modes.output_modes,
        }
    }

    /// Sends the program a signal.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = self.child.id() {
            send(pid, signal);
        }
    }

    /// Waits for the program's end.
    pub async fn ended(&mut self) -> ExitStatus {
        let shown = Arc::clone(&self.shown);
        let child = &mut self.child;
        let ended = eventually("the program to end", SOON * 2, async || {
            child.try_wait().expect("it can be waited for")
        });
        tokio::time::timeout(SOON, ended).await.unwrap_or_else(|_| {
            let shown = shown.lock().unwrap_or_else(PoisonError::into_inner);
            panic!("it goes on; it shows\n{}", String::from_utf8_lossy(&shown))
        })
    }
}

fn resize(terminal: &OwnedFd, (rows, columns): (u16, u16)) {
    let size = Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(terminal, size).expect("it takes a size");
}
