//! Servers and migrators that come to one empty database at the same time.

use sqlx::migrate::Migrate;
use taskyard_tests::command_line::CommandLine;
use taskyard_tests::database::Database;
use taskyard_tests::wait::{SOON, until};

/// What comes to wait for the lock of the migrations: two of each.
const WAITING: i64 = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_migration_is_told_of_by_the_one_that_applied_it() {
    let database = Database::create_empty().await;
    let mut holder = database.connect().await;
    holder.lock().await.expect("nobody else holds it");
    let folder = tempfile::tempdir().expect("a folder");
    let line = CommandLine::bare().folder(folder.path());
    let serve = ["server", "--listen", "127.0.0.1:0", "--database-url"];
    let serve = [&serve[..], &[database.url()]].concat();
    let servers = [line.start(&serve), line.start(&serve)];
    let migrate = ["migrate", "--database-url", database.url()];
    let migrators = [line.start(&migrate), line.start(&migrate)];
    let mut observer = database.connect().await;
    until("all to wait for the lock", SOON * 2, async || {
        let waiting: i64 = sqlx::query_scalar(
            "select count(*) from pg_locks join pg_database on pg_database.oid = pg_locks.database \
             where datname = current_database() and locktype = 'advisory' and not granted",
        )
        .fetch_one(&mut observer)
        .await
        .expect("counted");
        waiting == WAITING
    })
    .await;
    holder.unlock().await.expect("it was held");
    let mut claims = Vec::new();
    for migrator in migrators {
        let told = migrator.finish_within(SOON * 2).await.expect_code(0).text();
        let applied = told.lines().filter(|line| line.starts_with("applied "));
        claims.push(applied.count());
    }
    for server in &servers {
        server.stderr_has("serving on ").await;
        let log = server.stderr();
        claims.push(log.matches("the database's schema was changed").count());
    }
    let applied: i64 = sqlx::query_scalar("select count(*) from _sqlx_migrations where success")
        .fetch_one(&mut observer)
        .await
        .expect("counted");
    claims.sort_unstable();
    let all = usize::try_from(applied).expect("a count");
    assert_eq!(claims, [0, 0, 0, all], "one of them applied them all");
    drop(servers);
    drop((holder, observer));
    database.remove().await;
}
