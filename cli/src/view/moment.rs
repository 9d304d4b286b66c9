//! Points in time: exact for programs, ages and clock times for people.

use std::time::Duration;

use chrono::{DateTime, Local, SecondsFormat, Utc};
use prost_types::Timestamp;

use crate::quantity::{parse_duration, short_duration};

/// RFC 3339 in UTC with as many digits as there are: `2026-01-31T12:00:00.250Z`.
pub fn exact(at: &Timestamp) -> String {
    to_utc(at).to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

/// RFC 3339 in UTC with microseconds, always as long: `2026-01-31T12:00:00.250000Z`.
pub fn microseconds(at: &Timestamp) -> String {
    to_utc(at).to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// How long ago, shortly: `3s`, `2m`; `-` where there is no time.
pub fn age(at: Option<&Timestamp>) -> String {
    match at {
        Some(at) => short_duration(between(at, &now())),
        None => "-".to_owned(),
    }
}

/// A time with its age, in the clock of this machine: `2026-01-31 13:00:00 (2m ago)`.
pub fn with_age(at: &Timestamp) -> String {
    let now = now();
    let local = to_utc(at).with_timezone(&Local).format("%Y-%m-%d %H:%M:%S");
    if is_after(at, &now) {
        format!("{local} (in {})", short_duration(between(&now, at)))
    } else {
        format!("{local} ({} ago)", short_duration(between(at, &now)))
    }
}

/// The time of day on this machine: `13:00:00.250`.
pub fn clock_time(at: &Timestamp) -> String {
    to_utc(at)
        .with_timezone(&Local)
        .format("%H:%M:%S%.3f")
        .to_string()
}

/// From one time to a later one; nothing if it is not later.
pub fn between(from: &Timestamp, to: &Timestamp) -> Duration {
    (to_utc(to) - to_utc(from))
        .to_std()
        .unwrap_or(Duration::ZERO)
}

/// Reads a time such as `2026-01-31T12:00:00Z`, or how long ago it was, such as `90m`.
pub fn parse_past(text: &str) -> Result<Timestamp, String> {
    if let Ok(at) = DateTime::parse_from_rfc3339(text.trim()) {
        return Ok(from_utc(at.with_timezone(&Utc)));
    }
    let ago = parse_duration(text)
        .ok()
        .and_then(|duration| chrono::Duration::from_std(duration).ok())
        .and_then(|duration| Utc::now().checked_sub_signed(duration));
    ago.map(from_utc).ok_or_else(|| {
        format!(
            "`{text}` is neither a time such as 2026-01-31T12:00:00Z nor how long ago, such as 90m"
        )
    })
}

pub fn now() -> Timestamp {
    from_utc(Utc::now())
}

pub fn from_utc(at: DateTime<Utc>) -> Timestamp {
    Timestamp {
        seconds: at.timestamp(),
        nanos: at.timestamp_subsec_nanos().min(999_999_999).cast_signed(),
    }
}

fn is_after(at: &Timestamp, other: &Timestamp) -> bool {
    to_utc(at) > to_utc(other)
}

/// What lies outside of the calendar is shown as its beginning.
fn to_utc(at: &Timestamp) -> DateTime<Utc> {
    let nanos = u32::try_from(at.nanos).unwrap_or(0);
    DateTime::from_timestamp(at.seconds, nanos).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339_in_utc() {
        let at = Timestamp {
            seconds: 1_769_860_800,
            nanos: 250_000_000,
        };
        assert_eq!(exact(&at), "2026-01-31T12:00:00.250Z");
    }

    #[test]
    fn a_clock_that_is_behind_makes_no_negative_age() {
        let future = from_utc(Utc::now() + chrono::Duration::hours(1));
        assert_eq!(age(Some(&future)), "0ms");
        assert_eq!(age(None), "-");
    }
}
