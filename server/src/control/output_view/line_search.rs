//! Looking for a pattern in the lines of a stream whose bytes come in pieces. Lines are looked at as the views show them,
//! so that one pattern means the same to both. Pure, and bounded whatever comes.

use super::text_lines::{TextLine, TextLines};
use regex::bytes::Regex;

/// Longest line that is looked at as a whole, in bytes of text. Of a longer one pieces are looked at, which overlap.
const MAX_LINE_BYTES: usize = 16 << 10;
const OVERLAP_BYTES: usize = 1 << 10;
/// Most bytes of a line that are told, and how many of them may be before the place.
const MAX_TOLD_BYTES: usize = 1 << 10;
const TOLD_BEFORE: usize = 256;

/// A place that fits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Offset of its first byte in the stream.
    pub offset: i64,
    /// The line, or what is around the place; at most 1 KiB.
    pub line: String,
}

/// How far the search has come.
#[derive(Clone, Debug)]
pub struct LineSearch {
    /// Makes lines of what came since the last gap.
    lines: TextLines,
    /// Offset of the first byte after the last gap.
    begins_at: i64,
    /// Offset of the next byte that is wanted.
    next: i64,
    /// What is known of the line that is not finished.
    line: Line,
}

/// A line of which pieces came.
#[derive(Clone, Debug, Default)]
struct Line {
    /// Where its next piece begins, among the bytes since the last gap.
    from: u64,
    /// The end of its last piece, with the place of each byte.
    end: String,
    end_places: Vec<u64>,
}

impl Default for LineSearch {
    fn default() -> Self {
        Self {
            lines: TextLines::traced(MAX_LINE_BYTES),
            begins_at: 0,
            next: 0,
            line: Line::default(),
        }
    }
}

impl LineSearch {
    /// Offset of the next byte that is wanted.
    #[must_use]
    pub fn next_offset(&self) -> i64 {
        self.next
    }

    /// Looks at the lines that end in `data`, which begins at `start`; bytes that came before are passed over. A gap
    /// before `start` ends the line before it.
    pub fn feed(&mut self, start: i64, data: &[u8], pattern: &Regex) -> Option<Found> {
        let mut found = None;
        if start > self.next {
            found = self.look_at_unfinished(pattern);
            self.lines = TextLines::traced(MAX_LINE_BYTES);
            self.line = Line::default();
            self.begins_at = start;
            self.next = start;
        }
        let seen = usize::try_from(self.next - start).unwrap_or(data.len());
        let new = &data[seen.min(data.len())..];
        let (line, begins_at) = (&mut self.line, self.begins_at);
        self.lines.feed(new, |piece| {
            if found.is_none() {
                found = line.look(&piece, pattern, begins_at);
            }
            line.take(piece);
        });
        self.next += count(new.len() as u64);
        found
    }

    /// Looks at the last line as far as it came.
    #[must_use]
    pub fn look_at_unfinished(&self, pattern: &Regex) -> Option<Found> {
        let piece = self.lines.unfinished();
        if piece.text.is_empty() {
            return None;
        }
        self.line.look(&piece, pattern, self.begins_at)
    }
}

impl Line {
    /// Looks at a piece together with the end of the one before it.
    fn look(&self, piece: &TextLine, pattern: &Regex, begins_at: i64) -> Option<Found> {
        let joined;
        let text = if self.end.is_empty() {
            &piece.text
        } else {
            joined = format!("{}{}", self.end, piece.text);
            &joined
        };
        let at = pattern.find(text.as_bytes())?.start();
        let in_piece = || piece.places.of(at - self.end.len()).unwrap_or(self.from);
        let place = self.end_places.get(at).copied().unwrap_or_else(in_piece);
        let told_from = if text.len() <= MAX_TOLD_BYTES {
            0
        } else {
            text.floor_char_boundary(at.saturating_sub(TOLD_BEFORE))
        };
        let told_to = text.floor_char_boundary(told_from + MAX_TOLD_BYTES);
        Some(Found {
            offset: begins_at + count(place),
            line: text[told_from..told_to].to_owned(),
        })
    }

    /// Goes on behind a piece.
    fn take(&mut self, piece: TextLine) {
        let from = self.from + piece.raw;
        if piece.is_ended {
            *self = Self {
                from,
                ..Self::default()
            };
            return;
        }
        let kept = piece
            .text
            .floor_char_boundary(piece.text.len().saturating_sub(OVERLAP_BYTES));
        let place = |at| piece.places.of(at).unwrap_or(self.from);
        *self = Self {
            from,
            end_places: (kept..piece.text.len()).map(place).collect(),
            end: piece.text[kept..].to_owned(),
        };
    }
}

