//! The ledger: one small file per lease, replaced whole.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::PathBuf;

use super::entry::{EarlierLease, EarlierStatus, LedgerEntry};
use super::state_directory::write_durably;
use crate::lease::{Lease, LeaseId};

/// Notes on leases, on disk. Clones are the same ledger.
#[derive(Debug, Clone)]
pub struct Ledger {
    directory: PathBuf,
}

impl Ledger {
    pub fn new(directory: PathBuf) -> Ledger {
        Ledger { directory }
    }

    /// Notes where the lease stands; it is on disk when this returns.
    pub async fn note(&self, lease: &Lease, entry: LedgerEntry) -> io::Result<()> {
        let path = self.directory.join(lease.file_name());
        in_background(move || {
            let content = serde_json::to_vec(&entry).map_err(io::Error::other)?;
            write_durably(&path, &content)
        })
        .await
    }

    /// Where the note on the lease is, for whoever takes it over.
    pub fn note_of(&self, lease: &Lease) -> PathBuf {
        self.directory.join(lease.file_name())
    }

    /// Forgets the lease. What is left by a failure is found by the next boot, whose hello settles it.
    pub async fn forget(&self, lease: &Lease) {
        let path = self.directory.join(lease.file_name());
        let removed = in_background(move || fs::remove_file(path)).await;
        if let Err(error) = removed
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(lease = %lease, %error, "cannot remove the note on a lease");
        }
    }

    /// Every lease that earlier boots left, and removes what is not a note. A note that cannot be read counts as
    /// unknown: its work may have run.
    pub fn earlier(&self) -> io::Result<Vec<EarlierLease>> {
        let mut earlier = Vec::new();
        for file in fs::read_dir(&self.directory)? {
            let file = file?;
            let name = file.file_name();
            let Some(lease) = name
                .to_str()
                .and_then(|name| Lease::from_file_name(name).ok())
            else {
                fs::remove_file(file.path())?;
                continue;
            };
            let content = fs::read(file.path())?;
            let status = match serde_json::from_slice(&content) {
                Ok(LedgerEntry::Pending) => EarlierStatus::NotStarted,
                Ok(LedgerEntry::Launching) | Err(_) => EarlierStatus::Unknown,
                Ok(LedgerEntry::Surviving(record)) => EarlierStatus::Surviving(record),
                Ok(LedgerEntry::Finished(record)) => EarlierStatus::Finished(record),
            };
            earlier.push(EarlierLease { lease, status });
        }
        self.drop_superseded(&mut earlier)?;
        Ok(earlier)
    }

    /// A boot that ended between the note on the next lease of a run and the removal of the one before left both.
    fn drop_superseded(&self, earlier: &mut Vec<EarlierLease>) -> io::Result<()> {
        let known: HashSet<LeaseId> = earlier.iter().map(|earlier| earlier.lease.id).collect();
        let is_superseded = |earlier: &EarlierLease| match &earlier.status {
            EarlierStatus::Surviving(record) => {
                record.next.is_some_and(|next| known.contains(&next))
            }
            EarlierStatus::NotStarted | EarlierStatus::Unknown | EarlierStatus::Finished(_) => {
                false
            }
        };
        for superseded in earlier.extract_if(.., |earlier| is_superseded(earlier)) {
            fs::remove_file(self.directory.join(superseded.lease.file_name()))?;
        }
        Ok(())
    }

    /// True when a file can be created, filled and removed.
    pub async fn probe(&self) -> io::Result<()> {
        let path = self.directory.join(".probe");
        in_background(move || {
            let probed = write_durably(&path, &[0; 4096]);
            let removed = fs::remove_file(&path);
            probed.and(removed)
        })
        .await
    }
}

async fn in_background<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|join_error| Err(io::Error::other(join_error)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::isolation::IsolationLevel;
    use crate::lease::ResultSource;
    use crate::ledger::SurvivingRecord;

    fn lease(byte: u8) -> Lease {
        Lease::new("task_1", i64::from(byte), &[byte; 16]).expect("a good lease")
    }

    #[tokio::test]
    async fn a_later_boot_reads_how_far_each_lease_had_come() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let ledger = Ledger::new(directory.path().to_owned());
        ledger
            .note(&lease(1), LedgerEntry::Pending)
            .await
            .expect("noted");
        ledger
            .note(&lease(2), LedgerEntry::Pending)
            .await
            .expect("noted");
        ledger
            .note(&lease(2), LedgerEntry::Launching)
            .await
            .expect("noted");
        ledger
            .note(&lease(3), LedgerEntry::Pending)
            .await
            .expect("noted");
        ledger.forget(&lease(3)).await;
        fs::write(directory.path().join(lease(4).file_name()), b"{").expect("a torn note");
        fs::write(directory.path().join("left.json.tmp"), b"").expect("a leftover");
        let mut earlier = ledger.earlier().expect("readable");
        earlier.sort_by_key(|earlier| earlier.lease.epoch);
        let statuses: Vec<_> = earlier
            .iter()
            .map(|earlier| (earlier.lease.epoch, &earlier.status))
            .collect();
        let expected = [
            (1, &EarlierStatus::NotStarted),
            (2, &EarlierStatus::Unknown),
            (4, &EarlierStatus::Unknown),
        ];
        assert_eq!(statuses, expected);
        assert!(!directory.path().join("left.json.tmp").exists());
    }

    #[tokio::test]
    async fn of_two_notes_on_one_run_the_newer_one_counts() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let ledger = Ledger::new(directory.path().to_owned());
        let note = |next: Option<Lease>| {
            LedgerEntry::Surviving(Box::new(SurvivingRecord {
                home: lease(1),
                session_id: "session".to_owned(),
                token: "word".to_owned(),
                next: next.map(|lease| lease.id),
                run: 1,
                lease_duration: Duration::from_secs(30),
                grace: Duration::ZERO,
                cwd: String::new(),
                success_exit_codes: vec![0],
                result_source: ResultSource::File,
                collect: Vec::new(),
                head_cap: 2,
                tail_cap: 1,
                terminal: None,
                isolation: IsolationLevel::None,
                trace: Default::default(),
                group: None,
            }))
        };
        let pairs = [
            (lease(1), Some(lease(2))),
            (lease(2), None),
            // Nothing has come of this proposal yet.
            (lease(3), Some(lease(4))),
        ];
        for (lease, next) in pairs {
            ledger.note(&lease, note(next)).await.expect("noted");
        }
        for _ in 0..2 {
            let mut found = ledger.earlier().expect("readable");
            found.sort_by_key(|earlier| earlier.lease.epoch);
            let epochs: Vec<i64> = found.iter().map(|earlier| earlier.lease.epoch).collect();
            assert_eq!(epochs, [2, 3], "the other is gone from the disk");
        }
    }
}
