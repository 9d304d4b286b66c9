//! Masking of bytes as they come. However they are cut, the outcome is the same: each longest run of bytes that belong to
//! some form of some secret becomes one `***`.
//!
//! Kept back is only what could be the beginning of a secret, so at most one byte less than the longest form; it goes on
//! with the first byte that decides, or when the stream ends. There is no time after which it goes on undecided: what is
//! written slowly would show the beginning of a secret then.

use std::collections::VecDeque;
use std::sync::Arc;

use super::automaton::{Automaton, START, State};
use super::text::Masks;

/// What takes the place of a secret.
pub(super) const MASK: &[u8] = b"***";

/// One stream being masked.
#[derive(Debug)]
pub struct MaskedStream {
    automaton: Arc<Automaton>,
    state: State,
    /// What has come and not gone on.
    held: VecDeque<u8>,
    /// How many bytes have gone on, masked or not: where `held` begins.
    position: u64,
    /// Runs from `position` on that are to be masked, in order and apart from each other.
    covered: VecDeque<(u64, u64)>,
    /// The byte that went on last was masked.
    is_in_mask: bool,
}

impl MaskedStream {
    pub fn new(masks: &Masks) -> MaskedStream {
        MaskedStream::over(masks.automaton())
    }

    pub(super) fn over(automaton: Arc<Automaton>) -> MaskedStream {
        MaskedStream {
            automaton,
            state: START,
            held: VecDeque::new(),
            position: 0,
            covered: VecDeque::new(),
            is_in_mask: false,
        }
    }

