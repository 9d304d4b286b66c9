//! Taking what is due and sending it. A webhook that is slow holds up nothing but its own deliveries.

use super::{
    letter::Letter,
    post::{PostError, Poster},
};
use crate::{
    app::App,
    store::{
        Store, StoreError,
        webhook_deliveries::{self, DueDelivery, TryOutcome},
    },
};
use std::{
    collections::{HashMap, HashSet},
    error::Error,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use taskyard_core::{
    task::summary::clip,
    webhook::{MAX_TRIES, retry_wait},
};
use taskyard_telemetry::metrics::table;
use tokio::{
    task::{Id, JoinSet},
    time::timeout,
};
use tracing::{error, warn};

/// What other servers left, and what is to be tried again, is looked for this often.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// Calls that are under way at once here, and those of one webhook.
const MAX_CALLS: usize = 64;
const MAX_CALLS_PER_WEBHOOK: i64 = 4;
/// If nothing is heard of a call for so long, its server is gone: another one calls again. Longer than any call.
const LEASE: Duration = Duration::from_secs(15);
/// How long calls have to end when the server shuts down; those that have not are made again later.
const LEAVE_LIMIT: Duration = Duration::from_secs(2);
/// Longest reason that is kept of a failed try.
const MAX_ERROR_BYTES: usize = 256;

/// Runs until the server shuts down.
pub(crate) async fn run(app: &App) {
    let poster = match Poster::new(app.allow_private_webhooks) {
        Ok(poster) => Arc::new(poster),
        Err(failure) => {
            error!(
                error = &failure as &dyn Error,
                "webhooks cannot be called by this server"
            );
            return app.shutdown.cancelled().await;
        }
    };
    let mut touches = app.events.subscribe_webhooks();
    let mut calls = Calls::default();
    while !app.shutdown.is_cancelled() {
        match calls.begin(&app.store, &poster).await {
            Ok(0) => {}
            Ok(_) => continue,
            Err(failure) => warn!(
                error = &failure as &dyn Error,
                "deliveries to webhooks could not be looked for"
            ),
        }
        tokio::select! {
            () = app.shutdown.cancelled() => {}
            _ = timeout(POLL_INTERVAL, touches.touched()) => {}
            () = calls.one_ended() => {}
        }
    }
    let ending = async { while calls.running.join_next().await.is_some() {} };
    // what is cut here is called again when its lease has passed
    drop(timeout(LEAVE_LIMIT, ending).await);
}

/// The calls that are under way.
#[derive(Default)]
struct Calls {
    running: JoinSet<()>,
    webhooks: HashMap<Id, u128>,
}

impl Calls {
    /// Begins calls that are due, as far as there is room; says how many.
    async fn begin(&mut self, store: &Store, poster: &Arc<Poster>) -> Result<usize, StoreError> {
        let room = MAX_CALLS - self.running.len().min(MAX_CALLS);
        if room == 0 {
            return Ok(0);
        }
        let busy: HashSet<u128> = self.webhooks.values().copied().collect();
        let busy: Vec<u128> = busy.into_iter().collect();
        let due = webhook_deliveries::take_due(
            store.pool(),
            &busy,
            MAX_CALLS_PER_WEBHOOK,
            i64::try_from(room).unwrap_or(i64::MAX),
            LEASE,
        )
        .await?;
        let count = due.len();
        for delivery in due {
            let (store, poster, webhook) = (store.clone(), poster.clone(), delivery.webhook);
            let call = self
                .running
                .spawn(async move { deliver(&store, &poster, delivery).await });
            self.webhooks.insert(call.id(), webhook);
        }
        Ok(count)
    }

    /// Waits for the end of a call; for ever if there is none.
    async fn one_ended(&mut self) {
        match self.running.join_next_with_id().await {
            Some(Ok((id, ()))) => drop(self.webhooks.remove(&id)),
            Some(Err(failure)) => drop(self.webhooks.remove(&failure.id())),
            None => std::future::pending().await,
        }
    }
}

/// One try.
async fn deliver(store: &Store, poster: &Poster, delivery: DueDelivery) {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
    let seconds = since_epoch.unwrap_or_default().as_secs().cast_signed();
    let outcome = match Letter::write(&delivery, seconds) {
        Ok(letter) => judge(&delivery, poster.post(&delivery.url, letter).await),
        Err(failure) => TryOutcome {
            status: 0,
            error: clip(
                &format!("what is stored cannot be read: {failure}"),
                MAX_ERROR_BYTES,
            ),
            retry_in: None,
        },
    };
    let word = match (outcome.error.is_empty(), outcome.retry_in) {
        (true, _) => "delivered",
        (false, Some(_)) => "retried",
        (false, None) => "failed",
    };
    table::WEBHOOK_TRIES.add(1, &[word]);
    let settled =
        webhook_deliveries::settle(store.pool(), delivery.id, delivery.attempt, &outcome).await;
    if let Err(failure) = settled {
        warn!(
            delivery = delivery.id,
            error = &failure as &dyn Error,
            "the outcome of a webhook's call could not be stored; it will be called again"
        );
    }
}

/// What the answer of a receiver, or its silence, means.
fn judge(delivery: &DueDelivery, answer: Result<u16, PostError>) -> TryOutcome {
    let is_hopeless = answer.as_ref().is_err_and(PostError::is_permanent);
    let (status, error) = match answer {
        Ok(status @ 200..300) => {
            return TryOutcome {
                status,
                error: String::new(),
                retry_in: None,
            };
        }
        Ok(status) => (
            status,
            format!("the receiver answered with status {status}"),
        ),
        Err(failure) => (0, with_causes(&failure)),
    };
    let failed_tries = MAX_TRIES.saturating_sub(u32::from(delivery.tries_left.unsigned_abs()));
    TryOutcome {
        status,
        error: clip(&error, MAX_ERROR_BYTES),
        retry_in: retry_wait(failed_tries, rand::random()).filter(|_| !is_hopeless),
    }
}

fn with_causes(failure: &PostError) -> String {
    let mut text = failure.to_string();
    let mut cause = failure.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
