//! What a process can reach, tried out: `probe try KIND=ARGUMENT...` prints a line for each, with `ok` or the error.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{SocketAddr, UnixStream};
use std::process::Command;

/// Tries one thing.
pub fn try_out(kind: &str, argument: &str) -> io::Result<()> {
    let number = || {
        argument
            .parse::<i32>()
            .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))
    };
    match kind {
        "read" => File::open(argument)?.read(&mut [0; 16]).map(drop),
        "list" => std::fs::read_dir(argument).map(drop),
        "write" => OpenOptions::new()
            .create(true)
            .append(true)
            .open(argument)?
            .write_all(b"x"),
        "set-id" => OpenOptions::new()
            .create_new(true)
            .write(true)
            .mode(0o4755)
            .open(argument)
            .map(drop),
        "change-mode" => std::fs::set_permissions(argument, Permissions::from_mode(0o2755)),
        "remove" => std::fs::remove_file(argument),
        "truncate" => truncate(argument),
        "execute" => Command::new(argument).status().map(drop),
        "tcp" => TcpStream::connect(argument).map(drop),
        "udp" => UdpSocket::bind("127.0.0.1:0")?
            .send_to(b"x", argument)
            .map(drop),
        "unix" => UnixStream::connect(argument).map(drop),
        "abstract" => {
            let address = SocketAddr::from_abstract_name(argument)?;
            UnixStream::connect_addr(&address).map(drop)
        }
        // SAFETY: signal 0 only asks.
        "signal" => answered(unsafe { libc::kill(number()?, 0) }.into()),
        "trace" => {
            let none = std::ptr::null_mut::<libc::c_void>();
            // SAFETY: no memory is involved; what was attached to is let go when this process ends.
            answered(unsafe { libc::ptrace(libc::PTRACE_SEIZE, number()?, none, none) })
        }
        "memory" => read_memory(number()?),
        "limit" => {
            let limit = libc::rlimit {
                rlim_cur: 64,
                rlim_max: libc::RLIM_INFINITY,
            };
            let nothing = std::ptr::null_mut();
            // SAFETY: the structure is read, and no old one is asked for.
            let answer = unsafe { libc::prlimit(number()?, libc::RLIMIT_NICE, &limit, nothing) };
            answered(answer.into())
        }
        // SAFETY: plain calls; the second is given a structure of zeroes.
        "namespace" => answered(unsafe { libc::unshare(libc::CLONE_NEWUSER) }.into()),
        "ring" => {
            let mut parameters = [0u8; 256];
            // SAFETY: more room than the kernel's structure has; a descriptor that comes of it ends with this process.
            answered(unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, parameters.as_mut_ptr()) })
        }
        "packet" => {
            // SAFETY: a plain call; a descriptor that comes of it ends with this process.
            answered(unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW, 0) }.into())
        }
        _ => Err(io::ErrorKind::Unsupported.into()),
    }
}

/// The error in one word.
pub fn word(outcome: &io::Result<()>) -> String {
    let Err(error) = outcome else {
        return "ok".to_owned();
    };
    match error.raw_os_error() {
        Some(libc::EACCES) => "EACCES".to_owned(),
        Some(libc::EPERM) => "EPERM".to_owned(),
        Some(libc::ENOENT) => "ENOENT".to_owned(),
        Some(libc::ECONNREFUSED) => "ECONNREFUSED".to_owned(),
        Some(libc::EAFNOSUPPORT) => "EAFNOSUPPORT".to_owned(),
        Some(other) => format!("errno {other}"),
        None => error.to_string(),
    }
}

fn truncate(path: &str) -> io::Result<()> {
    let path = std::ffi::CString::new(path)?;
    // SAFETY: the path ends with a zero.
    answered(unsafe { libc::truncate(path.as_ptr(), 0) }.into())
}

/// Reads where every process has its environment's end: the address is of no importance, the permission comes first.
fn read_memory(pid: i32) -> io::Result<()> {
    let mut byte = [0u8];
    let local = libc::iovec {
        iov_base: byte.as_mut_ptr().cast(),
        iov_len: 1,
    };
    let remote = libc::iovec {
        iov_base: std::ptr::dangling_mut::<u8>().cast(),
        iov_len: 1,
    };
    // SAFETY: what is written to is ours, and as long as it says.
    let answer = unsafe { libc::process_vm_readv(pid, &local, 1, &remote, 1, 0) };
    answered(answer as libc::c_long)
}

fn answered(answer: libc::c_long) -> io::Result<()> {
    if answer < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
