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
            let range = format!(
                "must be {} s to {} s",
                least.as_secs_f64(),
                most.as_secs_f64()
            );
            Refusal::invalid(field, range)
        })
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
