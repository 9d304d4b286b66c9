//! Clearing up after an earlier boot: runs whose shims did not end them, because they were frozen when the worker died.

use std::collections::HashSet;
use std::time::Duration;

use crate::boot_time::BootTime;
use crate::shim;
use crate::shim::tree;

/// How long the search goes on, for all leases together.
const SEARCH_BOUND: Duration = Duration::from_secs(5);
const SEARCH_PAUSE: Duration = Duration::from_millis(5);
pub(super) const TASK_ID: &str = "TASKYARD_TASK_ID";
pub(super) const LEASE_EPOCH: &str = "TASKYARD_LEASE_EPOCH";

/// What a search came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Leftovers {
    /// Processes that were killed, shims among them.
    pub killed: u32,
    /// Processes that were still there when the time was up.
    pub survivors: u32,
}

/// Kills every process of the runs that were started under these leases, each a task's id and an epoch, and their shims, within 5 s. It blocks. Shims are
/// known by their arguments, the other processes by their environment or as what is below a shim; where the shim is gone,
/// one that replaced its environment escapes.
pub fn kill_leftovers(leases: impl IntoIterator<Item = (String, i64)>) -> Leftovers {
    let search = Search {
        leases: leases
            .into_iter()
            .map(|(task_id, epoch)| (task_id, epoch.to_string()))
            .collect(),
    };
    if search.leases.is_empty() {
        return Leftovers::default();
    }
    let end = BootTime::now().plus(SEARCH_BOUND);
    let mut killed = HashSet::new();
    loop {
        let found = search.find();
        for (pid, shim) in &found.processes {
            let is_meant = || match shim {
                Some(shim) => tree::is_descendant(*shim, *pid),
                None => search.is_marked(*pid),
            };
            if tree::signal_verified(*pid, libc::SIGKILL, is_meant) {
                killed.insert(*pid);
            }
        }
        let is_over = BootTime::now() >= end;
        // A shim is the reaper of all below it: it goes last, so that nothing leaves its tree.
        if found.processes.is_empty() || is_over {
            for shim in &found.shims {
                if tree::signal_verified(*shim, libc::SIGKILL, || search.is_shim(*shim)) {
                    killed.insert(*shim);
                }
            }
        }
        let mut living: HashSet<i32> = found.processes.iter().map(|(pid, _)| *pid).collect();
        living.extend(found.shims);
        if living.is_empty() || is_over {
            return Leftovers {
                killed: count(killed.len()),
                survivors: count(living.len()),
            };
        }
        std::thread::sleep(SEARCH_PAUSE);
    }
}

/// The arguments by which a later boot knows the shim of a process with this environment; none unless both markers are
/// set.
pub(super) fn shim_marks(env: &[(String, String)]) -> Vec<String> {
    let mark = |wanted: &str| {
        let found = env.iter().rfind(|(name, _)| name == wanted);
        found.map(|(name, value)| format!("{name}={value}"))
    };
    [TASK_ID, LEASE_EPOCH]
        .into_iter()
        .map(mark)
        .collect::<Option<Vec<String>>>()
        .unwrap_or_default()
}

/// Task id and epoch of each lease that is searched for.
struct Search {
    leases: HashSet<(String, String)>,
}

struct Found {
    shims: Vec<i32>,
    /// With the shim that each is below, where it is known by that.
    processes: Vec<(i32, Option<i32>)>,
}

impl Search {
    fn find(&self) -> Found {
        let mut found = Found {
            shims: Vec::new(),
            processes: Vec::new(),
        };
        let own = std::process::id().cast_signed();
        for pid in tree::all_pids().filter(|pid| *pid != own) {
            if !tree::read_stat(pid).is_some_and(|stat| stat.alive) {
                continue;
            }
            if self.is_shim(pid) {
                found.shims.push(pid);
            } else if self.is_marked(pid) {
                found.processes.push((pid, None));
            }
        }
        for shim in &found.shims {
            tree::visit_descendants(*shim, |pid, _| found.processes.push((pid, Some(*shim))));
        }
        found
    }

    fn is_shim(&self, pid: i32) -> bool {
        let Ok(arguments) = std::fs::read(format!("/proc/{pid}/cmdline")) else {
            return false;
        };
        let role = arguments.split(|byte| *byte == 0).nth(1);
        role == Some(shim::ARGUMENT.as_bytes()) && self.names(&arguments)
    }

    fn is_marked(&self, pid: i32) -> bool {
        std::fs::read(format!("/proc/{pid}/environ")).is_ok_and(|environ| self.names(&environ))
    }

    /// Whether these entries, each with a NUL behind it, name one of the leases.
    fn names(&self, entries: &[u8]) -> bool {
        let value = |name: &str| {
            let mut entries = entries.split(|byte| *byte == 0);
            let value = entries.find_map(|entry| {
                let rest = entry.strip_prefix(name.as_bytes())?;
                rest.strip_prefix(b"=")
            })?;
            String::from_utf8(value.to_vec()).ok()
        };
        let (Some(task_id), Some(epoch)) = (value(TASK_ID), value(LEASE_EPOCH)) else {
            return false;
        };
        self.leases.contains(&(task_id, epoch))
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_both_marks_of_one_lease_name_it() {
        let lease = |task_id: &str, epoch: &str| (task_id.to_owned(), epoch.to_owned());
        let search = Search {
            leases: [lease("task_1", "2"), lease("task_3", "4")].into(),
        };
        for (entries, is_named) in [
            ("TASKYARD_TASK_ID=task_1\0TASKYARD_LEASE_EPOCH=2\0", true),
            (
                "A=b\0TASKYARD_LEASE_EPOCH=4\0C=\0TASKYARD_TASK_ID=task_3\0",
                true,
            ),
            ("TASKYARD_TASK_ID=task_1\0TASKYARD_LEASE_EPOCH=4\0", false),
            ("TASKYARD_TASK_ID=task_1\0", false),
            ("TASKYARD_LEASE_EPOCH=2\0", false),
            ("XTASKYARD_TASK_ID=task_1\0TASKYARD_LEASE_EPOCH=2\0", false),
            ("", false),
        ] {
            assert_eq!(search.names(entries.as_bytes()), is_named, "{entries:?}");
        }
    }

    #[test]
    fn a_shim_is_marked_wholly_or_not_at_all() {
        let entry = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let both = [
            entry(TASK_ID, "task_1"),
            entry("A", "b"),
            entry(LEASE_EPOCH, "2"),
        ];
        let marks = ["TASKYARD_TASK_ID=task_1", "TASKYARD_LEASE_EPOCH=2"];
        assert_eq!(shim_marks(&both), marks);
        assert!(shim_marks(&both[..2]).is_empty());
    }
}
