//! What the worker keeps on disk, so that a later boot knows what became of its work.

mod entry;
mod notes;
mod state_directory;
mod survivor;

pub use entry::{EarlierLease, EarlierStatus, FinishedRecord, LedgerEntry};
pub use notes::Ledger;
pub use state_directory::StateDirectory;
pub use survivor::SurvivingRecord;
