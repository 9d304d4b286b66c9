//! A view of a stream: clean lines, the choice among them, and the counts.

use super::{
    error_lines,
    extract::{Extract, Extracted, Limits, Worth},
    line_range::{LineRange, Ranged},
    test_lines::TestLines,
    text_lines::{TextLine, TextLines},
};
use regex::bytes::Regex;

/// Longest piece of a line that is looked at, in bytes of text.
const MAX_PIECE_BYTES: usize = 4 << 10;
/// Lines shown around one that looks like an error.
const BEFORE_ERROR: usize = 2;
const AFTER_ERROR: usize = 4;
/// Most lines that look like errors, and most of the last lines beside them.
const MOST_ERRORS: usize = 200;
const LAST_BESIDE_ERRORS: usize = 20;
/// Most lines of a report, such as a traceback, that are taken for one.
const MOST_REPORT_LINES: usize = 60;
/// Most lines that tell of failed tests, most of their names and counts at the end, and most lines of what a test printed
/// before its name.
const MOST_FAILURES: usize = 1_000;
const LAST_NAMES: usize = 1_000;
const BEFORE_FAILURE: usize = 8;

/// Which lines a view shows.
#[derive(Clone, Debug)]
pub enum ViewKind {
    /// The last ones.
    Tail,
    /// Those that look like errors, with a few around them, and the last ones.
    Errors,
    /// What a run of tests says of those that failed, and its counts; where it is none, as [`ViewKind::Errors`].
    Tests,
    /// Those that fit.
    Grep {
        /// What a line must hold.
        pattern: Regex,
        /// Lines to show before each.
        before: usize,
        /// Lines to show after each.
        after: usize,
        /// Most lines that fit.
        most: usize,
    },
    /// Those with these numbers, as many as fit the budget.
    Lines {
        /// The first, from 1.
        first: u64,
        /// The last.
        last: u64,
    },
}

/// A view in the making.
#[derive(Clone, Debug)]
pub struct View {
    kind: ViewKind,
    /// Longest piece that is shown or left out as a whole.
    shown_piece: usize,
    lines: TextLines,
    choice: Choice,
    /// Number of the line that comes, from 1.
    number: u64,
    /// Whether lines are shown with their numbers.
    is_numbered: bool,
    /// What is known of reports of errors.
    errors: ErrorReports,
    /// Whether the last line has no end.
    is_unfinished: bool,
    unavailable: u64,
    /// Whether some of it was before what comes, and the last line before the first of it, once a line came behind it.
    has_gap: bool,
    last_exact_line: Option<u64>,
}

/// Where in a report of an error the lines stand.
#[derive(Clone, Copy, Debug, Default)]
struct ErrorReports {
    /// Lines that the report may still have.
    report_left: usize,
}

/// How lines are chosen.
#[derive(Clone, Debug)]
enum Choice {
    Extract(Extract),
    Tests(Box<TestChoice>),
    Range(LineRange),
}

/// Lines of a run of tests, and what is shown where there was none.
#[derive(Clone, Debug)]
struct TestChoice {
    lines: TestLines,
    tests: Extract,
    otherwise: Extract,
}

/// What a view shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// The text, within the budget.
    pub text: String,
    /// Bytes behind lines that are not in it.
    pub omitted_bytes: u64,
    /// Lines that do not end in it.
    pub omitted_lines: u64,
    /// Bytes that were missing.
    pub unavailable_bytes: u64,
    /// Lines that fit, or look like errors, shown or not.
    pub matched_lines: u64,
    /// The first of the lines that were asked for by number and did not fit.
    pub next_line: Option<u64>,
    /// Lines that are kept, if they were asked for by number and all was looked at.
    pub kept_lines: Option<u64>,
    /// The last line before the first missing piece, if lines came behind it; their numbers count only what is kept.
    pub last_exact_line: Option<u64>,
    /// Bytes from the beginning of the view to its end, missing ones included. Where more may come, a character or an
    /// escape sequence that is not finished is not in it.
    pub looked_at: u64,
}

