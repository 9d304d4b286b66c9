//! Bringing the schema up to date.

use super::{Store, StoreError};
use sqlx::migrate::{Migrate, MigrateError, Migrator};

static MIGRATIONS: Migrator = sqlx::migrate!("../migrations");

/// What a migration run did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MigrateReport {
    /// Descriptions of the migrations that were applied now, in order.
    pub applied: Vec<String>,
    /// Version of the schema afterwards.
    pub version: i64,
}

/// Whether the database answers and has every migration that this program knows; newer ones do no harm.
///
/// # Errors
/// Any [`StoreError`].
pub async fn is_current(store: &Store) -> Result<bool, StoreError> {
    let newest = sqlx::query_scalar!("select max(version) from _sqlx_migrations where success")
        .fetch_one(store.pool())
        .await?;
    Ok(newest >= MIGRATIONS.iter().map(|migration| migration.version).max())
}

/// Applies what is missing, under Postgres's advisory lock, so that several servers may start at once.
///
/// # Errors
/// [`StoreError::NewerSchema`] if the database has a migration that this program does not know;
/// [`StoreError::Migration`] if one fails or an applied one was changed.
pub async fn migrate(store: &Store) -> Result<MigrateReport, StoreError> {
    let known = MIGRATIONS
        .iter()
        .map(|migration| migration.version)
        .max()
        .unwrap_or(0);
    let mut connection = store.open().await?;
    connection
        .ensure_migrations_table(&MIGRATIONS.table_name)
        .await
        .map_err(StoreError::Migration)?;
    let before = connection
        .list_applied_migrations(&MIGRATIONS.table_name)
        .await
        .map_err(StoreError::Migration)?;
    if let Some(newest) = before.iter().map(|applied| applied.version).max()
        && newest > known
    {
        return Err(StoreError::NewerSchema {
            found: newest,
            known,
        });
    }
    match MIGRATIONS.run(&mut connection).await {
        Ok(()) => {}
        Err(MigrateError::VersionMissing(found)) => {
            return Err(StoreError::NewerSchema { found, known });
        }
        Err(error) => return Err(StoreError::Migration(error)),
    }
    let is_new = |version: i64| before.iter().all(|applied| applied.version != version);
    Ok(MigrateReport {
        applied: MIGRATIONS
            .iter()
            .filter(|migration| is_new(migration.version))
            .map(|migration| format!("{:04} {}", migration.version, migration.description))
            .collect(),
        version: known,
    })
}
