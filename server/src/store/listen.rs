//! Telling other servers what was touched, and hearing it from them. Both are hints: what they say is read from the
//! tables, and what they lose is found by polls.

use super::{Store, StoreError};
use sqlx::{
    Connection, PgConnection,
    postgres::{PgListener, PgPoolOptions},
};
use std::time::Duration;

/// The one channel that all servers of a store share.
pub(crate) const CHANNEL: &str = "taskyard";
/// A silent connection is tried this often, so that a half-open one is noticed.
const PROBE_INTERVAL: Duration = Duration::from_secs(20);
/// Longest wait for the answer to a probe or a notification.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// The connection on which a server hears the others.
pub struct Listener {
    listener: PgListener,
}

/// The connection on which a server tells the others.
pub struct Notifier {
    connection: PgConnection,
}

impl Listener {
    /// Connects and listens. What was notified before is not heard.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] or [`StoreError::Refused`].
    pub async fn connect(store: &Store) -> Result<Self, StoreError> {
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(ANSWER_TIMEOUT)
            .max_lifetime(None)
            .idle_timeout(None)
            .connect_lazy_with(store.options().clone());
        let mut listener = PgListener::connect_with(&pool).await?;
        listener.eager_reconnect(false);
        listener.listen(CHANNEL).await?;
        Ok(Self { listener })
    }

    /// Waits for the next payload; none: the connection was lost, and with it maybe some payloads. Safe to drop and
    /// call again.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], which also loses the connection.
    pub async fn next(&mut self) -> Result<Option<String>, StoreError> {
        loop {
            match tokio::time::timeout(PROBE_INTERVAL, self.listener.try_recv()).await {
                Ok(Ok(notification)) => {
                    return Ok(notification.map(|heard| heard.payload().to_owned()));
                }
                Ok(Err(error)) => return Err(error.into()),
                Err(_) => self.probe().await?,
            }
        }
    }

    async fn probe(&mut self) -> Result<(), StoreError> {
        let probe = sqlx::query!("select 1 as one").fetch_one(&mut self.listener);
        match tokio::time::timeout(ANSWER_TIMEOUT, probe).await {
            Ok(answer) => {
                answer?;
                Ok(())
            }
            Err(_) => Err(StoreError::Unavailable(sqlx::Error::PoolTimedOut)),
        }
    }
}

impl Notifier {
    /// Connects.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] or [`StoreError::Refused`].
    pub async fn connect(store: &Store) -> Result<Self, StoreError> {
        let mut connection = store.open().await?;
        // A hint need not survive a crash, and a commit for it should not wait for the disk.
        sqlx::query!("select set_config('synchronous_commit', 'off', false)")
            .fetch_one(&mut connection)
            .await?;
        Ok(Self { connection })
    }

    /// Sends one payload, of less than 8,000 bytes, to every listening server, this one included.
    ///
    /// # Errors
    /// Any [`StoreError`]; connect again after it.
    pub async fn notify(&mut self, payload: &str) -> Result<(), StoreError> {
        let told = sqlx::query!("select pg_notify($1, $2)", CHANNEL, payload)
            .fetch_one(&mut self.connection);
        match tokio::time::timeout(ANSWER_TIMEOUT, told).await {
            Ok(answer) => {
                answer?;
                Ok(())
            }
            Err(_) => Err(StoreError::Unavailable(sqlx::Error::PoolTimedOut)),
        }
    }

    /// Closes the connection.
    pub async fn close(self) {
        // It is being given up: how that goes changes nothing.
        let _ = tokio::time::timeout(ANSWER_TIMEOUT, self.connection.close()).await;
    }
}
