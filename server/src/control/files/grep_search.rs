//! Searching text line by line: which lines match, what is shown of them, and where the bounds end the search. Pure but
//! for the clock that its deadline is compared with.

use super::{file_walk::WalkPlace, grep_position::GrepPosition};
use regex::bytes::Regex;
use std::{collections::VecDeque, mem, time::Instant};
use taskyard_proto::v1::{GrepMatch, GrepStop};

/// Longest part of a line that is searched.
pub const MAX_LINE_BYTES: usize = 64 << 10;
/// Longest part of a line that is shown.
const MAX_SHOWN_BYTES: usize = 1_000;
/// What is shown of a long line before its match.
const SHOWN_BEFORE_MATCH: usize = 300;
/// Text of one answer. The first match always fits, with the most context there can be.
const MAX_ANSWER_BYTES: usize = 64 << 10;

/// What is searched for, and how far.
#[derive(Clone, Debug)]
pub struct GrepBounds {
    /// Lines before and after a match.
    pub context_lines: usize,
    /// Matches.
    pub matches: usize,
    /// Bytes.
    pub bytes: u64,
    /// When to stop.
    pub deadline: Instant,
}

/// A search under way, and what it found.
#[derive(Debug)]
pub struct GrepSearch {
    regex: Regex,
    bounds: GrepBounds,
    found: Vec<GrepMatch>,
    /// Bytes of text in `found`, and those kept free for the context that `open` matches still get.
    used: usize,
    reserved: usize,
    /// Matches whose following lines are still to come: index and number of lines.
    open: Vec<(usize, usize)>,
    stop: Option<(GrepStop, GrepPosition, u64)>,
    bytes: u64,
    long_lines: i64,
    file: FileUnderSearch,
}

/// How far a file was searched.
#[derive(Debug)]
struct FileUnderSearch {
    position: GrepPosition,
    /// The line so far.
    line: Vec<u8>,
    line_offset: u64,
    offset: u64,
    /// The lines before, with their places.
    before: VecDeque<(u64, String)>,
}

/// What a search came to.
#[derive(Debug)]
pub struct GrepOutcome {
    /// The lines.
    pub found: Vec<GrepMatch>,
    /// Why it stopped, where to go on, and which byte was not searched.
    pub stop: Option<(GrepStop, GrepPosition, u64)>,
    /// Bytes looked through.
    pub bytes: u64,
    /// Lines of which only the start was searched.
    pub long_lines: i64,
}

impl GrepSearch {
    /// A search that has found nothing yet.
    #[must_use]
    pub fn new(regex: Regex, bounds: GrepBounds) -> Self {
        let nowhere = WalkPlace {
            ordinal: 0,
            path: String::new(),
        };
        Self {
            regex,
            bounds,
            found: Vec::new(),
            used: 0,
            reserved: 0,
            open: Vec::new(),
            stop: None,
            bytes: 0,
            long_lines: 0,
            file: FileUnderSearch::at(GrepPosition::start_of(nowhere, 0)),
        }
    }

    /// Begins with a file at a position.
    pub fn begin_file(&mut self, position: GrepPosition) {
        self.file = FileUnderSearch::at(position);
    }

    /// Takes the next bytes of the file.
    pub fn feed(&mut self, mut part: &[u8]) {
        while !self.is_over() {
            if part.is_empty() {
                return;
            }
            let line_end = part.iter().position(|byte| *byte == b'\n');
            let (piece, rest) = match line_end {
                Some(at) => (&part[..at], &part[at + 1..]),
                None => (part, &part[part.len()..]),
            };
            let length = (part.len() - rest.len()) as u64;
            self.bytes += length;
            self.file.offset += length;
            self.take(piece);
            if line_end.is_some() {
                self.end_line();
            }
            self.heed_bounds(line_end.is_some());
            part = rest;
        }
    }

    /// The file has no more bytes.
    pub fn end_file(&mut self) {
        if !self.is_over() && !self.file.line.is_empty() {
            self.end_line();
        }
        self.open.clear();
        self.reserved = 0;
    }

    /// Ends the search before a file.
    pub fn stop_before(&mut self, why: GrepStop, place: WalkPlace) {
        if self.stop.is_none() {
            self.stop = Some((why, GrepPosition::start_of(place, 0), 0));
        }
    }

