//! What an earlier server left behind, read from its `postmaster.pid`.
//!
//! PostgreSQL itself refuses to start while the process named there exists. That is right for a living server and
//! wrong for two others: a zombie (in a container whose first process reaps nobody) and a stranger who got the number
//! after a reboot. Those are told apart here. The file also guards against servers whose parent died but whose
//! children still write, so it is removed only when no process works in the directory any more.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

/// The server that a `postmaster.pid` speaks of.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Earlier {
    /// There is no such file, or PostgreSQL will find out by itself that it is stale.
    None,
    /// It runs: use it.
    Running { pid: Pid, socket_dir: PathBuf },
    /// The file is stale in a way that PostgreSQL would not notice.
    Stale,
}

/// Reads the file and looks for the process it names.
pub(crate) fn inspect(pgdata: &Path) -> io::Result<Earlier> {
    let text = match fs::read_to_string(pid_file(pgdata)) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Earlier::None),
        Err(error) => return Err(error),
    };
    let Some((pid, socket_dir)) = parse(&text) else {
        // PostgreSQL writes the file in pieces, so this is a crash or a full disk in between.
        return Ok(Earlier::Stale);
    };
    match process_state(pid, pgdata) {
        ProcessState::Gone => Ok(Earlier::None),
        ProcessState::Zombie | ProcessState::Stranger => Ok(Earlier::Stale),
        ProcessState::Ours => Ok(Earlier::Running { pid, socket_dir }),
    }
}

/// True while the server exists and is not merely waiting to be reaped.
pub(crate) fn is_running(pid: Pid, pgdata: &Path) -> bool {
    process_state(pid, pgdata) == ProcessState::Ours
}

/// Removes a stale file. Only when [`leftover_processes`] finds none.
pub(crate) fn remove_pid_file(pgdata: &Path) -> io::Result<()> {
    match fs::remove_file(pid_file(pgdata)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Children of a dead server that still work in its directory. They end by themselves as soon as they notice.
pub(crate) fn leftover_processes(pgdata: &Path) -> Vec<Pid> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?))
        .filter(|&pid| works_in(pid, pgdata) && is_named_postgres(pid))
        .collect()
}

/// Kills children that did not notice. They were about to leave without cleaning up anyway, and crash recovery follows.
pub(crate) fn kill_leftovers(leftovers: &[Pid]) {
    for &pid in leftovers {
        let _ = kill_process(pid, Signal::KILL);
    }
}

#[derive(Debug, PartialEq, Eq)]
enum ProcessState {
    Gone,
    Zombie,
    Stranger,
    Ours,
}

fn process_state(pid: Pid, pgdata: &Path) -> ProcessState {
    if test_kill_process(pid) == Err(rustix::io::Errno::SRCH) {
        return ProcessState::Gone;
    }
    if !Path::new("/proc/self/stat").exists() {
        // Without /proc nothing more can be known; connecting will tell.
        return ProcessState::Ours;
    }
    match state_letter(pid) {
        None => ProcessState::Gone,
        Some('Z' | 'X') => ProcessState::Zombie,
        Some(_) if works_in(pid, pgdata) && is_named_postgres(pid) => ProcessState::Ours,
        Some(_) => ProcessState::Stranger,
    }
}

/// The third field of `/proc/PID/stat`; the second is a name in parentheses that may hold anything.
fn state_letter(pid: Pid) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

fn works_in(pid: Pid, pgdata: &Path) -> bool {
    fs::read_link(format!("/proc/{}/cwd", pid.as_raw_nonzero()))
        .is_ok_and(|directory| directory == pgdata)
}

fn is_named_postgres(pid: Pid) -> bool {
    fs::read_to_string(format!("/proc/{}/comm", pid.as_raw_nonzero()))
        .is_ok_and(|name| name.starts_with("postgres") || name.starts_with("postmaster"))
}

fn pid_file(pgdata: &Path) -> PathBuf {
    pgdata.join("postmaster.pid")
}

/// Line 1 is the process, line 5 the first socket directory; line 5 is empty until the socket exists.
fn parse(text: &str) -> Option<(Pid, PathBuf)> {
    let mut lines = text.lines();
    let pid = lines.next()?.trim().parse::<i32>().ok()?;
    let pid = Pid::from_raw(pid.checked_abs()?)?;
    let socket_dir = lines.nth(3).unwrap_or_default().trim_end();
    Some((pid, PathBuf::from(socket_dir)))
}

#[cfg(test)]
mod tests {
    use super::{Earlier, inspect, parse};
    use std::path::Path;

    #[test]
    fn a_whole_file_gives_pid_and_socket_and_a_torn_one_gives_what_it_has() {
        let whole = "4711\n/data/pgdata\n1760000000\n5432\n/data/socket\n\n  1 2\nready   \n";
        let (pid, socket_dir) = parse(whole).expect("a whole file");
        assert_eq!(pid.as_raw_nonzero().get(), 4711);
        assert_eq!(socket_dir, Path::new("/data/socket"));
        assert_eq!(parse("4711\n").expect("a torn file").1, Path::new(""));
        assert_eq!(parse(""), None);
        assert_eq!(parse("zero\n"), None);
    }

    #[test]
    fn a_live_process_that_is_not_a_server_in_this_directory_is_stale() {
        let pgdata = tempfile::tempdir().expect("a directory");
        let stranger = format!("{}\n{}\n", std::process::id(), pgdata.path().display());
        std::fs::write(pgdata.path().join("postmaster.pid"), stranger).expect("a pid file");
        assert_eq!(inspect(pgdata.path()).expect("readable"), Earlier::Stale);
    }
}
