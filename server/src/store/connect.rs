//! Connections: one pool for reads, and held connections for the loops that write.

use super::StoreError;
use sqlx::{
    ConnectOptions, Connection, PgConnection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use std::{str::FromStr, time::Duration};

/// Longest wait for a connection, or for one from the pool.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest transaction on a held connection.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(75);
/// Connections for reads.
const POOL_SIZE: u32 = 12;
/// Pooled connections are renewed this often, so that a half-open one is not handed out for ever.
const POOL_MAX_LIFETIME: Duration = Duration::from_secs(10 * 60);

/// The door to the database.
#[derive(Clone, Debug)]
pub struct Store {
    options: PgConnectOptions,
    pool: PgPool,
}

impl Store {
    /// Opens the store and checks that it answers.
    ///
    /// # Errors
    /// [`StoreError::BadUrl`], [`StoreError::Refused`] or [`StoreError::Unavailable`].
    pub async fn connect(database_url: &str) -> Result<Self, StoreError> {
        let options = PgConnectOptions::from_str(database_url)
            .map_err(StoreError::BadUrl)?
            .application_name("taskyard")
            .disable_statement_logging()
            // a statement that takes longer than this has lost its caller
            .options([
                ("statement_timeout", "60s"),
                ("idle_in_transaction_session_timeout", "60s"),
                ("lock_timeout", "30s"),
                // what a caller is told is stored survives a crash, whatever the database's default is
                ("synchronous_commit", "on"),
            ]);
        let pool = PgPoolOptions::new()
            .max_connections(POOL_SIZE)
            .acquire_timeout(CONNECT_TIMEOUT)
            .max_lifetime(POOL_MAX_LIFETIME)
            // a ping before each use would cost as much as most of our reads
            .test_before_acquire(false)
            .connect_lazy_with(options.clone());
        let store = Self { options, pool };
        let mut connection = store.open().await?;
        sqlx::query!("select 1 as one")
            .fetch_one(&mut connection)
            .await?;
        Ok(store)
    }

    /// A connection of one's own, outside the pool.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] after ten seconds, or [`StoreError::Refused`].
    pub async fn open(&self) -> Result<PgConnection, StoreError> {
        let connecting = PgConnection::connect_with(&self.options);
        match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
            Ok(connection) => Ok(connection?),
            Err(_) => Err(StoreError::Unavailable(sqlx::Error::PoolTimedOut)),
        }
    }

    /// Runs `transaction` on a held connection, which is opened if there is none and dropped if it breaks or gives no
    /// answer in time: a statement may then still be under way on it.
    ///
    /// # Errors
    /// What the transaction says; [`StoreError::Unavailable`] if it took more than 75 seconds, which is longer than the
    /// database lets a statement take.
    pub async fn run<T>(
        &self,
        held: &mut Option<PgConnection>,
        transaction: impl AsyncFnOnce(&mut PgConnection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut connection = match held.take() {
            Some(connection) => connection,
            None => self.open().await?,
        };
        let ended = tokio::time::timeout(TRANSACTION_TIMEOUT, transaction(&mut connection)).await;
        let Ok(result) = ended else {
            return Err(StoreError::Unavailable(sqlx::Error::PoolTimedOut));
        };
        if !matches!(result, Err(StoreError::Unavailable(_))) {
            *held = Some(connection);
        }
        result
    }

    /// The pool, for reads.
    #[must_use]
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// How to connect, for those who keep a connection in their own way.
    pub(super) fn options(&self) -> &PgConnectOptions {
        &self.options
    }

    /// Closes the pool, waiting for what is under way.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}
