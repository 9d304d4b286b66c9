//! How many attempts could be left to their shims at this moment.

use tokio::sync::watch;

/// Attempts of the worker whose processes run and would outlive it. Clones are the same.
#[derive(Debug, Clone)]
pub struct SurvivingAttempts {
    count: watch::Sender<usize>,
}

/// One of them; dropped, it is none any more.
#[derive(Debug)]
pub(super) struct Surviving {
    attempts: SurvivingAttempts,
}

impl SurvivingAttempts {
    pub fn new() -> SurvivingAttempts {
        SurvivingAttempts {
            count: watch::Sender::new(0),
        }
    }

    /// The number, and each change of it.
    pub fn subscribe(&self) -> watch::Receiver<usize> {
        self.count.subscribe()
    }

    pub(super) fn enter(&self) -> Surviving {
        self.count.send_modify(|count| *count += 1);
        Surviving {
            attempts: self.clone(),
        }
    }
}

impl Default for SurvivingAttempts {
    fn default() -> SurvivingAttempts {
        SurvivingAttempts::new()
    }
}

impl Drop for Surviving {
    fn drop(&mut self) {
        self.attempts
            .count
            .send_modify(|count| *count = count.saturating_sub(1));
    }
}
