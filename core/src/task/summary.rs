//! The one-line summary that a task gets where its work gives none.

use super::{Failure, RunFacts, TerminalState};
use std::time::Duration;

/// Longest summary, in bytes.
pub const MAX_SUMMARY_BYTES: usize = 200;

/// What a summary is made from.
#[derive(Clone, Debug)]
pub struct Ending<'a> {
    /// How the task ended.
    pub state: TerminalState,
    /// Why, if it failed.
    pub failure: Option<Failure>,
    /// Sentence about the failure, if there is one.
    pub message: Option<&'a str>,
    /// What the worker saw; none: no run ended.
    pub facts: Option<&'a RunFacts>,
    /// From launch to exit.
    pub duration: Option<Duration>,
    /// Last bytes of standard output.
    pub stdout_tail: &'a [u8],
    /// Last bytes of standard error.
    pub stderr_tail: &'a [u8],
}

/// Such as `exit 3 in 1.2 s; stderr: oops`, at most [`MAX_SUMMARY_BYTES`].
#[must_use]
pub fn summarize(ending: &Ending<'_>) -> String {
    let mut text = headline(ending);
    if let Some(duration) = ending.duration {
        text.push_str(&format!(" in {}", seconds(duration)));
    }
    let quoted = match ending.state {
        TerminalState::Failed => last_line(ending.stderr_tail)
            .map(|line| ("stderr", line))
            .or_else(|| last_line(ending.stdout_tail).map(|line| ("stdout", line))),
        TerminalState::Succeeded => last_line(ending.stdout_tail).map(|line| ("stdout", line)),
        TerminalState::Canceled => None,
    };
    match (ending.message, quoted) {
        (Some(message), _) if !message.is_empty() => text.push_str(&format!("; {message}")),
        (_, Some((stream, line))) => text.push_str(&format!("; {stream}: {line}")),
        (_, None) => {}
    }
    clip(&text, MAX_SUMMARY_BYTES)
}

/// The longest start of `text` that fits into `max_bytes` without splitting a character, ending in `…` if cut.
#[must_use]
pub fn clip(text: &str, max_bytes: usize) -> String {
    const ELLIPSIS: &str = "…";
    if text.len() <= max_bytes {
        return text.to_owned();
    }
    let mut end = max_bytes.saturating_sub(ELLIPSIS.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{ELLIPSIS}", &text[..end])
}

fn headline(ending: &Ending<'_>) -> String {
    let exit = ending
        .facts
        .and_then(|facts| match (facts.exit_code, facts.signal) {
            (Some(code), _) => Some(format!("exit {code}")),
            (None, Some(signal)) => Some(format!("signal {signal}")),
            (None, None) => None,
        });
    match (ending.state, ending.failure) {
        (TerminalState::Canceled, _) => "canceled".to_owned(),
        (TerminalState::Succeeded, _) => exit.unwrap_or_else(|| "succeeded".to_owned()),
        (TerminalState::Failed, Some(failure)) => match (failure.kind, exit) {
            (super::ErrorKind::Exit | super::ErrorKind::Signal, Some(exit)) => exit,
            (kind, _) => kind.as_str().replace('_', " "),
        },
        (TerminalState::Failed, None) => "failed".to_owned(),
    }
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

/// The last line with anything to read in it, without control characters.
fn last_line(bytes: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(bytes);
    text.lines()
        .rev()
        .map(|line| {
            line.chars()
                .filter(|character| !character.is_control())
                .collect::<String>()
        })
        .map(|line| line.trim().to_owned())
        .find(|line| !line.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::ErrorKind;

    fn ending(facts: &RunFacts) -> Ending<'_> {
        Ending {
            state: TerminalState::Failed,
            failure: Some(Failure::retryable(ErrorKind::Exit)),
            message: None,
            facts: Some(facts),
            duration: Some(Duration::from_millis(1_240)),
            stdout_tail: b"line 3\n",
            stderr_tail: b"warning\n\x1b[31moops\x1b[0m\n\n",
        }
    }

    fn exited(code: i32) -> RunFacts {
        RunFacts {
            exit_code: Some(code),
            signal: None,
            oom_killed: false,
            stop_cause: None,
            error: None,
        }
    }

    #[test]
    fn a_failed_exit_quotes_the_end_of_stderr() {
        let facts = exited(3);
        assert_eq!(
            summarize(&ending(&facts)),
            "exit 3 in 1.2 s; stderr: [31moops[0m"
        );
    }

    #[test]
    fn a_success_quotes_the_end_of_stdout() {
        let facts = exited(0);
        let ending = Ending {
            state: TerminalState::Succeeded,
            failure: None,
            ..ending(&facts)
        };
        assert_eq!(summarize(&ending), "exit 0 in 1.2 s; stdout: line 3");
    }

    #[test]
    fn a_long_summary_is_cut_between_characters() {
        let facts = exited(1);
        let tail = "ü".repeat(300);
        let ending = Ending {
            stderr_tail: tail.as_bytes(),
            ..ending(&facts)
        };
        let text = summarize(&ending);
        assert!(
            text.len() <= MAX_SUMMARY_BYTES && text.ends_with('…'),
            "{text}"
        );
    }
}
