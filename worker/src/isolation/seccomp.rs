//! The filter over system calls: what Landlock does not see, and what widens the kernel's surface without need.
//!
//! It is a list of refusals; everything else is allowed, so that ordinary programs work. Refused calls fail with an error
//! that programs know, and do not kill.

use libc::{c_long, sock_filter};

use super::{confinement::last_errno, set_id};

/// The architecture that system calls of this build have; none: no filter can be made here.
const ARCHITECTURE: Option<u32> = if cfg!(target_arch = "x86_64") {
    Some(0xc000_003e)
} else if cfg!(target_arch = "aarch64") {
    Some(0xc000_00b7)
} else if cfg!(target_arch = "riscv64") {
    Some(0xc000_00f3)
} else {
    None
};
/// Numbers from here on are a second table of calls on x86-64, which would lead around every rule.
const X32_BIT: u32 = 0x4000_0000;

/// Offsets within what the kernel lets a filter see; arguments are eight bytes each, low half first.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const ARGUMENTS: u32 = 16;

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
pub(super) const IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const IF_AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
pub(super) const IF_ANY_BIT: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

const NEW_NAMESPACES: u32 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET) as u32;
/// Not for `clone`, where the bit is part of a signal's number.
const NEW_TIME_NAMESPACE: u32 = 0x80;
const TIOCSTI: u32 = 0x5412;
const TIOCLINUX: u32 = 0x541c;

/// Refused whatever the arguments.
const REFUSED: &[c_long] = &[
    // into other processes
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_move_pages,
    libc::SYS_migrate_pages,
    // another view of the files
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_fanotify_init,
    libc::SYS_quotactl,
    libc::SYS_setns,
    // around this filter, or into the kernel
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_syslog,
    // the machine as a whole
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_vhangup,
    libc::SYS_nfsservctl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_kexec_file_load,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
];

/// A filter that only has to be put on.
#[derive(Debug)]
pub struct Filter {
    program: Vec<sock_filter>,
}

/// The filter; none on processors for which there is none.
pub fn filter(without_network: bool) -> Option<Filter> {
    let architecture = ARCHITECTURE?;
    let mut code = Code::default();
    code.load(ARCH);
    // Calls of another architecture, such as those of 32-bit programs, have other numbers: they are not let through.
    code.unless(IF_EQUAL, architecture, libc::SECCOMP_RET_KILL_PROCESS);
    code.load(NUMBER);
    if cfg!(target_arch = "x86_64") {
        code.when(IF_AT_LEAST, X32_BIT, refusal(libc::ENOSYS));
    }
    for call in REFUSED {
        code.when(IF_EQUAL, number(*call), refusal(libc::EPERM));
    }
    // Its flags lie in memory, where no filter sees them; programs fall back to `clone`.
    code.when(IF_EQUAL, number(libc::SYS_clone3), refusal(libc::ENOSYS));
    code.only_for(libc::SYS_clone, |code| {
        code.load(argument(0));
        code.when(IF_ANY_BIT, NEW_NAMESPACES, refusal(libc::EPERM));
    });
    code.only_for(libc::SYS_unshare, |code| {
        code.load(argument(0));
        let flags = NEW_NAMESPACES | NEW_TIME_NAMESPACE;
        code.when(IF_ANY_BIT, flags, refusal(libc::EPERM));
    });
    code.only_for(libc::SYS_ioctl, |code| {
        code.load(argument(1));
        for operation in [TIOCSTI, TIOCLINUX] {
            code.when(IF_EQUAL, operation, refusal(libc::EPERM));
        }
    });
    // It sets its own limits; of others of the same user, the worker among them, it reads them only.
    code.only_for(libc::SYS_prlimit64, |code| {
        code.load(argument(0));
        code.step(IF_EQUAL, 6, 0, 0);
        for half_of_the_new_limit in [argument(2), argument(2) + 4] {
            code.load(half_of_the_new_limit);
            code.unless(IF_EQUAL, 0, refusal(libc::EPERM));
        }
    });
    let (families, refused): (&[i32], i32) = if without_network {
        (&[libc::AF_UNIX], libc::EACCES)
    } else {
        let usual = &[
            libc::AF_UNIX,
            libc::AF_INET,
            libc::AF_INET6,
            libc::AF_NETLINK,
        ];
        (usual, libc::EAFNOSUPPORT)
    };
    code.only_for(libc::SYS_socket, |code| {
        code.load(argument(0));
        code.unless_one_of(families, refusal(refused));
    });
    code.only_for(libc::SYS_socketpair, |code| {
        code.load(argument(0));
        code.unless_one_of(&[libc::AF_UNIX], refusal(libc::EAFNOSUPPORT));
    });
    set_id::refuse(&mut code);
    code.give(libc::SECCOMP_RET_ALLOW);
    Some(Filter {
        program: code.steps,
    })
}

