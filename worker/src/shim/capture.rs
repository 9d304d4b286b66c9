//! One output pipe of the task and the spool that it flows into.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;

use crate::output::spool::SpoolWriter;
use crate::process::{Capture, StreamEnd};

/// How much is read at once.
pub(super) const READ_BYTES: usize = 64 * 1024;

/// A stream being captured.
pub(super) struct StreamCapture {
    /// Closed at end of file.
    pipe: Option<OwnedFd>,
    spool: SpoolWriter,
}

/// What one read found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pumped {
    Bytes(usize),
    NothingYet,
    EndOfFile,
}

impl StreamCapture {
    pub(super) fn new(pipe: OwnedFd, spool: SpoolWriter) -> rustix::io::Result<StreamCapture> {
        rustix::io::ioctl_fionbio(&pipe, true)?;
        Ok(StreamCapture {
            pipe: Some(pipe),
            spool,
        })
    }

    /// The pipe to wait on; nothing after end of file.
    pub(super) fn pipe(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(AsFd::as_fd)
    }

    pub(super) fn total(&self) -> u64 {
        self.spool.total()
    }

    pub(super) fn at_end(&self) -> bool {
        self.pipe.is_none()
    }

    /// Moves what one read gives from the pipe to the spool.
    pub(super) fn pump(&mut self, buffer: &mut [u8]) -> Pumped {
        let Some(pipe) = &self.pipe else {
            return Pumped::EndOfFile;
        };
        match rustix::io::read(pipe, &mut *buffer) {
            Ok(0) => {
                self.pipe = None;
                Pumped::EndOfFile
            }
            Ok(length) => {
                self.spool.append(&buffer[..length]);
                Pumped::Bytes(length)
            }
            Err(Errno::AGAIN | Errno::INTR) => Pumped::NothingYet,
            // A pipe gives no other error; were there one, no byte would follow it.
            Err(_) => {
                self.pipe = None;
                Pumped::EndOfFile
            }
        }
    }

    /// Takes what still lies in the pipe, after every known writer is gone, and stops at `bytes_max`, since an unknown
    /// writer might go on for ever.
    pub(super) fn pump_rest(&mut self, buffer: &mut [u8], bytes_max: usize) {
        let mut taken = 0;
        while taken < bytes_max {
            match self.pump(buffer) {
                Pumped::Bytes(length) => taken += length,
                Pumped::NothingYet | Pumped::EndOfFile => return,
            }
        }
    }

    /// The stream's last words. `was_held`: the root's exit and the drain were over before end of file came.
    pub(super) fn end(&self, was_held: bool) -> StreamEnd {
        let capture = match (self.at_end(), was_held) {
            (true, false) => Capture::Drained,
            (true, true) => Capture::Leaked,
            (false, _) => Capture::Abandoned,
        };
        StreamEnd {
            total: self.total(),
            capture,
            spool_failure: self.spool.failure(),
        }
    }
}
