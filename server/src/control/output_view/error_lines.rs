//! Which lines look like errors: a guess by their words, made for compilers, test runners, interpreters and logs.

/// Words that tell of a failure, wherever they stand as a word of their own.
const WORDS: [&str; 34] = [
    "error",
    "errors",
    "err",
    "fail",
    "failed",
    "fails",
    "failure",
    "failures",
    "fatal",
    "panic",
    "panicked",
    "panics",
    "exception",
    "traceback",
    "critical",
    "emerg",
    "emergency",
    "abort",
    "aborted",
    "aborting",
    "segfault",
    "sigsegv",
    "killed",
    "crash",
    "crashed",
    "cannot",
    "denied",
    "refused",
    "undefined",
    "unresolved",
    "unhandled",
    "uncaught",
    "assertion",
    "oom",
];
/// What a line may begin with, spaces aside.
const BEGINNINGS: [&str; 4] = ["not ok", "E   ", "caused by", "✗"];
/// Ends of longer words, such as `ValueError`.
const ENDINGS: [&str; 2] = ["error", "exception"];
/// Words before which a word of failure says that there was none.
const DENIALS: [&str; 3] = ["0", "no", "without"];

/// Whether the line looks like an error.
pub(super) fn is_error(line: &str) -> bool {
    let trimmed = line.trim_start();
    if BEGINNINGS
        .iter()
        .any(|beginning| starts_with(trimmed, beginning))
    {
        return true;
    }
    let mut before = "";
    for word in trimmed.split(|character: char| !character.is_alphanumeric()) {
        if word.is_empty() {
            continue;
        }
        let is_denied = DENIALS
            .iter()
            .any(|denial| before.eq_ignore_ascii_case(denial));
        if !is_denied && is_bad(word) {
            return true;
        }
        before = word;
    }
    false
}

/// Whether the line begins a report that goes on for as long as lines are indented.
pub(super) fn begins_a_report(line: &str) -> bool {
    [
        "Traceback (most recent call last)",
        "stack backtrace:",
        "goroutine ",
        "Stack trace:",
    ]
    .iter()
    .any(|beginning| line.trim_start().starts_with(beginning))
}

fn is_bad(word: &str) -> bool {
    WORDS.iter().any(|bad| word.eq_ignore_ascii_case(bad))
        // `ValueError` and `IOException`, not `terror`
        || (word.starts_with(|first: char| first.is_ascii_uppercase())
            && ENDINGS.iter().any(|ending| ends_with(word, ending)))
}

fn starts_with(text: &str, beginning: &str) -> bool {
    text.get(..beginning.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(beginning))
}

fn ends_with(word: &str, ending: &str) -> bool {
    word.len()
        .checked_sub(ending.len())
        .and_then(|at| word.get(at..))
        .is_some_and(|end| end.eq_ignore_ascii_case(ending))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_programs_print_when_they_fail_is_seen() {
        for line in [
            "error[E0308]: mismatched types",
            "main.c:3:5: fatal error: x.h: No such file",
            "thread 'main' panicked at src/main.rs:1:1:",
            "Traceback (most recent call last):",
            "ValueError: bad",
            "java.io.IOException: gone",
            "test a::b ... FAILED",
            "not ok 3 - it works",
            "E   assert 1 == 2",
            "2026-01-01T00:00:00Z ERROR worker: lost",
            "make: *** [all] Error 2",
            "sh: cannot open x: Permission denied",
            "level=error msg=x",
        ] {
            assert!(is_error(line), "{line}");
        }
    }

    #[test]
    fn what_goes_well_is_no_error() {
        for line in [
            "",
            "ok",
            "0 errors, 2 warnings",
            "test result: ok. 3 passed; 0 failed",
            "finished without errors",
            "no error",
            "a terror of mirrors",
            "compiling errorless v1.0",
        ] {
            assert!(!is_error(line), "{line}");
        }
        assert!(begins_a_report("stack backtrace:") && !begins_a_report("track"));
    }
}
