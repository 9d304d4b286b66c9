//! Starting the root process: fork, prepare, execute, and a precise word on what failed.

use std::ffi::{CString, NulError};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::mpsc;

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};

use super::message::{StartFailure, StartStep};
use super::wiring::{Ours, Wiring};
use crate::isolation::cgroup;
use crate::isolation::confinement::PreparedConfinement;
use crate::process::{Identity, Launch, Rlimit};

const KEEPER_STACK_BYTES: usize = 256 * 1024;
/// Where programs are looked for when the task's environment has no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";
const FAILURE_BYTES: usize = 8;
/// At least the size of the kernel's `struct sigaction` on any architecture; all zero it means the default.
const KERNEL_SIGACTION_BYTES: usize = 64;
const KERNEL_SIGNALS: usize = 64;

/// A forked root. Whether it reached its program is read from `verdict`.
pub(super) struct Forked {
    pub(super) pid: i32,
    /// Ends without a byte when the program was executed; else [`read_failure`] tells why not.
    pub(super) verdict: OwnedFd,
    /// Our ends of its standard descriptors.
    pub(super) ours: Ours,
}

/// Forks the root process.
///
/// The fork is made by a thread of its own, the keeper, which then does nothing for as long as the shim lives. So the
/// root is the keeper's child, and orphans that the kernel hands to the shim are the main thread's: the main thread can
/// reap them, and see that there are none left, with the root still unreaped and its id so still taken. Were the shim
/// killed, the keeper would end with it and the root be killed by its parent-death signal.
pub(super) fn fork_root(launch: &Launch) -> Result<Forked, StartFailure> {
    let plan = Plan::new(launch)?;
    let (sender, receiver) = mpsc::sync_channel(1);
    let keeper = std::thread::Builder::new()
        .name("keeper".to_owned())
        .stack_size(KEEPER_STACK_BYTES);
    let spawned = keeper.spawn(move || {
        let forked = plan.fork();
        if sender.send(forked).is_ok() {
            loop {
                std::thread::park();
            }
        }
    });
    spawned.map_err(|error| failure(StartStep::Fork, &error))?;
    receiver
        .recv()
        .map_err(|_| StartFailure::new(StartStep::Fork, libc::ECHILD))?
}

/// Reads the verdict after it became readable: nothing means that the program runs.
pub(super) fn read_failure(verdict: &OwnedFd) -> Option<StartFailure> {
    let mut raw = [0; FAILURE_BYTES];
    match rustix::io::read(verdict, &mut raw) {
        Ok(FAILURE_BYTES) => {
            let [step, index, _, _, errno @ ..] = raw;
            let step = StartStep::ALL
                .get(usize::from(step))
                .copied()
                .unwrap_or(StartStep::Execute);
            Some(StartFailure {
                step,
                errno: i32::from_ne_bytes(errno),
                index,
            })
        }
        Ok(_) | Err(_) => None,
    }
}

/// Everything the child needs between fork and exec, made before the fork: afterwards nothing may be allocated.
struct Plan {
    candidates: Vec<CString>,
    argv: PointerList,
    envp: PointerList,
    cwd: CString,
    umask: Option<u32>,
    /// Where the child writes itself into its cgroup.
    group_door: Option<OwnedFd>,
    confinement: Option<PreparedConfinement>,
    nice: Option<i32>,
    rlimits: Vec<Rlimit>,
    identity: Option<Identity>,
    wiring: Wiring,
    verdict_ours: OwnedFd,
    verdict_theirs: OwnedFd,
}

impl Plan {
    fn new(launch: &Launch) -> Result<Plan, StartFailure> {
        let no_nul = |_: NulError| StartFailure::new(StartStep::Execute, libc::EINVAL);
        let program = launch.argv.first().map_or("", String::as_str);
        let path = launch
            .env
            .iter()
            .rfind(|(name, _)| name == "PATH")
            .map(|(_, value)| value.as_str());
        let candidates = candidates(program, path.unwrap_or(DEFAULT_PATH));
        let candidates: Result<Vec<CString>, NulError> =
            candidates.into_iter().map(CString::new).collect();
        let argv: Result<Vec<CString>, NulError> = launch
            .argv
            .iter()
            .map(|text| CString::new(text.as_str()))
            .collect();
        let environment = launch
            .env
            .iter()
            .map(|(name, value)| CString::new(format!("{name}={value}")));
        let environment: Result<Vec<CString>, NulError> = environment.collect();
        let cwd = CString::new(launch.cwd.as_os_str().as_bytes()).map_err(no_nul)?;

        let group_door = launch.group.as_deref().map(cgroup::open_door).transpose();
        let group_door = group_door.map_err(|error| failure(StartStep::Group, &error))?;
        let confinement = launch.confinement.as_ref().map(|wanted| wanted.prepare());
        let confinement = confinement
            .transpose()
            .map_err(|error| failure(StartStep::Isolation, &error))?;
        let wiring = Wiring::new(launch)?;
        let pipe = pipe_with(PipeFlags::CLOEXEC);
        let (verdict_ours, verdict_theirs) =
            pipe.map_err(|errno| StartFailure::new(StartStep::Descriptors, errno.raw_os_error()))?;
        Ok(Plan {
            candidates: candidates.map_err(no_nul)?,
            argv: PointerList::new(argv.map_err(no_nul)?),
            envp: PointerList::new(environment.map_err(no_nul)?),
            cwd,
            umask: launch.umask,
            group_door,
            confinement,
            nice: launch.nice,
            rlimits: launch.rlimits.clone(),
            identity: launch.identity.clone(),
            wiring,
            verdict_ours,
            verdict_theirs,
        })
    }

