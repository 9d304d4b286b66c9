//! Signals as clients name them.

use super::refusal::Refusal;

/// Signals that a process can be sent, by the numbers that Linux gives them on the machines that workers run on.
const SIGNALS: [(i16, &str); 11] = [
    (1, "SIGHUP"),
    (2, "SIGINT"),
    (3, "SIGQUIT"),
    (9, "SIGKILL"),
    (10, "SIGUSR1"),
    (12, "SIGUSR2"),
    (15, "SIGTERM"),
    (18, "SIGCONT"),
    (19, "SIGSTOP"),
    (20, "SIGTSTP"),
    (28, "SIGWINCH"),
];
/// Those that a cancel can begin with.
const FIRST_OF_A_CANCEL: [&str; 6] = [
    "SIGHUP", "SIGINT", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGTERM",
];

/// A signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signal {
    number: i16,
    name: &'static str,
}

impl Signal {
    /// Reads a name, in any case and with or without `SIG` in front, or a number.
    ///
    /// # Errors
    /// [`Refusal::InvalidField`].
    pub fn parse(field: &str, text: &str) -> Result<Self, Refusal> {
        let upper = text.to_ascii_uppercase();
        let bare = upper.strip_prefix("SIG").unwrap_or(&upper);
        let number = text.parse::<i16>().ok();
        let found = SIGNALS
            .into_iter()
            .find(|(known, name)| Some(*known) == number || name.strip_prefix("SIG") == Some(bare));
        let (number, name) = found.ok_or_else(|| {
            let names = SIGNALS.map(|(_, name)| name.trim_start_matches("SIG"));
            Refusal::invalid(
                field,
                format!("must be one of {}, or its number", names.join(", ")),
            )
        })?;
        Ok(Self { number, name })
    }

    /// Reads what a cancel begins with; none: not said.
    ///
    /// # Errors
    /// [`Refusal::InvalidField`].
    pub fn parse_first_of_a_cancel(text: &str) -> Result<Option<Self>, Refusal> {
        if text.is_empty() {
            return Ok(None);
        }
        let signal = Self::parse("signal", text)?;
        if FIRST_OF_A_CANCEL.contains(&signal.name) {
            return Ok(Some(signal));
        }
        let names = FIRST_OF_A_CANCEL.map(|name| name.trim_start_matches("SIG"));
        Err(Refusal::invalid(
            "signal",
            format!(
                "must be one of {}; to kill at once, set the grace to 0",
                names.join(", ")
            ),
        ))
    }

    /// Its number.
    #[must_use]
    pub fn number(self) -> i16 {
        self.number
    }

    /// Its name, such as `SIGHUP`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_read() {
        for text in ["HUP", "hup", "SIGHUP", "sighup", "1"] {
            let signal = Signal::parse("signal", text).expect("a signal");
            assert_eq!((signal.number(), signal.name()), (1, "SIGHUP"));
        }
    }

    #[test]
    fn what_is_no_signal_is_never_taken_for_one() {
        for text in ["", "SIG", "0", "11", "-1", "SIGSIGHUP", "SEGV", "HUP "] {
            assert!(Signal::parse("signal", text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_cancel_begins_with_what_can_end_a_process_and_be_handled() {
        assert!(matches!(Signal::parse_first_of_a_cancel(""), Ok(None)));
        assert!(matches!(
            Signal::parse_first_of_a_cancel("int"),
            Ok(Some(_))
        ));
        for text in ["KILL", "STOP", "WINCH", "CONT", "nonsense"] {
            assert!(Signal::parse_first_of_a_cancel(text).is_err(), "{text}");
        }
    }
}
