//! A world of its own for one process test: a directory, a launch in it, and waits that end.

#![expect(dead_code, reason = "each test binary uses a part of it")]

#[path = "../../../tests/src/pattern.rs"]
pub mod pattern;

use std::path::{Path, PathBuf};
use std::time::Duration;

use taskyard_worker::boot_time::BootTime;
use taskyard_worker::output::spool::{ReadOutcome, SpoolReader};
use taskyard_worker::process::{
    ExitStatus, Launch, Process, ProcessEnd, ProcessError, ProcessEvent, SpoolSpec, StartError,
    Stdin,
};
use tempfile::TempDir;

/// Shim, child and worker in one program.
pub const TESTBED: &str = env!("CARGO_BIN_EXE_taskyard-worker-testbed");
/// Every wait in these tests ends, at the latest after this; far more than a loaded machine needs.
pub const PATIENCE: Duration = Duration::from_secs(60);
pub const SEED: u64 = 11;
/// A time that no test waits out.
pub const LONG: Duration = Duration::from_secs(600);
pub const KILLED: Option<ExitStatus> = Some(ExitStatus::Signal(libc::SIGKILL));
pub const TERMED: Option<ExitStatus> = Some(ExitStatus::Signal(libc::SIGTERM));

pub struct World {
    pub directory: TempDir,
    pub launch: Launch,
}

impl World {
    /// A launch of the probe with these words.
    pub fn probe(words: &[&str]) -> World {
        let mut argv = vec![TESTBED];
        argv.extend_from_slice(words);
        World::command(&argv)
    }

