//! Times and durations as fields of requests.

use super::refusal::Refusal;
use crate::store::times;
use chrono::{DateTime, Utc};
use std::time::Duration;

/// A duration between two limits; none if it is absent.
///
/// # Errors
/// [`Refusal::InvalidField`].
pub fn duration_field(
    field: &str,
    duration: Option<&prost_types::Duration>,
    least: Duration,
    most: Duration,
) -> Result<Option<Duration>, Refusal> {
    let Some(duration) = duration else {
        return Ok(None);
    };
    read_duration(duration)
        .filter(|duration| (least..=most).contains(duration))
        .map(Some)
        .ok_or_else(|| {
            let range = format!("must be {} to {}", limit_words(least), limit_words(most));
            Refusal::invalid(field, range)
        })
}

/// A limit in the largest unit that says it without a fraction: `1 ms`, `90 s`, `10 min`, `30 days`.
fn limit_words(limit: Duration) -> String {
    const UNITS: [(u128, &str); 4] = [
        (24 * 60 * 60 * 1_000, "days"),
        (60 * 60 * 1_000, "h"),
        (60 * 1_000, "min"),
        (1_000, "s"),
    ];
    let millis = limit.as_millis();
    if millis == 0 {
        return "0 s".to_owned();
    }
    match UNITS
        .into_iter()
        .find(|(unit, _)| millis.is_multiple_of(*unit))
    {
        Some((unit, "days")) if millis == unit => "1 day".to_owned(),
        Some((unit, name)) => format!("{} {name}", millis / unit),
        None => format!("{millis} ms"),
    }
}

/// A duration that is not negative; none if it is negative or malformed. Takes every value: the conversion of
/// `prost_types` panics on the smallest one.
#[must_use]
pub fn read_duration(duration: &prost_types::Duration) -> Option<Duration> {
    let seconds = u64::try_from(duration.seconds).ok()?;
    let nanos = u32::try_from(duration.nanos)
        .ok()
        .filter(|nanos| *nanos < 1_000_000_000)?;
    Some(Duration::new(seconds, nanos))
}

/// A point in time; none if it is absent.
///
/// # Errors
/// [`Refusal::InvalidField`].
pub fn time_field(
    field: &str,
    time: Option<&prost_types::Timestamp>,
) -> Result<Option<DateTime<Utc>>, Refusal> {
    let Some(time) = time else { return Ok(None) };
    times::proto_to_core(time)
        .filter(|_| (0..=253_402_300_799).contains(&time.seconds))
        .map(|time| Some(times::to_database(time)))
        .ok_or_else(|| Refusal::invalid(field, "must be a time between the years 1970 and 9999"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_outside_their_limits_are_refused() {
        let second = Duration::from_secs(1);
        let read = |seconds, nanos| {
            let duration = prost_types::Duration { seconds, nanos };
            duration_field("wait", Some(&duration), second, second * 30)
        };
        assert_eq!(
            duration_field("wait", None, second, second).ok(),
            Some(None)
        );
        assert_eq!(read(1, 500_000_000).ok(), Some(Some(second * 3 / 2)));
        for (seconds, nanos) in [
            (0, 0),
            (0, 999_999_999),
            (30, 1),
            (-1, 0),
            (i64::MAX, 0),
            (i64::MIN, -1),
            (1, -1),
            (1, 1_000_000_000),
        ] {
            assert!(read(seconds, nanos).is_err(), "{seconds} {nanos}");
        }
    }

    #[test]
    fn limits_are_told_in_words() {
        for (millis, words) in [
            (0, "0 s"),
            (1, "1 ms"),
            (1_500, "1500 ms"),
            (30_000, "30 s"),
            (90_000, "90 s"),
            (600_000, "10 min"),
            (3_600_000, "1 h"),
            (86_400_000, "1 day"),
            (2_592_000_000, "30 days"),
        ] {
            assert_eq!(limit_words(Duration::from_millis(millis)), words);
        }
    }

    #[test]
    fn times_that_cannot_be_are_refused() {
        for (seconds, nanos) in [(-1, 0), (i64::MAX, 0), (0, -1), (253_402_300_800, 0)] {
            let time = prost_types::Timestamp { seconds, nanos };
            assert!(
                time_field("created_after", Some(&time)).is_err(),
                "{seconds} {nanos}"
            );
        }
        let time = prost_types::Timestamp {
            seconds: 1,
            nanos: 0,
        };
        assert!(time_field("created_after", Some(&time)).is_ok_and(|time| time.is_some()));
    }
}
