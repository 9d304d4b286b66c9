//! Masking of what is there whole.

use std::borrow::Cow;
use std::sync::Arc;

use super::automaton::{Automaton, START};
use super::forms::forms_of;
use super::stream::{MASK, MaskedStream};

/// What is to be masked. Clones are the same; the values are not shown.
#[derive(Clone)]
pub struct Masks {
    automaton: Arc<Automaton>,
}

impl std::fmt::Debug for Masks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Masks(***)")
    }
}

impl Masks {
    /// Masks these values in all their common forms. Values of less than 6 bytes are not masked.
    pub fn new(values: &[Vec<u8>]) -> Masks {
        let forms = forms_of(values);
        Masks {
            automaton: Arc::new(Automaton::new(forms.iter().map(Vec::as_slice))),
        }
    }

    /// Whether there is nothing to mask.
    pub fn is_empty(&self) -> bool {
        self.automaton.is_empty()
    }

    pub(super) fn automaton(&self) -> Arc<Automaton> {
        self.automaton.clone()
    }

    /// Whether something would be masked.
    pub fn find(&self, bytes: &[u8]) -> bool {
        let mut state = START;
        bytes.iter().any(|byte| {
            state = self.automaton.step(state, *byte);
            self.automaton.ends(state) > 0
        })
    }

    /// The text, masked.
    pub fn text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if !self.find(text.as_bytes()) {
            return Cow::Borrowed(text);
        }
        let mut out = Vec::with_capacity(text.len());
        let mut stream = MaskedStream::new(self);
        stream.push(text.as_bytes(), &mut out);
        stream.finish(&mut out);
        // a secret that is no text may end within a character
        Cow::Owned(String::from_utf8_lossy(&out).into_owned())
    }

    /// Masks a text in its place.
    pub fn apply(&self, text: &mut String) {
        if let Cow::Owned(masked) = self.text(text) {
            *text = masked;
        }
    }

    /// Masks a JSON value in its place; it stays one, and what holds no secret stays as it came. A number or a word that
    /// holds one becomes the string `***`; so does the whole where a secret goes beyond one string or number of it.
    pub fn apply_json(&self, json: &mut String) {
        if self.is_empty() {
            return;
        }
        let mut masked = String::with_capacity(json.len());
        let mut rest = json.as_str();
        while let Some(first) = rest.chars().next() {
            let length = match first {
                '"' => string_length(rest),
                ' ' | '\t' | '\r' | '\n' | '{' | '}' | '[' | ']' | ',' | ':' => 1,
                _ => rest.find(ENDS_A_WORD).unwrap_or(rest.len()),
            };
            let (token, after) = rest.split_at(length.max(first.len_utf8()));
            rest = after;
            match self.token(token) {
                Some(token) => masked.push_str(&token),
                None => masked.push_str(token),
            }
        }
        if self.find(masked.as_bytes()) {
            masked = MASKED_JSON.to_owned();
        }
        if masked != *json {
            *json = masked;
        }
    }

    /// What is to take the place of a token; absent: it stays.
    fn token(&self, token: &str) -> Option<String> {
        if token.starts_with('"') {
            return match serde_json::from_str::<String>(token) {
                Ok(text) => match self.text(&text) {
                    Cow::Borrowed(_) => None,
                    Cow::Owned(masked) => Some(serde_json::Value::from(masked).to_string()),
                },
                // such as half of a pair of surrogates: no JSON for us, but perhaps for others
                Err(_) => self.find(token.as_bytes()).then(|| MASKED_JSON.to_owned()),
            };
        }
        self.find(token.as_bytes()).then(|| MASKED_JSON.to_owned())
    }
}

const MASKED_JSON: &str = "\"***\"";
const _: () = assert!(MASK.len() == 3);
const ENDS_A_WORD: [char; 11] = ['"', ' ', '\t', '\r', '\n', '{', '}', '[', ']', ',', ':'];

/// Bytes of the string at the start of `text`, with its quotes; all of it where it has no end.
fn string_length(text: &str) -> usize {
    let mut is_escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn masks(values: &[&str]) -> Masks {
        let values: Vec<Vec<u8>> = values
            .iter()
            .map(|value| value.as_bytes().to_vec())
            .collect();
        Masks::new(&values)
    }

    fn json(masks: &Masks, text: &str) -> String {
        let mut text = text.to_owned();
        masks.apply_json(&mut text);
        text
    }

    #[test]
    fn a_text_without_a_secret_is_left_alone() {
        let masks = masks(&["hunter2"]);
        assert!(matches!(masks.text("nothing here"), Cow::Borrowed(_)));
        assert_eq!(masks.text("it is hunter2."), "it is ***.");
        assert_eq!(masks.text("basic dXNlcjpodW50ZXIy!"), "basic dXNlcjp***!");
        assert_eq!(format!("{masks:?}"), "Masks(***)");
    }

    #[test]
    fn masked_json_is_json_and_keeps_what_holds_no_secret() {
        let masks = masks(&["hunter2", "12345678", "a\"b\\c-d"]);
        let cases = [
            (r#"{"a": 1.50, "b":[true]}"#, r#"{"a": 1.50, "b":[true]}"#),
            (r#"{"a": "x hunter2 y"}"#, r#"{"a": "x *** y"}"#),
            (r#"{"hunter2": 1}"#, r#"{"***": 1}"#),
            (r#"{"a": "\u0068unter2"}"#, r#"{"a": "***"}"#),
            (r#"[12345678, 9]"#, r#"["***", 9]"#),
            (r#"[-0.12345678e5]"#, r#"["***"]"#),
            (r#"{"a": "a\"b\\c-d"}"#, r#"{"a": "***"}"#),
            (r#""hunter2""#, r#""***""#),
        ];
        for (before, after) in cases {
            assert_eq!(json(&masks, before), after);
        }
    }

    #[test]
    fn a_secret_across_tokens_masks_the_whole() {
        let masks = masks(&[r#"{"user":"me","pin":1234}"#]);
        assert_eq!(json(&masks, r#"[{"user":"me","pin":1234}]"#), "\"***\"");
    }

    proptest! {
        #[test]
        fn masked_json_stays_json(
            keys in prop::collection::vec("[a-c\"\\\\\u{e9}\u{1f600}]{0,9}", 1..5),
            numbers in prop::collection::vec(0..100_000_000_u64, 1..4),
            secret in "[a-c1-3\"\\\\\u{e9}]{6,8}",
        ) {
            let value = serde_json::json!({"keys": keys, "numbers": numbers, "secret": secret});
            let masked = json(&masks(&[&secret]), &value.to_string());
            let parsed = serde_json::from_str::<serde_json::Value>(&masked);
            prop_assert!(parsed.is_ok(), "{}", masked);
            prop_assert!(!masks(&[&secret]).find(masked.as_bytes()));
        }

        #[test]
        fn no_text_makes_it_stumble(text in ".{0,40}") {
            let mut text = text;
            masks(&["hunter2"]).apply_json(&mut text);
        }
    }
}