    pub fn command(argv: &[&str]) -> World {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let spool = |name: &str| SpoolSpec {
            path: directory.path().join(name),
            head_cap: 8192,
            tail_cap: 4096,
        };
        let launch = Launch {
            argv: argv.iter().map(|&argument| argument.to_owned()).collect(),
            env: vec![("PATH".to_owned(), "/usr/bin:/bin".to_owned())],
            cwd: directory.path().to_owned(),
            umask: None,
            nice: None,
            rlimits: Vec::new(),
            identity: None,
            stdin: Stdin::Null,
            terminal: None,
            secrets: Vec::new(),
            stdout: spool("stdout.spool"),
            stderr: spool("stderr.spool"),
            drain: Duration::from_secs(2),
            deadline: BootTime::now().plus(PATIENCE * 2),
            survival: None,
            confinement: None,
            group: None,
        };
        World { directory, launch }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The same path as an argument.
    pub fn argument(&self, name: &str) -> String {
        self.path(name).to_str().expect("a UTF-8 path").to_owned()
    }

    pub fn push_arguments(&mut self, words: &[&str]) {
        self.launch
            .argv
            .extend(words.iter().map(|&word| word.to_owned()));
    }

    pub async fn spawn(&self) -> Process {
        self.try_spawn().await.expect("the process starts")
    }

    pub async fn try_spawn(&self) -> Result<Process, StartError> {
        Process::spawn(Path::new(TESTBED), &self.launch).await
    }

    pub async fn run(&self) -> Story {
        Story::of(&mut self.spawn().await).await
    }

    pub fn stdout(&self) -> SpoolReader {
        SpoolReader::open(&self.launch.stdout.path).expect("the stdout spool opens")
    }

    pub fn stderr(&self) -> SpoolReader {
        SpoolReader::open(&self.launch.stderr.path).expect("the stderr spool opens")
    }

    /// All of a short standard output.
    pub fn stdout_text(&self) -> String {
        text_of(&self.stdout())
    }

    pub fn stderr_text(&self) -> String {
        text_of(&self.stderr())
    }

    /// The process id in a file that the probe writes.
    pub async fn pid_in(&self, name: &str) -> i32 {
        let path = self.path(name);
        wait_until("the pid file", || {
            std::fs::read_to_string(&path)
                .ok()
                .and_then(|text| text.parse().ok())
        })
        .await
    }
}

/// All that a process went through.
#[derive(Debug)]
pub struct Story {
    pub pid: i32,
    pub exited: Option<ExitStatus>,
    pub end: ProcessEnd,
    pub n_outputs: usize,
}

impl Story {
    pub async fn of(process: &mut Process) -> Story {
        let pid = process.pid() as i32;
        let mut exited = None;
        let mut n_outputs = 0;
        let mut told = (0, 0);
        loop {
            match next_event(process).await.expect("another event") {
                ProcessEvent::Started { pid: started } => assert_eq!(started as i32, pid),
                ProcessEvent::Output {
                    stdout_total,
                    stderr_total,
                } => {
                    assert!((stdout_total, stderr_total) != told, "nothing new was told");
                    assert!(
                        stdout_total >= told.0 && stderr_total >= told.1,
                        "totals only grow"
                    );
                    told = (stdout_total, stderr_total);
                    n_outputs += 1;
                }
                ProcessEvent::InputTaken { .. } => {}
                ProcessEvent::Exited(status) => {
                    assert_eq!(exited.replace(status), None, "one exit")
                }
                ProcessEvent::Ended(end) => {
                    assert!(end.stdout.total >= told.0 && end.stderr.total >= told.1);
                    assert!(matches!(
                        process.next_event().await,
                        Err(ProcessError::AlreadyEnded)
                    ));
                    return Story {
                        pid,
                        exited,
                        end,
                        n_outputs,
                    };
                }
            }
        }
    }
}

pub async fn next_event(process: &mut Process) -> Result<ProcessEvent, ProcessError> {
    tokio::time::timeout(PATIENCE, process.next_event())
        .await
        .expect("an event in time")
}

/// Waits until the child has printed that it is set up.
pub async fn until_ready(process: &mut Process) {
    loop {
        if let ProcessEvent::Output { stdout_total, .. } =
            next_event(process).await.expect("another event")
            && stdout_total >= "ready\n".len() as u64
        {
            return;
        }
    }
}

/// Looks again and again until there is something.
pub async fn wait_until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = BootTime::now().plus(PATIENCE);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(BootTime::now() < end, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// True when the process runs; a zombie does not.
pub fn is_running(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit_once(')')
        .and_then(|(_, fields)| fields.split_ascii_whitespace().next());
    !matches!(state, None | Some("Z" | "X"))
}

pub async fn until_gone(pid: i32) {
    wait_until(&format!("the end of process {pid}"), || {
        (!is_running(pid)).then_some(())
    })
    .await;
}

/// The processes whose environment holds this entry.
pub fn pids_with(entry: &str) -> Vec<i32> {
    let pids = std::fs::read_dir("/proc").expect("/proc").flatten();
    let pids = pids.filter_map(|found| {
        found
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
    });
    let has_entry = |pid: &i32| {
        let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environ
            .split(|byte| *byte == 0)
            .any(|found| found == entry.as_bytes())
    };
    pids.filter(has_entry).collect()
}

/// The parent of a process.
pub fn parent_of(pid: i32) -> i32 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process exists");
    let fields = stat.rsplit_once(')').expect("a name").1;
    fields
        .split_ascii_whitespace()
        .nth(1)
        .and_then(|field| field.parse().ok())
        .expect("a parent")
}

/// A range of a spool that must be kept in full.
pub fn read_range(reader: &SpoolReader, from: u64, to: u64, total: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while from + (bytes.len() as u64) < to {
        let at = from + bytes.len() as u64;
        match reader
            .read(at, (to - at) as usize, total)
            .expect("the spool is readable")
        {
            ReadOutcome::Bytes(more) => bytes.extend_from_slice(&more),
            other @ (ReadOutcome::Gap { .. } | ReadOutcome::Nothing) => panic!("{other:?} at {at}"),
        }
    }
    bytes
}

fn text_of(reader: &SpoolReader) -> String {
    let total = reader.committed().expect("the marks are readable");
    String::from_utf8(read_range(reader, 0, total, total)).expect("text")
}
