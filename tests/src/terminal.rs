//! What a child makes of its terminal.

use std::io::{Read, Write};

/// What the terminal is: whether each standard descriptor is one, whether this process is in front of it, its size and name.
pub fn report() -> String {
    // SAFETY: plain calls.
    let (are_terminals, is_in_front) = unsafe {
        let are_terminals: Vec<bool> = (0..3).map(|fd| libc::isatty(fd) == 1).collect();
        let is_leader = libc::getsid(0) == libc::getpid();
        (
            are_terminals,
            is_leader && libc::tcgetpgrp(0) == libc::getpgrp(),
        )
    };
    let term = std::env::var("TERM").unwrap_or_default();
    let can_open = std::fs::File::open("/dev/tty").is_ok();
    format!(
        "terminals={are_terminals:?}\nin front={is_in_front}\nopens={can_open}\nsize={}\nTERM={term}\n",
        size()
    )
}

/// Prints the size once more at each SIGWINCH, for as long as `life` says, or until TERM.
pub fn watch(life: std::time::Duration) {
    let life = libc::timespec {
        tv_sec: libc::time_t::try_from(life.as_secs()).unwrap_or(60),
        tv_nsec: 0,
    };
    // SAFETY: the set is initialised before it is read; it is plain data.
    let set = unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, libc::SIGWINCH);
        libc::sigaddset(&mut set, libc::SIGTERM);
        libc::sigprocmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
        set
    };
    print(&format!("{}ready\n", report()));
    loop {
        // SAFETY: the set and the time are valid.
        match unsafe { libc::sigtimedwait(&set, std::ptr::null_mut(), &life) } {
            libc::SIGWINCH => print(&format!("size={}\n", size())),
            libc::SIGTERM => return,
            _ => std::process::exit(4),
        }
    }
}

/// From now on bytes go through as they are, and nothing is echoed.
pub fn make_raw() {
    // SAFETY: the modes are initialised by the first call.
    unsafe {
        let mut modes: libc::termios = std::mem::zeroed();
        if libc::tcgetattr(0, &mut modes) != 0 {
            std::process::exit(5);
        }
        libc::cfmakeraw(&mut modes);
        libc::tcsetattr(0, libc::TCSANOW, &modes);
    }
}

/// Prints each byte that is typed as a number, until `q`.
pub fn keys() {
    make_raw();
    print("ready\n");
    let mut byte = [0];
    while std::io::stdin().read_exact(&mut byte).is_ok() && byte[0] != b'q' {
        print(&format!("<{}>", byte[0]));
    }
}

fn size() -> String {
    // SAFETY: the place is valid and plain data.
    let size = unsafe {
        let mut size: libc::winsize = std::mem::zeroed();
        libc::ioctl(0, libc::TIOCGWINSZ, &mut size);
        size
    };
    format!("{}x{}", size.ws_row, size.ws_col)
}

fn print(text: &str) {
    let mut output = std::io::stdout().lock();
    let written = output
        .write_all(text.as_bytes())
        .and_then(|()| output.flush());
    written.unwrap_or_else(|_| std::process::exit(3));
}
