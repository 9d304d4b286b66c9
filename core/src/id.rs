//! Identities. Each is a newtype, so that one cannot be passed for another.

use std::{error::Error, fmt, str::FromStr};

/// A task: a UUIDv7, shown as `task_` and 32 lower-case hexadecimal digits. Sorts by creation time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId(pub u128);

/// The random half of a lease's identity; the other is its [`Epoch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LeaseId(pub u128);

/// Counts the leases of one task, from 1. Only grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub i64);

/// One boot of a worker, as the store numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerSessionId(pub i64);

/// A session, as the store numbers it; never reused, so a session that is deleted and created again is another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionUid(pub i64);

/// A question to the owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct QuestionId(pub u128);

/// A text that is no task id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotATaskId;

impl TaskId {
    /// What every shown task id starts with.
    pub const PREFIX: &str = "task_";
}

impl fmt::Display for TaskId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}{:032x}", Self::PREFIX, self.0)
    }
}

impl FromStr for TaskId {
    type Err = NotATaskId;

    fn from_str(text: &str) -> Result<Self, NotATaskId> {
        let digits = text.strip_prefix(Self::PREFIX).ok_or(NotATaskId)?;
        let is_lower_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if digits.len() != 32 || !digits.bytes().all(is_lower_hex) {
            return Err(NotATaskId);
        }
        u128::from_str_radix(digits, 16)
            .map(Self)
            .map_err(|_| NotATaskId)
    }
}

impl fmt::Display for NotATaskId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a task id is `task_` and 32 lower-case hexadecimal digits")
    }
}

impl Error for NotATaskId {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_id_survives_being_shown_and_read() {
        let id = TaskId(0x0190_aaaa_bbbb_7ccc_8ddd_eeee_ffff_0001);
        assert_eq!(id.to_string(), "task_0190aaaabbbb7ccc8dddeeeeffff0001");
        assert_eq!(id.to_string().parse(), Ok(id));
    }

    #[test]
    fn near_misses_are_no_task_ids() {
        for text in [
            "",
            "task_",
            "task_1",
            "0190aaaabbbb7ccc8dddeeeeffff0001",
            "task_0190AAAABBBB7CCC8DDDEEEEFFFF0001",
            "task_+190aaaabbbb7ccc8dddeeeeffff0001",
        ] {
            assert_eq!(text.parse::<TaskId>(), Err(NotATaskId), "{text:?}");
        }
    }
}