impl Filter {
    /// Puts it on this thread and all that it starts. A system call and nothing else, for use after a fork.
    pub fn put_on(&self) -> Result<(), i32> {
        let program = libc::sock_fprog {
            len: u16::try_from(self.program.len()).unwrap_or(0),
            filter: self.program.as_ptr().cast_mut(),
        };
        // SAFETY: the program is as long as it says, and the kernel only reads it.
        let answer = unsafe {
            libc::syscall(
                libc::SYS_seccomp,
                libc::SECCOMP_SET_MODE_FILTER as libc::c_ulong,
                0 as libc::c_ulong,
                &raw const program,
            )
        };
        if answer == 0 {
            Ok(())
        } else {
            Err(last_errno())
        }
    }
}

/// A program that is being written. After each part the accumulator holds the number of the call again.
#[derive(Default)]
pub(super) struct Code {
    steps: Vec<sock_filter>,
}

impl Code {
    pub(super) fn load(&mut self, offset: u32) {
        self.step(LOAD, 0, 0, offset);
    }

    fn give(&mut self, verdict: u32) {
        self.step(RETURN, 0, 0, verdict);
    }

    pub(super) fn when(&mut self, test: u16, value: u32, verdict: u32) {
        self.step(test, 0, 1, value);
        self.give(verdict);
    }

    fn unless(&mut self, test: u16, value: u32, verdict: u32) {
        self.step(test, 1, 0, value);
        self.give(verdict);
    }

    fn unless_one_of(&mut self, values: &[i32], verdict: u32) {
        let count = u8::try_from(values.len()).unwrap_or(u8::MAX);
        for (position, value) in (0..count).zip(values) {
            self.step(IF_EQUAL, count - position, 0, value.unsigned_abs());
        }
        self.give(verdict);
    }

    /// A part that looks at the arguments of one call.
    pub(super) fn only_for(&mut self, call: c_long, write: impl FnOnce(&mut Code)) {
        let mut part = Code::default();
        write(&mut part);
        part.load(NUMBER);
        let length = u8::try_from(part.steps.len()).unwrap_or(u8::MAX);
        self.step(IF_EQUAL, 0, length, number(call));
        self.steps.append(&mut part.steps);
    }

    pub(super) fn step(&mut self, code: u16, if_true: u8, if_false: u8, value: u32) {
        self.steps.push(sock_filter {
            code,
            jt: if_true,
            jf: if_false,
            k: value,
        });
    }
}

pub(super) fn refusal(errno: i32) -> u32 {
    libc::SECCOMP_RET_ERRNO | (errno.unsigned_abs() & libc::SECCOMP_RET_DATA)
}

pub(super) fn number(call: c_long) -> u32 {
    u32::try_from(call).unwrap_or(u32::MAX)
}

