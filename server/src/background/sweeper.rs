//! Small sweeps: gates whose time has come, start deadlines that have passed, offers that nobody answered, and what is
//! old enough to be forgotten.

use crate::{
    app::App,
    commit::{Change, CommitError, Content},
    control::{attach, refusal::Refusal},
    store::{
        StoreError, audit, claim, creates, due, task_input, task_signals, task_terminal, wakes,
        webhook_deliveries, webhooks, workers,
    },
};
use std::time::Duration;
use taskyard_core::{
    id::{SessionUid, TaskId},
    task::{Event, Loss},
};
use tokio::time::Instant;
use tracing::warn;

/// Pause between two sweeps that found nothing.
const PAUSE: Duration = Duration::from_millis(200);
/// Tasks of one page.
const PAGE: i64 = 500;
/// An offer without an answer for so long has surely not been started.
const OFFER_AGE: Duration = Duration::from_secs(5);
/// How often old rows are looked for, and how many are deleted at once.
const FORGET_EVERY: Duration = Duration::from_secs(60);
const FORGET_PAGE: i64 = 1_000;
/// How long it can be seen what became of a webhook's deliveries.
const DELIVERY_AGE: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// How long a wake waits to be acknowledged once its task was deleted.
const ORPHANED_WAKE_AGE: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Runs until the server shuts down.
pub(super) async fn run(app: &App) {
    let mut forget_at = Instant::now() + FORGET_EVERY;
    loop {
        tokio::select! {
            () = app.shutdown.cancelled() => return,
            () = tokio::time::sleep(PAUSE) => {}
        }
        if let Err(refusal) = sweep(app).await {
            warn!(error = &refusal as &dyn std::error::Error, "a sweep failed");
        }
        if Instant::now() >= forget_at {
            forget_at = Instant::now() + FORGET_EVERY;
            if let Err(error) = forget(app).await {
                warn!(
                    error = &error as &dyn std::error::Error,
                    "old rows could not be deleted"
                );
            }
        }
    }
}

async fn sweep(app: &App) -> Result<(), Refusal> {
    let due = due::list_due(app.store.pool(), PAGE).await?;
    change_all(app, due, Event::Due).await?;
    let late = due::list_past_start_deadline(app.store.pool(), PAGE).await?;
    change_all(app, late, Event::StartDeadline).await?;
    expire_questions(app).await?;
    let offers = claim::list_stale_offers(app.store.pool(), OFFER_AGE, PAGE).await?;
    let lost: Vec<_> = offers
        .into_iter()
        .map(|offer| (offer, Loss::NotStarted))
        .collect();
    attach::lose(app, &lost).await
}

async fn expire_questions(app: &App) -> Result<(), Refusal> {
    let expired = due::list_expired_questions(app.store.pool(), PAGE).await?;
    let events = expired
        .into_iter()
        .map(|(task, session, question)| (task, session, Event::QuestionExpired(question)));
    change_each(app, events).await
}

async fn change_all(
    app: &App,
    tasks: Vec<(TaskId, SessionUid)>,
    event: Event,
) -> Result<(), Refusal> {
    let events = tasks
        .into_iter()
        .map(|(task, session)| (task, session, event.clone()));
    change_each(app, events).await
}

/// Queues all, then waits for all, so that they share their transactions.
async fn change_each(
    app: &App,
    events: impl Iterator<Item = (TaskId, SessionUid, Event)>,
) -> Result<(), Refusal> {
    let mut answers = Vec::new();
    for (task, session, event) in events {
        let change = Change::new(task, event, Content::None);
        answers.push(app.commits.change_later(session, change)?);
    }
    for answer in answers {
        match answer.await {
            // another server, or a cancel, was there first
            Ok(Ok(_) | Err(CommitError::Rejected { .. } | CommitError::NotFound)) => {}
            Ok(Err(error)) => return Err(error.into()),
            Err(_) => return Err(Refusal::ShuttingDown),
        }
    }
    Ok(())
}

async fn forget(app: &App) -> Result<(), StoreError> {
    creates::forget_requests(app.store.pool(), FORGET_PAGE).await?;
    workers::forget_workers(app.store.pool(), FORGET_PAGE).await?;
    webhook_deliveries::forget_old(app.store.pool(), DELIVERY_AGE, 10 * FORGET_PAGE).await?;
    webhooks::forget_ended(app.store.pool(), FORGET_PAGE).await?;
    wakes::forget_orphans(app.store.pool(), ORPHANED_WAKE_AGE, 10 * FORGET_PAGE).await?;
    task_input::forget_inputs(app.store.pool(), FORGET_PAGE).await?;
    task_terminal::forget_sizes(app.store.pool(), FORGET_PAGE).await?;
    audit::delete_old(app.store.pool(), app.audit_retention, 10 * FORGET_PAGE).await?;
    task_signals::forget_signals(app.store.pool(), FORGET_EVERY, FORGET_PAGE).await?;
    Ok(())
}
