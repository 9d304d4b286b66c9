//! How a value is commonly written.

use std::collections::BTreeSet;
use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};

/// Shorter values, and shorter lines of values, are not masked: they would be found everywhere.
const BYTES_MIN: usize = 6;
/// Of longer values only the likeliest forms are looked for, so that the automaton stays small.
const ALL_FORMS_BYTES_MAX: usize = 4 * 1024;

/// Everything that is looked for where a task has these secrets. Each has at least 6 bytes.
pub(super) fn forms_of(values: &[Vec<u8>]) -> BTreeSet<Vec<u8>> {
    let mut forms = BTreeSet::new();
    for value in values {
        add(&mut forms, value);
        // a file's last line break is often lost on the way
        let trimmed = value.trim_ascii();
        if trimmed.len() < value.len() {
            add(&mut forms, trimmed);
        }
        // terminals, indentation and logs take values of several lines apart
        for line in value.split(|byte| *byte == b'\n') {
            let line = line.trim_ascii();
            if line.len() < trimmed.len() && line.len() >= BYTES_MIN {
                forms.insert(line.to_vec());
            }
        }
    }
    forms
}

fn add(forms: &mut BTreeSet<Vec<u8>>, value: &[u8]) {
    if value.len() < BYTES_MIN {
        return;
    }
    forms.insert(value.to_vec());
    add_base64(forms, value);
    if value.len() > ALL_FORMS_BYTES_MAX {
        return;
    }
    forms.insert(hex(value, |text, byte| write!(text, "{byte:02x}")));
    forms.insert(hex(value, |text, byte| write!(text, "{byte:02X}")));
    for left_alone in [
        UNRESERVED,
        BY_ENCODE_URI_COMPONENT,
        BY_PYTHON_QUOTE,
        IN_PATHS,
    ] {
        for space in ["%20", "+"] {
            forms.insert(percent(value, left_alone, space, false));
            forms.insert(percent(value, left_alone, space, true));
        }
    }
    if let Ok(text) = std::str::from_utf8(value) {
        for (ascii_only, slashes) in [(false, false), (false, true), (true, false), (true, true)] {
            forms.insert(json(text, ascii_only, slashes));
        }
    }
    // as a shell writes it into single quotes
    forms.insert(replace(value, b'\'', br"'\''"));
}

/// A value may stand anywhere in what is encoded, as passwords do in `user:password`. From each of the three places
/// within a group of three bytes, the characters that only the value decides are looked for; and where it is the last
/// thing that was encoded, those at the end.
fn add_base64(forms: &mut BTreeSet<Vec<u8>>, value: &[u8]) {
    for engine in [&STANDARD, &URL_SAFE] {
        for before in 0..3 {
            let mut padded = vec![0; before];
            padded.extend(value);
            let encoded = engine.encode(&padded).into_bytes();
            let first = (before * 8).div_ceil(6);
            let last = padded.len() * 8 / 6;
            let unpadded = (padded.len() * 8).div_ceil(6);
            for end in [last, unpadded, encoded.len()] {
                forms.insert(encoded[first..end].to_vec());
            }
        }
    }
}

fn hex(value: &[u8], put: fn(&mut String, u8) -> std::fmt::Result) -> Vec<u8> {
    let mut text = String::with_capacity(2 * value.len());
    for byte in value {
        // writing to a String cannot fail
        let _ = put(&mut text, *byte);
    }
    text.into_bytes()
}

/// Beside letters and digits, what is not escaped: by RFC 3986, by JavaScript, by Python, and in the path of a URL.
const UNRESERVED: &[u8] = b"-._~";
const BY_ENCODE_URI_COMPONENT: &[u8] = b"-._~!*'()";
const BY_PYTHON_QUOTE: &[u8] = b"-._~/";
const IN_PATHS: &[u8] = b"-._~!$&'()*+,;=:@/";

