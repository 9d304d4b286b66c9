//! The task's standard input where the shim brings it: a pipe or a terminal that is written to without ever waiting for its
//! reader.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;

use super::terminal::end_of_input;

/// What is read of a file at once, to be typed.
const FILE_PIECE_BYTES: usize = 4 * 1024;
/// Writes in a row, so that a long file cannot keep commands waiting.
const WRITES_IN_A_ROW: u32 = 16;

/// The writing end, and what did not fit into it yet. The worker sends no more before it was told that all is taken, and a
/// file is read piece by piece, so this is bounded by the largest message.
pub(super) struct LiveInput {
    /// Closed after the end of the input, or when nobody can read it any more.
    pipe: Option<OwnedFd>,
    pending: Vec<u8>,
    /// Read on when nothing is pending.
    file: Option<File>,
    ends: bool,
    end: End,
    /// Bytes that were written, or dropped for want of a reader.
    taken: u64,
}

/// How a reader is told of the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The pipe is closed.
    Closing,
    /// The end is typed; the last byte of the input so far decides how.
    Typing { last: Option<u8> },
    /// It is being typed, and counts as no input.
    Typed,
}

impl LiveInput {
    /// Into a pipe, what [`LiveInput::push`] brings.
    pub(super) fn new(pipe: OwnedFd) -> rustix::io::Result<LiveInput> {
        LiveInput::open(pipe, End::Closing)
    }

    /// Into a terminal, what [`LiveInput::push`] brings.
    pub(super) fn typed_live(master: OwnedFd) -> rustix::io::Result<LiveInput> {
        LiveInput::open(master, End::Typing { last: None })
    }

    /// Into a terminal, all of a file and the end, or the end at once.
    pub(super) fn typed(master: OwnedFd, file: Option<File>) -> rustix::io::Result<LiveInput> {
        let input = LiveInput::typed_live(master)?;
        Ok(LiveInput {
            ends: file.is_none(),
            file,
            ..input
        })
    }

    fn open(pipe: OwnedFd, end: End) -> rustix::io::Result<LiveInput> {
        rustix::io::ioctl_fionbio(&pipe, true)?;
        Ok(LiveInput {
            pipe: Some(pipe),
            pending: Vec::new(),
            file: None,
            ends: false,
            end,
            taken: 0,
        })
    }

    /// Adds bytes, and the end if `ends`.
    pub(super) fn push(&mut self, data: &[u8], ends: bool) {
        if self.file.is_none() && !self.ends {
            self.pending.extend_from_slice(data);
            self.ends = ends;
        }
    }

