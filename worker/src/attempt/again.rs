//! Telling results again: those that another store has acknowledged than the one that is there now, which may be a copy in
//! which their tasks still run.

use tokio_util::sync::CancellationToken;

use super::deliver::{Abandoned, deliver};
use super::run::START_ITEM_NO;
use super::services::Services;
use crate::lease::Lease;
use crate::ledger::FinishedRecord;
use crate::link::reports::{Report, ReportError, Verdict};
use crate::recent::StoreKey;
use crate::workspace::Workspace;

/// Keeps a result that was acknowledged, by `store` as far as is known. False: there is another one now, to which
/// [`deliver_again`] is to tell it.
pub(super) async fn keep(
    services: &Services,
    store: Option<StoreKey>,
    lease: &Lease,
    record: FinishedRecord,
    workspace: &Workspace,
) -> bool {
    let note = services.ledger.note_of(lease);
    services
        .recents
        .keep(store, lease, record, note, workspace.clone())
        .await
}

/// Tells a recent result to the store that is there now. What that does not know the lease of is forgotten.
pub async fn deliver_again(services: &Services, lease: &Lease) {
    // It is never closed; without a place this is only less frugal.
    let _place = services.retellings.acquire().await;
    // Whichever store is there when it begins is one that has acknowledged it in the end, or there is yet another one.
    while let Some(store) = services.recents.store() {
        match tell(services, lease).await {
            Ok(Told::Applied) => {
                tracing::info!(lease = %lease, "a recent result was told again: the store is another one, and had not known of it");
            }
            Ok(Told::Known) => {
                tracing::debug!(lease = %lease, "the store is another one, and knows of a recent result");
            }
            Err(Abandoned::Undelivered) => return,
            Err(
                abandoned @ (Abandoned::Lost
                | Abandoned::Canceled
                | Abandoned::Released { .. }
                | Abandoned::Refused { .. }),
            ) => {
                tracing::info!(lease = %lease, reason = %abandoned, "the store is another one, and does not want a recent result");
                services.recents.forget(lease).await;
                return;
            }
        }
        if services.recents.settle(lease, store).await {
            return;
        }
    }
}

/// What the store made of a result.
enum Told {
    Applied,
    /// The task had ended.
    Known,
}

async fn tell(services: &Services, lease: &Lease) -> Result<Told, Abandoned> {
    let record = services.recents.record(lease).await;
    let Some((record, workspace)) = record.zip(services.recents.workspace(lease)) else {
        let message = "the worker's note on it is gone".to_owned();
        return Err(Abandoned::Refused { message });
    };
    // The copy may be from between the offer and the start. Where the run was taken over from an earlier boot there is no
    // start, which is refused then and changes nothing.
    let started = services
        .reporter
        .report(lease, START_ITEM_NO, Report::Start)
        .await;
    match started {
        Ok(
            Verdict::Applied
            | Verdict::AlreadyApplied
            | Verdict::Rejected { .. }
            | Verdict::OutputPending,
        ) => {}
        Ok(Verdict::Terminal) => return Ok(Told::Known),
        Ok(Verdict::LeaseLost) => return Err(Abandoned::Lost),
        Ok(Verdict::Canceled) => return Err(Abandoned::Canceled),
        Err(ReportError::Refused { message }) => return Err(Abandoned::Refused { message }),
        Err(ReportError::Closed) => return Err(Abandoned::Undelivered),
    }
    // Only the verdicts decide what becomes of it.
    let lost = CancellationToken::new();
    deliver(services, lease, &workspace, record, &lost).await?;
    Ok(Told::Applied)
}
