//! Bringing the schema up to date.

use super::schema_fit::{SchemaFit, admit, fit};
use super::{Store, StoreError};
use sqlx::PgConnection;
use sqlx::migrate::{Migrate, Migrator};

static MIGRATIONS: Migrator = Migrator {
    // what a newer release has applied is looked at below
    ignore_missing: true,
    ..sqlx::migrate!("../migrations")
};

/// What a migration run did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MigrateReport {
    /// Descriptions of the migrations that were applied by this run, in order; not those of others at the same time.
    pub applied: Vec<String>,
    /// Version of the schema afterwards.
    pub version: i64,
    /// Newest version that this program knows: less than `version` where a newer release has migrated the database.
    pub known: i64,
}

/// Whether the database answers and has every migration that this program knows; newer ones do no harm.
///
/// # Errors
/// Any [`StoreError`].
pub async fn is_current(store: &Store) -> Result<bool, StoreError> {
    let newest = sqlx::query_scalar!("select max(version) from _sqlx_migrations where success")
        .fetch_one(store.pool())
        .await?;
    Ok(newest >= known_versions().into_iter().max())
}

/// Applies what is missing, under Postgres's advisory lock, so that several servers may start at once. A schema that is
/// newer than this program is left as it is.
///
/// # Errors
/// [`StoreError::NewerSchema`] and [`StoreError::OtherSchema`] if this program cannot use the schema;
/// [`StoreError::Migration`] if a migration fails or an applied one was changed.
pub async fn migrate(store: &Store) -> Result<MigrateReport, StoreError> {
    let known = known_versions();
    let mut connection = store.open().await?;
    // Held from the look before to the look after: what changed between them was changed here. The run takes the same
    // lock once more, which whoever has it may. A failure drops the connection, and the lock with it.
    connection.lock().await.map_err(StoreError::Migration)?;
    connection
        .ensure_migrations_table(&MIGRATIONS.table_name)
        .await
        .map_err(StoreError::Migration)?;
    let before = applied_versions(&mut connection).await?;
    // before anything is added to what may not be ours
    fit(&before, &known)?;
    MIGRATIONS
        .run(&mut connection)
        .await
        .map_err(StoreError::Migration)?;
    let after = applied_versions(&mut connection).await?;
    connection.unlock().await.map_err(StoreError::Migration)?;
    let newest = known.iter().copied().max().unwrap_or(0);
    let version = match fit(&after, &known)? {
        SchemaFit::Known => newest,
        SchemaFit::Newer(found) => {
            admit(found, needed_migration(&mut connection).await?, &known)?;
            found
        }
    };
    Ok(MigrateReport {
        applied: MIGRATIONS
            .iter()
            .filter(|migration| !before.contains(&migration.version))
            .map(|migration| format!("{:04} {}", migration.version, migration.description))
            .collect(),
        version,
        known: newest,
    })
}

fn known_versions() -> Vec<i64> {
    MIGRATIONS
        .iter()
        .map(|migration| migration.version)
        .collect()
}

async fn applied_versions(connection: &mut PgConnection) -> Result<Vec<i64>, StoreError> {
    let applied = connection
        .list_applied_migrations(&MIGRATIONS.table_name)
        .await
        .map_err(StoreError::Migration)?;
    Ok(applied.iter().map(|applied| applied.version).collect())
}

/// The newest migration that a program must know of to use this schema.
async fn needed_migration(connection: &mut PgConnection) -> Result<i64, StoreError> {
    let needed = sqlx::query_scalar!("select migration from schema_needs")
        .fetch_one(connection)
        .await?;
    Ok(needed)
}
