//! Running a whole transaction again after another one got in its way.

use super::StoreError;
use std::time::Duration;

/// Most tries in all.
const TRIES: u32 = 5;
/// Longest wait before the second try; doubles from try to try.
const FIRST_WAIT: Duration = Duration::from_millis(10);

/// Counts the tries of one transaction.
#[derive(Debug, Default)]
pub(super) struct Tries {
    failed: u32,
}

impl Tries {
    /// Whether the transaction is to be run again: it met a conflict and has not been tried five times. Waits a short
    /// random time before it says yes.
    pub(super) async fn run_again<T>(&mut self, settled: &Result<T, StoreError>) -> bool {
        match settled {
            Err(StoreError::Conflict(_)) => {}
            Ok(_) | Err(_) => return false,
        }
        self.failed += 1;
        if self.failed >= TRIES {
            return false;
        }
        let longest_wait = FIRST_WAIT * 2_u32.pow(self.failed - 1);
        tokio::time::sleep(longest_wait.mul_f64(rand::random())).await;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_conflicts_are_tried_again_and_not_for_ever() {
        let mut tries = Tries::default();
        assert!(!tries.run_again(&Ok(())).await);
        let other: Result<(), _> = Err(StoreError::corrupt("thing", "broken"));
        assert!(!tries.run_again(&other).await);
        let conflict: Result<(), _> = Err(StoreError::Conflict(sqlx::Error::RowNotFound));
        let mut runs = 1;
        while tries.run_again(&conflict).await {
            runs += 1;
        }
        assert_eq!(runs, TRIES);
    }
}
