//! A child process that misbehaves on demand: `probe VERB ARGUMENTS`. Verbs that go on for ever print `ready` and a line
//! break first, once what they are about is set up. Nothing here lives longer than two minutes, whatever a test forgets.

#[path = "../mischief.rs"]
mod mischief;
#[path = "../pattern.rs"]
mod pattern;
#[path = "../reach.rs"]
mod reach;
#[path = "../terminal.rs"]
mod terminal;

use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

const USAGE: &str = "probe VERB, one of:
  spew [--stdout BYTES] [--stderr BYTES] [--chunk BYTES] [--seed N] [--raw]
                                pattern bytes, then exit 0 (stderr: seed + 1); --raw: as they are, through a terminal
  flow FILE --seed N --every MS --exit CODE
                                pattern bytes on both streams (stderr: seed + 1), 1,000 at a time, until FILE exists;
                                then writes their number per stream to FILE.N and ends
  lines N --every MS            numbered lines
  long-line BYTES               one line without a break
  binary                        all 256 byte values, 16 times
  hang                          until killed
  ignore-term                   ignores HUP, INT, QUIT and TERM
  exit-on-term CODE             prints bye at TERM and exits
  exit CODE | raise SIGNAL      ends by itself; SIGNAL is a number
  burn MS                       uses the processor
  daemon FILE [--close] [--stay] [--ignore-term]
                                leaves a detached process that writes its pid to FILE; --close: without the pipes
  grandchild-holds-stdout FILE  like daemon, but in the same session
  close-stdout-then-hang        closes stdout and stderr
  fork-bomb-on-term [--setsid]  ever new processes after TERM
  catch                         prints the number of each signal that comes; ends well at TERM
  closes-stdin                  closes stdin, then hangs
  limits                        soft and hard limits of descriptors and core files, the priority, user and groups
  stdin-echo | env | cwd | umask | signals | fds
  terminal [--watch]            what the terminal is; --watch: and each of its sizes, until TERM
  keys                          the bytes that are typed, one by one, until q
  touch FILE                    creates FILE, then hangs
  try KIND=ARGUMENT ...         what is within reach: a line for each, with ok or the error; kinds are in reach.rs
  status NAME ...               lines of /proc/self/status";

/// An upper bound for everything that goes on for ever.
const LIFE: Duration = Duration::from_secs(120);
const BOMB_CHAINS: usize = 6;

