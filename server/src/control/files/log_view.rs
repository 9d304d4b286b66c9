//! A stream of a run, seen as a file: what is stored of it, in order, with a line in the place of what is not. Readers
//! who need to tell the work's own bytes from that line, byte for byte, read the output itself.

use std::ops::Range;

/// The file as it is at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogView {
    /// Without empty ones, each with its place in the file.
    pieces: Vec<(u64, Piece)>,
    size: u64,
}

/// A piece of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// These bytes of the stream.
    Stored(Range<u64>),
    /// This text.
    Text(String),
}

impl LogView {
    /// The file for these stored ranges (in order, apart from each other) of a stream. Bytes after the last of them
    /// count as missing only once the run is over; before, they may still come.
    #[must_use]
    pub fn new(stored: &[Range<u64>], total: u64, run_is_over: bool) -> Self {
        let mut view = Self::default();
        let mut reached = 0;
        for range in stored {
            view.push_gap(reached, range.start);
            view.push(range.end - range.start, Piece::Stored(range.clone()));
            reached = range.end;
        }
        if run_is_over {
            view.push_gap(reached, total);
        }
        view
    }

    /// Bytes in all.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// What is at a place of the file, at most `limit` bytes of it; none at its end.
    #[must_use]
    pub fn at(&self, offset: u64, limit: u64) -> Option<Piece> {
        if offset >= self.size || limit == 0 {
            return None;
        }
        let index = self.pieces.partition_point(|(start, _)| *start <= offset) - 1;
        let (start, piece) = &self.pieces[index];
        let skipped = offset - start;
        Some(match piece {
            Piece::Stored(range) => {
                let from = range.start + skipped;
                Piece::Stored(from..range.end.min(from.saturating_add(limit)))
            }
            Piece::Text(text) => {
                let rest = &text[usize::try_from(skipped).unwrap_or(text.len())..];
                Piece::Text(
                    rest[..rest.len().min(usize::try_from(limit).unwrap_or(rest.len()))].to_owned(),
                )
            }
        })
    }

    fn push_gap(&mut self, from: u64, to: u64) {
        if to > from {
            // ASCII only: it may be cut anywhere
            let text = format!("\n[... {} bytes not kept ...]\n", to - from);
            self.push(text.len() as u64, Piece::Text(text));
        }
    }

    fn push(&mut self, length: u64, piece: Piece) {
        if length > 0 {
            self.pieces.push((self.size, piece));
            self.size += length;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &[u8] = b"0123456789abcdefghij";

    fn read(view: &LogView, mut offset: u64, step: u64) -> String {
        let mut bytes = Vec::new();
        while let Some(piece) = view.at(offset, step) {
            let part = match piece {
                Piece::Stored(range) => STREAM[range.start as usize..range.end as usize].to_vec(),
                Piece::Text(text) => text.into_bytes(),
            };
            assert!(!part.is_empty() && part.len() as u64 <= step);
            offset += part.len() as u64;
            bytes.extend(part);
        }
        String::from_utf8(bytes).expect("text")
    }

    #[test]
    fn a_whole_stream_is_shown_as_it_is() {
        let view = LogView::new(&[0..20], 20, true);
        assert_eq!(read(&view, 0, 7).as_bytes(), STREAM);
        assert_eq!(view.size(), 20);
        assert_eq!(LogView::new(&[], 0, true).size(), 0);
    }

    #[test]
    fn what_is_missing_between_is_a_line() {
        let view = LogView::new(&[0..3, 17..20], 20, true);
        let text = "012\n[... 14 bytes not kept ...]\nhij";
        assert_eq!(view.size(), text.len() as u64);
        for step in [1, 2, 5, 100] {
            assert_eq!(read(&view, 0, step), text);
        }
        for offset in 0..=text.len() {
            assert_eq!(read(&view, offset as u64, 4), text[offset..]);
        }
    }

    #[test]
    fn the_end_is_missing_only_once_the_run_is_over() {
        let one_range = [0..3, 5..10];
        assert_eq!(
            read(&LogView::new(&one_range, 20, false), 0, 100),
            "012\n[... 2 bytes not kept ...]\n56789"
        );
        assert_eq!(
            read(&LogView::new(&[], 20, true), 0, 100),
            "\n[... 20 bytes not kept ...]\n"
        );
    }
}
