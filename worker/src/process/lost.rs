//! Clearing up after a shim that vanished: its root dies with it, but descendants that left the root's session may not.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

use super::leftovers::{LEASE_EPOCH, TASK_ID};
use crate::boot_time::BootTime;
use crate::isolation::cgroup;
use crate::shim::tree;

/// How long the search goes on.
const SEARCH_BOUND: Duration = Duration::from_secs(5);
const SEARCH_PAUSE: Duration = Duration::from_millis(5);
/// Variables that every process of a task inherits and that no other task shares in full.
const MARKER_NAMES: [&str; 2] = [TASK_ID, LEASE_EPOCH];

/// How the processes of a lost shim are recognised: by the session of the root, or by both markers in their environment.
/// A process that left the session and replaced its environment escapes.
#[derive(Debug, Clone)]
pub(super) struct LostProcess {
    pub(super) root: Option<i32>,
    /// `NAME=value` of each marker; empty unless all were set.
    markers: Vec<Vec<u8>>,
    /// The cgroup that nothing of it can have left.
    group: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Remains {
    pub(super) killed: u32,
    pub(super) survivors: u32,
}

impl LostProcess {
    pub(super) fn of(env: &[(String, String)], group: Option<PathBuf>) -> LostProcess {
        let marker = |wanted: &str| {
            let found = env.iter().rfind(|(name, _)| name == wanted);
            found.map(|(name, value)| format!("{name}={value}").into_bytes())
        };
        let markers: Option<Vec<Vec<u8>>> = MARKER_NAMES.into_iter().map(marker).collect();
        LostProcess {
            root: None,
            markers: markers.unwrap_or_default(),
            group,
        }
    }

    /// Kills until a search finds nothing, or for as long as the bound allows. It blocks.
    pub(super) fn kill_remains(&self) -> Remains {
        let end = BootTime::now().plus(SEARCH_BOUND);
        let mut killed = HashSet::new();
        loop {
            if let Some(group) = &self.group {
                cgroup::kill_group(group);
            }
            let mut living = 0;
            for pid in tree::all_pids() {
                if self.owns(pid) {
                    living += 1;
                    if tree::signal_verified(pid, libc::SIGKILL, || self.owns(pid)) {
                        killed.insert(pid);
                    }
                }
            }
            if living == 0 || BootTime::now() >= end {
                return Remains {
                    killed: u32::try_from(killed.len()).unwrap_or(u32::MAX),
                    survivors: living,
                };
            }
            std::thread::sleep(SEARCH_PAUSE);
        }
    }

    fn owns(&self, pid: i32) -> bool {
        let Some(stat) = tree::read_stat(pid) else {
            return false;
        };
        if !stat.alive {
            return false;
        }
        self.root == Some(stat.session) || self.is_marked(pid)
    }

    fn is_marked(&self, pid: i32) -> bool {
        if self.markers.is_empty() {
            return false;
        }
        let Ok(environ) = std::fs::read(format!("/proc/{pid}/environ")) else {
            return false;
        };
        self.markers.iter().all(|marker| {
            environ
                .split(|byte| *byte == 0)
                .any(|entry| entry == marker.as_slice())
        })
    }
}
