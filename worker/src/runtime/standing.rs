//! How the worker stands, for probes and metrics.

use std::time::Duration;

use taskyard_telemetry::admin::{Probe, Readiness};
use taskyard_telemetry::metrics::table;
use tokio::sync::watch;

use crate::workspace::Workspaces;

/// How often the spools are measured.
const SPOOL_INTERVAL: Duration = Duration::from_secs(10);

/// Looks whether a worker is ready: attached to a server.
#[derive(Debug, Clone)]
pub struct WorkerProbe {
    pub(super) attached: watch::Receiver<bool>,
}

impl Probe for WorkerProbe {
    fn ready(&self) -> Readiness<'_> {
        let is_attached = *self.attached.borrow();
        Box::pin(async move {
            if is_attached {
                Ok(())
            } else {
                Err("the worker is not attached to a server".to_owned())
            }
        })
    }
}

/// Measures the spools now and then. It ends only by being dropped.
pub(super) async fn measure_spools(workspaces: Workspaces) {
    loop {
        let looked_at = workspaces.clone();
        let measured = tokio::task::spawn_blocking(move || looked_at.spool_bytes()).await;
        // a panic there would be told of by the runtime; the gauge stands still
        if let Ok(bytes) = measured {
            table::WORKER_SPOOL.set(usize::try_from(bytes).unwrap_or(usize::MAX), &[]);
        }
        tokio::time::sleep(SPOOL_INTERVAL).await;
    }
}
