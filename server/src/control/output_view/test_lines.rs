//! What lines are to a run of tests: which name those that failed, which belong to their reports, and which count. A guess
//! by their words, made for pytest, unittest, cargo and nextest, go, jest, vitest, mocha, TAP, gtest, ctest and Surefire.

use super::{error_lines, extract::Worth};

/// Lines of a report that are taken, however small the budget.
const LEAST_REPORT_LINES: usize = 16;
/// One more for so many bytes of the budget.
const BYTES_PER_REPORT_LINE: usize = 256;

/// Looks at the lines of a run of tests, one after the other.
#[derive(Clone, Debug)]
pub(super) struct TestLines {
    most_report_lines: usize,
    report: Report,
    report_left: usize,
    /// Whether names stand alone on indented lines, as below `failures:`.
    is_list: bool,
    /// Whether lines may turn out to be the report of the test that is running.
    is_running: bool,
    is_test_run: bool,
}

/// What goes on below a line that begins a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Report {
    None,
    /// All that is indented, or a comment.
    Indented,
    /// All up to an empty line.
    Paragraph,
    /// All up to the next heading.
    Section,
}

/// What a line says by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// A test failed; its report may follow.
    Failed(Report),
    /// A report begins, of a test that is named elsewhere as well.
    Heading(Report),
    /// Worth showing in any report.
    Reason,
    /// Counts, of which some are failures.
    BadCounts,
    /// Counts.
    Counts,
    /// A test passed.
    Passed,
    /// A test begins, and what it prints follows.
    Begun,
    /// Names of failed tests follow.
    List,
    /// Something else begins.
    End,
    Nothing,
}

impl TestLines {
    /// For a text of at most `budget` bytes.
    pub(super) fn new(budget: usize) -> Self {
        Self {
            most_report_lines: LEAST_REPORT_LINES + budget / BYTES_PER_REPORT_LINE,
            report: Report::None,
            report_left: 0,
            is_list: false,
            is_running: false,
            is_test_run: false,
        }
    }

    /// Whether a test failed, or tests were counted.
    pub(super) fn is_test_run(&self) -> bool {
        self.is_test_run
    }

    /// What the next line is worth.
    pub(super) fn worth(&mut self, line: &str) -> Worth {
        let told = tell(line);
        let was_running = self.is_running;
        if told != Told::Nothing && told != Told::Reason {
            self.is_list = told == Told::List;
            self.is_running = told == Told::Begun;
        }
        match told {
            Told::Failed(report) => {
                self.is_test_run = true;
                self.begin(report);
                Worth::Named
            }
            Told::Heading(report) => {
                self.begin(report);
                Worth::Wanted
            }
            Told::BadCounts => {
                self.is_test_run = true;
                self.begin(Report::None);
                Worth::Named
            }
            Told::Counts => {
                self.is_test_run = true;
                self.begin(Report::None);
                Worth::Closing
            }
            Told::Reason => {
                if self.report == Report::None {
                    self.begin(Report::Paragraph);
                }
                Worth::Wanted
            }
            Told::Passed | Told::Begun | Told::List | Told::End => {
                self.begin(Report::None);
                Worth::Apart
            }
            Told::Nothing if self.is_list && line.starts_with("    ") => {
                self.is_test_run = true;
                Worth::Named
            }
            Told::Nothing if self.goes_on(line) => Worth::Continued,
            Told::Nothing if was_running && self.report == Report::None => Worth::Context,
            Told::Nothing => {
                self.is_list &= line.trim().is_empty();
                Worth::Apart
            }
        }
    }

    fn begin(&mut self, report: Report) {
        self.report = report;
        self.report_left = self.most_report_lines;
    }

    /// Whether a line that says nothing by itself belongs to the report above it.
    fn goes_on(&mut self, line: &str) -> bool {
        let belongs = match self.report {
            Report::None => false,
            Report::Indented => line.starts_with([' ', '\t', '#']),
            Report::Paragraph => !line.trim().is_empty(),
            Report::Section => true,
        };
        if !belongs {
            self.report = Report::None;
        }
        let has_room = self.report_left > 0;
        self.report_left = self.report_left.saturating_sub(1);
        belongs && has_room
    }
}

