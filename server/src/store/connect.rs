//! Connections: one pool for reads, and held connections for the loops that write.

use super::{
    StoreError,
    shared_pool::{SharedPool, SharedTransaction},
};
use crate::limits::turns::Scarce;
use sqlx::{
    ConnectOptions, Connection, PgConnection,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use std::{io, str::FromStr, time::Duration};

/// Longest wait for a connection, or for one from the pool.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest transaction on a held connection.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(75);
/// Connections for reads.
const POOL_SIZE: u32 = 12;
const _: () = assert!(
    POOL_SIZE > Scarce::Connection.share(),
    "one caller leaves some"
);
/// Pooled connections are renewed this often, so that a half-open one is not handed out for ever.
const POOL_MAX_LIFETIME: Duration = Duration::from_secs(10 * 60);

/// A pooled connection that rested for longer is asked whether it still stands, so that a database that restarts, or a
/// link that was cut, costs no read that comes after it.
const TRUSTED_REST: Duration = Duration::from_millis(100);

/// The door to the database.
#[derive(Clone, Debug)]
pub struct Store {
    options: PgConnectOptions,
    pool: SharedPool,
}

impl Store {
    /// Opens the store and checks that it answers.
    ///
    /// # Errors
    /// [`StoreError::BadUrl`], [`StoreError::Unreachable`], [`StoreError::NoDatabase`], [`StoreError::Refused`] or
    /// [`StoreError::Unavailable`].
    pub async fn connect(database_url: &str) -> Result<Self, StoreError> {
        let options = parse_url(database_url)?
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
            // a ping before each use would cost as much as most of our reads: only one that rested is asked
            .test_before_acquire(false)
            .before_acquire(|connection, rest| {
                Box::pin(async move {
                    Ok(rest.idle_for < TRUSTED_REST || connection.ping().await.is_ok())
                })
            })
            .connect_lazy_with(options.clone());
        let store = Self {
            options,
            pool: SharedPool::new(pool),
        };
        let mut connection = store.open_first().await?;
        sqlx::query!("select 1 as one")
            .fetch_one(&mut connection)
            .await?;
        Ok(store)
    }

    /// As [`Store::open`], with words for whoever gave the URL.
    async fn open_first(&self) -> Result<PgConnection, StoreError> {
        let connecting = PgConnection::connect_with(&self.options);
        let error = match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(error)) => error,
            Err(_) => sqlx::Error::PoolTimedOut,
        };
        Err(explain_first(&self.options, error))
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

    /// Begins a transaction on a pooled connection with this statement.
    ///
    /// # Errors
    /// Any [`StoreError`].
    pub async fn begin(&self, statement: &'static str) -> Result<SharedTransaction, StoreError> {
        self.pool.begin(statement).await
    }

    /// The pool, for reads.
    #[must_use]
    pub fn pool(&self) -> &SharedPool {
        &self.pool
    }

    /// Connections of the pool that are open, and those of them that nobody uses.
    #[must_use]
    pub fn connections(&self) -> (usize, usize) {
        self.pool.counts()
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

/// The driver would take any scheme.
fn parse_url(database_url: &str) -> Result<PgConnectOptions, StoreError> {
    let bad = |problem: String| StoreError::BadUrl { problem };
    let is_postgres = database_url.split_once("://").is_some_and(|(scheme, _)| {
        ["postgres", "postgresql"]
            .iter()
            .any(|known| scheme.eq_ignore_ascii_case(known))
    });
    if !is_postgres {
        return Err(bad(
            "it does not begin with postgres:// or postgresql://".to_owned()
        ));
    }
    PgConnectOptions::from_str(database_url).map_err(|error| match error {
        sqlx::Error::Configuration(problem) => bad(problem.to_string()),
        other => bad(other.to_string()),
    })
}

fn explain_first(options: &PgConnectOptions, error: sqlx::Error) -> StoreError {
    let is_answer = matches!(error, sqlx::Error::Database(_));
    let has_no_database = error
        .as_database_error()
        .and_then(|error| error.code())
        .is_some_and(|code| code == "3D000");
    if has_no_database {
        let name = options
            .get_database()
            .unwrap_or(options.get_username())
            .to_owned();
        let host = options
            .get_socket()
            .map_or(options.get_host().to_owned(), |socket| {
                socket.display().to_string()
            });
        return StoreError::NoDatabase {
            place: place(options),
            command: format!(
                "createdb -h {host} -p {} -U {} {name}",
                options.get_port(),
                options.get_username()
            ),
            name,
        };
    }
    match StoreError::from(error) {
        StoreError::Unavailable(source) if !is_answer => StoreError::Unreachable {
            place: place(options),
            cause: match source {
                sqlx::Error::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    "connection refused".to_owned()
                }
                sqlx::Error::Io(error) => error.to_string(),
                sqlx::Error::PoolTimedOut => {
                    format!("no answer within {} s", CONNECT_TIMEOUT.as_secs())
                }
                other => other.to_string(),
            },
        },
        other => other,
    }
}

/// Where the database is, without who we are to it.
fn place(options: &PgConnectOptions) -> String {
    let (host, port) = (options.get_host(), options.get_port());
    match options.get_socket() {
        Some(socket) => format!("{} (port {port})", socket.display()),
        None if host.contains(':') && !host.starts_with('[') => format!("[{host}]:{port}"),
        None => format!("{host}:{port}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_postgres_url_is_taken() {
        for good in [
            "postgres://me@db.example/yard",
            "PostgreSQL://me:secret@[::1]:5433/yard",
            "postgres:///yard?host=/run/postgresql",
        ] {
            assert!(parse_url(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "not a url",
            "mysql://localhost/x",
            "http://me:secret@db.example/yard",
            "postgres:/x",
            "postgres://me:secret@db.example:99999/yard",
            "postgres://me:secret@db.example/yard?sslmode=perhaps",
        ] {
            let error = parse_url(bad).expect_err(bad);
            let text = error.to_string();
            assert!(matches!(error, StoreError::BadUrl { .. }), "{bad}: {text}");
            assert!(!text.contains("secret"), "{text}");
        }
    }

    #[test]
    fn the_place_has_no_password() {
        for (url, expected) in [
            ("postgres://me:secret@db.example/yard", "db.example:5432"),
            ("postgres://me:secret@[::1]:5433/yard", "[::1]:5433"),
            (
                "postgres://me:secret@localhost/yard?host=/run/x",
                "/run/x (port 5432)",
            ),
        ] {
            let options = parse_url(url).expect("a good url");
            assert_eq!(place(&options), expected);
        }
    }
}