fn count(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pattern(text: &str) -> Regex {
        Regex::new(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    /// The first place that fits, where the bytes come in pieces of these lengths, again and again.
    fn search(data: &[u8], lengths: &[usize], pattern: &Regex) -> Option<Found> {
        let mut search = LineSearch::default();
        let mut at = 0;
        for length in lengths.iter().cycle() {
            if at >= data.len() {
                break;
            }
            let end = (at + (*length).max(1)).min(data.len());
            let found = search.feed(count(at as u64), &data[at..end], pattern);
            if found.is_some() {
                return found;
            }
            at = end;
        }
        search.look_at_unfinished(pattern)
    }

    #[test]
    fn a_line_is_found_with_its_place() {
        let found = search(
            b"one\r\nserver ready on 8275\r\n",
            &[5],
            &pattern("ready on [0-9]+$"),
        );
        let expected = Found {
            offset: 12,
            line: "server ready on 8275".to_owned(),
        };
        assert_eq!(found, Some(expected));
        assert_eq!(search(b"one\ntwo", &[2], &pattern("one.*two")), None);
        let unfinished = search(b"x\nPassword: ", &[3], &pattern("Password"));
        assert_eq!(unfinished.map(|found| found.offset), Some(2));
    }

    #[test]
    fn a_gap_ends_a_line_and_repeated_bytes_do_no_harm() {
        let pattern = pattern("ab");
        let mut search = LineSearch::default();
        assert_eq!(search.feed(0, b"x\na", &pattern), None);
        assert_eq!(search.feed(1, b"\na", &pattern), None);
        assert_eq!(search.feed(100, b"b\n", &pattern), None, "not across a gap");
        assert_eq!(search.next_offset(), 102);
        let found = search.feed(102, b"ab\n", &pattern);
        assert_eq!(found.map(|found| found.offset), Some(102));
    }

    #[test]
    fn long_lines_are_looked_at_in_pieces_that_overlap() {
        for at in [10, MAX_LINE_BYTES - 2, 3 * MAX_LINE_BYTES + 7] {
            let mut data = vec![b'x'; 5 * MAX_LINE_BYTES];
            data[at..at + 6].copy_from_slice(b"needle");
            let found = search(&data, &[10_000, 77], &pattern("needle"));
            let found = found.unwrap_or_else(|| panic!("not found at {at}"));
            assert_eq!(found.offset, count(at as u64));
            assert!(found.line.contains("needle") && found.line.len() <= MAX_TOLD_BYTES);
        }
        let bad = vec![0xff; 2_000];
        let found = search(&bad, &[500], &pattern("^[?]+$"));
        assert!(found.is_some_and(|found| found.line.len() <= MAX_TOLD_BYTES));
    }

    #[test]
    fn lines_are_looked_at_as_they_are_shown() {
        for lengths in [[100], [1]] {
            let red = b"ok\n\x1b[31mERROR\x1b[0m: it \x1b[1mbroke\x1b[0m\r\n";
            let found = search(red, &lengths, &pattern("^ERROR: it broke$"));
            let expected = Found {
                offset: 8,
                line: "ERROR: it broke".to_owned(),
            };
            assert_eq!(found, Some(expected));
            let broke = search(red, &lengths, &pattern("broke"));
            assert_eq!(broke.map(|found| found.offset), Some(26));
            let done = search(b"10%\r50%\rdone\n", &lengths, &pattern("^done$"));
            assert_eq!(done.map(|found| found.offset), Some(8));
            assert_eq!(search(red, &lengths, &pattern("\x1b")), None);
            let empty = search(b"a\n\x1b[0m\nb", &lengths, &pattern("^$"));
            assert_eq!(empty.map(|found| found.offset), Some(2));
        }
        let wide = "\u{65e5}".repeat(MAX_LINE_BYTES);
        let found = search(format!("{wide}!").as_bytes(), &[999], &pattern("!"));
        let found = found.unwrap_or_else(|| panic!("not found behind wide characters"));
        assert_eq!(found.offset, count(wide.len() as u64));
        assert!(found.line.ends_with("\u{65e5}!") && found.line.len() <= MAX_TOLD_BYTES);
    }

    proptest! {
        #[test]
        fn the_pieces_do_not_matter(
            lines in proptest::collection::vec("[ab]{0,6}", 0..30),
            lengths in proptest::collection::vec(1_usize..9, 1..6),
        ) {
            let data = lines.join("\n");
            let wanted = pattern("ab+a");
            let whole = search(data.as_bytes(), &[data.len().max(1)], &wanted);
            prop_assert_eq!(&search(data.as_bytes(), &lengths, &wanted), &whole);
            let first = lines.iter().find_map(|line| wanted.find(line.as_bytes()).map(|_| line.clone()));
            prop_assert_eq!(whole.map(|found| found.line), first);
        }
    }
}
