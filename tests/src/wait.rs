//! Waiting for a state instead of for time.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

/// Enough for anything that should take a moment, on a slow and busy machine.
pub const SOON: Duration = Duration::from_secs(30);

const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Asks until there is an answer.
///
/// # Panics
/// When there is none within `limit`; `what` completes the sentence "waited … for".
pub async fn eventually<T>(
    what: &str,
    limit: Duration,
    mut probe: impl AsyncFnMut() -> Option<T>,
) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(answer) = within(what, limit, probe()).await {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited {limit:?} for {what}");
        sleep(POLL_INTERVAL).await;
    }
}

/// Asks until the answer is yes; see [`eventually`].
pub async fn until(what: &str, limit: Duration, mut probe: impl AsyncFnMut() -> bool) {
    eventually(what, limit, async || probe().await.then_some(())).await;
}

/// Awaits something that must come within `limit`.
///
/// # Panics
/// When it does not; `what` completes the sentence "waited … for".
pub async fn within<T>(what: &str, limit: Duration, future: impl Future<Output = T>) -> T {
    match timeout(limit, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited {limit:?} for {what}"),
    }
}
