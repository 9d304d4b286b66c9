//! One lease in the ledger.

use serde::{Deserialize, Serialize};

use super::survivor::SurvivingRecord;
use crate::lease::{Collection, Finish, Lease};

/// How far the work under a lease has come. It only moves down this list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LedgerEntry {
    /// Received; surely not started.
    Pending,
    /// The start was applied: from here on it may have run.
    Launching,
    /// As launching, of work that outlives the worker: a later boot may find it running.
    Surviving(Box<SurvivingRecord>),
    /// It ended; the report is on its way.
    Finished(Box<FinishedRecord>),
}

/// All that is needed to deliver the end of a run, by this boot or a later one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FinishedRecord {
    pub run: i32,
    /// The lease that names the run's directory, where it is another one: of a run that outlived a worker.
    #[serde(default)]
    pub home: Option<Lease>,
    pub finish: Finish,
    /// Artifacts to deliver before the finish, as names below the artifacts directory, in order.
    pub artifacts: Vec<String>,
    /// Files of the working directory to deliver after them; none where the task wants none.
    #[serde(default)]
    pub collection: Option<Collection>,
    /// What the uploads of output were told to keep of each stream.
    pub head_cap: u64,
    pub tail_cap: u64,
}

impl FinishedRecord {
    /// Number of the report that announces the artifact at `index`, where those that are collected follow the others. The
    /// start was number 1.
    pub fn artifact_item_no(index: usize) -> i64 {
        i64::try_from(index)
            .unwrap_or(i64::MAX - 3)
            .saturating_add(2)
    }

    /// Number of the finish report: after all artifacts, the same in every boot.
    pub fn finish_item_no(&self) -> i64 {
        let collected = self
            .collection
            .as_ref()
            .map_or(0, |collection| collection.files.len());
        FinishedRecord::artifact_item_no(self.artifacts.len() + collected)
    }
}

/// A lease that an earlier boot left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EarlierLease {
    pub lease: Lease,
    pub status: EarlierStatus,
}

/// What became of the work under an earlier lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EarlierStatus {
    NotStarted,
    Unknown,
    /// It may run, or have ended by itself: its shim knows.
    Surviving(Box<SurvivingRecord>),
    Finished(Box<FinishedRecord>),
}
