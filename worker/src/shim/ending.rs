//! The end of a tree: kill what is left, take the last bytes, say how it was, and see that it is heard.

use std::collections::HashSet;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};

use super::message::Report;
use super::supervise::{Finish, Orphans, Supervisor, forget_wakes, timespec};
use super::tree;
use crate::boot_time::BootTime;
use crate::isolation::cgroup;
use crate::process::ProcessEnd;

/// How long a tree may resist being killed before it counts as unkillable.
const SWEEP_BOUND: Duration = Duration::from_secs(5);
const SWEEP_PAUSE_MIN: Duration = Duration::from_millis(1);
const SWEEP_PAUSE_MAX: Duration = Duration::from_millis(20);
/// What is still taken from one pipe after the sweep: more than a pipe can hold by default.
const REST_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How long the last words wait for a worker whose deadline has passed.
const LINGER_MIN: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
struct Swept {
    killed: u32,
    unkillable: u32,
}

impl Supervisor {
    pub(super) fn end(mut self, finish: Finish) {
        let root_was_over = self.root.is_over();
        let held = |at_end: bool| root_was_over && !at_end;
        let stdout_was_held = held(self.streams.stdout.at_end());
        let stderr_was_held = held(self.streams.stderr.at_end());

        let mut swept = self.sweep();
        self.streams
            .stdout
            .pump_rest(&mut self.buffer, REST_BYTES_MAX);
        self.streams
            .stderr
            .pump_rest(&mut self.buffer, REST_BYTES_MAX);
        self.root.reap();
        if swept.unkillable == 0 {
            // Nothing is left by the books of the main thread; now that the root is reaped, ask for the whole shim.
            let late = self.sweep();
            swept.killed += late.killed;
            swept.unkillable = late.unkillable;
        }
        if finish == Finish::WorkerGone {
            return;
        }

        let usage = Usage::of_children();
        let end = ProcessEnd {
            exit: self.root.exit(),
            stdout: self.streams.stdout.end(stdout_was_held),
            stderr: self.streams.stderr.end(stderr_was_held),
            leftover_killed: if root_was_over { swept.killed } else { 0 },
            unkillable: swept.unkillable,
            cpu_ms: usage.cpu_ms,
            max_rss_bytes: usage.max_rss_bytes,
            deadline_exceeded: finish == Finish::DeadlinePassed && !root_was_over,
        };
        self.leave_last_words(&end);
        self.control.report(&Report::Ended(end));
        self.linger();
    }

    /// Kills until nothing is left. No descendant can leave, since orphans become children of the shim: when there is no
    /// child left there is nothing left. The root's group is killed in one step, others as soon as they are seen.
    fn sweep(&mut self) -> Swept {
        let shim_pid = rustix::process::getpid().as_raw_nonzero().get();
        let end = BootTime::now().plus(SWEEP_BOUND);
        let mut seen = HashSet::new();
        let mut pause = SWEEP_PAUSE_MIN;
        loop {
            self.observe_root();
            let orphans = self.reap_orphans();
            if self.root.is_over() && orphans == Orphans::None {
                return Swept {
                    killed: count(seen.len()),
                    unkillable: 0,
                };
            }
            let mut living = 0;
            let mut is_new = false;
            tree::visit_descendants(shim_pid, |pid, _| {
                living += 1;
                is_new |= seen.insert(pid);
                tree::signal_verified(pid, libc::SIGKILL, || tree::is_descendant(shim_pid, pid));
            });
            // After the count, which is of those that were still alive.
            if let Some(group) = &self.group {
                cgroup::kill_group(group);
            }
            self.root.kill_group();
            if BootTime::now() >= end {
                return Swept {
                    killed: count(seen.len()),
                    unkillable: living,
                };
            }
            if is_new {
                pause = SWEEP_PAUSE_MIN;
            } else {
                self.wait_for_child(pause);
                pause = SWEEP_PAUSE_MAX.min(pause * 2);
            }
        }
    }

    fn wait_for_child(&self, pause: Duration) {
        let mut fds = [PollFd::from_borrowed_fd(
            self.child_signal.as_fd(),
            PollFlags::IN,
        )];
        let _ = poll(&mut fds, Some(&timespec(pause)));
        forget_wakes(self.child_signal.as_fd());
    }

    /// Stays until the worker has taken the last words, is gone, or has let the deadline pass.
    fn linger(&mut self) {
        let least = BootTime::now().plus(LINGER_MIN);
        loop {
            self.control.flush();
            let left = self.deadline.max(least).saturating_since(BootTime::now());
            if self.control.is_flushed() || left.is_zero() {
                return;
            }
            let Some((socket, wanted)) = self.control.poll_interest() else {
                return;
            };
            let _ = poll(
                &mut [PollFd::from_borrowed_fd(socket, wanted)],
                Some(&timespec(left)),
            );
            // Only an extension still means something.
            if self.take_commands().is_err() {
                return;
            }
        }
    }
}

struct Usage {
    cpu_ms: u64,
    max_rss_bytes: u64,
}

impl Usage {
    /// Of all children that were reaped, with those that they had reaped themselves.
    fn of_children() -> Usage {
        // SAFETY: the structure is plain data that the call fills.
        let usage = unsafe {
            let mut usage: libc::rusage = std::mem::zeroed();
            libc::getrusage(libc::RUSAGE_CHILDREN, &mut usage);
            usage
        };
        let millis = |time: libc::timeval| {
            u64::try_from(time.tv_sec).unwrap_or(0) * 1000
                + u64::try_from(time.tv_usec).unwrap_or(0) / 1000
        };
        Usage {
            cpu_ms: millis(usage.ru_utime) + millis(usage.ru_stime),
            max_rss_bytes: u64::try_from(usage.ru_maxrss).unwrap_or(0) * 1024,
        }
    }
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