fn percent(value: &[u8], left_alone: &[u8], space: &str, is_lower: bool) -> Vec<u8> {
    let mut text = String::with_capacity(value.len());
    for byte in value {
        let _ = match byte {
            b' ' => write!(text, "{space}"),
            byte if byte.is_ascii_alphanumeric() || left_alone.contains(byte) => {
                write!(text, "{}", char::from(*byte))
            }
            byte if is_lower => write!(text, "%{byte:02x}"),
            byte => write!(text, "%{byte:02X}"),
        };
    }
    text.into_bytes()
}

fn json(value: &str, ascii_only: bool, slashes: bool) -> Vec<u8> {
    let mut text = String::with_capacity(value.len());
    for character in value.chars() {
        let _ = match character {
            '"' => write!(text, "\\\""),
            '\\' => write!(text, "\\\\"),
            '\n' => write!(text, "\\n"),
            '\r' => write!(text, "\\r"),
            '\t' => write!(text, "\\t"),
            '\u{8}' => write!(text, "\\b"),
            '\u{c}' => write!(text, "\\f"),
            '/' if slashes => write!(text, "\\/"),
            control if control < ' ' => write!(text, "\\u{:04x}", u32::from(control)),
            other if ascii_only && !other.is_ascii() => {
                let mut units = [0; 2];
                other
                    .encode_utf16(&mut units)
                    .iter()
                    .try_for_each(|unit| write!(text, "\\u{unit:04x}"))
            }
            other => write!(text, "{other}"),
        };
    }
    text.into_bytes()
}

fn replace(value: &[u8], byte: u8, by: &[u8]) -> Vec<u8> {
    let pieces: Vec<&[u8]> = value.split(|other| *other == byte).collect();
    pieces.join(by)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(value: &[u8], text: &str) -> bool {
        forms_of(&[value.to_vec()])
            .iter()
            .any(|form| text.as_bytes().windows(form.len()).any(|part| part == form))
    }

    #[test]
    fn a_value_is_known_in_its_common_forms() {
        let value = "p@ss \"word\"/é'1";
        for text in [
            "p@ss \"word\"/é'1",
            "cEBzcyAid29yZCIvw6knMQ",
            "7040737320 22776f7264222fc3a92731"
                .replace(' ', "")
                .as_str(),
            "70407373 2022776F7264222FC3A92731"
                .replace(' ', "")
                .as_str(),
            "p%40ss%20%22word%22%2F%C3%A9%271",
            "p%40ss+%22word%22%2f%c3%a9%271",
            "p%40ss%20%22word%22%2F%C3%A9'1",
            "p%40ss%20%22word%22/%C3%A9%271",
            r#"p@ss \"word\"/é'1"#,
            r#"p@ss \"word\"\/\u00e9'1"#,
            r#"p@ss "word"/é'\''1"#,
        ] {
            assert!(found(value.as_bytes(), text), "{text}");
        }
    }

    #[test]
    fn base64_is_known_wherever_the_value_stands_in_it() {
        let value = b"hunter2-?>~secret";
        for before in ["", "a", "ab", "abc", "user:"] {
            for after in ["", "x", "xy", "xyz"] {
                let whole = [before.as_bytes(), value, after.as_bytes()].concat();
                for encoded in [STANDARD.encode(&whole), URL_SAFE.encode(&whole)] {
                    assert!(found(value, &encoded), "{before} {after}: {encoded}");
                }
            }
        }
    }

    #[test]
    fn what_is_too_short_is_not_looked_for() {
        assert!(forms_of(&[b"12345".to_vec()]).is_empty());
        let lines = forms_of(&[b"-----BEGIN-----\nabc\nMIIEvQIBADANBg\n".to_vec()]);
        assert!(lines.contains(b"MIIEvQIBADANBg".as_slice()));
        assert!(lines.iter().all(|form| form.len() >= BYTES_MIN));
        assert!(!lines.contains(b"abc".as_slice()));
    }
}
