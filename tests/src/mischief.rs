//! What a process can do to its supervisor, its machine and its neighbours: the worse verbs of the probe.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

/// What the probe says of these verbs.
pub const USAGE: &str = "
  fork-bomb HELD CHAINS         HELD children that hang, and CHAINS of ever new ones, until killed
  orphans N                     N quick children, each left to whoever takes it
  zombies N                     N quick children that are never waited for, then hangs
  stop self|group               stops itself, or all of its group
  late-writer MS                leaves a child that writes a line MS after the end
  drip                          leaves a child that writes for ever
  exhaust-descriptors           opens files until that fails, and prints how many
  eat-memory                    takes memory until that fails, and exits 9
  fill-disk FILE [KEEP]         writes into its directory until that fails, gives back KEEP bytes; hangs until FILE exists
  strike shim|worker SIGNAL     sends a signal to its parent or its parent's, prints the outcome, hangs
  nasty                         NUL, bad UTF-8, half a surrogate, terminal sequences, carriage returns";

/// An upper bound for everything that goes on for ever.
const LIFE: Duration = Duration::from_secs(120);
const MEBIBYTE: usize = 1 << 20;
/// Beyond the memory of any machine that runs this without a limit.
const MOST_MEBIBYTES: usize = 1 << 16;

/// The bytes of `nasty`.
pub const NASTY: &[u8] =
    b"nul \0 bad \xff\xfe half \xed\xa0\x80 red \x1b[31mred\x1b[0m title \x1b]0;owned\x07 50%\r100%\r\nend";

/// Does one of these; false where there is none of that name.
pub fn perform(verb: &str, arguments: &[&str]) -> bool {
    let word = |index: usize| arguments.get(index).copied().unwrap_or_default();
    let number = |index: usize| word(index).parse::<u64>().unwrap_or(0);
    match verb {
        "fork-bomb" => fork_bomb(number(0), number(1)),
        "orphans" => orphans(number(0)),
        "zombies" => zombies(number(0)),
        "stop" => {
            say("ready\n");
            // SAFETY: plain calls.
            unsafe {
                let whom = if word(0) == "group" {
                    0
                } else {
                    libc::getpid()
                };
                libc::kill(whom, libc::SIGSTOP);
            }
            hang();
        }
        "late-writer" => {
            say("first\n");
            if fork() == 0 {
                std::thread::sleep(Duration::from_millis(number(0)));
                say("late\n");
            }
        }
        "drip" => {
            if fork() == 0 {
                let end = Instant::now() + LIFE;
                while Instant::now() < end {
                    say("drip\n");
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
        }
        "exhaust-descriptors" => {
            let open: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
            say(&format!("{}\n", open.len()));
        }
        "eat-memory" => eat_memory(),
        "fill-disk" => fill_disk(Path::new(word(0)), number(1)),
        "strike" => strike(word(0), word(1)),
        "nasty" => {
            let mut stdout = std::io::stdout().lock();
            let _ = stdout.write_all(NASTY).and_then(|()| stdout.flush());
        }
        _ => return false,
    }
    true
}

fn fork_bomb(held: u64, chains: u64) -> ! {
    for _ in 0..held {
        if fork() == 0 {
            hang();
        }
    }
    let end = Instant::now() + LIFE / 4;
    for _ in 0..chains {
        if fork() == 0 {
            while Instant::now() < end {
                if fork() != 0 {
                    // SAFETY: ends this link at once.
                    unsafe { libc::_exit(0) };
                }
                // SAFETY: a plain call.
                unsafe { libc::setsid() };
            }
            // SAFETY: as above.
            unsafe { libc::_exit(0) };
        }
    }
    say("ready\n");
    hang()
}

fn orphans(count: u64) {
    for _ in 0..count {
        let child = fork();
        if child == 0 {
            fork();
            // SAFETY: ends the child and the child's child at once.
            unsafe { libc::_exit(0) };
        }
        // SAFETY: no status is asked for.
        unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
    }
    say("done\n");
}

fn zombies(count: u64) -> ! {
    for _ in 0..count {
        if fork() == 0 {
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(0) };
        }
    }
    say("ready\n");
    hang()
}

fn eat_memory() -> ! {
    let mut taken: Vec<Vec<u8>> = Vec::new();
    for _ in 0..MOST_MEBIBYTES {
        let mut more: Vec<u8> = Vec::new();
        if more.try_reserve_exact(MEBIBYTE).is_err() {
            break;
        }
        more.resize(MEBIBYTE, 1);
        if taken.try_reserve(1).is_err() {
            break;
        }
        taken.push(more);
    }
    drop(std::hint::black_box(taken));
    say("no more memory\n");
    std::process::exit(9)
}

fn fill_disk(let_go: &Path, keep: u64) {
    for name in ["large", "small"] {
        let Ok(mut file) = File::create(name) else {
            continue;
        };
        // whole blocks first, then what is left of the last one
        let block = if name == "large" { MEBIBYTE } else { 1 };
        while file.write_all(&vec![7; block]).is_ok() {}
    }
    if let Ok(large) = File::options().write(true).open("large") {
        let length = large.metadata().map_or(0, |found| found.len());
        let _ = large.set_len(length.saturating_sub(keep));
    }
    // What is printed into a full disk is lost, so it is said by a file elsewhere.
    let _ = std::fs::write(let_go.with_extension("full"), "");
    say(&"full\n".repeat(20_000));
    let end = Instant::now() + LIFE;
    while !let_go.exists() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn strike(whom: &str, signal: &str) -> ! {
    let shim = std::os::unix::process::parent_id();
    let target = if whom == "worker" {
        parent_of(shim)
    } else {
        shim
    };
    let signal = if signal == "STOP" {
        libc::SIGSTOP
    } else {
        libc::SIGKILL
    };
    // SAFETY: a plain call.
    let outcome = unsafe { libc::kill(target.cast_signed(), signal) };
    let said = if outcome == 0 {
        "struck\n".to_owned()
    } else {
        format!("{}\n", std::io::Error::last_os_error())
    };
    say(&said);
    hang()
}

/// The parent of another process; it kills nobody where that cannot be found out.
fn parent_of(pid: u32) -> u32 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let parent = fields.split_whitespace().nth(1);
    parent
        .and_then(|parent| parent.parse().ok())
        .unwrap_or(i32::MAX.cast_unsigned())
}

fn fork() -> i32 {
    // SAFETY: the probe has one thread.
    unsafe { libc::fork() }
}

fn say(text: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
}

fn hang() -> ! {
    let end = Instant::now() + LIFE;
    while Instant::now() < end {
        std::thread::sleep(end.saturating_duration_since(Instant::now()));
    }
    std::process::exit(4)
}
