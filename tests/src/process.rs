//! A program under test as a child that never outlives the test, with its standard error in a file.

use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError, mpsc};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::wait::eventually;

/// A running program. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    name: String,
    pid: u32,
    child: Mutex<Child>,
    log: PathBuf,
}

impl Process {
    /// Starts `command` with nothing to read; what it prints is appended to the file `log`.
    pub fn start(name: &str, mut command: Command, log: &Path) -> Process {
        let open = || {
            File::options()
                .create(true)
                .append(true)
                .open(log)
                .unwrap_or_else(|error| panic!("cannot open {}: {error}", log.display()))
        };
        command.stdin(Stdio::null()).stdout(open()).stderr(open());
        let child = spawn(command).unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        Process {
            name: name.to_owned(),
            pid: child.id(),
            child: Mutex::new(child),
            log: log.to_owned(),
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends a signal; one that has ended takes no harm.
    pub fn signal(&self, signal: Signal) {
        if self.ended().is_none() {
            send(self.pid, signal);
        }
    }

    /// Kills it and waits until it is gone.
    pub fn kill(&self) {
        let mut child = self.child();
        let _ = child.kill();
        let _ = child.wait();
    }

    /// How it ended; none while it runs.
    pub fn ended(&self) -> Option<ExitStatus> {
        self.child().try_wait().ok().flatten()
    }

    /// Asks it to stop and waits until it has.
    ///
    /// # Panics
    /// When it has not within `limit`.
    pub async fn stop(&self, limit: Duration) -> ExitStatus {
        self.signal(Signal::TERM);
        let what = format!("{} to stop", self.name);
        eventually(&what, limit, async || self.ended()).await
    }

    /// What it has printed.
    pub fn log(&self) -> String {
        let bytes = fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Waits for a line in its log with `start` in it, and answers with the rest of that line.
    ///
    /// # Panics
    /// When the program ends first, or the line does not come within `limit`.
    pub async fn logged(&self, start: &str, limit: Duration) -> String {
        let what = format!("{} to say {start:?}", self.name);
        eventually(&what, limit, async || {
            let ended = self.ended();
            let log = self.log();
            // Only whole lines, so that no address is cut short.
            let whole = log.rfind('\n').map_or("", |end| &log[..end]);
            let found = whole.lines().find_map(|line| line.split_once(start));
            assert!(
                found.is_some() || ended.is_none(),
                "{} ended ({ended:?}):\n{log}",
                self.name
            );
            found.map(|(_, rest)| rest.to_owned())
        })
        .await
    }

    /// The most memory that it has had resident so far, in bytes.
    pub fn peak_memory(&self) -> u64 {
        peak_memory(self.pid)
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Sends a signal to a process, if it is there.
pub fn send(pid: u32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid.cast_signed()) {
        let _ = kill_process(pid, signal);
    }
}

/// True while the process exists and is no zombie.
pub fn is_alive(pid: u32) -> bool {
    stat_fields(pid).is_some_and(|(state, _)| state != 'Z' && state != 'X')
}

/// True while the process is stopped by a signal.
pub fn is_stopped(pid: u32) -> bool {
    stat_fields(pid).is_some_and(|(state, _)| state == 'T')
}

/// The parent of a process that is there.
pub fn parent(pid: u32) -> Option<u32> {
    stat_fields(pid).map(|(_, parent)| parent)
}

/// All processes below `pid`, zombies left out.
pub fn descendants(pid: u32) -> Vec<u32> {
    below(pid, false)
}

/// All processes below `pid`, with the zombies.
pub fn family(pid: u32) -> Vec<u32> {
    below(pid, true)
}

/// All processes that were started with `entry`, a `NAME=value`, in their environment, wherever they are.
pub fn with_variable(entry: &str) -> Vec<u32> {
    let is_marked = |pid: &u32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment
            .split(|byte| *byte == 0)
            .any(|variable| variable == entry.as_bytes())
    };
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    all.filter_map(|found| found.file_name().to_str()?.parse().ok())
        .filter(is_marked)
        .collect()
}

fn below(pid: u32, with_zombies: bool) -> Vec<u32> {
    let all: Vec<(u32, u32)> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid| match stat_fields(pid)? {
            ('Z' | 'X', _) if !with_zombies => None,
            (_, parent) => Some((pid, parent)),
        })
        .collect();
    let mut found = vec![pid];
    let mut at = 0;
    while at < found.len() {
        let parent = found[at];
        found.extend(
            all.iter()
                .filter(|(_, of)| *of == parent)
                .map(|(pid, _)| pid),
        );
        at += 1;
    }
    found.split_off(1)
}

/// The most memory that a process has had resident so far, in bytes; 0 for one that is gone.
pub fn peak_memory(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let kibibytes = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|number| number.parse::<u64>().ok());
    kibibytes.unwrap_or(0) * 1024
}

/// State and parent.
fn stat_fields(pid: u32) -> Option<(char, u32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The program's name may hold anything, parentheses and blanks too.
    let mut fields = stat[stat.rfind(')')? + 1..].split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.next()?.parse().ok()?))
}

/// Children are started by one thread that lives as long as this process, since the kernel kills them when the thread
/// that started them ends: threads of tests end early, and a killed test process must leave nothing behind.
fn spawn(mut command: Command) -> io::Result<Child> {
    type Order = (Command, mpsc::Sender<io::Result<Child>>);
    static ORDERS: OnceLock<mpsc::Sender<Order>> = OnceLock::new();
    let orders = ORDERS.get_or_init(|| {
        let (sender, receiver) = mpsc::channel::<Order>();
        std::thread::spawn(move || {
            for (mut command, answer) in receiver {
                let _ = answer.send(command.spawn());
            }
        });
        sender
    });
    #[expect(
        clippy::disallowed_methods,
        reason = "nothing else ties the children of a killed test to its end"
    )]
    // SAFETY: the call between fork and exec is async-signal-safe.
    unsafe {
        command.pre_exec(|| {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            Ok(())
        });
    }
    let (sender, receiver) = mpsc::channel();
    orders.send((command, sender)).map_err(io::Error::other)?;
    receiver.recv().map_err(io::Error::other)?
}
