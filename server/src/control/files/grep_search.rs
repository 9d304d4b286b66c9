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
mod tests {
    use super::*;
    use std::time::Duration;

    fn search(pattern: &str, context_lines: usize, matches: usize, bytes: u64) -> GrepSearch {
        let bounds = GrepBounds {
            context_lines,
            matches,
            bytes,
            deadline: Instant::now() + Duration::from_secs(60),
        };
        GrepSearch::new(Regex::new(pattern).expect("a pattern"), bounds)
    }

    fn place() -> WalkPlace {
        WalkPlace {
            ordinal: 0,
            path: "/f".to_owned(),
        }
    }

    /// Searches all of a text, going on as often as it stops; says how often that was.
    fn search_all(
        text: &[u8],
        step: usize,
        new: impl Fn() -> GrepSearch,
    ) -> (Vec<GrepMatch>, usize) {
        let mut all = Vec::new();
        let mut position = GrepPosition::start_of(place(), 0);
        for calls in 1..10_000 {
            let mut search = new();
            search.begin_file(position.clone());
            for part in text[position.offset as usize..].chunks(step) {
                search.feed(part);
            }
            search.end_file();
            let outcome = search.finish();
            all.extend(outcome.found);
            match outcome.stop {
                None => return (all, calls),
                Some((_, next, _)) => {
                    assert!(next != position, "no progress at {next:?}");
                    position = next;
                }
            }
        }
        panic!("there is no end");
    }

    const TEXT: &[u8] = b"one\ntwo x\r\nthree\nx four\nx five\n\nseven x";

    #[test]
    fn lines_are_found_with_number_place_and_context() {
        let (found, calls) = search_all(TEXT, 3, || search("x", 1, 100, 1_000));
        assert_eq!(calls, 1);
        let lines: Vec<(i64, &str)> = found
            .iter()
            .map(|found| (found.line_number, found.line.as_str()))
            .collect();
        assert_eq!(
            lines,
            [(2, "two x"), (4, "x four"), (5, "x five"), (7, "seven x")]
        );
        assert_eq!(
            (found[0].before[0].as_str(), found[0].after[0].as_str()),
            ("one", "three")
        );
        assert_eq!(
            (found[1].before[0].as_str(), found[1].after[0].as_str()),
            ("three", "x five")
        );
        assert!(found[3].after.is_empty());
        for one in &found {
            let at = one.offset as usize;
            assert!(TEXT[at..].starts_with(one.line.as_bytes()), "{one:?}");
        }
    }

    #[test]
    fn going_on_finds_what_one_search_finds_whatever_the_bounds() {
        for context in [0, 1, 3] {
            let (whole, _) = search_all(TEXT, 64, || search("x|^$", context, 100, 1_000));
            for (matches, bytes, step) in [(1, 1_000, 64), (2, 1_000, 1), (100, 1, 5), (100, 7, 2)]
            {
                let (found, calls) =
                    search_all(TEXT, step, || search("x|^$", context, matches, bytes));
                assert!(calls > 1);
                let places = |found: &[GrepMatch]| -> Vec<(i64, i64, Vec<String>)> {
                    found
                        .iter()
                        .map(|one| (one.line_number, one.offset, one.before.clone()))
                        .collect()
                };
                if bytes > 100 {
                    assert_eq!(found, whole, "{matches} {bytes} {step}");
                } else {
                    assert_eq!(places(&found), places(&whole), "{matches} {bytes} {step}");
                }
            }
        }
    }

    #[test]
    fn a_long_line_is_searched_at_its_start_and_shown_around_the_match() {
        let mut text = vec![b'-'; MAX_LINE_BYTES];
        text[40_000] = b'x';
        text.extend_from_slice(&vec![b'x'; MAX_LINE_BYTES]);
        text.extend_from_slice(b"\nx end");
        let (found, _) = search_all(&text, 10_000, || search("x", 0, 10, 1 << 20));
        assert_eq!(found.len(), 2);
        assert!(found[0].is_cut && found[0].line.contains('x') && found[0].line.len() == 1_000);
        assert_eq!((found[1].line_number, found[1].line.as_str()), (2, "x end"));
        // stopped within the long line, too
        let (again, calls) = search_all(&text, 10_000, || search("x", 2, 10, 1_000));
        assert!(calls > 1);
        assert_eq!(again.len(), 2);
        assert_eq!(again[1].line_number, 2);
    }

    #[test]
    fn an_answer_has_its_size_and_the_largest_match_fits() {
        let line = format!("{}\n", "\u{fffd}x".repeat(600));
        let text = line.repeat(100);
        let mut one = search("x", 20, 1_000, 1 << 30);
        one.begin_file(GrepPosition::start_of(place(), 0));
        one.feed(text.as_bytes());
        one.end_file();
        let outcome = one.finish();
        let size: usize = outcome
            .found
            .iter()
            .flat_map(|found| found.before.iter().chain(&found.after).chain([&found.line]))
            .map(String::len)
            .sum();
        assert!(
            !outcome.found.is_empty() && size <= MAX_ANSWER_BYTES,
            "{size}"
        );
        assert!(matches!(outcome.stop, Some((GrepStop::Answer, _, _))));
        let (all, _) = search_all(text.as_bytes(), 1_000, || search("x", 20, 1_000, 1 << 30));
        assert_eq!(all.len(), 100);
    }

    #[test]
    fn what_is_no_text_is_shown_as_well_as_can_be() {
        let (text, is_cut) = shown(&[0xff; 900], 0);
        assert!(is_cut && text.len() <= MAX_SHOWN_BYTES);
    }
}