pub fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words = Words(&arguments);
    match words.at(0) {
        "spew" => spew(&words),
        "flow" => flow(&words),
        "lines" => lines(
            words.number(1),
            Duration::from_millis(words.option("--every", 0)),
        ),
        "long-line" => long_line(words.number(1)),
        "binary" => {
            let all: Vec<u8> = (0..=255).collect();
            (0..16).for_each(|_| print_bytes(&all));
        }
        "hang" => ready_and_hang(),
        "ignore-term" => {
            ignore_ends();
            ready_and_hang();
        }
        "exit-on-term" => {
            block(libc::SIGTERM);
            print_bytes(b"ready\n");
            wait_for(libc::SIGTERM);
            print_bytes(b"bye\n");
            exit(words.number(1));
        }
        "exit" => exit(words.number(1)),
        "raise" => raise(words.number(1)),
        "burn" => {
            let end = Instant::now() + Duration::from_millis(words.number(1));
            while Instant::now() < end {
                std::hint::black_box(pattern::matches(0, 0, &[0; 64]));
            }
        }
        "daemon" => leave_behind(&words, true),
        "grandchild-holds-stdout" => leave_behind(&words, false),
        "close-stdout-then-hang" => {
            print_bytes(b"ready\n");
            close_output();
            hang();
        }
        "fork-bomb-on-term" => fork_bomb_on_term(words.has("--setsid")),
        "catch" => catch(),
        "closes-stdin" => {
            // SAFETY: nothing is read afterwards.
            unsafe { libc::close(0) };
            ready_and_hang();
        }
        "limits" => print_limits(),
        "stdin-echo" => {
            let mut input = Vec::new();
            std::io::stdin()
                .read_to_end(&mut input)
                .unwrap_or_else(|error| fail(&error.to_string()));
            print_bytes(&input);
        }
        "env" => {
            for (name, value) in std::env::vars_os() {
                print_bytes(format!("{}={}\n", name.display(), value.display()).as_bytes());
            }
        }
        "cwd" => {
            let cwd = std::env::current_dir().unwrap_or_else(|error| fail(&error.to_string()));
            print_bytes(format!("{}\n", cwd.display()).as_bytes());
        }
        "umask" => {
            // SAFETY: the call cannot fail.
            let mask = unsafe { libc::umask(0) };
            print_bytes(format!("{mask:03o}\n").as_bytes());
        }
        "signals" => print_status_lines(&["SigBlk:", "SigIgn:"]),
        "terminal" if words.has("--watch") => terminal::watch(LIFE),
        "terminal" => print_bytes(terminal::report().as_bytes()),
        "keys" => terminal::keys(),
        "fds" => print_open_descriptors(),
        "touch" => {
            write_whole(words.at(1), "");
            ready_and_hang();
        }
        "try" => {
            for attempt in words.0.iter().skip(1) {
                let (kind, argument) = attempt.split_once('=').unwrap_or((attempt, ""));
                let outcome = reach::word(&reach::try_out(kind, argument));
                print_bytes(format!("{attempt} {outcome}\n").as_bytes());
            }
        }
        "status" => {
            let names: Vec<&str> = words.0.iter().skip(1).map(String::as_str).collect();
            print_status_lines(&names);
        }
        verb => {
            let rest: Vec<&str> = arguments.iter().skip(1).map(String::as_str).collect();
            if !mischief::perform(verb, &rest) {
                fail(&format!("{USAGE}{}", mischief::USAGE));
            }
        }
    }
}

struct Words<'a>(&'a [String]);

impl Words<'_> {
    fn at(&self, index: usize) -> &str {
        self.0.get(index).map_or("", String::as_str)
    }

    fn number(&self, index: usize) -> u64 {
        self.at(index).parse().unwrap_or_else(|_| fail(USAGE))
    }

    fn has(&self, flag: &str) -> bool {
        self.0.iter().any(|word| word == flag)
    }

    fn option(&self, flag: &str, default: u64) -> u64 {
        let position = self.0.iter().position(|word| word == flag);
        position.map_or(default, |position| self.number(position + 1))
    }
}

fn spew(words: &Words<'_>) {
    if words.has("--raw") {
        terminal::make_raw();
    }
    let chunk = words.option("--chunk", 64 * 1024).max(1);
    let seed = words.option("--seed", 0);
    let totals = [words.option("--stdout", 0), words.option("--stderr", 0)];
    let mut sent = [0; 2];
    let mut buffer = vec![0; usize::try_from(chunk).unwrap_or(usize::MAX)];
    while sent != totals {
        for stream in 0..2 {
            let length = chunk.min(totals[stream] - sent[stream]);
            let bytes = &mut buffer[..usize::try_from(length).unwrap_or(usize::MAX)];
            pattern::fill(seed + stream as u64, sent[stream], bytes);
            if stream == 0 {
                print_bytes(bytes);
            } else {
                let written = std::io::stderr().write_all(bytes);
                written.unwrap_or_else(|_| exit(3));
            }
            sent[stream] += length;
        }
    }
}

