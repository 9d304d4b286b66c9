//! A cgroup (version 2) for each run: limits that hold for all its processes together, and killing in one step.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{CWD, FsWord, Mode, OFlags, openat};

use super::request::Limits;

/// What cgroup v2 answers to the question what file system it is.
const CGROUP2_MAGIC: FsWord = 0x6367_7270;
const CONTROLLERS: [&str; 3] = ["memory", "cpu", "pids"];
/// The time in which a limit of the processor is counted, in microseconds.
const CPU_PERIOD_US: u64 = 100_000;
/// A group whose processes were killed takes a moment to be empty.
const REMOVAL_TRIES: u32 = 50;
const REMOVAL_PAUSE: Duration = Duration::from_millis(10);

const PROCS: &str = "cgroup.procs";
const KILL: &str = "cgroup.kill";
const SUBTREE_CONTROL: &str = "cgroup.subtree_control";

/// Where a worker makes the groups of its runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CgroupChoice {
    /// Below the worker's own group, if it may.
    Auto,
    /// Below this one, which is the worker's to use.
    Below(PathBuf),
}

/// What groups can limit here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Controllers {
    pub memory: bool,
    pub cpu: bool,
    pub pids: bool,
}

/// The group of one worker, which holds those of its runs and no process.
#[derive(Debug)]
pub struct Groups {
    root: PathBuf,
    controllers: Controllers,
}

/// The group of one run. Dropped, it is removed with all that is in it, unless it is left.
#[derive(Debug)]
pub struct RunGroup {
    path: PathBuf,
    is_left: bool,
}

impl Groups {
    /// Makes the worker's group, removes what an earlier boot left in it except for the groups named `kept`, and switches
    /// on what it may.
    ///
    /// # Errors
    /// It is no cgroup v2, or may not be written.
    pub fn open(choice: &CgroupChoice, place_id: [u8; 16], kept: &[String]) -> io::Result<Groups> {
        let below = match choice {
            CgroupChoice::Auto => own_group()?,
            CgroupChoice::Below(path) => path.clone(),
        };
        if rustix::fs::statfs(&below)?.f_type != CGROUP2_MAGIC {
            return Err(io::Error::other("it is no cgroup v2"));
        }
        let name = format!("{:016x}", u128::from_be_bytes(place_id) >> 64);
        if *choice == CgroupChoice::Auto {
            leave_for_a_leaf(&below, &name)?;
        }
        Groups::prepare(&below, &name, kept)
    }

