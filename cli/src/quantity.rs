//! Durations and sizes as people write them: `1.5s`, `2h30m`, `16MiB`.

use std::time::Duration;

use crate::commands::server_lifetime::ConnectionAge;

/// `1 task`, `2 tasks`.
pub fn counted(count: i64, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}

/// Reads `30s`, `500ms`, `1.5s`, `2h30m`, `1d`, or plain seconds such as `30`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let complaint =
        || format!("`{text}` is not a duration; write it like 500ms, 1.5s, 30s, 5m or 2h30m");
    let text_without_spaces: String = text
        .chars()
        .filter(|character| !character.is_whitespace())
        .collect();
    let mut rest = text_without_spaces.as_str();
    if rest.is_empty() {
        return Err(complaint());
    }
    if rest
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.')
    {
        let seconds: f64 = rest.parse().map_err(|_| complaint())?;
        return Duration::try_from_secs_f64(seconds).map_err(|_| complaint());
    }
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let number_len = rest
            .find(|character: char| !character.is_ascii_digit() && character != '.')
            .ok_or_else(complaint)?;
        let number: f64 = rest[..number_len].parse().map_err(|_| complaint())?;
        rest = &rest[number_len..];
        let unit_len = rest
            .find(|character: char| character.is_ascii_digit() || character == '.')
            .unwrap_or(rest.len());
        let nanoseconds_per_unit: f64 = match &rest[..unit_len] {
            "ns" => 1.0,
            "us" | "µs" => 1e3,
            "ms" => 1e6,
            "s" | "sec" => 1e9,
            "m" | "min" => 60e9,
            "h" => 3_600e9,
            "d" => 86_400e9,
            _ => return Err(complaint()),
        };
        rest = &rest[unit_len..];
        let nanoseconds = (number * nanoseconds_per_unit).round();
        let part = Duration::try_from_secs_f64(nanoseconds / 1e9).map_err(|_| complaint())?;
        total = total.checked_add(part).ok_or_else(complaint)?;
    }
    Ok(total)
}

/// How long a worker waits for its tasks before it ends them.
pub fn parse_drain_grace(text: &str) -> Result<Duration, String> {
    let grace = parse_duration(text)?;
    if grace <= Duration::from_secs(24 * 60 * 60) {
        Ok(grace)
    } else {
        Err("tasks can be waited for at most 1d".to_owned())
    }
}

/// How long a worker keeps results that were acknowledged.
pub fn parse_keep_results(text: &str) -> Result<Duration, String> {
    let age = parse_duration(text)?;
    if age <= Duration::from_secs(7 * 24 * 60 * 60) {
        Ok(age)
    } else {
        Err("results are kept for at most 7d".to_owned())
    }
}

/// How long it is kept who did what: a duration that the server takes for one.
pub fn parse_audit_retention(text: &str) -> Result<Duration, String> {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    let age = parse_duration(text)?;
    if (7 * DAY..=3660 * DAY).contains(&age) {
        Ok(age)
    } else {
        Err("the audit log is kept for 7d to 3660d".to_owned())
    }
}

/// A lease: a duration that the server takes for one.
pub fn parse_lease(text: &str) -> Result<Duration, String> {
    let lease = parse_duration(text)?;
    if (Duration::from_secs(1)..=Duration::from_secs(60 * 60)).contains(&lease) {
        Ok(lease)
    } else {
        Err("a lease lasts 1s to 1h".to_owned())
    }
}

/// The shortest interval of monitors: a duration that the server takes for one.
pub fn parse_monitor_interval(text: &str) -> Result<Duration, String> {
    let interval = parse_duration(text)?;
    if (Duration::from_millis(100)..=Duration::from_secs(24 * 60 * 60)).contains(&interval) {
        Ok(interval)
    } else {
        Err("the shortest interval of monitors is 100ms to 24h".to_owned())
    }
}

/// How old a connection becomes: 1 s to 24 h, or `off`.
pub fn parse_connection_age(text: &str) -> Result<ConnectionAge, String> {
    if text == "off" {
        return Ok(ConnectionAge::Any);
    }
    let age = parse_duration(text)?;
    if (Duration::from_secs(1)..=Duration::from_secs(24 * 60 * 60)).contains(&age) {
        Ok(ConnectionAge::About(age))
    } else {
        Err("connections become 1s to 24h old; off lets them live on".to_owned())
    }
}

/// How long to serve on after the word to stop, at most 10 min.
pub fn parse_shutdown_delay(text: &str) -> Result<Duration, String> {
    let delay = parse_duration(text)?;
    if delay <= Duration::from_secs(10 * 60) {
        Ok(delay)
    } else {
        Err("the longest delay of a shutdown is 10m".to_owned())
    }
}

