//! From the bytes of a terminal or a log to clean lines: escape sequences taken out, overwritten text left out, whatever
//! is no UTF-8 replaced. What comes out never has more bytes than went in, and does not depend on the pieces in which
//! they came.

/// Longest escape sequence that is believed to be one, in bytes.
const MAX_ESCAPE_BYTES: usize = 4 << 10;

/// A line, or a piece of a long one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TextLine {
    /// Its text, without the line break.
    pub(super) text: String,
    /// Bytes of the stream behind it, the line break included.
    pub(super) raw: u64,
    /// Whether a line break is its end.
    pub(super) is_ended: bool,
    /// Where its text came from, if that is [traced](TextLines::traced).
    pub(super) places: Places,
}

/// Where the bytes of a text stand in what they were made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Places {
    /// From this byte of the text on, the text is as it came from this byte of the stream on.
    runs: Vec<(usize, u64)>,
}

/// Makes lines of bytes.
#[derive(Clone, Debug)]
pub(super) struct TextLines {
    /// Longest piece of a line, in bytes of text.
    max_piece: usize,
    text: String,
    /// Of the text, if they are wanted.
    places: Option<Places>,
    /// Bytes behind the lines that were given so far.
    given: u64,
    /// Bytes that came.
    came: u64,
    /// Of these, what does not depend on what comes next.
    settled: u64,
    state: State,
    /// The beginning of a character.
    partial: Vec<u8>,
    /// A carriage return came: what follows overwrites the line, if it is no line break.
    is_returned: bool,
}

/// Where in an escape sequence the bytes stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Text,
    /// After the escape character.
    Escape,
    /// In a control sequence, which ends with a letter or the like.
    Control(usize),
    /// In a string for the terminal, such as a title, which ends with BEL or ESC \.
    Command(usize),
    /// After an escape character in such a string.
    CommandEscape(usize),
}

impl TextLine {
    /// Bytes that it takes in a text.
    pub(super) fn shown_len(&self) -> usize {
        self.text.len() + usize::from(self.is_ended)
    }
}

impl Places {
    /// Where this byte of the text stands among all bytes that came; none where places are not traced, or nothing is
    /// shown.
    pub(super) fn of(&self, at: usize) -> Option<u64> {
        let begun = self.runs.partition_point(|(text, _)| *text <= at);
        let (text, came) = self.runs.get(begun.checked_sub(1)?)?;
        Some(came + (at - text) as u64)
    }

    fn note(&mut self, at: usize, came: u64) {
        if self.of(at) != Some(came) {
            self.runs.push((at, came));
        }
    }
}

impl TextLines {
    /// Pieces of lines have at most `max_piece` bytes of text, and at least 4.
    pub(super) fn new(max_piece: usize) -> Self {
        Self {
            max_piece: max_piece.max(4),
            text: String::new(),
            places: None,
            given: 0,
            came: 0,
            settled: 0,
            state: State::Text,
            partial: Vec::new(),
            is_returned: false,
        }
    }

    /// The same, with the places of the lines.
    pub(super) fn traced(max_piece: usize) -> Self {
        Self {
            places: Some(Places::default()),
            ..Self::new(max_piece)
        }
    }

    /// The last line as it stands, which more may be added to.
    pub(super) fn unfinished(&self) -> TextLine {
        TextLine {
            text: self.text.clone(),
            raw: self.came - self.given,
            is_ended: false,
            places: self.places.clone().unwrap_or_default(),
        }
    }

    /// Bytes that do not depend on what comes next.
    pub(super) fn settled(&self) -> u64 {
        self.settled
    }

    /// Takes bytes and gives the lines that end in them.
    pub(super) fn feed(&mut self, data: &[u8], mut give: impl FnMut(TextLine)) {
        let mut rest = data;
        while let Some((first, behind)) = rest.split_first() {
            let plain = self.plain_run(rest);
            if plain > 0 {
                self.note_place(self.came);
                self.text
                    .push_str(std::str::from_utf8(&rest[..plain]).unwrap_or_default());
                self.came += plain as u64;
                self.settled = self.came;
                rest = &rest[plain..];
                continue;
            }
            self.came += 1;
            self.take(*first, &mut give);
            if self.state == State::Text && self.partial.is_empty() && !self.is_returned {
                self.settled = self.came;
            }
            rest = behind;
        }
    }

