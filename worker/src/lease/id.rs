//! The right to work on one attempt of a task, as a value.

use std::fmt;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

/// Task ids longer than this are not taken: they name directories.
const TASK_ID_BYTES_MAX: usize = 64;

/// Random name of a lease, 16 bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct LeaseId([u8; 16]);

/// The lease under which an attempt works. Epoch and id are compared on every write.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Lease {
    /// The task, safe as part of a file name.
    pub task_id: String,
    /// Grows with every lease of the task.
    pub epoch: i64,
    pub id: LeaseId,
}

/// Text or bytes that do not name a lease.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a lease: {what}")]
pub struct MalformedLease {
    pub what: &'static str,
}

impl Lease {
    /// # Errors
    /// A task id that is empty, longer than 64 bytes or not made of `[A-Za-z0-9_-]`; an id that has not 16 bytes.
    pub fn new(task_id: &str, epoch: i64, id: &[u8]) -> Result<Lease, MalformedLease> {
        let speakable = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        if task_id.is_empty()
            || task_id.len() > TASK_ID_BYTES_MAX
            || !task_id.bytes().all(speakable)
        {
            return Err(MalformedLease {
                what: "the task id is malformed",
            });
        }
        let id = <[u8; 16]>::try_from(id).map_err(|_| MalformedLease {
            what: "the id has not 16 bytes",
        })?;
        Ok(Lease {
            task_id: task_id.to_owned(),
            epoch,
            id: LeaseId(id),
        })
    }

    /// Name of the lease's directory: `<task id>-<epoch>`.
    pub fn directory_name(&self) -> String {
        format!("{}-{}", self.task_id, self.epoch)
    }

    /// Name of the lease's ledger file: `<task id>.<epoch>.<lease id>.json`.
    pub fn file_name(&self) -> String {
        format!("{}.{}.{}.json", self.task_id, self.epoch, self.id)
    }

    /// Reads what [`Lease::file_name`] wrote.
    pub fn from_file_name(name: &str) -> Result<Lease, MalformedLease> {
        let mut parts = name.split('.');
        let (Some(task_id), Some(epoch), Some(id), Some("json"), None) = (
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
        ) else {
            return Err(MalformedLease {
                what: "the file name has another form",
            });
        };
        let epoch = epoch.parse().map_err(|_| MalformedLease {
            what: "the epoch is no number",
        })?;
        let id = LeaseId::try_from(id.to_owned())?;
        Lease::new(task_id, epoch, &id.0)
    }
}

impl LeaseId {
    pub fn random() -> LeaseId {
        LeaseId(uuid::Uuid::new_v4().into_bytes())
    }

    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.task_id, self.epoch)
    }
}

impl From<LeaseId> for String {
    fn from(id: LeaseId) -> String {
        let mut text = String::with_capacity(32);
        for byte in id.0 {
            // Writing into a string cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        text
    }
}

impl TryFrom<String> for LeaseId {
    type Error = MalformedLease;

    fn try_from(text: String) -> Result<LeaseId, MalformedLease> {
        let malformed = MalformedLease {
            what: "the id has not 32 hexadecimal digits",
        };
        if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(malformed);
        }
        let number = u128::from_str_radix(&text, 16).map_err(|_| malformed)?;
        Ok(LeaseId(number.to_be_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_name_gives_the_lease_back() {
        let lease = Lease::new("task_0123abcd", 7, &[9; 16]).expect("a good lease");
        assert_eq!(Lease::from_file_name(&lease.file_name()), Ok(lease));
    }

    #[test]
    fn a_task_id_cannot_leave_its_directory() {
        for task_id in ["", "../x", "a/b", "a.b", "a\0b", &"x".repeat(65)] {
            assert!(Lease::new(task_id, 1, &[0; 16]).is_err(), "{task_id:?}");
        }
    }

    #[test]
    fn other_files_are_not_taken_for_leases() {
        for name in [
            "x.json",
            "task_1.x.00.json",
            "task_1.1.zz.json",
            ".probe",
            "task_1.1.00.json.tmp",
        ] {
            assert!(Lease::from_file_name(name).is_err(), "{name}");
        }
    }
}
