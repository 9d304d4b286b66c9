//! Signals by name.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The signals that a task can be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Signal {
    Term,
    Int,
    Kill,
    Hup,
    Quit,
    Usr1,
    Usr2,
    Cont,
    Stop,
    Tstp,
    Winch,
}

/// A name that [`Signal`] does not know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown signal {name:?}: use TERM, INT, KILL, HUP, QUIT, USR1, USR2, CONT, STOP, TSTP or WINCH, with or without SIG in front"
)]
pub struct UnknownSignal {
    pub name: String,
}

impl Signal {
    pub const ALL: [Signal; 11] = [
        Signal::Term,
        Signal::Int,
        Signal::Kill,
        Signal::Hup,
        Signal::Quit,
        Signal::Usr1,
        Signal::Usr2,
        Signal::Cont,
        Signal::Stop,
        Signal::Tstp,
        Signal::Winch,
    ];

    /// The name without `SIG`, such as `TERM`.
    pub fn name(self) -> &'static str {
        match self {
            Signal::Term => "TERM",
            Signal::Int => "INT",
            Signal::Kill => "KILL",
            Signal::Hup => "HUP",
            Signal::Quit => "QUIT",
            Signal::Usr1 => "USR1",
            Signal::Usr2 => "USR2",
            Signal::Cont => "CONT",
            Signal::Stop => "STOP",
            Signal::Tstp => "TSTP",
            Signal::Winch => "WINCH",
        }
    }

    /// The number on this machine.
    pub fn number(self) -> i32 {
        match self {
            Signal::Term => libc::SIGTERM,
            Signal::Int => libc::SIGINT,
            Signal::Kill => libc::SIGKILL,
            Signal::Hup => libc::SIGHUP,
            Signal::Quit => libc::SIGQUIT,
            Signal::Usr1 => libc::SIGUSR1,
            Signal::Usr2 => libc::SIGUSR2,
            Signal::Cont => libc::SIGCONT,
            Signal::Stop => libc::SIGSTOP,
            Signal::Tstp => libc::SIGTSTP,
            Signal::Winch => libc::SIGWINCH,
        }
    }

    /// The signal with this number; nothing for one that a task cannot be sent.
    pub fn from_number(number: i32) -> Option<Signal> {
        Signal::ALL
            .into_iter()
            .find(|signal| signal.number() == number)
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SIG{}", self.name())
    }
}

impl FromStr for Signal {
    type Err = UnknownSignal;

    /// Reads `TERM`, `term`, `SIGTERM`, `sigterm` and so on. Numbers are not names.
    fn from_str(text: &str) -> Result<Signal, UnknownSignal> {
        let upper = text.to_ascii_uppercase();
        let bare = upper.strip_prefix("SIG").unwrap_or(&upper);
        let found = Signal::ALL.into_iter().find(|signal| signal.name() == bare);
        found.ok_or_else(|| UnknownSignal {
            name: text.to_owned(),
        })
    }
}

/// The name of any signal number that can end a process, such as `SIGSEGV` for 11; `SIG<n>` where it has no fixed name.
pub fn signal_name(number: i32) -> String {
    const NAMED: [(i32, &str); 31] = [
        (libc::SIGHUP, "SIGHUP"),
        (libc::SIGINT, "SIGINT"),
        (libc::SIGQUIT, "SIGQUIT"),
        (libc::SIGILL, "SIGILL"),
        (libc::SIGTRAP, "SIGTRAP"),
        (libc::SIGABRT, "SIGABRT"),
        (libc::SIGBUS, "SIGBUS"),
        (libc::SIGFPE, "SIGFPE"),
        (libc::SIGKILL, "SIGKILL"),
        (libc::SIGUSR1, "SIGUSR1"),
        (libc::SIGSEGV, "SIGSEGV"),
        (libc::SIGUSR2, "SIGUSR2"),
        (libc::SIGPIPE, "SIGPIPE"),
        (libc::SIGALRM, "SIGALRM"),
        (libc::SIGTERM, "SIGTERM"),
        (libc::SIGSTKFLT, "SIGSTKFLT"),
        (libc::SIGCHLD, "SIGCHLD"),
        (libc::SIGCONT, "SIGCONT"),
        (libc::SIGSTOP, "SIGSTOP"),
        (libc::SIGTSTP, "SIGTSTP"),
        (libc::SIGTTIN, "SIGTTIN"),
        (libc::SIGTTOU, "SIGTTOU"),
        (libc::SIGURG, "SIGURG"),
        (libc::SIGXCPU, "SIGXCPU"),
        (libc::SIGXFSZ, "SIGXFSZ"),
        (libc::SIGVTALRM, "SIGVTALRM"),
        (libc::SIGPROF, "SIGPROF"),
        (libc::SIGWINCH, "SIGWINCH"),
        (libc::SIGIO, "SIGIO"),
        (libc::SIGPWR, "SIGPWR"),
        (libc::SIGSYS, "SIGSYS"),
    ];
    let named = NAMED.iter().find(|(signal, _)| *signal == number);
    named.map_or_else(|| format!("SIG{number}"), |(_, name)| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_in_any_case_with_and_without_the_prefix() {
        for signal in Signal::ALL {
            let name = signal.name();
            let spellings = [
                name.to_owned(),
                name.to_lowercase(),
                format!("SIG{name}"),
                format!("sig{}", name.to_lowercase()),
            ];
            for spelling in spellings {
                assert_eq!(spelling.parse::<Signal>(), Ok(signal), "{spelling}");
            }
        }
    }

    #[test]
    fn an_unknown_name_is_an_error_and_never_kill() {
        for name in ["", "SIG", "9", "SEGV", "SIGSIGTERM", "TERM ", "KILLL"] {
            assert_eq!(
                name.parse::<Signal>(),
                Err(UnknownSignal {
                    name: name.to_owned()
                })
            );
        }
    }

    #[test]
    fn numbers_have_names() {
        assert_eq!(signal_name(libc::SIGKILL), "SIGKILL");
        assert_eq!(signal_name(libc::SIGSEGV), "SIGSEGV");
        assert_eq!(signal_name(40), "SIG40");
    }
}
