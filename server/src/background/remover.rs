//! Removes for good: deleted sessions, and ended tasks beyond what is to be kept. Bounded steps; every server may do any.

use crate::{
    app::App,
    control::{delete_session, refusal::Refusal, retention},
    store::{purge, retention as limits},
};
use std::time::Duration;
use tokio::time::Instant;
use tracing::{info, warn};

/// Pause between two looks for deleted sessions.
const PAUSE: Duration = Duration::from_secs(1);
/// How often what is beyond the limits is looked for.
const RETENTION_INTERVAL: Duration = Duration::from_secs(10);
/// Deleted sessions that are looked at together.
const SESSION_PAGE: i64 = 20;
/// Tasks, or files, that one step removes.
const STEP: i64 = 100;
/// The log of a deleted session stays for so long, so that its watchers hear the end of it.
const LOG_GRACE: Duration = Duration::from_secs(10);

/// Runs until the server shuts down.
pub(super) async fn run(app: &App) {
    let mut retention_at = Instant::now() + RETENTION_INTERVAL;
    loop {
        tokio::select! {
            () = app.shutdown.cancelled() => return,
            () = tokio::time::sleep(PAUSE) => {}
        }
        if let Err(refusal) = remove_sessions(app).await {
            warn!(
                error = &refusal as &dyn std::error::Error,
                "deleted sessions could not be removed"
            );
        }
        if Instant::now() >= retention_at {
            if let Err(refusal) = run_retention(app).await {
                warn!(
                    error = &refusal as &dyn std::error::Error,
                    "ended tasks could not be deleted"
                );
            }
            retention_at = Instant::now() + RETENTION_INTERVAL;
        }
    }
}

async fn remove_sessions(app: &App) -> Result<(), Refusal> {
    let deleted = purge::list_deleted_sessions(app.store.pool(), SESSION_PAGE).await?;
    let mut connection = None;
    for session in deleted {
        if session.open_tasks > 0 {
            // what the call that deleted it, or its server, did not get to
            delete_session::cancel_open(app, session.session, None).await?;
            continue;
        }
        let log_too = u128::from(session.age_ms.unsigned_abs()) >= LOG_GRACE.as_millis();
        loop {
            if app.shutdown.is_cancelled() {
                return Ok(());
            }
            let has_more = app
                .store
                .run(&mut connection, async |db| {
                    purge::remove_session_step(db, session.session, STEP, log_too).await
                })
                .await?;
            if !has_more {
                break;
            }
        }
    }
    Ok(())
}

async fn run_retention(app: &App) -> Result<(), Refusal> {
    for namespace_id in limits::list_namespaces(app.store.pool()).await? {
        let deleted = retention::run_pass(app, namespace_id).await?;
        if deleted > 0 {
            info!(
                namespace_id,
                deleted, "ended tasks were deleted, as their retention says"
            );
        }
    }
    Ok(())
}
