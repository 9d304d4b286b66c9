//! Which lines are shown: those that are wanted with a few around them, and the last ones, within a budget.

use super::text_lines::TextLine;
use std::collections::VecDeque;

/// Room that is kept for the line that says how many are left out.
const MARKER_BYTES: usize = 48;

/// What a line is to an extract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Worth {
    /// Shown for itself.
    Wanted,
    /// Shown if it follows or precedes a wanted one.
    Context,
    /// Shown, since what was wanted goes on in it.
    Continued,
}

/// How much an extract shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    /// Most bytes of the text.
    pub(super) budget: usize,
    /// Of these, most for what is wanted; the rest, and what that leaves, is for the last lines.
    pub(super) wanted_budget: usize,
    /// Lines around a wanted one.
    pub(super) before: usize,
    /// Lines after it.
    pub(super) after: usize,
    /// Most wanted lines.
    pub(super) most_wanted: usize,
    /// Most of the last lines.
    pub(super) last: usize,
}

/// An extract in the making. It holds little more than its budget, whatever comes.
#[derive(Clone, Debug)]
pub(super) struct Extract {
    limits: Limits,
    /// Pieces that came, their text and the lines that ended in them.
    seen: Position,
    raw: u64,
    wanted: Vec<Piece>,
    wanted_bytes: usize,
    n_wanted: usize,
    is_full: bool,
    after_left: usize,
    before: VecDeque<Piece>,
    last: VecDeque<Piece>,
    last_bytes: usize,
}

/// What an extract came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Extracted {
    /// The text.
    pub(super) text: String,
    /// Bytes of the stream behind lines that are not in it.
    pub(super) omitted_bytes: u64,
    /// Lines that do not end in it.
    pub(super) omitted_lines: u64,
    /// Wanted lines, shown or not.
    pub(super) n_wanted: u64,
}

/// A place between pieces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Position {
    pieces: u64,
    shown_bytes: u64,
    lines: u64,
}

/// A piece with where it stands.
#[derive(Clone, Debug)]
struct Piece {
    from: Position,
    to: Position,
    line: TextLine,
}

