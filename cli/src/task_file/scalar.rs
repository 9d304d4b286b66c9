//! Durations, sizes and times in a task file.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::de::{self, Deserialize, Deserializer, Visitor};

use crate::quantity::{parse_duration, parse_size};

/// `30s`, `1.5s`, `2h30m`, or a number of seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span(pub Duration);

/// `16MiB`, or a number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(pub u64);

/// A time in RFC 3339, or a duration from now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment(pub DateTime<Utc>);

/// `0o022`, `"022"` (octal as in a shell), or a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Umask(pub u32);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Span, D::Error> {
        deserializer.deserialize_any(Scalar {
            expected: "a duration such as 30s, 1.5s or 2h30m",
            read: |text| parse_duration(text).map(Span),
        })
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Size, D::Error> {
        deserializer.deserialize_any(Scalar {
            expected: "a size such as 4096, 64KiB or 16MiB",
            read: |text| parse_size(text).map(Size),
        })
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Moment, D::Error> {
        deserializer.deserialize_any(Scalar {
            expected: "a time such as 2026-01-31T12:00:00Z, or a duration from now such as 5m",
            read: parse_moment,
        })
    }
}

impl<'de> Deserialize<'de> for Umask {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Umask, D::Error> {
        struct Mask;
        impl Visitor<'_> for Mask {
            type Value = Umask;
            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("an octal umask such as \"022\"")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Umask, E> {
                let digits = text.strip_prefix("0o").unwrap_or(text);
                let mask = u32::from_str_radix(digits, 8)
                    .ok()
                    .filter(|&mask| mask <= 0o777);
                mask.map(Umask).ok_or_else(|| {
                    E::custom(format!("`{text}` is not an octal umask such as \"022\""))
                })
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Umask, E> {
                let mask = u32::try_from(number).ok().filter(|&mask| mask <= 0o777);
                mask.map(Umask).ok_or_else(|| {
                    E::custom("a umask is at most 0o777; write it in quotes, such as \"022\"")
                })
            }
        }
        deserializer.deserialize_any(Mask)
    }
}

/// A text or a plain number, both read by the same function.
struct Scalar<T> {
    expected: &'static str,
    read: fn(&str) -> Result<T, String>,
}

impl<T> Visitor<'_> for Scalar<T> {
    type Value = T;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.expected)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        (self.read)(text).map_err(E::custom)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }
}

/// A time in RFC 3339, or a duration from now.
pub fn parse_moment(text: &str) -> Result<Moment, String> {
    if let Ok(at) = DateTime::parse_from_rfc3339(text.trim()) {
        return Ok(Moment(at.with_timezone(&Utc)));
    }
    let from_now = parse_duration(text)
        .ok()
        .and_then(|duration| chrono::Duration::from_std(duration).ok())
        .and_then(|duration| Utc::now().checked_add_signed(duration));
    from_now.map(Moment).ok_or_else(|| {
        format!("`{text}` is neither a time such as 2026-01-31T12:00:00Z nor a duration from now such as 5m")
    })
}
