//! Tasks with secrets: where they can run, how a test sees that one arrived, and everything that must not show it.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use sqlx::AssertSqlSafe;
use taskyard_proto::v1::{TaskDefinition, TaskSecret, task_secret::Source};
use tempfile::TempDir;
use tokio::sync::OnceCell;

use crate::database::Database;
use crate::deployment::{Deployment, WorkerPlan};

/// Keys, as the file of a server has them.
pub const KEY: &str = "0101010101010101010101010101010101010101010101010101010101010101";
/// See [`KEY`].
pub const OTHER_KEY: &str = "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=";

/// In a shell: writes $TOKEN in a way that is not masked, so that a test sees that it arrived.
pub const TELL: &str = "printf %s \"$TOKEN\" | tr 'a-z0-9' 'b-za1-90'";

/// What [`TELL`] writes.
pub fn told(value: &str) -> String {
    let next = |letter: char| match letter {
        'z' => 'a',
        '9' => '0',
        'a'..='y' | '0'..='8' => char::from_u32(letter as u32 + 1).unwrap_or(letter),
        other => other,
    };
    value.chars().map(next).collect()
}

/// A value that is nowhere else; with what is written differently in URLs and JSON.
pub fn new_value() -> String {
    format!("s3cret/\"{}+é", uuid::Uuid::new_v4().simple())
}

/// A secret whose value is given.
pub fn value(name: &str, value: &str) -> TaskSecret {
    secret(name, Source::Value(value.as_bytes().to_vec().into()))
}

/// A secret of any source.
pub fn secret(name: &str, source: Source) -> TaskSecret {
    TaskSecret {
        name: name.to_owned(),
        source: Some(source),
        to_file: String::new(),
    }
}

/// A task with secrets.
pub fn with_secrets(task: TaskDefinition, secrets: Vec<TaskSecret>) -> TaskDefinition {
    TaskDefinition { secrets, ..task }
}

/// Writes a file of keys.
pub fn write_keys(folder: &Path, keys: &[&str]) -> PathBuf {
    let path = folder.join("secret.keys");
    let written = std::fs::write(&path, keys.join("\n"));
    written.unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
    path
}

/// A deployment with a key that all tests of this process share. Its worker gives away its variables YARD_GIVEN_* and the
/// files in [`given_folder`]; it has YARD_GIVEN_TOKEN, and YARD_KEPT_TOKEN, which it does not give away.
pub async fn keyed() -> &'static Deployment {
    static KEYED: OnceCell<Deployment> = OnceCell::const_new();
    KEYED
        .get_or_init(|| async {
            static KEYS: OnceLock<TempDir> = OnceLock::new();
            let keys = write_keys(folder(&KEYS), &[KEY]);
            let keys = format!("--secret-key-file={}", keys.display());
            let given = format!("--secret-dir={}", given_folder().display());
            let worker = WorkerPlan::new("keyed")
                .flags(&["--slots=16", "--secret-env=YARD_GIVEN_*", &given])
                .env("YARD_GIVEN_TOKEN", GIVEN_VALUE)
                .env("YARD_KEPT_TOKEN", "kept-by-the-worker");
            Deployment::builder()
                .server_flags(&[&keys])
                .workers(vec![worker])
                .start()
                .await
        })
        .await
}

/// The value of YARD_GIVEN_TOKEN of the worker of [`keyed`].
pub const GIVEN_VALUE: &str = "given-by-the-worker";

/// The folder whose files the worker of [`keyed`] gives away.
pub fn given_folder() -> &'static Path {
    static GIVEN: OnceLock<TempDir> = OnceLock::new();
    folder(&GIVEN)
}

fn folder(place: &'static OnceLock<TempDir>) -> &'static Path {
    place
        .get_or_init(|| {
            tempfile::tempdir().unwrap_or_else(|error| panic!("cannot make a folder: {error}"))
        })
        .path()
}

/// Every row of every table, as JSON: bytes are there in hexadecimal.
pub async fn dump(database: &Database) -> String {
    let mut connection = database.connect().await;
    let tables: Vec<String> = sqlx::query_scalar(
        "select format('%I.%I', schemaname, tablename) from pg_tables
         where schemaname not in ('pg_catalog', 'information_schema')",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap_or_else(|error| panic!("cannot list the tables: {error}"));
    assert!(tables.len() > 10, "{tables:?}");
    let mut dump = String::new();
    for table in tables {
        let query = format!("select row_to_json(t)::text from {table} t");
        let rows: Vec<String> = sqlx::query_scalar(AssertSqlSafe(query))
            .fetch_all(&mut connection)
            .await
            .unwrap_or_else(|error| panic!("cannot read {table}: {error}"));
        dump.push_str(&rows.join("\n"));
    }
    dump
}

/// How many values of secrets are stored for a task.
pub async fn stored_values(database: &Database, task_id: &str) -> i64 {
    let id = task_id.trim_start_matches("task_");
    sqlx::query_scalar("select count(*) from task_secret where task_id = $1::uuid")
        .bind(id)
        .fetch_one(&mut database.connect().await)
        .await
        .unwrap_or_else(|error| panic!("cannot count the values: {error}"))
}

/// Holds a text to not showing a value, neither as it is, nor in hexadecimal, nor as a list of bytes, as Debug has it.
#[track_caller]
pub fn expect_hidden(what: &str, text: &str, value: &str) {
    let hex: String = value.bytes().map(|byte| format!("{byte:02x}")).collect();
    let list: Vec<String> = value.bytes().map(|byte| byte.to_string()).collect();
    let escaped = value.escape_debug().to_string();
    let json = serde_json::Value::from(value).to_string();
    let json = json.trim_matches('"');
    for form in [value, &hex, &list.join(", "), &escaped, json] {
        assert!(!text.contains(form), "{what} shows the secret as {form}");
    }
}
