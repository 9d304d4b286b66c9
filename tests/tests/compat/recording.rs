//! What is recorded of the database, and how it is read again.

use std::fs;
use std::sync::Once;

use serde_json::{Value, json};
use sqlx::{PgConnection, Row};
use taskyard_tests::database::Database;

use super::releases::{Release, parse, releases};
use super::schema_text;
use super::statements::{Prepared, compiled, from_json, prepare, to_json};

pub const SCHEMA: &str = "schema.sql";
const QUERIES: &str = "queries.json";
const MIGRATIONS: &str = "migrations.json";
/// What is recorded of the database.
pub const FILES: [&str; 3] = [SCHEMA, QUERIES, MIGRATIONS];

/// A migration as Postgres remembers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migration {
    pub version: i64,
    pub description: String,
    /// Of its text, in hexadecimal digits.
    pub checksum: String,
}

/// Every recorded release, the oldest first.
pub async fn recorded() -> Vec<Release> {
    static RECORDED: Once = Once::new();
    if std::env::var_os("RECORD_RELEASE").is_none() {
        return releases(&RECORDED, |_| {});
    }
    let database = Database::create().await;
    let mut connection = database.connect().await;
    let files = [
        (SCHEMA, schema_text::read(&mut connection).await),
        (QUERIES, pretty(queries_now(&mut connection).await)),
        (MIGRATIONS, pretty(migrations_now(&mut connection).await)),
    ];
    drop(connection);
    database.remove().await;
    releases(&RECORDED, |release| {
        for (name, content) in files {
            fs::write(release.path(name), content).expect("written");
        }
    })
}

/// The release that this version must be able to replace one server at a time, and its own record where there is one
/// already.
pub fn neighbours(releases: Vec<Release>) -> Vec<Release> {
    let own = parse(env!("CARGO_PKG_VERSION")).expect("versions are three numbers");
    let before = releases
        .iter()
        .filter(|release| release.version < own)
        .max()
        .cloned();
    let own = releases
        .iter()
        .find(|release| release.version == own)
        .cloned();
    before.into_iter().chain(own).collect()
}

/// The statements of the release's servers.
pub fn queries(release: &Release) -> Vec<Prepared> {
    list(release, QUERIES).iter().map(from_json).collect()
}

/// The migrations of the release.
pub fn migrations(release: &Release) -> Vec<Migration> {
    let read = |value: &Value| Migration {
        version: value["version"].as_i64().expect("a version"),
        description: value["description"]
            .as_str()
            .expect("a description")
            .to_owned(),
        checksum: value["checksum"].as_str().expect("a checksum").to_owned(),
    };
    list(release, MIGRATIONS).iter().map(read).collect()
}

/// The migrations of a database.
pub async fn applied(connection: &mut PgConnection) -> Vec<Migration> {
    let rows = sqlx::query(
        "select version, description, encode(checksum, 'hex') as checksum from _sqlx_migrations order by version",
    )
    .fetch_all(connection)
    .await;
    let read = |row: sqlx::postgres::PgRow| Migration {
        version: row.get("version"),
        description: row.get("description"),
        checksum: row.get("checksum"),
    };
    rows.expect("the migrations")
        .into_iter()
        .map(read)
        .collect()
}

async fn queries_now(connection: &mut PgConnection) -> Vec<Value> {
    let mut queries = Vec::new();
    for sql in compiled() {
        let prepared = prepare(connection, &sql).await;
        queries.push(to_json(
            &prepared.unwrap_or_else(|error| panic!("{sql}: {error}")),
        ));
    }
    queries
}

async fn migrations_now(connection: &mut PgConnection) -> Vec<Value> {
    let migrations = applied(connection).await.into_iter();
    let write = |one: Migration| json!({ "version": one.version, "description": one.description, "checksum": one.checksum });
    migrations.map(write).collect()
}

fn pretty(list: Vec<Value>) -> String {
    let text = serde_json::to_string_pretty(&list).expect("JSON");
    format!("{text}\n")
}

fn list(release: &Release, name: &str) -> Vec<Value> {
    serde_json::from_slice(&release.read(name)).expect("a list")
}
