//! Which lines are shown: those that are wanted with a few around them, and the last ones, within a budget.

use super::text_lines::TextLine;
use std::collections::VecDeque;

/// What a line is to an extract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Worth {
    /// Shown for itself.
    Wanted,
    /// Shown if it follows or precedes a wanted one.
    Context,
    /// Shown, since what was wanted goes on in it.
    Continued,
    /// Wanted, and one of the last lines where only chosen ones are.
    Named,
    /// Shown, since a named one goes on in it.
    StillNamed,
    /// One of the last lines where only chosen ones are.
    Closing,
    /// Not shown near a wanted one either, nor is what came before it.
    Apart,
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
    /// Whether the last lines are those that are [named](Worth::Named) or [closing](Worth::Closing), not all.
    pub(super) is_last_chosen: bool,
}

/// An extract in the making. It holds little more than its budget, whatever comes.
#[derive(Clone, Debug)]
pub(super) struct Extract {
    limits: Limits,
    /// Pieces that came, their text and the lines that ended in them.
    seen: Position,
    raw: u64,
    /// Each with what the text comes to that ends with it.
    wanted: Vec<(Piece, Shape)>,
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
    /// Bytes that were missing.
    missing: u64,
}

/// What a text comes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Shape {
    /// Its length, the markers in it included.
    bytes: usize,
    /// Whether it ends within a line.
    is_in_a_line: bool,
}

/// A piece with where it stands.
#[derive(Clone, Debug)]
struct Piece {
    from: Position,
    to: Position,
    line: TextLine,
}

impl Worth {
    fn is_chosen(self) -> bool {
        match self {
            Self::Named | Self::StillNamed | Self::Closing => true,
            Self::Wanted | Self::Context | Self::Continued | Self::Apart => false,
        }
    }
}

