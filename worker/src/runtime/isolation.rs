//! What a worker can give its tasks, found out before it says hello.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crate::agent_socket::SocketPlace;
use crate::config::WorkerConfig;
use crate::error::WorkerError;
use crate::isolation::{Isolation, WorkerPlaces};
use crate::lease::Lease;
use crate::ledger::StateDirectory;

/// Tries what this machine can give, and makes what it needs. The runs of the leases in `kept` may still be there.
///
/// # Errors
/// What the operator insists on is not there: [`WorkerError::Isolation`].
pub async fn open_isolation(
    config: &WorkerConfig,
    state: &StateDirectory,
    sockets: &SocketPlace,
    program: &Path,
    kept: &[Lease],
) -> Result<Arc<Isolation>, WorkerError> {
    let wanted = config.isolation.clone();
    let places = WorkerPlaces {
        data_directory: state.root().to_owned(),
        sockets: sockets.directory().to_owned(),
        secret: state.state_id_file(),
        program: program.to_owned(),
        place_id: state.place_id(),
        kept: kept.iter().map(Lease::directory_name).collect(),
    };
    let opening = tokio::task::spawn_blocking(move || Isolation::open(&wanted, &places)).await;
    match opening {
        Ok(opened) => Ok(Arc::new(opened?)),
        Err(_) => Err(WorkerError::PartEnded {
            part: "isolation probe",
        }),
    }
}

/// The label that says of which pool a worker is.
const POOL: &str = "taskyard.dev/pool";

/// The operator's labels, and those that say what the worker can give.
pub fn labels_of(config: &WorkerConfig, isolation: &Isolation) -> BTreeMap<String, String> {
    let mut labels = config.labels.clone();
    labels.extend(isolation.labels());
    if let Some(pool) = &config.pool {
        labels.insert(POOL.to_owned(), pool.clone());
    }
    labels
}