    fn prepare(below: &Path, name: &str, kept: &[String]) -> io::Result<Groups> {
        let root = below.join(format!("taskyard-runs-{name}"));
        make_directory(&root)?;
        for entry in fs::read_dir(&root)?.flatten() {
            let is_kept = kept.iter().any(|name| entry.file_name() == name.as_str());
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) && !is_kept {
                let mut group = RunGroup::left_at(entry.path());
                group.reclaim();
            }
        }
        // Each level hands on what it was handed; what it was not is just not there.
        for level in [below, root.as_path()] {
            for controller in CONTROLLERS {
                let _ = fs::write(level.join(SUBTREE_CONTROL), format!("+{controller}"));
            }
        }
        let controllers = read_controllers(&root);
        let groups = Groups { root, controllers };
        // Whether it can be written is better known now.
        drop(groups.make("probe", &Limits::default())?);
        Ok(groups)
    }

    pub fn path(&self) -> &Path {
        &self.root
    }

    pub fn controllers(&self) -> Controllers {
        self.controllers
    }

    /// Makes the group of a run with its limits.
    pub fn make(&self, name: &str, limits: &Limits) -> io::Result<RunGroup> {
        let path = self.root.join(name);
        make_directory(&path)?;
        let group = RunGroup {
            path,
            is_left: false,
        };
        if let Some(bytes) = limits.memory_bytes {
            group.set("memory.max", &bytes.to_string())?;
            // Kernels that count no swap have no such file.
            match group.set("memory.swap.max", "0") {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        if let Some(millis) = limits.cpu_millis {
            let quota = u64::from(millis) * CPU_PERIOD_US / 1000;
            group.set("cpu.max", &format!("{quota} {CPU_PERIOD_US}"))?;
        }
        if let Some(processes) = limits.processes {
            group.set("pids.max", &processes.to_string())?;
        }
        Ok(group)
    }
}

impl RunGroup {
    /// The group of a run that outlived the boot before.
    pub fn left_at(path: PathBuf) -> RunGroup {
        RunGroup {
            path,
            is_left: true,
        }
    }

    /// From here on it stays when it is dropped: the run may outlive the worker.
    pub fn leave(&mut self) {
        self.is_left = true;
    }

    /// The run is over: it is removed when it is dropped.
    pub fn reclaim(&mut self) {
        self.is_left = false;
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the kernel has killed a process of the group for want of memory.
    pub fn was_out_of_memory(&self) -> bool {
        fs::read_to_string(self.path.join("memory.events"))
            .is_ok_and(|events| oom_kills(&events) > 0)
    }

    fn set(&self, file: &str, value: &str) -> io::Result<()> {
        fs::write(self.path.join(file), value)
            .map_err(|error| io::Error::new(error.kind(), format!("{file}: {error}")))
    }
}

impl Drop for RunGroup {
    fn drop(&mut self) {
        if self.is_left {
            return;
        }
        for _ in 0..REMOVAL_TRIES {
            match fs::remove_dir(&self.path) {
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                    kill_group(&self.path);
                    std::thread::sleep(REMOVAL_PAUSE);
                }
                Ok(()) => return,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return,
                Err(error) => {
                    tracing::warn!(path = %self.path.display(), %error, "cannot remove the cgroup of a run");
                    return;
                }
            }
        }
        tracing::warn!(path = %self.path.display(), "the cgroup of a run does not become empty; the next boot removes it");
    }
}

/// Opens the door of a group: who writes a zero to it is in. To be opened before a fork.
pub fn open_door(group: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    Ok(openat(CWD, group.join(PROCS), flags, Mode::empty())?)
}

/// Goes through the door. A system call and nothing else, for use after a fork.
pub fn enter(door: &OwnedFd) -> Result<(), i32> {
    match rustix::io::write(door, b"0") {
        Ok(_) => Ok(()),
        Err(errno) => Err(errno.raw_os_error()),
    }
}

/// Kills all that is in a group in one step that no fork slips through, where the kernel can (Linux 5.14). Whether it
/// could is seen by what is left.
pub fn kill_group(group: &Path) {
    let _ = fs::write(group.join(KILL), "1");
}

fn make_directory(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn read_controllers(group: &Path) -> Controllers {
    let on = fs::read_to_string(group.join(SUBTREE_CONTROL)).unwrap_or_default();
    let is_on = |name: &str| on.split_whitespace().any(|word| word == name);
    Controllers {
        memory: is_on("memory"),
        cpu: is_on("cpu"),
        pids: is_on("pids"),
    }
}

fn oom_kills(events: &str) -> u64 {
    events
        .lines()
        .filter_map(|line| line.strip_prefix("oom_kill "))
        .find_map(|count| count.trim().parse().ok())
        .unwrap_or(0)
}

/// The directory of the group that this process is in.
fn own_group() -> io::Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let groups = fs::read_to_string("/proc/self/cgroup")?;
    find_group(&mounts, &groups)
        .ok_or_else(|| io::Error::other("cgroup v2 is not mounted where this process sees it"))
}

/// `mounts` and `groups` are what `/proc` says of a process.
fn find_group(mounts: &str, groups: &str) -> Option<PathBuf> {
    let own = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    mounts.lines().find_map(|line| {
        let (place, kind) = line.split_once(" - ")?;
        if kind.split_whitespace().next() != Some("cgroup2") {
            return None;
        }
        let mut fields = place.split_whitespace();
        let root = fields.nth(3)?;
        let point = fields.next()?;
        // A container sees a part of the tree under a mount of its own.
        let below = Path::new(own).strip_prefix(root).ok()?;
        Some(if below.as_os_str().is_empty() {
            PathBuf::from(point)
        } else {
            Path::new(point).join(below)
        })
    })
}

/// A group with processes of its own hands nothing on to those below: the worker moves out of the way. The topmost one
/// is excepted.
fn leave_for_a_leaf(group: &Path, name: &str) -> io::Result<()> {
    let is_topmost = !group.join("cgroup.type").exists();
    let available = fs::read_to_string(group.join("cgroup.controllers")).unwrap_or_default();
    if is_topmost || available.trim().is_empty() {
        return Ok(());
    }
    let processes = fs::read_to_string(group.join(PROCS))?;
    let own = std::process::id().to_string();
    if processes.lines().any(|pid| pid.trim() != own) {
        return Err(io::Error::other(format!(
            "other processes are in the worker's cgroup {}: give it one of its own (systemd: Delegate=yes), or name one with \
             --cgroup",
            group.display()
        )));
    }
    let leaf = group.join(format!("taskyard-worker-{name}"));
    make_directory(&leaf)?;
    fs::write(leaf.join(PROCS), "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory with files in place of a cgroup.
    fn plain() -> (tempfile::TempDir, Groups) {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let root = directory.path().to_owned();
        let controllers = Controllers::default();
        (directory, Groups { root, controllers })
    }

    fn read(group: &RunGroup, file: &str) -> String {
        fs::read_to_string(group.path().join(file)).unwrap_or_default()
    }

    #[test]
    fn limits_are_written_in_the_kernels_words() {
        let (_directory, groups) = plain();
        let limits = Limits {
            memory_bytes: Some(64 << 20),
            cpu_millis: Some(1_500),
            processes: Some(32),
        };
        let group = groups.make("run", &limits).expect("made");
        assert_eq!(read(&group, "memory.max"), "67108864");
        assert_eq!(read(&group, "memory.swap.max"), "0");
        assert_eq!(read(&group, "cpu.max"), "150000 100000");
        assert_eq!(read(&group, "pids.max"), "32");
    }

    #[test]
    fn the_group_of_a_run_that_goes_on_stays_for_the_next_boot() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let boot = |kept: &[String]| Groups::prepare(directory.path(), "w", kept).expect("opened");
        let limits = Limits::default();
        let mut going_on = boot(&[]).make("going_on", &limits).expect("made");
        going_on.leave();
        let path = going_on.path().to_owned();
        drop(going_on);
        boot(&["going_on".to_owned()]);
        assert!(path.exists(), "it is spared");
        let mut taken_over = RunGroup::left_at(path.clone());
        taken_over.reclaim();
        drop(taken_over);
        assert!(!path.exists(), "the run is over");
        let mut forgotten = boot(&[]).make("forgotten", &limits).expect("made");
        forgotten.leave();
        let path = forgotten.path().to_owned();
        drop(forgotten);
        boot(&[]);
        assert!(!path.exists(), "nobody knows it any more");
    }

    #[test]
    fn running_out_of_memory_is_read_from_the_events() {
        let (_directory, groups) = plain();
        let group = groups.make("run", &Limits::default()).expect("made");
        assert!(!group.was_out_of_memory(), "there is no such file");
        let events = group.path().join("memory.events");
        let quiet = "low 0\nhigh 0\nmax 12\noom 0\noom_kill 0\noom_group_kill 0\n";
        fs::write(&events, quiet).expect("written");
        assert!(!group.was_out_of_memory());
        let killed = "low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 0\n";
        fs::write(&events, killed).expect("written");
        assert!(group.was_out_of_memory());
    }

    #[test]
    fn only_what_is_switched_on_can_be_limited() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        fs::write(directory.path().join(SUBTREE_CONTROL), "cpu pids\n").expect("written");
        let found = read_controllers(directory.path());
        assert!(!found.memory && found.cpu && found.pids);
        let none = read_controllers(Path::new("/nowhere"));
        assert_eq!(none, Controllers::default());
    }

    #[test]
    fn the_own_group_is_found_on_the_host_and_in_a_container() {
        let hybrid = "25 20 0:21 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                      26 20 0:22 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let found = find_group(hybrid, "4:memory:/x\n0::/a/b\n");
        assert_eq!(found, Some(PathBuf::from("/sys/fs/cgroup/unified/a/b")));
        let topmost = find_group(hybrid, "0::/\n");
        assert_eq!(topmost, Some(PathBuf::from("/sys/fs/cgroup/unified")));
        let container = "30 20 0:22 /kube/pod1 /sys/fs/cgroup ro - cgroup2 cgroup rw\n";
        let found = find_group(container, "0::/kube/pod1\n");
        assert_eq!(found, Some(PathBuf::from("/sys/fs/cgroup")));
        assert_eq!(find_group("", "0::/\n"), None);
        assert_eq!(find_group(hybrid, "4:memory:/x\n"), None);
    }
}