impl Extract {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            seen: Position::default(),
            raw: 0,
            wanted: Vec::new(),
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
        if !self.limits.is_last_chosen || worth.is_chosen() {
            self.keep_last(&piece);
        }
        match worth {
            Worth::Wanted | Worth::Named => {
                self.n_wanted += 1;
                if self.n_wanted <= self.limits.most_wanted {
                    self.after_left = self.limits.after;
                    self.keep_wanted(piece);
                } else {
                    self.after_left = 0;
                    self.is_full = true;
                }
            }
            Worth::Continued | Worth::StillNamed => self.keep_wanted(piece),
            Worth::Context if self.after_left > 0 => {
                self.after_left -= 1;
                self.keep_wanted(piece);
            }
            Worth::Apart | Worth::Closing => {
                self.after_left = 0;
                self.before.clear();
            }
            Worth::Context => {
                self.before.push_back(piece);
                if self.before.len() > self.limits.before {
                    self.before.pop_front();
                }
            }
        }
    }

    /// Bytes are missing here; lines behind them are not near those before.
    pub(super) fn skip(&mut self, bytes: u64) {
        self.seen.missing += bytes;
        self.after_left = 0;
        self.before.clear();
    }

    /// The text and the counts; `unfinished` says that the last line has no end, and is a line all the same.
    pub(super) fn finish(mut self, unfinished: bool) -> Extracted {
        let mut last_from = self.choose_last();
        while !self.wanted.is_empty()
            && (self.misses_the_last_chosen(last_from)
                || (last_from == self.last.len() && !self.fits_to_the_end()))
        {
            self.wanted.pop();
            last_from = self.choose_last();
        }
        let mut out = Extracted {
            n_wanted: self.n_wanted as u64,
            ..Extracted::default()
        };
        let mut at = Position::default();
        let mut is_in_a_line = false;
        let (mut shown_raw, mut shown_lines) = (0, 0);
        let wanted = self.wanted.iter().map(|(piece, _)| piece);
        for piece in wanted.chain(self.last.range(last_from..)) {
            let marker = self.mark(at, piece.from, is_in_a_line, true);
            is_in_a_line &= marker.is_empty();
            out.text.push_str(&marker);
            out.text.push_str(&piece.line.text);
            if piece.line.is_ended {
                out.text.push('\n');
            }
            is_in_a_line = piece.is_in_a_line_after(is_in_a_line);
            shown_raw += piece.line.raw;
            shown_lines += piece.to.lines - piece.from.lines;
            at = piece.to;
        }
        let marker = self.mark(at, self.seen, is_in_a_line, false);
        if out.text.len() + marker.len() <= self.limits.budget {
            out.text.push_str(&marker);
        }
        let ends_in_it = at.pieces == self.seen.pieces;
        out.omitted_bytes = self.raw - shown_raw;
        out.omitted_lines = self.seen.lines - shown_lines + u64::from(unfinished && !ends_in_it);
        out
    }

    /// What stands between two places of the text: for what is left out, and for bytes that are missing. Of what came before
    /// the last lines nobody expects to be told where they are all that is shown.
    fn mark(&self, from: Position, to: Position, is_in_a_line: bool, follows: bool) -> String {
        let is_marked = !self.wanted.is_empty() || self.limits.is_last_chosen;
        let is_before_all = from.pieces == 0 && to.pieces > 0;
        if !is_marked && (is_before_all || self.limits.last == 0) {
            return String::new();
        }
        let missing = to.missing - from.missing;
        let gap = super::gap_marker(missing);
        let mut marker = if is_marked {
            mark(from, to, is_in_a_line, follows || !gap.is_empty())
        } else {
            String::new()
        };
        marker.push_str(&gap);
        marker
    }

    /// From which of the last lines on they fit behind what is wanted, with the markers before, between and behind them.
    fn choose_last(&self) -> usize {
        let (to, shape) = self.wanted_end();
        let room = self.limits.budget.saturating_sub(shape.bytes);
        let marker =
            |from, to, is_in_a_line, follows| self.mark(from, to, is_in_a_line, follows).len();
        let mut chosen = self.last.len();
        let mut bytes = 0;
        let mut behind = None;
        for (index, piece) in self.last.iter().enumerate().rev() {
            let next = behind.unwrap_or(self.seen);
            let follows = behind.is_some();
            // Whether the text stands within a line there depends on pieces that are not chosen yet.
            let most = marker(piece.to, next, false, follows).max(marker(
                piece.to,
                next,
                !piece.line.is_ended,
                follows,
            ));
            bytes += piece.line.shown_len() + most;
            if piece.from.pieces < to.pieces || bytes > room {
                break;
            }
            if marker(to, piece.from, shape.is_in_a_line, true) + bytes <= room {
                chosen = index;
            }
            behind = Some(piece.from);
        }
        chosen
    }

    /// Whether there is room to tell of what comes after the wanted lines.
    fn fits_to_the_end(&self) -> bool {
        let (to, shape) = self.wanted_end();
        self.wanted.is_empty()
            || shape.bytes + self.mark(to, self.seen, shape.is_in_a_line, false).len()
                <= self.limits.budget
    }

    /// Whether the last chosen line, such as the one that counts, is behind the wanted ones and not shown, as where the
    /// last lines begin at `last_from`. It is worth more than the last of those, unless it takes half of the budget.
    fn misses_the_last_chosen(&self, last_from: usize) -> bool {
        if !self.limits.is_last_chosen {
            return false;
        }
        let (to, _) = self.wanted_end();
        let mut from = self.last.len();
        let mut bytes = 0;
        for piece in self.last.iter().rev() {
            bytes += piece.line.shown_len();
            let is_of_the_line = from == self.last.len() || !piece.line.is_ended;
            if !is_of_the_line || piece.from.pieces < to.pieces || bytes > self.limits.budget / 2 {
                break;
            }
            from -= 1;
        }
        last_from > from
    }

    /// Where the wanted lines end, and what their text comes to.
    fn wanted_end(&self) -> (Position, Shape) {
        self.wanted
            .last()
            .map_or_else(Default::default, |(piece, shape)| (piece.to, *shape))
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
        let (to, shape) = self.wanted_end();
        let with_before = before.iter().chain([&piece]);
        if self.keep_if_it_fits(to, shape, with_before) {
            return;
        }
        self.is_full = !self.keep_if_it_fits(to, shape, [&piece]);
    }

    /// Keeps pieces behind the wanted ones, which end at `to`, if all of them fit. What comes behind them is told of later,
    /// where there may be nothing.
    fn keep_if_it_fits<'a>(
        &mut self,
        mut to: Position,
        mut shape: Shape,
        pieces: impl IntoIterator<Item = &'a Piece>,
    ) -> bool {
        let mut kept = Vec::new();
        for piece in pieces {
            let gap = super::gap_marker(piece.from.missing - to.missing);
            let left_out = mark(to, piece.from, shape.is_in_a_line, true);
            let marker = left_out + &gap;
            let is_in_a_line = shape.is_in_a_line && marker.is_empty();
            shape = Shape {
                bytes: shape.bytes + marker.len() + piece.line.shown_len(),
                is_in_a_line: piece.is_in_a_line_after(is_in_a_line),
            };
            if shape.bytes > self.limits.wanted_budget {
                return false;
            }
            to = piece.to;
            kept.push((piece.clone(), shape));
        }
        self.wanted.append(&mut kept);
        true
    }
}

impl Piece {
    /// Whether a text that ends with it ends within a line; `is_in_a_line` says so of the text before it.
    fn is_in_a_line_after(&self, is_in_a_line: bool) -> bool {
        !self.line.is_ended && (is_in_a_line || !self.line.text.is_empty())
    }
}

/// What stands for what is left out between two places: how much it is, unless that would be longer than it.
/// `is_in_a_line` says that the text before it ends within a line, which then must end before anything `follows`.
fn mark(from: Position, to: Position, is_in_a_line: bool, follows: bool) -> String {
    let left_out = to.shown_bytes - from.shown_bytes;
    let lines = to.lines - from.lines;
    let line_break = if is_in_a_line { "\n" } else { "" };
    let marker = match lines {
        0 => format!("{line_break}[part of a line left out]\n"),
        1 => format!("{line_break}[1 line left out]\n"),
        lines => format!("{line_break}[{lines} lines left out]\n"),
    };
    if marker.len() as u64 <= left_out {
        marker
    } else if follows && left_out > 0 {
        line_break.to_owned()
    } else {
        String::new()
    }
}