fn flow(words: &Words<'_>) {
    let seed = words.option("--seed", 0);
    let end = Instant::now() + LIFE;
    let mut sent = 0;
    let mut buffer = [0; 1_000];
    while !std::path::Path::new(words.at(1)).exists() && Instant::now() < end {
        pattern::fill(seed, sent, &mut buffer);
        print_bytes(&buffer);
        pattern::fill(seed + 1, sent, &mut buffer);
        let written = std::io::stderr().write_all(&buffer);
        written.unwrap_or_else(|_| exit(3));
        sent += buffer.len() as u64;
        std::thread::sleep(Duration::from_millis(words.option("--every", 0)));
    }
    write_whole(&format!("{}.{seed}", words.at(1)), &sent.to_string());
    exit(words.option("--exit", 0));
}

fn lines(n_lines: u64, pause: Duration) {
    for line in 0..n_lines {
        print_bytes(format!("line {line}\n").as_bytes());
        std::thread::sleep(pause);
    }
}

fn long_line(length: u64) {
    let block = [b'x'; 64 * 1024];
    let mut left = length;
    while left > 0 {
        let now = left.min(block.len() as u64);
        print_bytes(&block[..usize::try_from(now).unwrap_or(0)]);
        left -= now;
    }
}

fn raise(signal: u64) -> ! {
    // SAFETY: plain calls; raising a signal at oneself is what was asked for.
    unsafe {
        // A core file of the probe is of no use to anybody.
        let none = libc::rlimit {
            rlim_cur: 0,
            rlim_max: 0,
        };
        libc::setrlimit(libc::RLIMIT_CORE, &none);
        let signal = i32::try_from(signal).unwrap_or(0);
        // The runtime handles some signals itself, and then goes on.
        libc::signal(signal, libc::SIG_DFL);
        libc::raise(signal);
    }
    hang()
}

/// Leaves a process behind and exits 0 once it is set up.
fn leave_behind(words: &Words<'_>, detach: bool) {
    let (mut ready, mut set_up) = std::io::pipe().unwrap_or_else(|error| fail(&error.to_string()));
    if fork() == 0 {
        if detach {
            // SAFETY: a plain call.
            unsafe { libc::setsid() };
        }
        let middle = std::process::id();
        if fork() != 0 {
            exit(0);
        }
        while std::os::unix::process::parent_id() == middle {
            std::thread::sleep(Duration::from_millis(1));
        }
        if words.has("--ignore-term") {
            ignore_ends();
        }
        write_whole(words.at(1), &std::process::id().to_string());
        if words.has("--close") {
            close_output();
        }
        let _ = set_up.write_all(b"!");
        drop(set_up);
        drop(ready);
        hang();
    }
    drop(set_up);
    let mut byte = [0];
    let _ = ready.read(&mut byte);
    print_bytes(b"ready\n");
    if words.has("--stay") {
        hang();
    }
}

/// After TERM a few chains of processes, each link of which forks the next one and exits, so that what is found is gone
/// when the signal comes. There are never many at a time.
fn fork_bomb_on_term(detach: bool) -> ! {
    block(libc::SIGTERM);
    print_bytes(b"ready\n");
    wait_for(libc::SIGTERM);
    let end = Instant::now() + LIFE / 4;
    for _ in 0..BOMB_CHAINS {
        if fork() == 0 {
            while Instant::now() < end {
                if fork() != 0 {
                    // SAFETY: ends this link at once.
                    unsafe { libc::_exit(0) };
                }
                if detach {
                    // SAFETY: a plain call.
                    unsafe { libc::setsid() };
                }
            }
            exit(0);
        }
    }
    hang()
}

fn catch() -> ! {
    const CAUGHT: [i32; 9] = [
        libc::SIGHUP,
        libc::SIGINT,
        libc::SIGQUIT,
        libc::SIGUSR1,
        libc::SIGUSR2,
        libc::SIGTERM,
        libc::SIGCONT,
        libc::SIGTSTP,
        libc::SIGWINCH,
    ];
    // SAFETY: both are initialised before they are read; a set of signals is plain data.
    let set = unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        for signal in CAUGHT {
            libc::sigaddset(&mut set, signal);
        }
        libc::sigprocmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
        set
    };
    print_bytes(b"ready\n");
    let life = libc::timespec {
        tv_sec: libc::time_t::try_from(LIFE.as_secs()).unwrap_or(60),
        tv_nsec: 0,
    };
    loop {
        // SAFETY: the set and the time are valid.
        let caught = unsafe { libc::sigtimedwait(&set, std::ptr::null_mut(), &life) };
        if caught < 0 {
            exit(4);
        }
        print_bytes(format!("{caught}\n").as_bytes());
        if caught == libc::SIGTERM {
            exit(0);
        }
    }
}

