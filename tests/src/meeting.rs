//! Calls that meet: a barrier lets them go at the same moment.

use std::sync::Arc;

use tokio::sync::Barrier;

/// Both at once, each from a task of its own, when both are ready.
pub async fn meet<A: Send + 'static, B: Send + 'static>(
    first: impl Future<Output = A> + Send + 'static,
    second: impl Future<Output = B> + Send + 'static,
) -> (A, B) {
    let barrier = Arc::new(Barrier::new(2));
    let other = barrier.clone();
    let first = tokio::spawn(async move {
        barrier.wait().await;
        first.await
    });
    let second = tokio::spawn(async move {
        other.wait().await;
        second.await
    });
    let (first, second) = tokio::join!(first, second);
    (
        first.expect("a call does not panic"),
        second.expect("a call does not panic"),
    )
}