/// Seconds with a unit and no needless digits: `1.5s`, `30s`, `0s`. The form of every duration in JSON.
pub fn exact_duration(duration: Duration) -> String {
    let nanoseconds = duration.subsec_nanos();
    if nanoseconds == 0 {
        return format!("{}s", duration.as_secs());
    }
    let digits = format!("{nanoseconds:09}");
    format!("{}.{}s", duration.as_secs(), digits.trim_end_matches('0'))
}

/// A duration for people, about two digits of it: `250ms`, `3.2s`, `45s`, `2m`, `3h`, `5d`.
pub fn short_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 => format!("{}ms", duration.as_millis()),
        1..=9 => {
            let tenths = duration.as_millis() / 100;
            if tenths.is_multiple_of(10) {
                format!("{}s", tenths / 10)
            } else {
                format!("{}.{}s", tenths / 10, tenths % 10)
            }
        }
        10..=119 => format!("{seconds}s"),
        120..=7_199 => format!("{}m", seconds / 60),
        7_200..=172_799 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// Reads bytes: `4096`, `64KiB`, `16MiB`, `1GB`. Units of 1000 and of 1024 are told apart.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let complaint = || format!("`{text}` is not a size; write it like 4096, 64KiB or 16MiB");
    let trimmed = text.trim();
    let number_len = trimmed
        .find(|character: char| !character.is_ascii_digit() && character != '.')
        .unwrap_or(trimmed.len());
    let number: f64 = trimmed[..number_len].parse().map_err(|_| complaint())?;
    let factor: f64 = match trimmed[number_len..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "k" | "kib" | "ki" => 1024.0,
        "m" | "mib" | "mi" => 1024.0 * 1024.0,
        "g" | "gib" | "gi" => 1024.0 * 1024.0 * 1024.0,
        "kb" => 1e3,
        "mb" => 1e6,
        "gb" => 1e9,
        _ => return Err(complaint()),
    };
    let bytes = number * factor;
    if !(0.0..=9e15).contains(&bytes) || bytes.fract() != 0.0 {
        return Err(complaint());
    }
    Ok(bytes as u64)
}

/// Bytes for people: `512 B`, `1.5 KiB`, `16 MiB`.
pub fn short_size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit_idx = 0;
    while value >= 1024.0 && unit_idx + 1 < UNITS.len() {
        value /= 1024.0;
        unit_idx += 1;
    }
    let number = format!("{value:.1}");
    format!("{} {}", number.trim_end_matches(".0"), UNITS[unit_idx])
}

/// For the wire. Durations beyond what it can say are cut to its maximum, which every limit refuses anyway.
pub fn to_wire(duration: Duration) -> prost_types::Duration {
    prost_types::Duration::try_from(duration).unwrap_or(prost_types::Duration {
        seconds: 315_576_000_000,
        nanos: 0,
    })
}

/// From the wire; what is negative counts as nothing.
pub fn from_wire(duration: &prost_types::Duration) -> Duration {
    Duration::try_from(*duration).unwrap_or(Duration::ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        let cases = [
            ("30s", 30_000),
            ("1.5s", 1_500),
            ("500ms", 500),
            ("2h30m", 9_000_000),
            ("5 m", 300_000),
            ("0", 0),
            ("0s", 0),
            ("12", 12_000),
            ("1d", 86_400_000),
        ];
        for (text, milliseconds) in cases {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_millis(milliseconds)),
                "{text}"
            );
        }
        for text in [
            "",
            "s",
            "-3s",
            "3 parsecs",
            "1..2s",
            "5s3",
            "1e9s",
            "99999999999999999999d",
        ] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_are_shown_exactly_to_programs_and_shortly_to_people() {
        assert_eq!(exact_duration(Duration::from_millis(1_500)), "1.5s");
        assert_eq!(exact_duration(Duration::from_secs(30)), "30s");
        assert_eq!(exact_duration(Duration::from_nanos(1)), "0.000000001s");
        assert_eq!(short_duration(Duration::from_millis(250)), "250ms");
        assert_eq!(short_duration(Duration::from_millis(3_249)), "3.2s");
        assert_eq!(short_duration(Duration::from_millis(3_000)), "3s");
        assert_eq!(short_duration(Duration::from_secs(119)), "119s");
        assert_eq!(short_duration(Duration::from_secs(125)), "2m");
        assert_eq!(short_duration(Duration::from_secs(3 * 86_400)), "3d");
    }

    #[test]
    fn sizes_are_read_and_shown() {
        assert_eq!(parse_size("16MiB"), Ok(16 << 20));
        assert_eq!(parse_size("1.5 KiB"), Ok(1_536));
        assert_eq!(parse_size("1MB"), Ok(1_000_000));
        assert_eq!(parse_size("0"), Ok(0));
        for text in ["", "MiB", "-1", "1.3b", "7 apples", "99999999999GiB"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
        assert_eq!(short_size(512), "512 B");
        assert_eq!(short_size(1_536), "1.5 KiB");
        assert_eq!(short_size(16 << 20), "16 MiB");
    }
}
