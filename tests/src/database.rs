//! A fresh, migrated database for each deployment.
//!
//! The Postgres is the one that TASKYARD_TEST_POSTGRES names, as `make test` sets it, else a private one that this
//! process starts and that goes with it. The schema is migrated once, into a template; each database is a copy of it.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::str::FromStr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection};

use crate::binaries;

const VARIABLE: &str = "TASKYARD_TEST_POSTGRES";
const PREFIX: &str = "taskyard_test_";

/// Serialises the making of the template among test processes; any number that nobody else uses.
const TEMPLATE_LOCK: i64 = 0x7461_736b_7465_7374;

static COUNTER: AtomicU32 = AtomicU32::new(1);

/// A database of its own, dropped with [`Database::remove`]; what a failed test leaves behind is dropped by the next
/// test process.
#[derive(Debug)]
pub struct Database {
    name: String,
    url: String,
}

impl Database {
    /// A migrated database.
    pub async fn create() -> Database {
        let mut connection = maintenance().await;
        let template = ensure_template(&mut connection).await;
        let database = Database::unused();
        let statement = format!("create database {} template {template}", database.name);
        execute(&mut connection, &statement).await;
        database
    }

    /// A database without anything in it.
    pub async fn create_empty() -> Database {
        let database = Database::unused();
        let statement = format!("create database {}", database.name);
        execute(&mut maintenance().await, &statement).await;
        database
    }

    /// A database that somebody else made and will remove.
    pub fn foreign(url: &str) -> Database {
        Database {
            name: String::new(),
            url: url.to_owned(),
        }
    }

    /// Address of the database, for `--database-url`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A connection of one's own, for what no client can do.
    pub async fn connect(&self) -> PgConnection {
        PgConnection::connect(&self.url)
            .await
            .unwrap_or_else(|error| panic!("cannot connect to {}: {error}", self.name))
    }

    /// Drops the database, whoever is connected, unless it is a foreign one.
    pub async fn remove(&self) {
        if self.name.is_empty() {
            return;
        }
        let statement = format!("drop database if exists {} with (force)", self.name);
        execute(&mut maintenance().await, &statement).await;
    }

    fn unused() -> Database {
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}_{number}", std::process::id());
        let url = options().database(&name).to_url_lossy().to_string();
        Database { name, url }
    }
}

async fn maintenance() -> PgConnection {
    PgConnection::connect_with(&options())
        .await
        .unwrap_or_else(|error| panic!("the Postgres for the tests does not answer: {error}"))
}

fn options() -> PgConnectOptions {
    PgConnectOptions::from_str(maintenance_url())
        .unwrap_or_else(|error| panic!("{VARIABLE} is no Postgres address: {error}"))
}

fn maintenance_url() -> &'static str {
    static URL: OnceLock<String> = OnceLock::new();
    URL.get_or_init(|| std::env::var(VARIABLE).unwrap_or_else(|_| start_private_postgres()))
}

/// It ends when the pipe to its command closes, so with this process.
fn start_private_postgres() -> String {
    let script = format!("printf '%s\\n' \"${VARIABLE}\"; exec cat >/dev/null");
    let mut child = Command::new(binaries::scratch_postgres())
        .args(["--", "sh", "-c", &script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start a Postgres for the tests: {error}"));
    let mut url = String::new();
    if let Some(stdout) = child.stdout.take() {
        let read = BufReader::new(stdout).read_line(&mut url);
        read.unwrap_or_else(|error| panic!("cannot read the address of Postgres: {error}"));
    }
    assert!(
        url.ends_with('\n'),
        "the Postgres for the tests did not start; see above"
    );
    // Neither waited for nor dropped: it lives as long as this process.
    std::mem::forget(child);
    url.trim_end().to_owned()
}

/// The template's name tells its schema, so that a Postgres that outlives a change of the schema does no harm.
async fn ensure_template(connection: &mut PgConnection) -> String {
    let name = format!("taskyard_template_{:016x}", schema_fingerprint());
    let lock = format!("select pg_advisory_lock({TEMPLATE_LOCK})");
    execute(connection, &lock).await;
    let exists: bool =
        sqlx::query_scalar("select exists (select from pg_database where datname = $1)")
            .bind(&name)
            .fetch_one(&mut *connection)
            .await
            .unwrap_or_else(|error| panic!("cannot look for the template: {error}"));
    if !exists {
        drop_abandoned(connection).await;
        let draft = Database::unused();
        execute(connection, &format!("create database {}", draft.name)).await;
        let migrated = Command::new(binaries::taskyard())
            .args(["migrate", "--database-url", &draft.url])
            .output()
            .unwrap_or_else(|error| panic!("cannot run taskyard migrate: {error}"));
        assert!(
            migrated.status.success(),
            "taskyard migrate failed: {}",
            String::from_utf8_lossy(&migrated.stderr)
        );
        let rename = format!("alter database {} rename to {name}", draft.name);
        execute(connection, &rename).await;
    }
    let unlock = format!("select pg_advisory_unlock({TEMPLATE_LOCK})");
    execute(connection, &unlock).await;
    name
}

/// Databases of test processes that are gone.
async fn drop_abandoned(connection: &mut PgConnection) {
    let names: Vec<String> =
        sqlx::query_scalar("select datname::text from pg_database where datname like $1")
            .bind(format!("{PREFIX}%"))
            .fetch_all(&mut *connection)
            .await
            .unwrap_or_default();
    for name in names {
        let owner = name[PREFIX.len()..].split('_').next().unwrap_or_default();
        if !fs::exists(format!("/proc/{owner}")).unwrap_or(true) {
            execute(
                connection,
                &format!("drop database if exists {name} with (force)"),
            )
            .await;
        }
    }
}

fn schema_fingerprint() -> u64 {
    let folder = binaries::repository().join("migrations");
    let mut files: Vec<_> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("cannot read {}: {error}", folder.display()))
        .flatten()
        .map(|entry| entry.path())
        .collect();
    files.sort();
    let mut hasher = DefaultHasher::new();
    for file in files {
        fs::read(&file).unwrap_or_default().hash(&mut hasher);
    }
    hasher.finish()
}

async fn execute(connection: &mut PgConnection, statement: &str) {
    sqlx::raw_sql(AssertSqlSafe(statement.to_owned()))
        .execute(connection)
        .await
        .unwrap_or_else(|error| panic!("{statement}: {error}"));
}
