//! Whether a server is ready: it is not on its way out, its database answers and has the schema that it knows.

use crate::store::{Store, migrate};
use taskyard_telemetry::admin::{Probe, Readiness};
use tokio_util::sync::CancellationToken;

/// Looks whether a server is ready.
#[derive(Clone, Debug)]
pub struct ServerProbe {
    pub(crate) store: Store,
    pub(crate) leaving: CancellationToken,
}

impl Probe for ServerProbe {
    fn ready(&self) -> Readiness<'_> {
        Box::pin(async {
            if self.leaving.is_cancelled() {
                return Err("the server is shutting down".to_owned());
            }
            match migrate::is_current(&self.store).await {
                Ok(true) => Ok(()),
                Ok(false) => Err(
                    "the database lacks migrations that this server needs; run `taskyard migrate`"
                        .to_owned(),
                ),
                Err(error) => Err(format!("the database does not answer: {error}")),
            }
        })
    }
}
