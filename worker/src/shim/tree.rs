//! Finding and signalling the processes of a tree by `/proc`, without ever hitting a process id that was given away again.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// Longest line of parents that is followed; deeper processes show up when their parents are gone.
const DEPTH_MAX: usize = 4096;

/// What the kernel tells of a process in one line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) parent: i32,
    pub(crate) group: i32,
    pub(crate) session: i32,
    /// False for a zombie with no thread left. A process whose first thread ended before the others is alive.
    pub(crate) alive: bool,
}

/// All process ids of the machine in ascending order, read as they are walked: processes that are forked during the
/// walk are still met, since their ids are higher.
pub(crate) fn all_pids() -> impl Iterator<Item = i32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| {
        entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
    })
}

/// Reads `/proc/<pid>/stat`; nothing when the process is gone.
pub(crate) fn read_stat(pid: i32) -> Option<Stat> {
    let mut file = File::open(format!("/proc/{pid}/stat")).ok()?;
    let mut line = [0; 1024];
    let length = file.read(&mut line).ok()?;
    parse_stat(&line[..length])
}

/// Walks the living descendants of `ancestor`, calling `visit` for each as soon as it is found.
pub(crate) fn visit_descendants(ancestor: i32, mut visit: impl FnMut(i32, &Stat)) {
    let mut lineage = Lineage {
        ancestor,
        known: HashMap::new(),
    };
    for pid in all_pids() {
        let Some(stat) = read_stat(pid) else {
            continue;
        };
        if stat.alive && pid != ancestor && lineage.includes(pid, stat.parent) {
            visit(pid, &stat);
        }
    }
}

/// True when `pid` exists and `ancestor` is among its parents.
pub(crate) fn is_descendant(ancestor: i32, pid: i32) -> bool {
    let mut lineage = Lineage {
        ancestor,
        known: HashMap::new(),
    };
    read_stat(pid).is_some_and(|stat| lineage.includes(pid, stat.parent))
}

/// Sends a signal to `pid` if `verify` holds. The process is pinned before it is verified: had the id been given away in
/// between, the signal would reach nobody. Tells whether it was delivered.
pub(crate) fn signal_verified(pid: i32, signal: i32, verify: impl FnOnce() -> bool) -> bool {
    let (Some(pid), Some(signal)) = (Pid::from_raw(pid), Signal::from_named_raw(signal)) else {
        return false;
    };
    let Ok(pinned) = pidfd_open(pid, PidfdFlags::empty()) else {
        return false;
    };
    verify() && pidfd_send_signal(&pinned, signal).is_ok()
}

/// Answers for one walk, each process looked up once.
struct Lineage {
    ancestor: i32,
    known: HashMap<i32, bool>,
}

impl Lineage {
    fn includes(&mut self, pid: i32, parent: i32) -> bool {
        let mut path = vec![pid];
        let mut next = parent;
        let verdict = loop {
            if next == self.ancestor {
                break true;
            }
            if next <= 1 || path.len() > DEPTH_MAX {
                break false;
            }
            if let Some(known) = self.known.get(&next) {
                break *known;
            }
            path.push(next);
            match read_stat(next) {
                Some(stat) => next = stat.parent,
                // The parent ended just now: its children move to their reaper, where the next walk finds them.
                None => return false,
            }
        };
        self.known
            .extend(path.into_iter().map(|pid| (pid, verdict)));
        verdict
    }
}

/// The name of the program is in parentheses and may hold anything, parentheses too: fields count from the last one.
fn parse_stat(line: &[u8]) -> Option<Stat> {
    let name_end = line.iter().rposition(|byte| *byte == b')')?;
    let text = std::str::from_utf8(line.get(name_end + 1..)?).ok()?;
    let mut fields = text.split_ascii_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    let group = fields.next()?.parse().ok()?;
    let session = fields.next()?.parse().ok()?;
    let n_threads: i64 = fields.nth(13)?.parse().ok()?;
    let dead = matches!(state, "Z" | "X" | "x") && n_threads <= 1;
    Some(Stat {
        parent,
        group,
        session,
        alive: !dead,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_parentheses_and_spaces_do_not_confuse() {
        let line = b"42 (a) b (c)) S 7 8 9 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 3 0 999 1 1";
        assert_eq!(
            parse_stat(line),
            Some(Stat {
                parent: 7,
                group: 8,
                session: 9,
                alive: true
            })
        );
    }

    #[test]
    fn a_zombie_whose_other_threads_run_is_alive() {
        let zombie = b"42 (x) Z 7 8 9 0 -1 4 1 2 3 4 5 6 7 8 20 0 1 0 999 0 0";
        assert!(!parse_stat(zombie).expect("it parses").alive);
        let leader_gone = b"42 (x) Z 7 8 9 0 -1 4 1 2 3 4 5 6 7 8 20 0 2 0 999 0 0";
        assert!(parse_stat(leader_gone).expect("it parses").alive);
    }

    #[test]
    fn a_strange_process_is_never_signalled() {
        let own = i32::try_from(std::process::id()).expect("a process id");
        assert!(is_descendant(
            rustix::process::getppid()
                .expect("a parent")
                .as_raw_nonzero()
                .get(),
            own
        ));
        assert!(!is_descendant(own, 1));
        assert!(!signal_verified(own, libc::SIGKILL, || false));
    }
}