impl View {
    /// A view with a text of at most `budget` bytes, which should be 64 at least.
    #[must_use]
    pub fn new(kind: ViewKind, budget: usize) -> Self {
        let errors = Limits {
            budget,
            wanted_budget: budget / 3 * 2,
            before: BEFORE_ERROR,
            after: AFTER_ERROR,
            most_wanted: MOST_ERRORS,
            last: LAST_BESIDE_ERRORS,
            is_last_chosen: false,
        };
        let limits = match &kind {
            ViewKind::Lines { first, last } => {
                let range = LineRange::new(*first, *last, budget);
                return Self::with(kind, budget, Choice::Range(range));
            }
            ViewKind::Tail => Limits {
                budget,
                wanted_budget: 0,
                before: 0,
                after: 0,
                most_wanted: 0,
                last: usize::MAX,
                is_last_chosen: false,
            },
            ViewKind::Errors => errors,
            ViewKind::Tests => {
                let choice = TestChoice {
                    lines: TestLines::new(budget),
                    tests: Extract::new(Limits {
                        before: BEFORE_FAILURE,
                        after: 0,
                        most_wanted: MOST_FAILURES,
                        last: LAST_NAMES,
                        is_last_chosen: true,
                        ..errors
                    }),
                    otherwise: Extract::new(errors),
                };
                return Self::with(kind, budget, Choice::Tests(Box::new(choice)));
            }
            ViewKind::Grep {
                before,
                after,
                most,
                ..
            } => Limits {
                budget,
                wanted_budget: budget,
                before: *before,
                after: *after,
                most_wanted: *most,
                last: 0,
                is_last_chosen: false,
            },
        };
        let extract = Extract::new(limits);
        Self::with(kind, budget, Choice::Extract(extract))
    }

    fn with(kind: ViewKind, budget: usize, choice: Choice) -> Self {
        Self {
            kind,
            shown_piece: (budget / 4).clamp(4, MAX_PIECE_BYTES),
            lines: TextLines::new(MAX_PIECE_BYTES),
            choice,
            number: 1,
            is_numbered: false,
            errors: ErrorReports::default(),
            is_unfinished: false,
            unavailable: 0,
            has_gap: false,
            last_exact_line: None,
        }
    }

    /// The same, each line with its number, counted from the first one that comes.
    #[must_use]
    pub fn numbered(self) -> Self {
        Self {
            is_numbered: true,
            ..self
        }
    }

    /// Whether nothing that comes can change the text.
    #[must_use]
    pub fn is_done(&self) -> bool {
        match &self.choice {
            Choice::Extract(_) | Choice::Tests(_) => false,
            Choice::Range(range) => range.is_done(),
        }
    }

    /// Takes the next bytes.
    pub fn feed(&mut self, data: &[u8]) {
        let mut came = Vec::new();
        self.lines.feed(data, |line| came.push(line));
        self.take(came);
    }

    /// Bytes are missing here.
    pub fn skip(&mut self, bytes: u64) {
        let mut came = Vec::new();
        self.lines.gap(|line| came.push(line));
        self.take(came);
        self.unavailable += bytes;
        self.has_gap |= bytes > 0;
        match &mut self.choice {
            Choice::Extract(extract) => extract.skip(bytes),
            Choice::Tests(choice) => {
                choice.tests.skip(bytes);
                choice.otherwise.skip(bytes);
            }
            Choice::Range(range) => range.skip(bytes),
        }
    }

    /// The text and its counts; `is_complete` says that nothing more will come.
    #[must_use]
    pub fn finish(mut self, is_complete: bool) -> Shown {
        let mut came = Vec::new();
        self.lines.finish(is_complete, |line| came.push(line));
        self.take(came);
        let shown = Shown {
            unavailable_bytes: self.unavailable,
            looked_at: self.lines.settled() + self.unavailable,
            last_exact_line: self.last_exact_line,
            ..Shown::default()
        };
        let extract = match self.choice {
            Choice::Extract(extract) => extract,
            Choice::Tests(choice) if choice.lines.is_test_run() => choice.tests,
            Choice::Tests(choice) => choice.otherwise,
            Choice::Range(range) => {
                let kept_lines = self.number - 1 + u64::from(self.is_unfinished);
                let kept_lines = (!range.is_done()).then_some(kept_lines);
                let Ranged {
                    text,
                    omitted_bytes,
                    omitted_lines,
                    next_line,
                } = range.finish(self.is_unfinished);
                return Shown {
                    text,
                    omitted_bytes,
                    omitted_lines,
                    next_line,
                    kept_lines,
                    ..shown
                };
            }
        };
        let Extracted {
            text,
            omitted_bytes,
            omitted_lines,
            n_wanted,
        } = extract.finish(self.is_unfinished);
        Shown {
            text,
            omitted_bytes,
            omitted_lines,
            matched_lines: n_wanted,
            ..shown
        }
    }

