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
    if is_a_pass(trimmed) {
        return false;
    }
    if BEGINNINGS
        .iter()
        .any(|beginning| starts_with(trimmed, beginning))
    {
        return true;
    }
    let mut before = "";
    let mut at = 0;
    for word in trimmed.split(|character: char| !character.is_alphanumeric() && character != '_') {
        let end = at + word.len();
        let is_in_a_path = is_in_a_path(trimmed, at, end);
        at = end + trimmed[end..].chars().next().map_or(0, char::len_utf8);
        if word.is_empty() {
            continue;
        }
        let is_denied = DENIALS
            .iter()
            .any(|denial| before.eq_ignore_ascii_case(denial));
        if !is_denied && is_bad(word, is_in_a_path) {
            return true;
        }
        before = word;
    }
    false
}

/// Whether a line, spaces before it aside, is the verdict of a test that passed. Its name may hold any word.
pub(super) fn is_a_pass(line: &str) -> bool {
    let is_numbered_ok = line
        .strip_prefix("ok ")
        .is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()));
    let mut words = line.split(|character: char| !character.is_alphanumeric());
    is_numbered_ok
        || ["--- PASS", "ok \t", "ok  \t", "PASS "]
            .iter()
            .any(|beginning| line.starts_with(beginning))
        || line.starts_with(['\u{2713}', '\u{2714}', '\u{221a}'])
        || line.trim_end().ends_with(" ... ok")
        || (words.clone().any(|word| word == "PASSED")
            && !words.any(|word| matches!(word, "FAILED" | "FAIL" | "ERROR")))
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

/// Whether the word between two places of a line touches a `/` or a `::`, as names of files and modules do.
fn is_in_a_path(line: &str, from: usize, to: usize) -> bool {
    ["/", "::"]
        .iter()
        .any(|joint| line[..from].ends_with(joint) || line[to..].starts_with(joint))
}

/// Of a name such as `test_error` or `ERR_REFUSED`, which is one word, only a constant tells what went wrong; of a path,
/// only the name of a type.
fn is_bad(word: &str, is_in_a_path: bool) -> bool {
    let is_a_constant = !word.contains(|character: char| character.is_lowercase());
    let is_listed = |word: &str| WORDS.iter().any(|bad| word.eq_ignore_ascii_case(bad));
    (is_a_constant && word.split('_').any(is_listed))
        || (!is_in_a_path && is_listed(word))
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
            "tests/a.py::test_div FAILED      [ 50%]",
            "--- FAIL: TestDiv (0.00s)",
            "FAIL\tpkg/div\t0.1s",
            "npm ERR_CONNECTION_REFUSED",
            "std::io::Error: bad",
            "src/main.c:3:1: error: no",
            "=== 1 failed, 400 passed in 3s ===",
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
            "tests/a.py::test_error_handling_7 PASSED   [ 51%]",
            "tests/test_error.py::test_it PASSED",
            "test store::error::tests::failed_reads ... ok",
            "--- PASS: TestError (0.00s)",
            "ok 3 - an error is told",
            "    \u{2713} fails with an error (3 ms)",
            "ok  \tpkg/errors\t0.1s",
            "reading src/error/mod.rs",
            "running test_error_handling",
        ] {
            assert!(!is_error(line), "{line}");
        }
        assert!(begins_a_report("stack backtrace:") && !begins_a_report("track"));
    }
}