impl Extract {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            seen: Position::default(),
            raw: 0,
            wanted: Vec::new(),
            wanted_bytes: 0,
            n_wanted: 0,
            is_full: false,
            after_left: 0,
            before: VecDeque::new(),
            last: VecDeque::new(),
            last_bytes: 0,
        }
    }

    /// Takes the next line.
    pub(super) fn push(&mut self, line: TextLine, worth: Worth) {
        let from = self.seen;
        self.seen.pieces += 1;
        self.seen.shown_bytes += line.shown_len() as u64;
        self.seen.lines += u64::from(line.is_ended);
        self.raw += line.raw;
        let piece = Piece {
            from,
            to: self.seen,
            line,
        };
        self.keep_last(&piece);
        match worth {
            Worth::Wanted => {
                self.n_wanted += 1;
                if self.n_wanted <= self.limits.most_wanted {
                    self.after_left = self.limits.after;
                    self.keep_wanted(piece);
                } else {
                    self.after_left = 0;
                    self.is_full = true;
                }
            }
            Worth::Continued => self.keep_wanted(piece),
            Worth::Context if self.after_left > 0 => {
                self.after_left -= 1;
                self.keep_wanted(piece);
            }
            Worth::Context => {
                self.before.push_back(piece);
                if self.before.len() > self.limits.before {
                    self.before.pop_front();
                }
            }
        }
    }

    /// The text and the counts; `unfinished` says that the last line has no end, and is a line all the same.
    pub(super) fn finish(mut self, unfinished: bool) -> Extracted {
        let wanted_to = self.wanted.last().map_or(0, |piece| piece.to.pieces);
        let mut room = self.limits.budget.saturating_sub(self.wanted_bytes);
        let mut last: VecDeque<Piece> = VecDeque::new();
        let mut first_room = room.saturating_sub(MARKER_BYTES);
        while let Some(piece) = self.last.pop_back() {
            let length = piece.line.shown_len();
            // Right behind what is wanted, or at the very beginning, no marker is needed.
            let needs_marker = piece.from.pieces > wanted_to;
            let limit = if needs_marker && wanted_to > 0 {
                first_room
            } else {
                room
            };
            if piece.from.pieces < wanted_to || length > limit {
                break;
            }
            room -= length;
            first_room = first_room.saturating_sub(length);
            last.push_front(piece);
        }
        let mut out = Extracted {
            n_wanted: self.n_wanted as u64,
            ..Extracted::default()
        };
        let mut at = Position::default();
        let (mut shown_raw, mut shown_lines) = (0, 0);
        let has_wanted = wanted_to > 0;
        for piece in self.wanted.iter().chain(&last) {
            if piece.from.pieces > at.pieces && (has_wanted || !out.text.is_empty()) {
                mark(&mut out.text, at, piece.from);
            }
            out.text.push_str(&piece.line.text);
            if piece.line.is_ended {
                out.text.push('\n');
            }
            shown_raw += piece.line.raw;
            shown_lines += piece.to.lines - piece.from.lines;
            at = piece.to;
        }
        if has_wanted && self.seen.pieces > at.pieces {
            mark(&mut out.text, at, self.seen);
        }
        let ends_in_it = at.pieces == self.seen.pieces;
        out.omitted_bytes = self.raw - shown_raw;
        out.omitted_lines = self.seen.lines - shown_lines + u64::from(unfinished && !ends_in_it);
        out
    }

    fn keep_last(&mut self, piece: &Piece) {
        if self.limits.last == 0 {
            return;
        }
        self.last_bytes += piece.line.shown_len();
        self.last.push_back(piece.clone());
        while self.last.len() > self.limits.last || self.last_bytes > self.limits.budget {
            let Some(dropped) = self.last.pop_front() else {
                break;
            };
            self.last_bytes -= dropped.line.shown_len();
        }
    }

    /// Keeps a piece and, where they fit as well, those before it.
    fn keep_wanted(&mut self, piece: Piece) {
        let before = std::mem::take(&mut self.before);
        if self.is_full {
            return;
        }
        let shown_to = self.wanted.last().map_or(0, |piece| piece.to.pieces);
        let before_bytes: usize = before.iter().map(|piece| piece.line.shown_len()).sum();
        let first = before.front().unwrap_or(&piece);
        let marker = if first.from.pieces > shown_to {
            MARKER_BYTES
        } else {
            0
        };
        let length = piece.line.shown_len();
        // At the end, too, there may be something to tell of.
        let room = self
            .limits
            .wanted_budget
            .saturating_sub(self.wanted_bytes + MARKER_BYTES);
        if marker + before_bytes + length <= room {
            self.wanted_bytes += marker + before_bytes + length;
            self.wanted.extend(before);
            self.wanted.push(piece);
        } else if MARKER_BYTES + length <= room {
            self.wanted_bytes += MARKER_BYTES + length;
            self.wanted.push(piece);
        } else {
            self.is_full = true;
        }
    }
}

/// Says what is left out between two places, unless that would be longer than it.
fn mark(text: &mut String, from: Position, to: Position) {
    let left_out = to.shown_bytes - from.shown_bytes;
    let lines = to.lines - from.lines;
    let is_in_a_line = !text.is_empty() && !text.ends_with('\n');
    let line_break = if is_in_a_line { "\n" } else { "" };
    let marker = match lines {
        0 => format!("{line_break}[part of a line left out]\n"),
        1 => format!("{line_break}[1 line left out]\n"),
        lines => format!("{line_break}[{lines} lines left out]\n"),
    };
    if marker.len() as u64 <= left_out {
        text.push_str(&marker);
    } else if is_in_a_line && left_out > 0 {
        text.push('\n');
    }
}