/// What a line says, whatever came before.
fn tell(line: &str) -> Told {
    let text = line.trim();
    if let Some(inner) = framed(text, '=') {
        return banner(inner);
    }
    if framed(text, '_').is_some_and(|inner| !inner.is_empty()) {
        return Told::Heading(Report::Section);
    }
    if text.starts_with("---- ") && text.ends_with(" ----") || text.starts_with("--- STD") {
        return Told::Heading(Report::Section);
    }
    if let Some(told) = by_counts(text) {
        return told;
    }
    if error_lines::is_a_pass(text) {
        // go: `ok  	pkg	0.1s` stands for all tests of a package.
        let is_of_a_package = text.starts_with("ok") && text.contains('\t');
        return if is_of_a_package {
            Told::Counts
        } else {
            Told::Passed
        };
    }
    by_verdict(text).unwrap_or_else(|| by_beginning(line, text))
}

/// What stands between runs of a character, where a line begins and ends with three of it.
fn framed(text: &str, frame: char) -> Option<&str> {
    let inner = text.trim_matches(frame);
    let is_run = |part: &str| part.len() >= 3;
    let begun = text.len() - text.trim_start_matches(frame).len();
    let is_framed = is_run(&text[..begun]) && (inner.is_empty() || text.ends_with(frame));
    is_framed.then(|| inner.trim())
}

/// What a line between `===` says.
fn banner(inner: &str) -> Told {
    if let Some(told) = counted_in(inner) {
        told
    } else if matches!(inner, "FAILURES" | "ERRORS") {
        Told::Heading(Report::Section)
    } else {
        by_verdict(inner).unwrap_or(Told::End)
    }
}

/// `1 failed, 400 passed in 3.21s`.
fn counted_in(text: &str) -> Option<Told> {
    let (counts, _) = text.split_once(" in ")?;
    let is_count = |part: &str| {
        let mut words = part.split_whitespace();
        let number = words.next().unwrap_or_default();
        !number.is_empty()
            && number.bytes().all(|byte| byte.is_ascii_digit())
            && words.next().is_some_and(|word| {
                [
                    "failed",
                    "passed",
                    "error",
                    "errors",
                    "skipped",
                    "xfailed",
                    "xpassed",
                    "warning",
                    "warnings",
                    "deselected",
                    "rerun",
                ]
                .contains(&word)
            })
    };
    let is_bad = |part: &str| {
        ["failed", "error", "errors"]
            .iter()
            .any(|word| part.ends_with(&format!(" {word}")))
    };
    counts
        .split(", ")
        .all(is_count)
        .then(|| counts_are(counts.split(", ").any(is_bad)))
}

fn counts_are(bad: bool) -> Told {
    if bad { Told::BadCounts } else { Told::Counts }
}

/// Lines that count tests.
fn by_counts(text: &str) -> Option<Told> {
    if let Some(told) = counted_in(text) {
        return Some(told);
    }
    if let Some(result) = text.strip_prefix("test result: ") {
        return Some(counts_are(!result.starts_with("ok")));
    }
    if text.contains("Tests run: ") {
        let is_good = text.contains("Failures: 0") && text.contains("Errors: 0");
        return Some(counts_are(!is_good));
    }
    let is_of_jest = ["Tests:", "Test Suites:", "Test Files ", "Tests "]
        .iter()
        .any(|beginning| text.starts_with(beginning))
        && [" passed", " failed", " total"]
            .iter()
            .any(|word| text.contains(word));
    if is_of_jest || text.starts_with("Summary [") {
        return Some(counts_are(text.contains(" failed")));
    }
    if let Some(comment) = text.strip_prefix("# ") {
        let (name, number) = comment.split_once(' ')?;
        let is_count = matches!(name, "tests" | "pass" | "fail") && number.parse::<u64>().is_ok();
        return is_count.then(|| counts_are(name == "fail" && number != "0"));
    }
    if text.contains("% tests passed, ") {
        return Some(counts_are(!text.contains(" 0 tests failed")));
    }
    if text.starts_with("[  PASSED  ]") {
        return Some(Told::Counts);
    }
    if text.starts_with("Ran ") && text.contains(" test") && text.contains(" in ") {
        return Some(Told::Counts);
    }
    if text.starts_with("FAILED (") || text == "FAIL" {
        return Some(Told::BadCounts);
    }
    let mut words = text.split_whitespace();
    let is_number = words.next()?.parse::<u64>().is_ok();
    match words.next()? {
        "passing" if is_number => Some(Told::Counts),
        "failing" if is_number => Some(Told::Failed(Report::Section)),
        _ => None,
    }
}

