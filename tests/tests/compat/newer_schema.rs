//! A server whose database was migrated by the release after its own.

use sqlx::AssertSqlSafe;
use taskyard_proto::v1::TaskState;
use taskyard_tests::binaries;
use taskyard_tests::client::{new_session, shell};
use taskyard_tests::command_line::{CommandLine, Finished};
use taskyard_tests::database::Database;
use taskyard_tests::deployment::Deployment;
use taskyard_tests::process::Process;
use taskyard_tests::wait::{SOON, eventually};

/// A migration that no program knows yet.
const FUTURE: i64 = 9_001;

/// What a newer release does to a database.
async fn migrate_from_the_future(database: &Database, version: i64, change: &str) {
    let statements = format!(
        "begin; {change};
         insert into _sqlx_migrations (version, description, success, checksum, execution_time)
             values ({version}, 'of a newer release', true, 'x', 0);
         commit"
    );
    sqlx::raw_sql(AssertSqlSafe(statements))
        .execute(&mut database.connect().await)
        .await
        .expect("the schema can grow");
}

async fn migrate(database: &Database) -> Finished {
    let command_line = CommandLine::bare();
    command_line
        .run(&["migrate", "--database-url", database.url()])
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_comes_back_to_a_schema_that_has_grown() {
    let deployment = Deployment::builder().start().await;
    let expand =
        "alter table task add column of_the_future text; create table of_the_future (id bigint)";
    migrate_from_the_future(deployment.database(), FUTURE, expand).await;
    deployment.with_server(0, |server| server.kill());
    deployment.restart_server(0).await;
    let mut client = deployment.client().await;
    let task = client.run(&new_session("newer"), shell("echo done")).await;
    assert_eq!(task.state(), TaskState::Succeeded);
    let log = deployment.with_server(0, |server| server.log());
    assert!(log.contains("newer than this server"), "{log}");
    let migrated = migrate(deployment.database()).await.expect_code(0);
    assert!(
        migrated
            .text()
            .contains(&format!("schema version {FUTURE}")),
        "{}",
        migrated.text()
    );
    deployment.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schema_that_has_taken_away_refuses_who_does_not_know() {
    let database = Database::create().await;
    let contract = format!("update schema_needs set migration = {FUTURE}");
    migrate_from_the_future(&database, FUTURE, &contract).await;
    let refused = migrate(&database).await.expect_code(125);
    assert!(
        refused.stderr.contains("run a newer taskyard"),
        "{}",
        refused.stderr
    );
    assert!(
        refused.stderr.contains(&FUTURE.to_string()),
        "{}",
        refused.stderr
    );
    refuses_to_serve(&database, "run a newer taskyard").await;
    database.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_added_to_a_schema_of_another_line() {
    let database = Database::create().await;
    // before ours, where no newer release would put one
    migrate_from_the_future(&database, 0, "select 1").await;
    let refused = migrate(&database).await.expect_code(125);
    assert!(
        refused.stderr.contains("another line"),
        "{}",
        refused.stderr
    );
    database.remove().await;
}

async fn refuses_to_serve(database: &Database, reason: &str) {
    let mut command = std::process::Command::new(binaries::taskyard());
    command
        .args([
            "server",
            "--listen",
            "127.0.0.1:0",
            "--database-url",
            database.url(),
        ])
        .env("TASKYARD_ADMIN_LISTEN", "off");
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("server.log");
    let server = Process::start("refused", command, &log);
    let status = eventually("the server to give up", SOON, async || server.ended()).await;
    assert_eq!(status.code(), Some(125), "{}", server.log());
    assert!(server.log().contains(reason), "{}", server.log());
}
