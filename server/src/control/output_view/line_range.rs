//! Lines by their numbers: from the first one on, as many as fit a budget.

use super::{gap_marker, text_lines::TextLine};

/// A range of lines in the making. It holds no more than its budget.
#[derive(Clone, Debug)]
pub(super) struct LineRange {
    first: u64,
    last: u64,
    budget: usize,
    text: String,
    /// Where the line that is being taken begins in the text, and the bytes of the stream behind what is shown of it.
    line_at: usize,
    line_raw: u64,
    /// No further line is shown.
    is_full: bool,
    /// The line that did not fit.
    next_line: Option<u64>,
    is_past: bool,
    /// Bytes that are missing before the line that comes.
    missing: u64,
    /// Number of the line that comes.
    next: u64,
    omitted_bytes: u64,
    omitted_lines: u64,
}

/// What a range came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ranged {
    /// The text.
    pub(super) text: String,
    /// Bytes of the stream behind what is not in it.
    pub(super) omitted_bytes: u64,
    /// Lines that do not end in it.
    pub(super) omitted_lines: u64,
    /// The first line of the range that did not fit.
    pub(super) next_line: Option<u64>,
}

impl LineRange {
    /// Lines `first` to `last`, counted from 1, in at most `budget` bytes.
    pub(super) fn new(first: u64, last: u64, budget: usize) -> Self {
        Self {
            first,
            last,
            budget,
            text: String::new(),
            line_at: 0,
            line_raw: 0,
            is_full: false,
            next_line: None,
            is_past: false,
            missing: 0,
            next: 1,
            omitted_bytes: 0,
            omitted_lines: 0,
        }
    }

    /// Whether nothing that comes can change what is shown.
    pub(super) fn is_done(&self) -> bool {
        self.is_past || self.next_line.is_some()
    }

    /// Bytes are missing here.
    pub(super) fn skip(&mut self, bytes: u64) {
        self.missing += bytes;
    }

    /// Takes a piece of line `number`; `begins` says that it is the first one. A line that does not fit is not shown,
    /// but of one that is longer than the whole budget the beginning is.
    pub(super) fn push(&mut self, piece: &TextLine, number: u64, begins: bool) {
        if begins {
            self.line_at = self.text.len();
            self.line_raw = 0;
        }
        let is_wanted = (self.first..=self.last).contains(&number);
        let missing = std::mem::take(&mut self.missing);
        // It is cut off again with its line, so that a page that begins with the line begins with it.
        if is_wanted && !self.is_full && !self.show_gap(missing) {
            self.is_full = true;
        }
        self.next = number + u64::from(piece.is_ended);
        self.is_past |= number > self.last || (number == self.last && piece.is_ended);
        if is_wanted && self.is_full && begins {
            self.next_line.get_or_insert(number);
        }
        if !is_wanted || self.is_full {
            self.omit(piece);
        } else if self.text.len() + piece.shown_len() <= self.budget {
            self.text.push_str(&piece.text);
            if piece.is_ended {
                self.text.push('\n');
            }
            self.line_raw += piece.raw;
        } else if self.line_at > 0 {
            self.text.truncate(self.line_at);
            self.omitted_bytes += std::mem::take(&mut self.line_raw);
            self.omit(piece);
            self.is_full = true;
            self.next_line = Some(number);
        } else {
            let room = self.budget - self.text.len();
            let shown = &piece.text[..piece.text.floor_char_boundary(room)];
            self.text.push_str(shown);
            self.omitted_bytes += piece.raw.saturating_sub(shown.len() as u64);
            self.omitted_lines += u64::from(piece.is_ended);
            self.is_full = true;
        }
    }

    /// The text and the counts; `unfinished` says that the last line has no end, and is a line all the same.
    pub(super) fn finish(mut self, unfinished: bool) -> Ranged {
        let is_in_it = !self.text.is_empty() && (self.first..=self.last).contains(&self.next);
        if is_in_it && !self.is_full {
            self.show_gap(self.missing);
        }
        let is_shown = self.line_raw > 0 && !self.is_full;
        Ranged {
            text: self.text,
            omitted_bytes: self.omitted_bytes,
            omitted_lines: self.omitted_lines + u64::from(unfinished && !is_shown),
            next_line: self.next_line,
        }
    }

    /// Says that bytes are missing, if there is room for it.
    fn show_gap(&mut self, missing: u64) -> bool {
        let marker = gap_marker(missing);
        let has_room = self.text.len() + marker.len() <= self.budget;
        if has_room {
            self.text.push_str(&marker);
        }
        has_room
    }

    fn omit(&mut self, piece: &TextLine) {
        self.omitted_bytes += piece.raw;
        self.omitted_lines += u64::from(piece.is_ended);
    }
}
