//! One point in time in the three shapes that meet here: the domain's, the database's and the wire's.

use chrono::{DateTime, Utc};
use taskyard_core::Timestamp;

/// The wire's shape of a database time.
#[must_use]
pub fn to_proto(time: DateTime<Utc>) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: time.timestamp(),
        nanos: i32::try_from(time.timestamp_subsec_micros() * 1_000).unwrap_or(0),
    }
}

/// The domain's shape of a database time.
#[must_use]
pub fn to_core(time: DateTime<Utc>) -> Timestamp {
    Timestamp(time.timestamp_micros())
}

/// The database's shape of a domain time; stops at the ends of what it can hold.
#[must_use]
pub fn to_database(time: Timestamp) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(time.0).unwrap_or(if time.0 < 0 {
        DateTime::<Utc>::MIN_UTC
    } else {
        DateTime::<Utc>::MAX_UTC
    })
}

/// The wire's shape of a domain time.
#[must_use]
pub fn core_to_proto(time: Timestamp) -> prost_types::Timestamp {
    to_proto(to_database(time))
}

/// The domain's shape of a wire time; none if it is out of range.
#[must_use]
pub fn proto_to_core(time: &prost_types::Timestamp) -> Option<Timestamp> {
    let nanos = u32::try_from(time.nanos).ok()?;
    DateTime::<Utc>::from_timestamp(time.seconds, nanos).map(to_core)
}
