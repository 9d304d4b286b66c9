//! Talking to the cluster: its address, whether it answers, and making a database.

use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, Connection};
use tokio::time::timeout;

use crate::error::ClusterError;
use crate::server::SUPERUSER;
use crate::socket::PORT;

/// The database that every cluster has.
const MAINTENANCE: &str = "postgres";

/// One try. A server that accepts and then says nothing for this long is stuck.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
const STATEMENT_LIMIT: Duration = Duration::from_secs(60);

/// The address of a database on the socket in `socket_dir`. The host in the authority is only there because a URL
/// must have one; the parameter overrules it, in sqlx as in libpq.
pub(crate) fn url(socket_dir: &Path, database: &str) -> String {
    use std::os::unix::ffi::OsStrExt;
    let database = percent_encoded(database.as_bytes());
    let host = percent_encoded(socket_dir.as_os_str().as_bytes());
    format!("postgres://{SUPERUSER}@localhost/{database}?host={host}&port={PORT}&sslmode=disable")
}

/// Logs in once, which a server that is starting, recovering or stopping refuses.
pub(crate) async fn answers(socket_dir: &Path) -> Result<(), sqlx::Error> {
    let connection = connect(socket_dir).await?;
    match timeout(CONNECT_LIMIT, connection.close()).await {
        Ok(result) => result,
        Err(_) => Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())),
    }
}

/// Creates a database unless it is there.
pub(crate) async fn create(socket_dir: &Path, database: &str) -> Result<(), ClusterError> {
    let work = async {
        let mut connection = connect(socket_dir).await?;
        let exists: bool =
            sqlx::query_scalar("select exists (select from pg_database where datname = $1)")
                .bind(database)
                .fetch_one(&mut connection)
                .await?;
        if !exists {
            let quoted = database.replace('"', "\"\"");
            sqlx::raw_sql(AssertSqlSafe(format!("create database \"{quoted}\"")))
                .execute(&mut connection)
                .await?;
        }
        connection.close().await
    };
    match timeout(STATEMENT_LIMIT, work).await {
        Ok(result) => result.map_err(|source| ClusterError::Database {
            action: "create a database",
            source,
        }),
        Err(_) => Err(ClusterError::TooSlow {
            action: "creating a database",
            limit_secs: STATEMENT_LIMIT.as_secs(),
            log: String::new(),
        }),
    }
}

async fn connect(socket_dir: &Path) -> Result<PgConnection, sqlx::Error> {
    let options = PgConnectOptions::from_str(&url(socket_dir, MAINTENANCE))?;
    match timeout(CONNECT_LIMIT, PgConnection::connect_with(&options)).await {
        Ok(result) => result,
        Err(_) => Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())),
    }
}

fn percent_encoded(bytes: &[u8]) -> String {
    let mut encoded = String::with_capacity(bytes.len());
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::url;
    use sqlx::postgres::PgConnectOptions;
    use std::path::Path;
    use std::str::FromStr;

    #[test]
    fn any_socket_path_survives_the_way_through_a_url() {
        let strange = Path::new("/tmp/a b+c%d&e=é");
        let options = PgConnectOptions::from_str(&url(strange, "task yard")).expect("a valid url");
        assert_eq!(
            options.get_socket().map(|path| path.as_path()),
            Some(strange)
        );
        assert_eq!(options.get_database(), Some("task yard"));
        assert_eq!(options.get_username(), "taskyard");
    }
}
