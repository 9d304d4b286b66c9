//! The schema of now under the servers of recorded releases.

use std::collections::HashMap;
use std::fs;

use sqlx::migrate::Migrator;
use sqlx::{AssertSqlSafe, PgConnection};
use taskyard_tests::binaries;
use taskyard_tests::database::Database;

use super::catalog::Catalog;
use super::recording::{self, Migration, neighbours, recorded};
use super::releases::{Release, own};
use super::schema_text;
use super::statements::{plan, prepare};

/// Changes that old programs could stumble over and do not, each with the reason.
const DELIBERATE: &str = "compat/deliberate.txt";

#[tokio::test]
async fn this_version_is_recorded() {
    let recorded = recorded().await;
    for name in recording::FILES {
        assert!(own(&recorded).path(name).is_file(), "{name}");
    }
}

#[tokio::test]
async fn released_migrations_stay_as_they_were() {
    let releases = recorded().await;
    let database = Database::create().await;
    let now = recording::applied(&mut database.connect().await).await;
    for release in releases {
        let then = recording::migrations(&release);
        for migration in &then {
            let found = now.iter().find(|one| one.version == migration.version);
            assert_eq!(
                found,
                Some(migration),
                "{:?} has it; a released migration is never changed, write another one",
                release.folder
            );
        }
        let last = last(&then);
        for migration in &now {
            assert!(
                then.contains(migration) || migration.version > last,
                "migration {} is new, and would come before {last}, which is released: give it a higher number",
                migration.version
            );
        }
    }
    database.remove().await;
}

#[tokio::test]
async fn a_recorded_schema_is_what_its_migrations_make() {
    for release in recorded().await {
        let database = database_of(&release).await;
        let mut connection = database.connect().await;
        let then = String::from_utf8(release.read(recording::SCHEMA)).expect("a text");
        if then.starts_with(&schema_text::heading(&mut connection).await) {
            assert_eq!(schema_text::read(&mut connection).await, then);
        }
        drop(connection);
        database.remove().await;
    }
}

#[tokio::test]
async fn servers_of_the_release_before_work_on_the_schema_of_now() {
    let releases = neighbours(recorded().await);
    let database = Database::create().await;
    let mut connection = database.connect().await;
    let mut broken = Vec::new();
    for release in &releases {
        broken.extend(failures(&mut connection, release).await);
    }
    assert!(
        broken.is_empty(),
        "servers of the release before would fail; expand now, take away one release later:\n{}",
        broken.join("\n")
    );
    drop(connection);
    database.remove().await;
}

#[tokio::test]
async fn what_is_taken_away_too_early_is_found() {
    let releases = recorded().await;
    let release = releases.last().expect("a record");
    for (change, failure) in [
        (
            "alter table webhook rename column url to address",
            "column \"url\"",
        ),
        (
            "alter table task_live alter column run type bigint",
            "is Prepared",
        ),
        (
            "alter table session_usage drop constraint session_usage_pkey",
            "ON CONFLICT",
        ),
    ] {
        let database = Database::create().await;
        let mut connection = database.connect().await;
        // views are in the way of a change that they would show
        let change = format!("drop view if exists task_record cascade; {change}");
        sqlx::raw_sql(AssertSqlSafe(change.clone()))
            .execute(&mut connection)
            .await
            .unwrap_or_else(|error| panic!("{change}: {error}"));
        let failures = failures(&mut connection, release).await;
        assert!(
            failures.iter().any(|found| found.contains(failure)),
            "{change}: {failures:?}"
        );
        drop(connection);
        database.remove().await;
    }
}

#[tokio::test]
async fn the_schema_says_which_releases_it_is_too_new_for() {
    let releases = recorded().await;
    let neighbours = neighbours(releases.clone());
    let database = Database::create().await;
    let mut connection = database.connect().await;
    let needs: i64 = sqlx::query_scalar("select migration from schema_needs")
        .fetch_one(&mut connection)
        .await
        .expect("the mark");
    for release in &releases {
        let known = last(&recording::migrations(release));
        if neighbours.contains(release) {
            assert!(
                needs <= known,
                "{:?} could not start again while it is being replaced: it knows {known}, the schema needs {needs}",
                release.folder
            );
        } else if !failures(&mut connection, release).await.is_empty() {
            assert!(
                needs > known,
                "{:?} does not work any more, and would start: the migration that breaks it has to set schema_needs",
                release.folder
            );
        }
    }
    drop(connection);
    database.remove().await;
}

#[tokio::test]
async fn what_rows_must_be_is_as_it_was_or_deliberate() {
    let now = Database::create().await;
    let catalog = Catalog::read(&mut now.connect().await).await;
    let mut reasons = deliberate();
    let mut used = Vec::new();
    for release in neighbours(recorded().await) {
        let then = database_of(&release).await;
        let before = Catalog::read(&mut then.connect().await).await;
        for obstacle in before.obstacles(&catalog) {
            assert!(
                reasons.contains_key(&obstacle),
                "{:?}: {obstacle}; its servers may stumble over that, see compat/README.md",
                release.folder
            );
            used.push(obstacle);
        }
        then.remove().await;
    }
    reasons.retain(|obstacle, _| !used.contains(obstacle));
    assert!(
        reasons.is_empty(),
        "{DELIBERATE} has more than there is: {reasons:?}"
    );
    now.remove().await;
}

/// What servers of the release could not say to this database, or would hear otherwise.
async fn failures(connection: &mut PgConnection, release: &Release) -> Vec<String> {
    let mut failures = Vec::new();
    for then in recording::queries(release) {
        let failure = match prepare(connection, &then.sql).await {
            Ok(now) if now == then => match plan(connection, &now).await {
                Ok(()) => continue,
                Err(error) => error.to_string(),
            },
            Ok(now) => format!("was {then:?}, is {now:?}"),
            Err(error) => error.to_string(),
        };
        failures.push(format!("{:?}: {}: {failure}", release.folder, then.sql));
    }
    failures
}

/// A database as the release made it.
async fn database_of(release: &Release) -> Database {
    let database = Database::create_empty().await;
    let migrator = Migrator::new(binaries::repository().join("migrations")).await;
    let last = last(&recording::migrations(release));
    migrator
        .expect("the migrations can be read")
        .run_to(last, &mut database.connect().await)
        .await
        .expect("the migrations of a release can be applied");
    database
}

fn last(migrations: &[Migration]) -> i64 {
    migrations.iter().map(|one| one.version).max().unwrap_or(0)
}

/// What is deliberate, with its reasons.
fn deliberate() -> HashMap<String, String> {
    let text = fs::read_to_string(binaries::repository().join(DELIBERATE)).expect("a list");
    let lines = text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| match line.split_once(": ") {
            Some((obstacle, reason)) if !reason.trim().is_empty() => {
                (obstacle.to_owned(), reason.to_owned())
            }
            _ => panic!("{DELIBERATE}: {line:?} gives no reason"),
        })
        .collect()
}