    fn take(&mut self, lines: Vec<TextLine>) {
        for line in lines {
            let begins = !self.is_unfinished;
            self.is_unfinished = !line.is_ended;
            let number = self.number;
            self.number += u64::from(line.is_ended);
            if self.has_gap && begins {
                self.last_exact_line.get_or_insert(number - 1);
            }
            let numbering = (self.is_numbered && begins).then(|| match self.last_exact_line {
                Some(_) => "?".to_owned(),
                None => number.to_string(),
            });
            let longest = self.shown_piece;
            match &mut self.choice {
                Choice::Extract(extract) => {
                    let worth = match &self.kind {
                        ViewKind::Errors => self.errors.worth(&line.text),
                        ViewKind::Grep { pattern, .. }
                            if pattern.is_match(line.text.as_bytes()) =>
                        {
                            Worth::Wanted
                        }
                        ViewKind::Grep { .. }
                        | ViewKind::Tail
                        | ViewKind::Tests
                        | ViewKind::Lines { .. } => Worth::Context,
                    };
                    let has_neighbours = !matches!(self.kind, ViewKind::Tail);
                    let line = with_number(line, numbering.as_deref(), worth, has_neighbours);
                    push(extract, line, worth, longest);
                }
                Choice::Tests(choice) => {
                    let worth = self.errors.worth(&line.text);
                    let otherwise = with_number(line.clone(), numbering.as_deref(), worth, true);
                    push(&mut choice.otherwise, otherwise, worth, longest);
                    let worth = choice.lines.worth(&line.text);
                    let line = with_number(line, numbering.as_deref(), worth, true);
                    push(&mut choice.tests, line, worth, longest);
                }
                Choice::Range(range) => {
                    let line = with_number(line, numbering.as_deref(), Worth::Context, false);
                    let mut begins = begins;
                    for piece in split(line, longest) {
                        range.push(&piece, number, begins);
                        begins = false;
                    }
                }
            }
        }
    }
}

impl ErrorReports {
    /// What the next line is worth to who looks for errors.
    fn worth(&mut self, text: &str) -> Worth {
        if error_lines::begins_a_report(text) {
            self.report_left = MOST_REPORT_LINES;
            return Worth::Wanted;
        }
        if error_lines::is_error(text) {
            return Worth::Wanted;
        }
        // What is indented, or numbered, belongs to the report above.
        let goes_on = text.starts_with([' ', '\t']);
        if self.report_left > 0 && goes_on {
            self.report_left -= 1;
            return Worth::Continued;
        }
        self.report_left = 0;
        Worth::Context
    }
}

/// Gives a line to an extract, in pieces of at most `longest` bytes.
fn push(extract: &mut Extract, line: TextLine, worth: Worth, longest: usize) {
    let mut worth_of_piece = worth;
    for piece in split(line, longest) {
        extract.push(piece, worth_of_piece);
        worth_of_piece = match worth {
            Worth::Wanted => Worth::Continued,
            Worth::Named => Worth::StillNamed,
            Worth::Context
            | Worth::Continued
            | Worth::StillNamed
            | Worth::Closing
            | Worth::Apart => worth,
        };
    }
}

/// The line with its number, if it has one, and what stands between them: something else where it is shown for its
/// neighbours only.
fn with_number(
    line: TextLine,
    number: Option<&str>,
    worth: Worth,
    has_neighbours: bool,
) -> TextLine {
    let Some(number) = number else {
        return line;
    };
    let is_near = matches!(worth, Worth::Context | Worth::Apart) && has_neighbours;
    let separator = if is_near { '-' } else { ':' };
    TextLine {
        text: format!("{number}{separator}{}", line.text),
        ..line
    }
}

/// A line in pieces of at most `longest` bytes of text. The bytes behind it are divided among them: to each as many as
/// it has text, and to the last what is left.
fn split(line: TextLine, longest: usize) -> Vec<TextLine> {
    let mut pieces = Vec::new();
    let mut rest = line.text.as_str();
    let mut raw = line.raw;
    while rest.len() > longest {
        let (piece, behind) = rest.split_at(rest.floor_char_boundary(longest));
        // A line with its number may have more text than there is behind it.
        let behind_piece = raw.min(piece.len() as u64);
        pieces.push(TextLine {
            text: piece.to_owned(),
            raw: behind_piece,
            ..TextLine::default()
        });
        raw -= behind_piece;
        rest = behind;
    }
    let text = if pieces.is_empty() {
        line.text
    } else {
        rest.to_owned()
    };
    pieces.push(TextLine {
        text,
        raw,
        is_ended: line.is_ended,
        ..TextLine::default()
    });
    pieces
}

#[cfg(test)]
mod tests;