    fn fork(self) -> Result<Forked, StartFailure> {
        let shim_pid = rustix::process::getpid().as_raw_nonzero().get();
        // SAFETY: the child calls nothing but async-signal-safe functions on memory that was prepared before, until it
        // executes the program or exits.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            // SAFETY: this is the child, see above.
            let failure = unsafe { self.become_program(shim_pid) };
            unsafe { report_and_exit(self.verdict_theirs.as_raw_fd(), &failure) }
        }
        if pid < 0 {
            return Err(failure(StartStep::Fork, &io::Error::last_os_error()));
        }
        Ok(Forked {
            pid,
            verdict: self.verdict_ours,
            ours: self.wiring.ours,
        })
    }

    /// In the child: returns only when something failed.
    ///
    /// # Safety
    /// To be called in a freshly forked child only.
    unsafe fn become_program(&self, shim_pid: i32) -> StartFailure {
        unsafe {
            if libc::setsid() < 0 {
                return StartFailure::new(StartStep::Session, errno());
            }
            // First of all, so that nothing of it is outside.
            if let Some(door) = &self.group_door
                && let Err(errno) = cgroup::enter(door)
            {
                return StartFailure::new(StartStep::Group, errno);
            }
            reset_signals();
            for (from, to) in self.wiring.theirs.iter().zip(0..) {
                if libc::dup2(from.as_raw_fd(), to) < 0 {
                    return StartFailure::new(StartStep::Descriptors, errno());
                }
            }
            // Signals of its keys, and its hang-up, go to this session from here on.
            if self.wiring.ours.terminal.is_some() && libc::ioctl(0, libc::TIOCSCTTY, 0) < 0 {
                return StartFailure::new(StartStep::Terminal, errno());
            }
            // All of ours close on exec by themselves; this is for strays. Kernels before 5.11 refuse it.
            libc::syscall(
                libc::SYS_close_range,
                3u32,
                u32::MAX,
                libc::CLOSE_RANGE_CLOEXEC,
            );
            if let Some(mask) = self.umask {
                libc::umask(mask & 0o777);
            }
            if let Err(failure) = self.restrict() {
                return failure;
            }
            // A change of the user clears it, so it comes after that.
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) < 0 {
                return StartFailure::new(StartStep::Session, errno());
            }
            // The shim may have ended before its death could be signalled.
            if libc::getppid() != shim_pid {
                return StartFailure::new(StartStep::Session, libc::ESRCH);
            }
            // As the program itself would find it.
            if libc::chdir(self.cwd.as_ptr()) < 0 {
                return StartFailure::new(StartStep::WorkingDirectory, errno());
            }
            // Last of all, since it takes away what the steps before need.
            if let Some(confinement) = &self.confinement
                && let Err(errno) = confinement.put_on()
            {
                return StartFailure::new(StartStep::Isolation, errno);
            }
            self.execute()
        }
    }

    /// Priority, limits and user, in this order: to raise the first two may take the rights that are given up with the
    /// last. The system is asked directly: the C library would have all threads change their user, and there are none.
    unsafe fn restrict(&self) -> Result<(), StartFailure> {
        if let Some(nice) = self.nice {
            let own = 0;
            let done =
                unsafe { libc::syscall(libc::SYS_setpriority, libc::PRIO_PROCESS, own, nice) };
            if done < 0 {
                return Err(StartFailure::new(StartStep::Nice, errno()));
            }
        }
        for (index, limit) in (0..).zip(&self.rlimits) {
            limit.set().map_err(|errno| StartFailure {
                step: StartStep::Rlimit,
                errno: errno.raw_os_error(),
                index,
            })?;
        }
        let Some(identity) = &self.identity else {
            return Ok(());
        };
        let (uid, gid) = (identity.uid, identity.gid);
        let groups = &identity.groups;
        let changed = unsafe {
            libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) == 0
                && libc::syscall(libc::SYS_setresgid, gid, gid, gid) == 0
                && libc::syscall(libc::SYS_setresuid, uid, uid, uid) == 0
        };
        if changed {
            Ok(())
        } else {
            Err(StartFailure::new(StartStep::Identity, errno()))
        }
    }

    /// Tries each candidate as the shell would: the first that exists decides, one that may not be executed is passed
    /// over but remembered.
    unsafe fn execute(&self) -> StartFailure {
        let mut verdict = StartFailure::new(StartStep::Execute, libc::ENOENT);
        for candidate in &self.candidates {
            unsafe { libc::execve(candidate.as_ptr(), self.argv.as_ptr(), self.envp.as_ptr()) };
            let errno_of_exec = errno();
            match errno_of_exec {
                libc::ENOENT | libc::ENOTDIR => {
                    if unsafe { libc::access(candidate.as_ptr(), libc::F_OK) } == 0 {
                        return StartFailure::new(StartStep::Interpreter, libc::ENOENT);
                    }
                    // A path that leads through a file is the task's mistake; one in a PATH is passed over.
                    if self.candidates.len() == 1 {
                        verdict.errno = errno_of_exec;
                    }
                }
                libc::EACCES => verdict.errno = libc::EACCES,
                other => return StartFailure::new(StartStep::Execute, other),
            }
        }
        verdict
    }
}

