//! Other servers of the same store: what they touched is heard, what we touched is told, both as hints.

use super::{
    hub::{Shared, lock},
    payload::Payload,
};
use crate::error_chain::chain;
use crate::store::{
    StoreError, identity,
    listen::{Listener, Notifier},
};
use rand::Rng;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// What is touched within this time is told in one notification.
const COALESCE: Duration = Duration::from_millis(5);
/// Progress alone is told this often.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(250);
/// What is followed here is told again this often: well within the time that others remember it for.
const FOLLOWED_INTERVAL: Duration = Duration::from_secs(2);
/// First and longest wait before another try to connect; each is varied by up to a half.
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
const MAX_BACKOFF: Duration = Duration::from_secs(5);

/// Hears other servers until the shutdown. After each gap in hearing, everything counts as touched.
pub(super) async fn listen(shared: &Shared, shutdown: &CancellationToken) {
    let mut backoff = Backoff::default();
    while !shutdown.is_cancelled() {
        let heard = shutdown
            .run_until_cancelled(listen_until_lost(shared, &mut backoff))
            .await;
        let Some(lost) = heard else { return };
        let wait = backoff.next();
        if let Err(error) = lost {
            tracing::warn!(
                error = chain(&error),
                ?wait,
                "other servers are not heard; trying again"
            );
        }
        shutdown.run_until_cancelled(tokio::time::sleep(wait)).await;
    }
}

async fn listen_until_lost(shared: &Shared, backoff: &mut Backoff) -> Result<(), StoreError> {
    let mut listener = Listener::connect(&shared.store).await?;
    let identity = identity::store_identity(&shared.store).await?;
    shared.notice_store(identity);
    shared.all_touched();
    *backoff = Backoff::default();
    while let Some(text) = listener.next().await? {
        let (server, payload) = Payload::decode(&text);
        if server != shared.name {
            touch(shared, payload);
        }
    }
    Ok(())
}

fn touch(shared: &Shared, payload: Payload) {
    if payload.everything {
        shared.all_touched();
        return;
    }
    if payload.queue {
        shared.queue_touched();
    }
    for session in payload.sessions {
        shared.session_touched(session);
    }
    for session in payload.progress {
        shared.sessions.progress_elsewhere(session);
    }
    for task in payload.followed {
        shared.taps.followed_elsewhere(task);
    }
    for task in payload.output {
        shared.taps.stored_elsewhere(task);
    }
    for worker in payload.workers {
        shared.worker_touched(super::Touched::One(worker));
    }
}

/// Tells other servers until the shutdown, outside every writing transaction and at most every few milliseconds.
pub(super) async fn tell(shared: &Shared, shutdown: &CancellationToken) {
    let mut backoff = Backoff::default();
    let mut connection: Option<Notifier> = None;
    let mut followed_told_at = Instant::now();
    while !shutdown.is_cancelled() {
        // A touch is told soon; progress, which wakes nobody, with the next touch or after its interval.
        let woken = tokio::time::timeout(PROGRESS_INTERVAL, shared.outgoing_ready.notified());
        if shutdown.run_until_cancelled(woken).await.is_none() {
            break;
        }
        if followed_told_at.elapsed() >= FOLLOWED_INTERVAL {
            followed_told_at = Instant::now();
            let followed = shared.taps.followed_here();
            let mut outgoing = lock(&shared.outgoing);
            followed
                .into_iter()
                .for_each(|task| outgoing.add_followed(task));
        }
        if lock(&shared.outgoing).is_empty() {
            continue;
        }
        tokio::time::sleep(COALESCE).await;
        let payload = std::mem::take(&mut *lock(&shared.outgoing));
        match shutdown
            .run_until_cancelled(notify(shared, &mut connection, &payload))
            .await
        {
            None => break,
            Some(Ok(())) => backoff = Backoff::default(),
            Some(Err(error)) => {
                connection = None;
                lock(&shared.outgoing).merge(payload);
                let wait = backoff.next();
                tracing::warn!(
                    error = chain(&error),
                    ?wait,
                    "other servers are not told; trying again"
                );
                shutdown.run_until_cancelled(tokio::time::sleep(wait)).await;
            }
        }
    }
    if let Some(notifier) = connection {
        notifier.close().await;
    }
}

async fn notify(
    shared: &Shared,
    connection: &mut Option<Notifier>,
    payload: &Payload,
) -> Result<(), StoreError> {
    let notifier = match connection {
        Some(notifier) => notifier,
        None => connection.insert(Notifier::connect(&shared.store).await?),
    };
    for text in payload.encode(&shared.name) {
        notifier.notify(&text).await?;
    }
    Ok(())
}

/// Waits between tries that double up to a cap, varied so that servers do not try in step.
pub(super) struct Backoff {
    wait: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            wait: FIRST_BACKOFF,
        }
    }
}

impl Backoff {
    pub(super) fn next(&mut self) -> Duration {
        let wait = self.wait;
        self.wait = (self.wait * 2).min(MAX_BACKOFF);
        wait.mul_f64(rand::rng().random_range(0.5..=1.5))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_grows_to_its_cap_and_varies_by_half_at_most() {
        let mut backoff = Backoff::default();
        let mut base = FIRST_BACKOFF;
        for _ in 0..20 {
            let wait = backoff.next();
            assert!(
                wait >= base.mul_f64(0.49) && wait <= base.mul_f64(1.51),
                "{wait:?} around {base:?}"
            );
            base = (base * 2).min(MAX_BACKOFF);
        }
        assert_eq!(base, MAX_BACKOFF);
    }
}
