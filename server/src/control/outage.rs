//! Long streams outlast a store that is away for a while.

use crate::store::StoreError;
use rand::Rng;
use std::{future::Future, time::Duration};
use tokio::time::Instant;

/// A store that stays away for this long ends a stream.
const MAX_OUTAGE: Duration = Duration::from_secs(60);
/// Longest wait between two tries; each is varied by up to a half.
const MAX_BACKOFF: Duration = Duration::from_secs(2);

/// Repeats a read for as long as the store may come back.
///
/// # Errors
/// The last error, as soon as waiting cannot help or has helped nothing for a minute.
pub async fn retry<T, F>(mut read: impl FnMut() -> F) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    let mut outage = Outage::default();
    loop {
        match read().await {
            Ok(value) => return Ok(value),
            Err(error) => outage.wait(error).await?,
        }
    }
}

/// A time in which the store does not answer.
#[derive(Debug)]
pub struct Outage {
    /// When it counts as too long; none: the store has answered so far.
    ends_at: Option<Instant>,
    backoff: Duration,
}

impl Default for Outage {
    fn default() -> Self {
        Self {
            ends_at: None,
            backoff: Duration::from_millis(50),
        }
    }
}

impl Outage {
    /// Waits before the next try, or gives up.
    ///
    /// # Errors
    /// The error itself, as soon as waiting cannot help or has helped nothing for a minute.
    pub async fn wait(&mut self, error: StoreError) -> Result<(), StoreError> {
        let now = Instant::now();
        if !error.is_transient() || now >= *self.ends_at.get_or_insert(now + MAX_OUTAGE) {
            return Err(error);
        }
        let wait = self.backoff.mul_f64(rand::rng().random_range(0.5..=1.5));
        self.backoff = (self.backoff * 2).min(MAX_BACKOFF);
        tokio::time::sleep(wait).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_waiting_cannot_help_is_given_up_at_once() {
        let mut tries = 0;
        let outcome: Result<(), StoreError> = retry(|| {
            tries += 1;
            async { Err(StoreError::corrupt("page", "torn")) }
        })
        .await;
        assert!(matches!(outcome, Err(StoreError::Corrupt { .. })));
        assert_eq!(tries, 1);
    }

    #[tokio::test]
    async fn an_outage_is_waited_out() {
        let mut tries = 0;
        let outcome = retry(|| {
            tries += 1;
            let is_away = tries < 3;
            async move {
                if is_away {
                    Err(StoreError::away())
                } else {
                    Ok(7)
                }
            }
        })
        .await;
        assert!(matches!(outcome, Ok(7)));
    }
}