/// Strings with the array of pointers that `execve` wants.
struct PointerList {
    pointers: Vec<*const libc::c_char>,
    /// What the pointers point into.
    _strings: Vec<CString>,
}

// SAFETY: the pointers lead into strings that move along with them and are never changed.
unsafe impl Send for PointerList {}

impl PointerList {
    fn new(strings: Vec<CString>) -> PointerList {
        let mut pointers: Vec<*const libc::c_char> =
            strings.iter().map(|string| string.as_ptr()).collect();
        pointers.push(std::ptr::null());
        PointerList {
            pointers,
            _strings: strings,
        }
    }

    fn as_ptr(&self) -> *const *const libc::c_char {
        self.pointers.as_ptr()
    }
}

fn candidates(program: &str, path: &str) -> Vec<String> {
    if program.contains('/') {
        return vec![program.to_owned()];
    }
    let in_directory = |directory: &str| match directory {
        "" => format!("./{program}"),
        directory => format!("{directory}/{program}"),
    };
    path.split(':').map(in_directory).collect()
}

/// Default dispositions and an empty mask, whatever the shim, the worker and those before them have ignored or blocked.
/// The kernel is asked directly, because the C library keeps two signals to itself and would leave them ignored.
unsafe fn reset_signals() {
    let default_action = [0u8; KERNEL_SIGACTION_BYTES];
    let no_old_action = std::ptr::null_mut::<u8>();
    unsafe {
        for signal in 1..=KERNEL_SIGNALS {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default_action.as_ptr(),
                no_old_action,
                KERNEL_SIGNALS / 8,
            );
        }
        let mut empty: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut empty);
        libc::sigprocmask(libc::SIG_SETMASK, &empty, std::ptr::null_mut());
    }
}

unsafe fn report_and_exit(verdict: RawFd, failure: &StartFailure) -> ! {
    let mut raw = [0; FAILURE_BYTES];
    raw[0] = failure.step as u8;
    raw[1] = failure.index;
    raw[4..].copy_from_slice(&failure.errno.to_ne_bytes());
    unsafe {
        libc::write(verdict, raw.as_ptr().cast(), FAILURE_BYTES);
        libc::_exit(127)
    }
}

fn errno() -> i32 {
    Errno::from_io_error(&io::Error::last_os_error())
        .map_or(libc::EIO, |errno| errno.raw_os_error())
}

fn failure(step: StartStep, error: &io::Error) -> StartFailure {
    StartFailure::new(step, error.raw_os_error().unwrap_or(libc::EIO))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_looked_up_in_the_tasks_path_only() {
        assert_eq!(candidates("sh", "/a:/b/c"), ["/a/sh", "/b/c/sh"]);
        assert_eq!(candidates("sh", ":/a"), ["./sh", "/a/sh"]);
        assert_eq!(candidates("./sh", "/a"), ["./sh"]);
        assert_eq!(candidates("/bin/sh", ""), ["/bin/sh"]);
    }

    #[test]
    fn steps_are_numbered_as_listed() {
        for (number, step) in StartStep::ALL.into_iter().enumerate() {
            assert_eq!(step as usize, number);
        }
    }
}