    /// Takes the next bytes; what can go on is added to `out`.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let mut bytes = bytes;
        // what is kept back has a state; a mask that could still grow has one, too
        if self.state == START && self.held.is_empty() {
            // most output has nothing to do with any secret, and passes as it is
            let is_harmless = |byte: &&u8| self.automaton.step(START, **byte) == START;
            let harmless = bytes.iter().take_while(is_harmless).count();
            if harmless > 0 {
                out.extend(&bytes[..harmless]);
                self.position += harmless as u64;
                self.is_in_mask = false;
                bytes = &bytes[harmless..];
            }
        }
        let mut end = self.position + self.held.len() as u64;
        for byte in bytes {
            self.state = self.automaton.step(self.state, *byte);
            end += 1;
            let ends = self.automaton.ends(self.state);
            if ends > 0 {
                self.cover(end - ends as u64, end);
            }
        }
        self.held.extend(bytes);
        self.release(end - self.automaton.depth(self.state) as u64, out);
    }

    /// The stream has ended, or a part of it after which something else comes: the rest goes on.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        self.release(u64::MAX, out);
        self.state = START;
        self.is_in_mask = false;
    }

    /// Whether nothing is kept back.
    pub fn is_settled(&self) -> bool {
        self.held.is_empty()
    }

    fn cover(&mut self, start: u64, end: u64) {
        let mut start = start.max(self.position);
        while let Some((earlier, until)) = self.covered.back().copied() {
            if until < start {
                break;
            }
            start = start.min(earlier);
            self.covered.pop_back();
        }
        self.covered.push_back((start, end));
    }

    /// Lets go on what is decided: all before `decided`, and beyond it what is masked anyhow.
    fn release(&mut self, decided: u64, out: &mut Vec<u8>) {
        let end = self.position + self.held.len() as u64;
        while self.position < end {
            let next = self.covered.front().copied();
            if let Some((_, until)) = next.filter(|(start, _)| *start <= self.position) {
                if !self.is_in_mask {
                    out.extend(MASK);
                }
                self.is_in_mask = true;
                self.covered.pop_front();
                self.let_go(until, |_| {});
                continue;
            }
            let stop = next.map_or(end, |(start, _)| start).min(decided).min(end);
            if stop <= self.position {
                return;
            }
            self.is_in_mask = false;
            self.let_go(stop, |byte| out.push(byte));
        }
    }

    fn let_go(&mut self, until: u64, mut take: impl FnMut(u8)) {
        let count = usize::try_from(until - self.position).unwrap_or(usize::MAX);
        self.held
            .drain(..count.min(self.held.len()))
            .for_each(&mut take);
        self.position = until;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What masking means, in the plainest words.
    fn masked_naively(patterns: &[Vec<u8>], text: &[u8]) -> Vec<u8> {
        let mut is_masked = vec![false; text.len()];
        for pattern in patterns.iter().filter(|pattern| !pattern.is_empty()) {
            for (at, part) in text.windows(pattern.len()).enumerate() {
                if part == pattern {
                    is_masked[at..at + pattern.len()].fill(true);
                }
            }
        }
        let mut out = Vec::new();
        for (at, byte) in text.iter().enumerate() {
            if !is_masked[at] {
                out.push(*byte);
            } else if at == 0 || !is_masked[at - 1] {
                out.extend(MASK);
            }
        }
        out
    }

    fn automaton(patterns: &[Vec<u8>]) -> Arc<Automaton> {
        Arc::new(Automaton::new(patterns.iter().map(Vec::as_slice)))
    }

    fn masked(patterns: &[&str], pieces: &[&str]) -> (String, Vec<String>) {
        let patterns: Vec<Vec<u8>> = patterns.iter().map(|p| p.as_bytes().to_vec()).collect();
        let mut stream = MaskedStream::over(automaton(&patterns));
        let (mut out, mut steps) = (Vec::new(), Vec::new());
        for piece in pieces {
            let before = out.len();
            stream.push(piece.as_bytes(), &mut out);
            steps.push(String::from_utf8_lossy(&out[before..]).into_owned());
        }
        stream.finish(&mut out);
        (String::from_utf8_lossy(&out).into_owned(), steps)
    }

    #[test]
    fn a_secret_is_masked_across_any_cut() {
        let text = "before hunter2 after";
        for cut in 0..=text.len() {
            let (out, _) = masked(&["hunter2"], &[&text[..cut], &text[cut..]]);
            assert_eq!(out, "before *** after", "cut at {cut}");
        }
    }

    #[test]
    fn only_the_possible_beginning_of_a_secret_is_kept_back() {
        let (out, steps) = masked(
            &["hunter2"],
            &["a prompt: ", "hun", "gry", " hunt", "er2", "!"],
        );
        assert_eq!(steps, ["a prompt: ", "", "hungry", " ", "***", "!"]);
        assert_eq!(out, "a prompt: hungry ***!");
        let (out, steps) = masked(&["hunter2"], &["in the end hunt"]);
        assert_eq!(
            (steps[0].as_str(), out.as_str()),
            ("in the end ", "in the end hunt")
        );
    }

    #[test]
    fn overlapping_secrets_become_one_mask() {
        let (out, _) = masked(&["abcdef", "defghi", "efg"], &["xabcdefghiy efg"]);
        assert_eq!(out, "x***y ***");
        let (out, steps) = masked(&["abc", "abcdef"], &["abc", "def", "abcx"]);
        assert_eq!(steps, ["***", "", "x"]);
        assert_eq!(out, "***x");
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(2_000),
            ..ProptestConfig::default()
        })]
        #[test]
        fn a_cut_stream_is_masked_as_a_whole_text_is(
            patterns in prop::collection::vec(prop::collection::vec(b'a'..=b'c', 0..6), 0..5),
            pieces in prop::collection::vec(prop::collection::vec(b'a'..=b'd', 0..12), 0..8),
        ) {
            let automaton = automaton(&patterns);
            let longest = patterns.iter().map(Vec::len).max().unwrap_or(0);
            let mut stream = MaskedStream::over(automaton);
            let mut out = Vec::new();
            for piece in &pieces {
                stream.push(piece, &mut out);
                prop_assert!(stream.held.len() <= longest.saturating_sub(1), "{} are kept back", stream.held.len());
                prop_assert!(stream.covered.len() <= stream.held.len());
            }
            stream.finish(&mut out);
            prop_assert!(stream.is_settled());
            let expected = masked_naively(&patterns, &pieces.concat());
            prop_assert_eq!(
                String::from_utf8_lossy(&out).into_owned(),
                String::from_utf8_lossy(&expected).into_owned()
            );
        }
    }
}