pub(super) fn argument(index: u32) -> u32 {
    ARGUMENTS + 8 * index
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel would answer.
    fn verdict(filter: &Filter, call: c_long, arguments: [u64; 3]) -> u32 {
        run(
            filter,
            ARCHITECTURE.expect("one of ours"),
            number(call),
            arguments,
        )
    }

    fn run(filter: &Filter, arch: u32, call: u32, arguments: [u64; 3]) -> u32 {
        let mut seen = [0u8; 64];
        seen[0..4].copy_from_slice(&call.to_ne_bytes());
        seen[4..8].copy_from_slice(&arch.to_ne_bytes());
        for (index, argument) in arguments.iter().enumerate() {
            seen[16 + 8 * index..24 + 8 * index].copy_from_slice(&argument.to_ne_bytes());
        }
        let (mut at, mut accumulator) = (0, 0u32);
        loop {
            let step = filter.program[at];
            let jump = |holds: bool| 1 + usize::from(if holds { step.jt } else { step.jf });
            match step.code {
                LOAD => {
                    let offset = step.k as usize;
                    let bytes = seen[offset..offset + 4].try_into().expect("four bytes");
                    accumulator = u32::from_ne_bytes(bytes);
                    at += 1;
                }
                IF_EQUAL => at += jump(accumulator == step.k),
                IF_AT_LEAST => at += jump(accumulator >= step.k),
                IF_ANY_BIT => at += jump(accumulator & step.k != 0),
                RETURN => return step.k,
                other => panic!("no such step {other}"),
            }
        }
    }

    const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;

    #[test]
    fn ordinary_calls_pass_and_the_list_is_refused() {
        for without_network in [false, true] {
            let filter = filter(without_network).expect("a filter");
            for call in [
                libc::SYS_read,
                libc::SYS_openat,
                libc::SYS_execve,
                libc::SYS_kill,
            ] {
                assert_eq!(verdict(&filter, call, [9, 9, 9]), ALLOW);
            }
            for call in REFUSED {
                assert_eq!(verdict(&filter, *call, [0; 3]), refusal(libc::EPERM));
            }
        }
    }

    #[test]
    fn without_a_network_only_unix_sockets_are_left() {
        let off = filter(true).expect("a filter");
        let on = filter(false).expect("a filter");
        let socket = |filter, family: i32| {
            verdict(
                filter,
                libc::SYS_socket,
                [u64::from(family.unsigned_abs()), 1, 0],
            )
        };
        for family in [libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK] {
            assert_eq!(socket(&off, family), refusal(libc::EACCES));
            assert_eq!(socket(&on, family), ALLOW);
        }
        for filter in [&off, &on] {
            assert_eq!(socket(filter, libc::AF_UNIX), ALLOW);
            assert_ne!(socket(filter, libc::AF_PACKET), ALLOW);
            assert_ne!(socket(filter, libc::AF_VSOCK), ALLOW);
            let pair = u64::from(libc::AF_UNIX.unsigned_abs());
            assert_eq!(verdict(filter, libc::SYS_socketpair, [pair, 1, 0]), ALLOW);
        }
    }

    #[test]
    fn threads_are_made_and_namespaces_are_not() {
        let filter = filter(false).expect("a filter");
        let thread = (libc::CLONE_VM | libc::CLONE_FS | libc::CLONE_THREAD) as u64;
        assert_eq!(verdict(&filter, libc::SYS_clone, [thread, 0, 0]), ALLOW);
        let namespace = thread | libc::CLONE_NEWUSER as u64;
        let refused = refusal(libc::EPERM);
        assert_eq!(
            verdict(&filter, libc::SYS_clone, [namespace, 0, 0]),
            refused
        );
        assert_eq!(verdict(&filter, libc::SYS_unshare, [0x80, 0, 0]), refused);
        let files = libc::CLONE_FILES as u64;
        assert_eq!(verdict(&filter, libc::SYS_unshare, [files, 0, 0]), ALLOW);
        let clone3 = verdict(&filter, libc::SYS_clone3, [0; 3]);
        assert_eq!(clone3, refusal(libc::ENOSYS));
    }

    #[test]
    fn limits_and_terminals_of_others_are_left_alone() {
        let filter = filter(false).expect("a filter");
        assert_eq!(verdict(&filter, libc::SYS_prlimit64, [0, 7, 1]), ALLOW);
        let refused = refusal(libc::EPERM);
        for limit in [1, 1 << 40] {
            let others = verdict(&filter, libc::SYS_prlimit64, [1, 7, limit]);
            assert_eq!(others, refused);
        }
        assert_eq!(verdict(&filter, libc::SYS_prlimit64, [1, 7, 0]), ALLOW);
        let type_into = [0, u64::from(TIOCSTI), 0];
        assert_eq!(verdict(&filter, libc::SYS_ioctl, type_into), refused);
        assert_eq!(verdict(&filter, libc::SYS_ioctl, [0, 0x5401, 0]), ALLOW);
    }

    #[test]
    fn nothing_is_made_that_lends_its_owners_rights() {
        let filter = filter(false).expect("a filter");
        let refused = refusal(libc::EPERM);
        for (mode, expected) in [(0o755, ALLOW), (0o4755, refused), (0o2755, refused)] {
            assert_eq!(verdict(&filter, libc::SYS_fchmod, [3, mode, 0]), expected);
            assert_eq!(verdict(&filter, libc::SYS_fchmodat, [3, 0, mode]), expected);
            assert_eq!(verdict(&filter, libc::SYS_mkdirat, [3, 0, mode]), expected);
        }
        // the mode of openat is its fourth argument; of open, where there is one, the third
        if cfg!(target_arch = "x86_64") {
            let make = libc::O_CREAT as u64;
            let tried = |flags, mode| verdict(&filter, 2, [0, flags, mode]);
            assert_eq!(tried(make, 0o4755), refused);
            assert_eq!(tried(make, 0o644), ALLOW);
            // without a file to make, the mode is what was left in the register
            assert_eq!(tried(libc::O_DIRECTORY as u64, 0o4755), ALLOW);
        }
        let unseen = verdict(&filter, libc::SYS_openat2, [0; 3]);
        assert_eq!(unseen, refusal(libc::ENOSYS));
    }

    #[test]
    fn another_table_of_calls_leads_around_nothing() {
        let filter = filter(false).expect("a filter");
        let killed = run(&filter, 0x4000_0003, number(libc::SYS_read), [0; 3]);
        assert_eq!(killed, libc::SECCOMP_RET_KILL_PROCESS);
        if cfg!(target_arch = "x86_64") {
            let arch = ARCHITECTURE.expect("one of ours");
            let x32 = run(&filter, arch, X32_BIT | number(libc::SYS_read), [0; 3]);
            assert_eq!(x32, refusal(libc::ENOSYS));
        }
    }
}
