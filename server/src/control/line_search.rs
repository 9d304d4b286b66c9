//! Looking for a pattern in the lines of a stream whose bytes come in pieces. Pure, and bounded whatever comes.

use regex::bytes::Regex;

/// Longest line that is looked at as a whole. Of a longer one pieces are looked at, which overlap.
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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LineSearch {
    /// What came of the line that is not finished, or the end of it.
    unfinished: Vec<u8>,
    /// Offset of the next byte that is wanted.
    next: i64,
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
        if start > self.next {
            let found = self.look_at_unfinished(pattern);
            self.unfinished.clear();
            self.next = start;
            if found.is_some() {
                return found;
            }
        }
        let seen = usize::try_from(self.next - start).unwrap_or(data.len());
        let mut rest = &data[seen.min(data.len())..];
        while !rest.is_empty() {
            let line_end = rest.iter().position(|byte| *byte == b'\n');
            let room = MAX_LINE_BYTES - self.unfinished.len();
            let taken = line_end.unwrap_or(rest.len()).min(room);
            self.unfinished.extend_from_slice(&rest[..taken]);
            self.advance(taken);
            rest = &rest[taken..];
            if rest.first() == Some(&b'\n') {
                let found = self.look(pattern);
                self.unfinished.clear();
                self.advance(1);
                rest = &rest[1..];
                if found.is_some() {
                    return found;
                }
            } else if self.unfinished.len() == MAX_LINE_BYTES {
                let found = self.look(pattern);
                self.unfinished.drain(..MAX_LINE_BYTES - OVERLAP_BYTES);
                if found.is_some() {
                    return found;
                }
            }
        }
        None
    }

    /// Looks at the last line as far as it came.
    pub fn look_at_unfinished(&mut self, pattern: &Regex) -> Option<Found> {
        if self.unfinished.is_empty() {
            return None;
        }
        self.look(pattern)
    }

    fn look(&self, pattern: &Regex) -> Option<Found> {
        let line = self
            .unfinished
            .strip_suffix(b"\r")
            .unwrap_or(&self.unfinished);
        let place = pattern.find(line)?.start();
        let begins_at = self.next - count(self.unfinished.len());
        let told_from = if line.len() <= MAX_TOLD_BYTES {
            0
        } else {
            place.saturating_sub(TOLD_BEFORE)
        };
        let told_to = line.len().min(told_from + MAX_TOLD_BYTES);
        let mut text = String::from_utf8_lossy(&line[told_from..told_to]).into_owned();
        text.truncate(text.floor_char_boundary(MAX_TOLD_BYTES));
        Some(Found {
            offset: begins_at + count(place),
            line: text,
        })
    }

    fn advance(&mut self, bytes: usize) {
        self.next += count(bytes);
    }
}

fn count(bytes: usize) -> i64 {
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
            let found = search.feed(count(at), &data[at..end], pattern);
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
            assert_eq!(found.offset, count(at));
            assert!(found.line.contains("needle") && found.line.len() <= MAX_TOLD_BYTES);
        }
        let bad = vec![0xff; 2_000];
        let found = search(&bad, &[500], &pattern("(?-u:\\xff)"));
        assert!(found.is_some_and(|found| found.line.len() <= MAX_TOLD_BYTES));
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
