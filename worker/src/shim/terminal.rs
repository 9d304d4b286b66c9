//! The task's terminal: the end that the shim keeps, its size, and how the end of the input is typed.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::fcntl_dupfd_cloexec;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{
    InputModes, LocalModes, OptionalActions, SpecialCodeIndex, Winsize, tcgetattr, tcsetattr,
    tcsetwinsize,
};

use crate::lease::TerminalSize;

/// What ends a file where the terminal says nothing else: ^D.
const END_OF_FILE: u8 = 4;
/// Descriptors above the standard ones.
const DESCRIPTOR_MIN: i32 = 3;

/// The shim's side. Closing all of it hangs the terminal up.
pub(super) struct Terminal {
    master: OwnedFd,
    /// The other side, held for as long as the root lives: while nobody has it open the reader sees an end, and a root that
    /// has closed its standard descriptors may open its terminal again.
    held: Option<OwnedFd>,
}

impl Terminal {
    /// A new terminal of this size, nobody's yet.
    pub(super) fn open(size: TerminalSize) -> rustix::io::Result<Terminal> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags)?;
        unlockpt(&master)?;
        let slave = ioctl_tiocgptpeer(&master, flags)?;
        let mut modes = tcgetattr(&slave)?;
        modes.input_modes |= InputModes::IUTF8;
        tcsetattr(&slave, OptionalActions::Now, &modes)?;
        let terminal = Terminal {
            master,
            held: Some(slave),
        };
        terminal.resize(size)?;
        Ok(terminal)
    }

    /// The shim's side once more.
    pub(super) fn master(&self) -> rustix::io::Result<OwnedFd> {
        fcntl_dupfd_cloexec(&self.master, DESCRIPTOR_MIN)
    }

    /// The side of the work, until [`Terminal::release`].
    pub(super) fn slave(&self) -> Option<BorrowedFd<'_>> {
        self.held.as_ref().map(AsFd::as_fd)
    }

    /// The kernel tells the processes in front of it, if it is another size.
    pub(super) fn resize(&self, size: TerminalSize) -> rustix::io::Result<()> {
        let size = Winsize {
            ws_row: size.rows,
            ws_col: size.columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&self.master, size)
    }

    /// The root is over: from now on reading ends once nobody has the terminal open.
    pub(super) fn release(&mut self) {
        self.held = None;
    }
}

/// What is to be typed so that a reader sees the end of the input. A terminal that collects lines hands an unfinished one
/// over first, and so needs it twice. A program that reads single keys gets one.
pub(super) fn end_of_input(master: BorrowedFd<'_>, last: Option<u8>) -> Vec<u8> {
    let Ok(modes) = tcgetattr(master) else {
        return vec![END_OF_FILE];
    };
    let end = match modes.special_codes[SpecialCodeIndex::VEOF] {
        0 => END_OF_FILE,
        end => end,
    };
    let is_line_begun = last.is_some_and(|last| ![b'\n', b'\r', end].contains(&last));
    if is_line_begun && modes.local_modes.contains(LocalModes::ICANON) {
        vec![end; 2]
    } else {
        vec![end]
    }
}
