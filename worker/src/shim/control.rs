//! The shim's end of the control socket: it never waits for the worker.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{SendFlags, send};
use rustix::time::Timespec;
use serde::de::DeserializeOwned;

use super::message::{Inbox, MESSAGE_BYTES_MAX, Report, encode};
use crate::process::{LAUNCH_BYTES_MAX, Launch};

const READ_BYTES: usize = 16 * 1024;

/// The control socket. After the worker is gone it takes reports and drops them.
pub(super) struct Control {
    /// Closed when the worker is gone.
    socket: Option<OwnedFd>,
    inbox: Inbox,
    /// Reports that did not fit into the socket yet. Bounded, since output is reported only when this is empty, input once
    /// for each time that the worker sends some and waits, and everything else at most once.
    unsent: Vec<u8>,
}

impl Control {
    pub(super) fn new(socket: OwnedFd) -> rustix::io::Result<Control> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        Ok(Control {
            socket: Some(socket),
            inbox: Inbox::new(LAUNCH_BYTES_MAX),
            unsent: Vec::new(),
        })
    }

    /// No launch comes on this socket.
    pub(super) fn expect_commands(&mut self) {
        self.inbox.limit(MESSAGE_BYTES_MAX);
    }

    /// Waits for the first message. Nothing when the worker went away, made no sense or took too long.
    pub(super) fn receive_launch(&mut self, patience: Timespec) -> Option<Launch> {
        loop {
            if let Some(launch) = self.receive() {
                self.expect_commands();
                return Some(launch);
            }
            let socket = self.socket()?;
            match poll(&mut [PollFd::new(&socket, PollFlags::IN)], Some(&patience)) {
                Ok(0) => return None,
                Ok(_) | Err(Errno::INTR) => {}
                Err(_) => return None,
            }
        }
    }

    /// The next message that has arrived whole. Nothing else is read while one is waiting.
    pub(super) fn receive<M: DeserializeOwned>(&mut self) -> Option<M> {
        loop {
            match self.inbox.next() {
                Ok(Some(message)) => return Some(message),
                Ok(None) => {}
                // A worker that cannot be understood is as good as gone.
                Err(_) => self.socket = None,
            }
            let socket = self.socket.as_ref()?;
            let mut buffer = [0; READ_BYTES];
            match rustix::io::read(socket, &mut buffer) {
                Ok(0) => self.socket = None,
                Ok(length) => self.inbox.push(&buffer[..length]),
                Err(Errno::AGAIN) => return None,
                Err(Errno::INTR) => {}
                Err(_) => self.socket = None,
            }
        }
    }

    /// Queues a report and sends what can be sent.
    pub(super) fn report(&mut self, report: &Report) {
        // Reports are plain data and always encode.
        if let Ok(frame) = encode(report) {
            self.unsent.extend_from_slice(&frame);
        }
        self.flush();
    }

    pub(super) fn flush(&mut self) {
        while !self.unsent.is_empty() {
            let Some(socket) = &self.socket else {
                self.unsent.clear();
                return;
            };
            match send(
                socket,
                &self.unsent,
                SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
            ) {
                Ok(length) => drop(self.unsent.drain(..length)),
                Err(Errno::AGAIN) => return,
                Err(Errno::INTR) => {}
                Err(_) => self.socket = None,
            }
        }
    }

    pub(super) fn is_flushed(&self) -> bool {
        self.unsent.is_empty()
    }

    pub(super) fn worker_is_gone(&self) -> bool {
        self.socket.is_none()
    }

    /// The socket and what to wait for on it; nothing when the worker is gone.
    pub(super) fn poll_interest(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        let wanted = if self.unsent.is_empty() {
            PollFlags::IN
        } else {
            PollFlags::IN | PollFlags::OUT
        };
        self.socket().map(|socket| (socket, wanted))
    }

    fn socket(&self) -> Option<BorrowedFd<'_>> {
        self.socket.as_ref().map(AsFd::as_fd)
    }
}