    /// The pipe to wait on; nothing while there is nothing to write.
    pub(super) fn pipe(&self) -> Option<BorrowedFd<'_>> {
        let has_more = !self.pending.is_empty() || self.file.is_some() || self.ends;
        let pipe = self.pipe.as_ref().filter(|_| has_more);
        pipe.map(AsFd::as_fd)
    }

    pub(super) fn taken(&self) -> u64 {
        self.taken
    }

    /// Writes what fits.
    pub(super) fn pump(&mut self) {
        for _ in 0..WRITES_IN_A_ROW {
            self.refill();
            let Some(pipe) = self.pipe.as_ref().filter(|_| !self.pending.is_empty()) else {
                break;
            };
            match rustix::io::write(pipe, &self.pending) {
                Ok(length) => {
                    let last = length.checked_sub(1).and_then(|at| self.pending.get(at));
                    if let (End::Typing { last: known }, Some(last)) = (&mut self.end, last) {
                        *known = Some(*last);
                    }
                    self.pending.drain(..length);
                    self.count(length);
                }
                Err(Errno::AGAIN) => return,
                Err(Errno::INTR) => {}
                // All readers have closed it: what comes is dropped, as a shell would be told by a signal.
                Err(_) => self.pipe = None,
            }
        }
        if self.pipe.is_none() {
            self.count(self.pending.len());
            self.pending.clear();
            self.file = None;
        }
    }

    /// What comes after all that is pending: more of the file, or the end.
    fn refill(&mut self) {
        if !self.pending.is_empty() {
            return;
        }
        if let Some(file) = &mut self.file {
            let mut piece = [0; FILE_PIECE_BYTES];
            match file.read(&mut piece) {
                Ok(length) if length > 0 => {
                    self.pending.extend_from_slice(&piece[..length]);
                    return;
                }
                // One that cannot be read any further ends there.
                Ok(_) | Err(_) => {
                    self.file = None;
                    self.ends = true;
                }
            }
        }
        if !self.ends {
            return;
        }
        match (self.end, &self.pipe) {
            (End::Typing { last }, Some(terminal)) => {
                self.pending = end_of_input(terminal.as_fd(), last);
                self.end = End::Typed;
            }
            (End::Typing { .. }, None) | (End::Closing | End::Typed, _) => self.pipe = None,
        }
    }

    fn count(&mut self, length: usize) {
        match self.end {
            End::Closing | End::Typing { .. } => self.taken += length as u64,
            End::Typed => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shim::terminal::Terminal;
    use rustix::pipe::pipe;

    #[test]
    fn a_reader_that_takes_nothing_is_never_waited_for() {
        let (reader, writer) = pipe().expect("a pipe");
        let mut input = LiveInput::new(writer).expect("not waiting");
        let bytes: Vec<u8> = (0..=255).cycle().take(200_000).collect();
        input.push(&bytes, true);
        input.pump();
        assert!(input.pipe().is_some() && input.taken() < 200_000);
        let mut read = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            input.pump();
            match rustix::io::read(&reader, &mut buffer).expect("readable") {
                0 => break,
                length => read.extend_from_slice(&buffer[..length]),
            }
        }
        assert_eq!(read, bytes);
        assert_eq!(input.taken(), 200_000);
    }

    #[test]
    fn what_nobody_can_read_is_dropped() {
        // The tests' runtime ignores SIGPIPE, as the shim does.
        let (reader, writer) = pipe().expect("a pipe");
        let mut input = LiveInput::new(writer).expect("not waiting");
        drop(reader);
        input.push(b"lost", false);
        input.pump();
        input.push(b"too", false);
        input.pump();
        assert_eq!(input.taken(), 7);
        assert!(input.pipe().is_none());
    }

    #[test]
    fn a_terminal_gets_the_end_typed_and_it_is_no_input() {
        let size = crate::lease::TerminalSize {
            rows: 24,
            columns: 80,
        };
        let terminal = Terminal::open(size).expect("a terminal");
        let master = terminal.master().expect("a descriptor");
        let mut input = LiveInput::typed_live(master).expect("not waiting");
        input.push(b"one\ntwo", true);
        while input.pipe().is_some() {
            input.pump();
        }
        assert_eq!(input.taken(), 7);
        let slave = terminal.slave().expect("held");
        let mut buffer = [0; 64];
        for expected in [&b"one\n"[..], b"two", b""] {
            let length = rustix::io::read(slave, &mut buffer).expect("readable");
            assert_eq!(&buffer[..length], expected);
        }
    }

    #[test]
    fn a_file_is_typed_piece_by_piece() {
        let mut file = tempfile::tempfile().expect("a file");
        let line = [b'x'; 99];
        for _ in 0..1_000 {
            std::io::Write::write_all(&mut file, &[&line[..], b"\n"].concat()).expect("written");
        }
        std::io::Seek::rewind(&mut file).expect("at its start");
        let size = crate::lease::TerminalSize {
            rows: 24,
            columns: 80,
        };
        let terminal = Terminal::open(size).expect("a terminal");
        let slave = terminal.slave().expect("held");
        let mut modes = rustix::termios::tcgetattr(slave).expect("a terminal");
        // Nobody reads what it would echo.
        modes.local_modes -= rustix::termios::LocalModes::ECHO;
        let now = rustix::termios::OptionalActions::Now;
        rustix::termios::tcsetattr(slave, now, &modes).expect("a terminal");
        let master = terminal.master().expect("a descriptor");
        let mut input = LiveInput::typed(master, Some(file)).expect("not waiting");
        let mut n_lines = 0;
        let mut buffer = [0; 256];
        loop {
            input.pump();
            match rustix::io::read(slave, &mut buffer).expect("readable") {
                0 => break,
                length => {
                    assert_eq!(&buffer[..length], [&line[..], b"\n"].concat());
                    n_lines += 1;
                }
            }
        }
        assert_eq!(n_lines, 1_000);
    }
}
