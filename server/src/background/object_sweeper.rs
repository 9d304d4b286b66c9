//! Removing content from the object store that no file refers to: what was overwritten or deleted, and what uploads left
//! that broke off. First it is marked, so that nothing can refer to it any more, then the object is removed, then the
//! mark; whoever is stopped in between, or finds another server at it, does no harm by doing it again.

use crate::{
    app::App,
    objects::{ObjectError, ObjectId, ObjectStorage},
    store::{StoreError, file_objects},
};
use futures::{StreamExt, stream};
use std::time::Duration;
use tracing::warn;

/// Objects of one pass.
const PAGE: i64 = 500;
/// Removals at once.
const REMOVALS_AT_ONCE: usize = 8;
/// Longest pause between two passes that found nothing more.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Pause after a full page.
const SHORT_PAUSE: Duration = Duration::from_millis(200);

/// Runs until the server shuts down.
pub(super) async fn run(app: &App) {
    let Some(objects) = &app.objects else {
        return app.shutdown.cancelled().await;
    };
    let longest_pause = LONGEST_PAUSE.min(app.object_grace / 4);
    let mut pause = longest_pause;
    let mut is_in_trouble = false;
    loop {
        tokio::select! {
            () = app.shutdown.cancelled() => return,
            // apart from other servers
            () = tokio::time::sleep(pause.mul_f64(0.75 + rand::random::<f64>() / 2.0)) => {}
        }
        pause = longest_pause;
        match sweep(app, objects).await {
            Ok(found_more) => {
                is_in_trouble = false;
                if found_more {
                    pause = SHORT_PAUSE;
                }
            }
            Err(error) => {
                // said once, when it begins
                if !std::mem::replace(&mut is_in_trouble, true) {
                    warn!(
                        error = &error as &dyn std::error::Error,
                        "unused objects could not be removed; this is tried again"
                    );
                }
            }
        }
    }
}

/// Why a pass ended early.
#[derive(Debug, thiserror::Error)]
enum SweepError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Object(#[from] ObjectError),
}

/// One pass; whether there is more to do at once.
async fn sweep(app: &App, objects: &ObjectStorage) -> Result<bool, SweepError> {
    let db = app.store.pool();
    file_objects::doom_unused(db, app.object_grace, PAGE).await?;
    let doomed = file_objects::list_doomed(db, PAGE).await?;
    let mut removals = stream::iter(doomed.iter().copied())
        .map(|id| async move { (id, objects.remove(ObjectId(id)).await) })
        .buffer_unordered(REMOVALS_AT_ONCE);
    let mut removed = Vec::with_capacity(doomed.len());
    let mut failed = None;
    while let Some((id, outcome)) = removals.next().await {
        match outcome {
            Ok(()) => removed.push(id),
            Err(error) => {
                failed = Some(error);
                break;
            }
        }
    }
    file_objects::forget(db, &removed).await?;
    match failed {
        Some(error) => Err(error.into()),
        None => Ok(doomed.len() as i64 == PAGE),
    }
}