    /// Ends a line where bytes are missing; they count as its line break.
    pub(super) fn gap(&mut self, mut give: impl FnMut(TextLine)) {
        self.flush(&mut give);
        if self.came > self.given {
            self.end_piece(true, &mut give);
        }
    }

    /// Ends the last line. Where more may come, what is not settled is left for it.
    pub(super) fn finish(&mut self, is_complete: bool, mut give: impl FnMut(TextLine)) {
        if is_complete {
            self.flush(&mut give);
        } else {
            self.came = self.settled;
        }
        if self.came > self.given {
            self.end_piece(false, &mut give);
        }
    }

    /// How many bytes at the beginning are nothing but text that fits into the piece.
    fn plain_run(&self, data: &[u8]) -> usize {
        if self.state != State::Text || !self.partial.is_empty() || self.is_returned {
            return 0;
        }
        let room = self.max_piece - self.text.len();
        let is_plain = |byte: &u8| matches!(byte, b' '..=b'~' | b'\t');
        data.iter()
            .take(room)
            .take_while(|byte| is_plain(byte))
            .count()
    }

    fn take(&mut self, byte: u8, give: &mut impl FnMut(TextLine)) {
        match self.state {
            State::Text => self.take_text(byte, give),
            State::Escape => match byte {
                b'[' => self.state = State::Control(0),
                b']' | b'P' | b'X' | b'^' | b'_' => self.state = State::Command(0),
                // of a sequence of three bytes
                b' '..=b'/' => {}
                b'0'..=b'~' => self.state = State::Text,
                _ => self.break_off(byte, give),
            },
            State::Control(length) => match byte {
                b' '..=b'?' if length < MAX_ESCAPE_BYTES => self.state = State::Control(length + 1),
                b'@'..=b'~' => self.state = State::Text,
                _ => self.break_off(byte, give),
            },
            State::Command(length) => match byte {
                0x07 => self.state = State::Text,
                0x1b => self.state = State::CommandEscape(length + 1),
                b'\n' => self.break_off(byte, give),
                _ if length < MAX_ESCAPE_BYTES => self.state = State::Command(length + 1),
                _ => self.break_off(byte, give),
            },
            State::CommandEscape(length) => match byte {
                b'\\' => self.state = State::Text,
                b'\n' => self.break_off(byte, give),
                0x1b => {}
                _ => self.state = State::Command(length),
            },
        }
    }

    /// It was no escape sequence after all; what came of it is left out.
    fn break_off(&mut self, byte: u8, give: &mut impl FnMut(TextLine)) {
        self.state = State::Text;
        self.take_text(byte, give);
    }

    fn take_text(&mut self, byte: u8, give: &mut impl FnMut(TextLine)) {
        if byte.is_ascii() {
            self.replace_partial(1, give);
        }
        match byte {
            b'\n' => {
                self.is_returned = false;
                self.end_piece(true, give);
            }
            b'\r' => self.is_returned = true,
            0x1b => self.state = State::Escape,
            b'\t' | b' '..=b'~' => self.put(char::from(byte), self.came - 1, give),
            0x80.. => self.take_partial(byte, give),
            // other control characters show nothing
            _ => {}
        }
    }

    fn take_partial(&mut self, byte: u8, give: &mut impl FnMut(TextLine)) {
        self.partial.push(byte);
        match std::str::from_utf8(&self.partial) {
            Ok(text) => {
                let character = text.chars().next();
                let from = self.came - self.partial.len() as u64;
                self.partial.clear();
                if let Some(character) = character.filter(|character| !character.is_control()) {
                    self.put(character, from, give);
                }
            }
            Err(error) => {
                if let Some(bad) = error.error_len() {
                    let behind = self.partial.split_off(bad.min(self.partial.len()));
                    self.replace_partial(behind.len() as u64, give);
                    for byte in behind {
                        self.take_text(byte, give);
                    }
                }
            }
        }
    }