fn print_limits() {
    for (name, resource) in [("nofile", libc::RLIMIT_NOFILE), ("core", libc::RLIMIT_CORE)] {
        let mut limit = libc::rlimit {
            rlim_cur: 0,
            rlim_max: 0,
        };
        // SAFETY: the place is valid.
        unsafe { libc::getrlimit(resource, &mut limit) };
        print_bytes(format!("{name}={}:{}\n", limit.rlim_cur, limit.rlim_max).as_bytes());
    }
    // SAFETY: plain calls.
    let (nice, uid, gid) = unsafe {
        (
            libc::getpriority(libc::PRIO_PROCESS, 0),
            libc::geteuid(),
            libc::getegid(),
        )
    };
    print_bytes(format!("nice={nice}\nuid={uid}\ngid={gid}\n").as_bytes());
    print_status_lines(&["Groups:"]);
}

fn print_status_lines(names: &[&str]) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    for line in status
        .lines()
        .filter(|line| names.iter().any(|name| line.starts_with(name)))
    {
        print_bytes(format!("{line}\n").as_bytes());
    }
}

fn print_open_descriptors() {
    for descriptor in 0..1024 {
        // SAFETY: asks for flags only.
        if unsafe { libc::fcntl(descriptor, libc::F_GETFD) } >= 0 {
            print_bytes(format!("{descriptor}\n").as_bytes());
        }
    }
}

fn ignore_ends() {
    for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM] {
        // SAFETY: ignoring a signal runs no code.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}

fn block(signal: i32) {
    let set = set_of(signal);
    // SAFETY: the set is initialised.
    unsafe { libc::sigprocmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()) };
}

fn wait_for(signal: i32) {
    let set = set_of(signal);
    let mut caught = 0;
    // SAFETY: both places are valid.
    unsafe { libc::sigwait(&set, &mut caught) };
}

fn set_of(signal: i32) -> libc::sigset_t {
    // SAFETY: sigemptyset initialises what zeroed only reserves.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, signal);
        set
    }
}

fn fork() -> i32 {
    // SAFETY: the probe has one thread.
    unsafe { libc::fork() }
}

fn close_output() {
    // SAFETY: nothing is printed afterwards.
    unsafe {
        libc::close(std::io::stdout().as_raw_fd());
        libc::close(std::io::stderr().as_raw_fd());
    }
}

/// So that a reader never sees half a file.
fn write_whole(path: &str, content: &str) {
    let draft = format!("{path}.draft");
    let written = std::fs::write(&draft, content).and_then(|()| std::fs::rename(&draft, path));
    written.unwrap_or_else(|error| fail(&format!("cannot write {path}: {error}")));
}

/// Without buffering; when nobody reads any more, there is nothing left to do.
fn print_bytes(bytes: &[u8]) {
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(bytes).and_then(|()| stdout.flush());
    written.unwrap_or_else(|_| exit(3));
}

fn ready_and_hang() -> ! {
    print_bytes(b"ready\n");
    hang()
}

fn hang() -> ! {
    let end = Instant::now() + LIFE;
    while Instant::now() < end {
        std::thread::sleep(end.saturating_duration_since(Instant::now()));
    }
    exit(4)
}

fn exit(code: u64) -> ! {
    std::process::exit(i32::try_from(code).unwrap_or(255))
}

fn fail(message: &str) -> ! {
    eprintln!("{message}");
    exit(2)
}