/// Lines that name a test that failed.
fn by_verdict(text: &str) -> Option<Told> {
    if text.starts_with("--- FAIL:") {
        return Some(Told::Failed(Report::Indented));
    }
    if let Some(rest) = text.strip_prefix("not ok") {
        let is_expected = ["# TODO", "# todo", "# SKIP", "# skip"]
            .iter()
            .any(|directive| rest.contains(directive));
        let is_verdict = rest.is_empty() || rest.starts_with(" -") || is_numbered(rest);
        return (is_verdict && !is_expected).then_some(Told::Failed(Report::Indented));
    }
    // unittest: `FAIL: test_div (tests.Division)`
    for beginning in ["FAIL: ", "ERROR: "] {
        if let Some(rest) = text.strip_prefix(beginning) {
            let (name, behind) = rest.split_once(' ').unwrap_or((rest, ""));
            let is_one = name.starts_with("test") || behind.starts_with('(');
            return is_one.then_some(Told::Failed(Report::Section));
        }
    }
    let mut words = text.split_whitespace();
    let (first, second) = (words.next()?, words.next().unwrap_or_default());
    let is_name = second.contains(['/', '.', ':', '[']);
    if matches!(first, "FAILED" | "FAIL" | "ERROR") && is_name {
        return (first != "ERROR" || second.contains("::") || second.ends_with(".py"))
            .then_some(Told::Failed(Report::None));
    }
    if first == "FAIL" && text.starts_with("FAIL\t") {
        return Some(Told::BadCounts);
    }
    if text.starts_with(['\u{2715}', '\u{2717}', '\u{2718}', '\u{d7}']) && !second.is_empty() {
        return Some(Told::Failed(Report::None));
    }
    let is_of_cargo = first == "test" && text.ends_with(" ... FAILED");
    let is_of_pytest = text.contains("::")
        && text
            .split_whitespace()
            .any(|word| matches!(word, "FAILED" | "ERROR"));
    let is_of_others = text.starts_with("[  FAILED  ]") || text.contains("***Failed");
    (is_of_cargo || is_of_pytest || is_of_others).then_some(Told::Failed(Report::None))
}

fn is_numbered(rest: &str) -> bool {
    rest.strip_prefix(' ')
        .is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
}

/// Lines that say by how they begin what follows.
fn by_beginning(line: &str, text: &str) -> Told {
    if text.starts_with("\u{25cf} ") {
        return Told::Heading(Report::Section);
    }
    if line.starts_with("E   ") || text.contains(" panicked at ") || line.starts_with("panic: ") {
        return Told::Reason;
    }
    // The runner itself failed, as where a test was killed.
    if line.starts_with("error: ") || line.starts_with("INTERNALERROR") {
        return Told::Reason;
    }
    if text == "failures:" || text == "Failed tests:" {
        return Told::List;
    }
    if text.starts_with("=== RUN") || text.starts_with("[ RUN ") {
        return Told::Begun;
    }
    let is_an_end = ["=== ", "[  ", "[---", "running ", "     Running "]
        .iter()
        .any(|beginning| line.starts_with(beginning));
    if is_an_end { Told::End } else { Told::Nothing }
}