    /// One character for bytes that are none; `behind` bytes came after them.
    fn replace_partial(&mut self, behind: u64, give: &mut impl FnMut(TextLine)) {
        if !self.partial.is_empty() {
            let from = self.came - behind - self.partial.len() as u64;
            self.partial.clear();
            self.put('?', from, give);
            self.settled = self.came - behind;
        }
    }

    /// Adds a character that begins with byte `from` of those that came.
    fn put(&mut self, character: char, from: u64, give: &mut impl FnMut(TextLine)) {
        if std::mem::take(&mut self.is_returned) {
            self.text.clear();
            self.take_places();
        }
        if self.text.len() + character.len_utf8() > self.max_piece {
            let raw = self.settled.max(self.given) - self.given;
            self.given += raw;
            give(TextLine {
                text: std::mem::take(&mut self.text),
                raw,
                is_ended: false,
                places: self.take_places(),
            });
        }
        self.note_place(from);
        self.text.push(character);
    }

    /// What is added to the text next begins with byte `from` of those that came.
    fn note_place(&mut self, from: u64) {
        if let Some(places) = &mut self.places {
            places.note(self.text.len(), from);
        }
    }

    fn take_places(&mut self) -> Places {
        self.places.as_mut().map(std::mem::take).unwrap_or_default()
    }

    fn flush(&mut self, give: &mut impl FnMut(TextLine)) {
        self.replace_partial(0, give);
        self.state = State::Text;
        self.is_returned = false;
        self.settled = self.came;
    }

