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
        let preposition = match ending.state {
            TerminalState::Canceled => "after",
            TerminalState::Succeeded | TerminalState::Failed => "in",
        };
        text.push_str(&format!(" {preposition} {}", shown(duration)));
    }
    let quoted = match ending.state {
        TerminalState::Failed => last_line(ending.stderr_tail)
            .map(|line| ("stderr", line))
            .or_else(|| last_line(ending.stdout_tail).map(|line| ("stdout", line))),
        TerminalState::Succeeded => last_line(ending.stdout_tail).map(|line| ("stdout", line)),
        TerminalState::Canceled => None,
    };
    let message = ending
        .message
        .map(one_line)
        .filter(|message| !message.is_empty());
    match (message, quoted) {
        (Some(message), _) => text.push_str(&format!("; {message}")),
        (None, Some((stream, line))) => text.push_str(&format!("; {stream}: {line}")),
        (None, None) => {}
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

/// `35 ms`, `1.2 s`
fn shown(duration: Duration) -> String {
    if duration < Duration::from_secs(1) {
        format!("{} ms", duration.as_millis())
    } else {
        format!("{:.1} s", duration.as_secs_f64())
    }
}

/// The last line with anything to read in it, as a terminal would show it: without escape sequences and control
/// characters, and of a line that was overwritten by carriage returns (progress bars) what was written last.
fn last_line(bytes: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(bytes);
    text.lines().rev().find_map(|line| {
        without_escapes(line)
            .rsplit('\r')
            .map(readable)
            .find(|part| !part.is_empty())
    })
}

/// All lines with anything to read in them, as one.
fn one_line(text: &str) -> String {
    let lines = text.lines().map(|line| readable(&without_escapes(line)));
    let lines: Vec<_> = lines.filter(|line| !line.is_empty()).collect();
    lines.join(" ")
}

/// Without control characters; tabs become spaces, so that they go on separating words.
fn readable(part: &str) -> String {
    let text: String = part
        .chars()
        .map(|character| if character == '\t' { ' ' } else { character })
        .filter(|character| !character.is_control())
        .collect();
    text.trim().to_owned()
}

/// Without the escape sequences of ECMA-48, in their seven-bit and eight-bit forms. Malformed ones end where a terminal
/// would stop to read them; control strings (titles, links) that nothing ends reach to the end of the line.
fn without_escapes(line: &str) -> String {
    const ESCAPE: char = '\u{1b}';
    let mut shown = String::with_capacity(line.len());
    let mut rest = line.chars().peekable();
    while let Some(character) = rest.next() {
        let introducer = match character {
            ESCAPE => rest.next_if(|next| matches!(next, '[' | ']' | 'P' | 'X' | '^' | '_')),
            '\u{90}' => Some('P'),
            '\u{98}' => Some('X'),
            '\u{9b}' => Some('['),
            '\u{9d}' => Some(']'),
            '\u{9e}' => Some('^'),
            '\u{9f}' => Some('_'),
            _ => {
                shown.push(character);
                continue;
            }
        };
        match introducer {
            Some('[') => {
                while rest
                    .next_if(|next| ('\u{30}'..='\u{3f}').contains(next))
                    .is_some()
                {}
                while rest
                    .next_if(|next| ('\u{20}'..='\u{2f}').contains(next))
                    .is_some()
                {}
                let _final = rest.next_if(|next| ('\u{40}'..='\u{7e}').contains(next));
            }
            Some(_) => {
                // A control string ends with ST or BEL. An ESC ends it in any case; a `\` after it belongs to ST.
                while let Some(next) = rest.next_if(|next| *next != ESCAPE) {
                    if matches!(next, '\u{7}' | '\u{9c}') {
                        break;
                    }
                }
            }
            None => {
                while rest
                    .next_if(|next| ('\u{20}'..='\u{2f}').contains(next))
                    .is_some()
                {}
                let _final = rest.next_if(|next| ('\u{30}'..='\u{7e}').contains(next));
            }
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::{ErrorKind, ResultCheck};

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
            result: ResultCheck::Good,
        }
    }

    #[test]
    fn a_failed_exit_quotes_the_end_of_stderr() {
        let facts = exited(3);
        assert_eq!(summarize(&ending(&facts)), "exit 3 in 1.2 s; stderr: oops");
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
    fn lines_are_quoted_as_a_terminal_shows_them() {
        for (written, shown) in [
            (
                "\x1b[1;38;5;196mred\x1b[m and \x1b[?25hplain",
                "red and plain",
            ),
            ("\x1b]0;a title\x07text", "text"),
            (
                "\x1b]8;;http://host/\x1b\\link\x1b]8;;\x1b\\ after",
                "link after",
            ),
            ("\u{9b}31mred\u{9b}0m \u{9d}0;title\u{9c}text", "red text"),
            ("\x1bPq#0\x1b\\picture\x1b(B\x1b7\x1b=", "picture"),
            ("text\x1b]0;a title that nothing ends", "text"),
            ("cut \x1b[31", "cut"),
            ("cut\x1b", "cut"),
            ("\x1b[31\x1b[0mtext", "text"),
            ("\x1b[ümlaut", "ümlaut"),
            ("10 %\r50 %\r100 %", "100 %"),
            ("10 %\r100 %\r\x1b[K\r", "100 %"),
            ("first\r\nsecond\r\n", "second"),
            ("first\n\x1b[0m\r \r\n", "first"),
            ("name\tvalue", "name value"),
        ] {
            assert_eq!(
                last_line(written.as_bytes()).as_deref(),
                Some(shown),
                "{written:?}"
            );
        }
        assert_eq!(last_line(b"\x1b[2J\r\n\x1b]0;title\x07\n"), None);
    }

    #[test]
    fn a_message_of_several_lines_becomes_one() {
        let facts = exited(1);
        let ending = Ending {
            message: Some("cannot start:\n\n\x1b[1mno such file\x1b[0m\n"),
            ..ending(&facts)
        };
        assert_eq!(
            summarize(&ending),
            "exit 1 in 1.2 s; cannot start: no such file"
        );
        let blank = Ending {
            message: Some(" \n"),
            ..ending
        };
        assert_eq!(summarize(&blank), "exit 1 in 1.2 s; stderr: oops");
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
