//! Where the last lines of the streams of a run begin. Pure: chunks go in from the last one back.

/// Finds the places where lines of one stream begin, from its end back.
#[derive(Clone, Debug)]
pub struct LineStarts {
    /// Most that are looked for.
    wanted: usize,
    /// Last one first: order of the chunk, and offset.
    found: Vec<(i64, i64)>,
    /// The chunk that was taken last: its order and its first byte, of which it is not known yet whether it begins a line.
    open: Option<(i64, i64)>,
}

impl LineStarts {
    /// Looks for the last `wanted` lines.
    #[must_use]
    pub fn new(wanted: usize) -> Self {
        Self {
            wanted,
            found: Vec::new(),
            open: None,
        }
    }

    /// Whether as many as are wanted were found.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.found.len() >= self.wanted
    }

    /// Takes the chunk before the one that was taken last.
    pub fn take(&mut self, order: i64, start: i64, data: &[u8]) {
        let Some((last, before)) = data.split_last() else {
            return;
        };
        let length = i64::try_from(data.len()).unwrap_or(i64::MAX);
        if let Some((order, first)) = self.open
            && (*last == b'\n' || start.saturating_add(length) < first)
        {
            self.found.push((order, first));
        }
        self.open = Some((order, start));
        let breaks = before
            .iter()
            .enumerate()
            .rev()
            .filter(|(_, byte)| **byte == b'\n');
        for (at, _) in breaks {
            if self.is_done() {
                break;
            }
            let offset = start + 1 + i64::try_from(at).unwrap_or(0);
            self.found.push((order, offset));
        }
    }

    /// The places, last one first, once nothing is before what was taken.
    #[must_use]
    pub fn finish(mut self) -> Vec<(i64, i64)> {
        self.found.extend(self.open);
        self.found.truncate(self.wanted);
        self.found
    }

    /// Where each stream begins that has some of the last `wanted` lines of all of them, in the order of capture.
    #[must_use]
    pub fn last_of_all(wanted: usize, streams: &[(i16, Vec<(i64, i64)>)]) -> Vec<(i16, i64)> {
        let mut all: Vec<(i64, i64, i16)> = streams
            .iter()
            .flat_map(|(stream, starts)| {
                starts
                    .iter()
                    .map(move |(order, offset)| (*order, *offset, *stream))
            })
            .collect();
        all.sort_unstable_by(|left, right| right.cmp(left));
        all.truncate(wanted);
        let first = |stream: i16| {
            let own = all.iter().filter(|(_, _, of)| *of == stream);
            own.map(|(_, offset, _)| *offset).min()
        };
        streams
            .iter()
            .filter_map(|(stream, _)| Some((*stream, first(*stream)?)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn starts(wanted: usize, chunks: &[(i64, i64, &[u8])]) -> Vec<i64> {
        let mut lines = LineStarts::new(wanted);
        for (order, start, data) in chunks.iter().rev() {
            if lines.is_done() {
                break;
            }
            lines.take(*order, *start, data);
        }
        lines
            .finish()
            .into_iter()
            .map(|(_, offset)| offset)
            .collect()
    }

    #[test]
    fn lines_are_found_from_the_end_back() {
        assert_eq!(starts(2, &[(1, 0, b"one\ntwo\nthree\n")]), [8, 4]);
        assert_eq!(starts(2, &[(1, 0, b"one\ntwo\nthr")]), [8, 4]);
        assert_eq!(
            starts(9, &[(1, 0, b"one\ntw"), (2, 6, b"o\n"), (3, 8, b"x")]),
            [8, 4, 0]
        );
        assert_eq!(starts(1, &[(1, 0, b"a\n"), (2, 2, b"b\n")]), [2]);
        assert_eq!(starts(5, &[(1, 0, b"\n\n")]), [1, 0]);
        assert_eq!(starts(5, &[]), [0; 0]);
        assert_eq!(starts(0, &[(1, 0, b"a")]), [0; 0]);
        let gap: [(i64, i64, &[u8]); 2] = [(1, 0, b"head"), (2, 100, b"tail")];
        assert_eq!(starts(5, &gap), [100, 0], "missing bytes end a line");
    }

    #[test]
    fn lines_of_two_streams_stand_in_the_order_of_capture() {
        // stdout at orders 1 and 3, stderr at 2
        let streams = [
            (1, vec![(3, 20), (1, 10), (1, 0)]),
            (2, vec![(2, 5), (2, 0)]),
        ];
        let last = |wanted| LineStarts::last_of_all(wanted, &streams);
        assert_eq!(last(1), [(1, 20)]);
        assert_eq!(last(2), [(1, 20), (2, 5)]);
        assert_eq!(last(4), [(1, 10), (2, 0)]);
        assert_eq!(last(9), [(1, 0), (2, 0)]);
    }

    proptest! {
        #[test]
        fn the_last_lines_are_the_last_lines_however_they_are_cut(
            text in "[ab\n]{0,60}",
            lengths in proptest::collection::vec(1_usize..9, 1..6),
            wanted in 1_usize..12,
        ) {
            let mut chunks: Vec<(i64, i64, &[u8])> = Vec::new();
            let mut at = 0;
            for (order, length) in (1_i64..).zip(lengths.iter().cycle()) {
                if at == text.len() {
                    break;
                }
                let end = (at + length).min(text.len());
                chunks.push((order, at as i64, &text.as_bytes()[at..end]));
                at = end;
            }
            let lines: Vec<&str> = text.split_inclusive('\n').collect();
            let shown = &lines[lines.len().saturating_sub(wanted)..];
            let expected = text.len() - shown.concat().len();
            let first = starts(wanted, &chunks).last().copied();
            prop_assert_eq!(first, (!shown.is_empty()).then_some(expected as i64));
        }
    }
}