    fn end_piece(&mut self, is_ended: bool, give: &mut impl FnMut(TextLine)) {
        let raw = self.came - self.given;
        self.given = self.came;
        give(TextLine {
            text: std::mem::take(&mut self.text),
            raw,
            is_ended,
            places: self.take_places(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lines(data: &[u8], lengths: &[usize], is_complete: bool) -> (Vec<TextLine>, u64) {
        let mut lines = TextLines::traced(40);
        let mut given = Vec::new();
        let mut rest = data;
        for length in lengths.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, behind) = rest.split_at((*length).clamp(1, rest.len()));
            lines.feed(piece, |line| given.push(line));
            rest = behind;
        }
        lines.finish(is_complete, |line| given.push(line));
        (given, lines.settled())
    }

    fn texts(data: &[u8]) -> Vec<String> {
        let (lines, _) = lines(data, &[data.len().max(1)], true);
        lines.into_iter().map(|line| line.text).collect()
    }

    #[test]
    fn escapes_returns_and_bad_bytes_are_cleaned() {
        assert_eq!(texts(b"\x1b[1;31merror\x1b[0m: no\r\n"), ["error: no"]);
        assert_eq!(texts(b"10%\r20%\r100%\ndone"), ["100%", "done"]);
        assert_eq!(
            texts(b"\x1b]0;title\x07a\x1b]8;;http://x\x1b\\b\x1b(Bc"),
            ["abc"]
        );
        assert_eq!(
            texts("gr\u{fc}n \u{65e5}\u{1f600}".as_bytes()),
            ["gr\u{fc}n \u{65e5}\u{1f600}"]
        );
        assert_eq!(texts(b"a\xffb\xe6\x97c\xf0\x9f\x98"), ["a?b?c?"]);
        assert_eq!(texts(b"a\x00\x08b\x7f\xc2\x85c\td"), ["abc\td"]);
        assert_eq!(texts(b"\x1b]0;no end\nnext"), ["", "next"]);
        assert_eq!(texts(b"50%\r\x1b[K60%"), ["60%"]);
    }

    #[test]
    fn long_lines_come_in_pieces_without_a_break() {
        let (lines, _) = lines(&[b'x'; 100], &[7], true);
        let shape: Vec<_> = lines
            .iter()
            .map(|line| (line.text.len(), line.raw, line.is_ended))
            .collect();
        assert_eq!(shape, [(40, 40, false), (40, 40, false), (20, 20, false)]);
    }

    #[test]
    fn what_may_still_change_is_left_for_later() {
        for (data, settled) in [
            (&b"abc\xe6\x97"[..], 3),
            (b"abc\x1b[3", 3),
            (b"abc\r", 3),
            (b"abc\r\x1b[K", 3),
            (b"abc", 3),
            (b"", 0),
        ] {
            let (lines, at) = lines(data, &[1], false);
            assert_eq!(at, settled, "{data:?}");
            assert_eq!(lines.iter().map(|line| line.raw).sum::<u64>(), settled);
        }
    }

    #[test]
    fn a_place_is_found_behind_what_is_not_shown() {
        let mut lines = TextLines::traced(40);
        let mut given = Vec::new();
        lines.feed(b"\x1b[31merr\x1b[0mor\n10%\rd\xe6\x97o", |line| {
            given.push(line)
        });
        let places = |line: &TextLine| -> Vec<Option<u64>> {
            (0..line.text.len()).map(|at| line.places.of(at)).collect()
        };
        let error: Vec<Option<u64>> = [5, 6, 7, 12, 13].map(Some).to_vec();
        assert_eq!((given.len(), places(&given[0])), (1, error));
        let unfinished = lines.unfinished();
        assert_eq!(unfinished.text, "d?o");
        assert_eq!(places(&unfinished), [Some(19), Some(20), Some(22)]);
        assert_eq!(Places::default().of(0), None);
    }

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            Just(b"\n".to_vec()),
            Just(b"\r".to_vec()),
            Just(b"\x1b[31m".to_vec()),
            Just(b"\x1b]0;t\x07".to_vec()),
            Just("\u{65e5}".as_bytes().to_vec()),
            "[a-c ]{0,60}".prop_map(String::into_bytes),
            proptest::collection::vec(any::<u8>(), 0..6),
        ];
        proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter_and_nothing_grows(
            data in bytes(),
            lengths in proptest::collection::vec(1_usize..9, 1..6),
            is_complete in any::<bool>(),
        ) {
            let (whole, settled) = lines(&data, &[data.len().max(1)], is_complete);
            prop_assert_eq!(&lines(&data, &lengths, is_complete).0, &whole);
            let raw: u64 = whole.iter().map(|line| line.raw).sum();
            prop_assert_eq!(raw, settled, "every byte belongs to one line");
            if is_complete {
                prop_assert_eq!(raw, data.len() as u64);
            }
            let mut shown = 0;
            let mut came = 0;
            for line in &whole {
                shown += line.shown_len() as u64;
                came += line.raw;
                prop_assert!(line.text.len() <= 40 && !line.text.contains(['\n', '\r', '\x1b']));
                prop_assert!(shown <= came, "never larger than what is behind it");
                for (at, byte) in line.text.bytes().enumerate() {
                    let from = line.places.of(at).and_then(|from| usize::try_from(from).ok());
                    let came = from.and_then(|from| data.get(from));
                    prop_assert!(byte == b'?' || came == Some(&byte), "{at} of {line:?}");
                }
            }
        }

        #[test]
        fn a_reader_that_goes_on_where_it_is_settled_misses_nothing(data in bytes(), at in 0_usize..200) {
            // What a carriage return overwrites depends on what was read with it.
            let data: Vec<u8> = data.into_iter().filter(|byte| *byte != b'\r').collect();
            let at = at.min(data.len());
            let whole_text = |lines: Vec<TextLine>| -> String {
                let end = |line: &TextLine| if line.is_ended { "\n" } else { "" };
                lines.iter().map(|line| format!("{}{}", line.text, end(line))).collect()
            };
            let (first, settled) = lines(&data[..at], &[at.max(1)], false);
            let settled = usize::try_from(settled).unwrap_or(at);
            let (rest, _) = lines(&data[settled..], &[7], true);
            let (whole, _) = lines(&data, &[5], true);
            prop_assert_eq!(whole_text(first) + &whole_text(rest), whole_text(whole));
        }
    }
}
