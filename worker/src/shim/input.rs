//! The task's standard input where it comes live: a pipe that is written to without ever waiting for its reader.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;

/// The writing end, and what did not fit into the pipe yet. The worker sends no more before it was told that all is taken,
/// so this is bounded by the largest message.
pub(super) struct LiveInput {
    /// Closed after the end of the input, or when nobody can read it any more.
    pipe: Option<OwnedFd>,
    pending: Vec<u8>,
    ends: bool,
    /// Bytes that were written, or dropped for want of a reader.
    taken: u64,
}

impl LiveInput {
    pub(super) fn new(pipe: OwnedFd) -> rustix::io::Result<LiveInput> {
        rustix::io::ioctl_fionbio(&pipe, true)?;
        Ok(LiveInput {
            pipe: Some(pipe),
            pending: Vec::new(),
            ends: false,
            taken: 0,
        })
    }

    /// Adds bytes, and the end if `ends`.
    pub(super) fn push(&mut self, data: &[u8], ends: bool) {
        self.pending.extend_from_slice(data);
        self.ends |= ends;
    }

    /// The pipe to wait on; nothing while there is nothing to write.
    pub(super) fn pipe(&self) -> Option<BorrowedFd<'_>> {
        let pipe = self.pipe.as_ref().filter(|_| !self.pending.is_empty());
        pipe.map(AsFd::as_fd)
    }

    pub(super) fn taken(&self) -> u64 {
        self.taken
    }

    /// Writes what fits.
    pub(super) fn pump(&mut self) {
        while let (Some(pipe), false) = (&self.pipe, self.pending.is_empty()) {
            match rustix::io::write(pipe, &self.pending) {
                Ok(length) => {
                    self.pending.drain(..length);
                    self.taken += length as u64;
                }
                Err(Errno::AGAIN) => return,
                Err(Errno::INTR) => {}
                // All readers have closed it: what comes is dropped, as a shell would be told by a signal.
                Err(_) => self.pipe = None,
            }
        }
        if self.pipe.is_none() {
            self.taken += self.pending.len() as u64;
            self.pending.clear();
        }
        if self.ends && self.pending.is_empty() {
            self.pipe = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
}