    /// Whether a bound was met and what was found before it has its context.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.stop.is_some() && self.open.is_empty()
    }

    /// Which bound is met before anything else is looked at.
    #[must_use]
    pub fn bound_met(&self) -> Option<GrepStop> {
        if self.bytes >= self.bounds.bytes {
            Some(GrepStop::Bytes)
        } else if Instant::now() >= self.bounds.deadline {
            Some(GrepStop::Time)
        } else {
            None
        }
    }

    /// What the search came to.
    #[must_use]
    pub fn finish(self) -> GrepOutcome {
        GrepOutcome {
            found: self.found,
            stop: self.stop,
            bytes: self.bytes,
            long_lines: self.long_lines,
        }
    }

    fn take(&mut self, piece: &[u8]) {
        if self.file.position.in_long_line {
            return;
        }
        let room = MAX_LINE_BYTES - self.file.line.len();
        self.file
            .line
            .extend_from_slice(&piece[..piece.len().min(room)]);
        if piece.len() > room {
            self.long_lines += 1;
            self.look_at_line();
            self.file.position.in_long_line = true;
        }
    }

    fn end_line(&mut self) {
        if !mem::take(&mut self.file.position.in_long_line) {
            self.look_at_line();
        }
        self.file.position.line += 1;
        self.file.line_offset = self.file.offset;
    }

    /// The bounds are looked at between two lines, and within the rest of a long one.
    fn heed_bounds(&mut self, is_line_end: bool) {
        let position = &self.file.position;
        // lines that are read again as context do not count: each search gets on by a line at least
        let has_got_on = if is_line_end {
            position.line > position.from_line
        } else {
            position.in_long_line && position.line + 1 >= position.from_line
        };
        if self.stop.is_some() || !has_got_on {
            return;
        }
        if let Some(why) = self.bound_met() {
            let next_line = self.file.position.line + i64::from(!is_line_end);
            self.stop_at(why, self.file.offset, next_line);
        }
    }

    /// Searches the line, and gives it to the matches before it as context.
    fn look_at_line(&mut self) {
        let mut line = mem::take(&mut self.file.line);
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        let number = self.file.position.line;
        if self.stop.is_none() && number >= self.file.position.from_line {
            // found first: the line is context of earlier matches all the same
            if let Some(hit) = self.regex.find(&line).map(|hit| hit.start()) {
                self.give_context(&line);
                self.note_match(&line, hit);
                self.remember(&line);
                return;
            }
        }
        self.give_context(&line);
        self.remember(&line);
    }

    fn give_context(&mut self, line: &[u8]) {
        if self.open.is_empty() {
            return;
        }
        let text = shown(line, 0).0;
        for (index, left) in &mut self.open {
            self.found[*index].after.push(text.clone());
            *left -= 1;
            self.used += text.len();
            self.reserved -= MAX_SHOWN_BYTES;
        }
        self.open.retain(|(_, left)| *left > 0);
    }

    fn remember(&mut self, line: &[u8]) {
        let context = self.bounds.context_lines;
        if context > 0 {
            if self.file.before.len() == context {
                self.file.before.pop_front();
            }
            let text = shown(line, 0).0;
            self.file.before.push_back((self.file.line_offset, text));
        }
    }

    fn note_match(&mut self, line: &[u8], hit: usize) {
        let (text, is_cut) = shown(line, hit);
        let context = self.bounds.context_lines;
        let before: Vec<String> = self
            .file
            .before
            .iter()
            .map(|(_, text)| text.clone())
            .collect();
        let path = self.file.position.place.path.clone();
        let own = path.len() + text.len() + before.iter().map(String::len).sum::<usize>();
        let why = if self.found.len() >= self.bounds.matches {
            Some(GrepStop::Matches)
        } else if self.used + self.reserved + own + context * MAX_SHOWN_BYTES > MAX_ANSWER_BYTES {
            Some(GrepStop::Answer)
        } else {
            None
        };
        let number = self.file.position.line;
        if let Some(why) = why {
            self.stop_at(why, self.file.line_offset, number);
            return;
        }
        self.used += own;
        self.reserved += context * MAX_SHOWN_BYTES;
        if context > 0 {
            self.open.push((self.found.len(), context));
        }
        self.found.push(GrepMatch {
            path,
            line_number: number,
            offset: i64::try_from(self.file.line_offset).unwrap_or(i64::MAX),
            line: text,
            is_cut,
            before,
            after: Vec::new(),
        });
    }

    /// Stops at a byte. The lines before it are read again as context by whoever goes on.
    fn stop_at(&mut self, why: GrepStop, offset: u64, from_line: i64) {
        let lines_before = self.file.before.len() as i64;
        let in_long_line = self.file.position.in_long_line;
        let (start, line) = match self.file.before.front() {
            Some((start, _)) if !in_long_line => (*start, from_line - lines_before),
            Some(_) | None => (offset, from_line - i64::from(in_long_line)),
        };
        let position = GrepPosition {
            offset: start,
            line,
            from_line,
            ..self.file.position.clone()
        };
        self.stop = Some((why, position, offset));
    }
}

impl FileUnderSearch {
    fn at(position: GrepPosition) -> Self {
        Self {
            line: Vec::new(),
            line_offset: position.offset,
            offset: position.offset,
            before: VecDeque::new(),
            position,
        }
    }
}

/// What is shown of a line with something of interest at `hit`, and whether it is only a part.
fn shown(line: &[u8], hit: usize) -> (String, bool) {
    let is_long = line.len() > MAX_SHOWN_BYTES;
    let start = if is_long {
        hit.saturating_sub(SHOWN_BEFORE_MATCH)
            .min(line.len() - MAX_SHOWN_BYTES)
    } else {
        0
    };
    let end = line.len().min(start + MAX_SHOWN_BYTES);
    let mut text = String::from_utf8_lossy(&line[start..end]).into_owned();
    // what is no UTF-8 grows when it is replaced
    let is_cut = is_long || text.len() > MAX_SHOWN_BYTES;
    text.truncate(text.floor_char_boundary(MAX_SHOWN_BYTES));
    (text, is_cut)
}

#[cfg(test)]
mod tests;
