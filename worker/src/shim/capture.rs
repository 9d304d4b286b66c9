//! One output pipe of the task, or its terminal, and the spool that it flows into.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;

use crate::mask::{MaskedStream, Masks};
use crate::output::spool::SpoolWriter;
use crate::process::{Capture, StreamEnd};

/// How much is read at once.
pub(super) const READ_BYTES: usize = 64 * 1024;

/// A stream being captured.
pub(super) struct StreamCapture {
    /// Closed at end of file.
    pipe: Option<OwnedFd>,
    spool: SpoolWriter,
    masking: Option<Masking>,
}

/// How a stream is masked before it reaches the spool, and with it the disk.
struct Masking {
    stream: MaskedStream,
    masked: Vec<u8>,
}

/// What one read found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pumped {
    Bytes(usize),
    NothingYet,
    EndOfFile,
}

impl StreamCapture {
    /// Totals count what is kept, so the stream as it is masked.
    pub(super) fn new(
        pipe: OwnedFd,
        spool: SpoolWriter,
        masks: &Masks,
    ) -> rustix::io::Result<StreamCapture> {
        rustix::io::ioctl_fionbio(&pipe, true)?;
        Ok(StreamCapture {
            pipe: Some(pipe),
            spool,
            masking: (!masks.is_empty()).then(|| Masking {
                stream: MaskedStream::new(masks),
                masked: Vec::new(),
            }),
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
                self.close();
                Pumped::EndOfFile
            }
            Ok(length) => {
                self.keep(&buffer[..length]);
                Pumped::Bytes(length)
            }
            Err(Errno::AGAIN | Errno::INTR) => Pumped::NothingYet,
            // A pipe gives no other error; a terminal gives EIO once all is read and nobody has it open.
            Err(_) => {
                self.close();
                Pumped::EndOfFile
            }
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        let Some(masking) = &mut self.masking else {
            self.spool.append(bytes);
            return;
        };
        masking.stream.push(bytes, &mut masking.masked);
        self.spool.append(&masking.masked);
        masking.masked.clear();
    }

    fn close(&mut self) {
        self.pipe = None;
        self.settle();
    }

    /// Nothing more will be read: what could have become a secret is none.
    fn settle(&mut self) {
        if let Some(masking) = &mut self.masking {
            masking.stream.finish(&mut masking.masked);
            self.spool.append(&masking.masked);
            masking.masked.clear();
        }
    }

    /// Takes what still lies in the pipe, after every known writer is gone, and stops at `bytes_max`, since an unknown
    /// writer might go on for ever. Nothing is read after that.
    pub(super) fn pump_rest(&mut self, buffer: &mut [u8], bytes_max: usize) {
        let mut taken = 0;
        while taken < bytes_max {
            match self.pump(buffer) {
                Pumped::Bytes(length) => taken += length,
                Pumped::NothingYet | Pumped::EndOfFile => break,
            }
        }
        self.settle();
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
