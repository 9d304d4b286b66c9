//! Which store this is. Cursors and workers carry the identity, so that a restored or promoted store is noticed.

use super::{Store, StoreError};

/// Identity of the store: the row that the first migration made, the number that the cluster gave the database when it was
/// created, the cluster's own identifier and its timeline. Where the role may not read the latter two, the others alone. The timeline is that of the log that is being written: the one in
/// the control file is that of the last checkpoint, which comes minutes after a standby was promoted.
///
/// # Errors
/// Any [`StoreError`].
pub async fn store_identity(store: &Store) -> Result<String, StoreError> {
    let row = sqlx::query!(
        r#"select store_identity.id, pg_database.oid::bigint as "database!"
           from store_identity, pg_database
           where pg_database.datname = current_database()"#
    )
    .fetch_one(store.pool())
    .await?;
    let cluster = sqlx::query!(
        r#"select system_identifier as "system!",
             ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::integer as "timeline!"
           from pg_control_system()"#
    )
    .fetch_one(store.pool())
    .await;
    match cluster.map_err(StoreError::from) {
        Ok(cluster) => Ok(format!(
            "{}-{:x}-{:x}-{}",
            row.id.simple(),
            row.database,
            cluster.system,
            cluster.timeline
        )),
        Err(StoreError::Refused { .. }) => Ok(format!("{}-{:x}", row.id.simple(), row.database)),
        Err(error) => Err(error),
    }
}

/// Makes the store another one in the eyes of all that knew it.
///
/// # Errors
/// Any [`StoreError`].
pub async fn renew_identity(store: &Store) -> Result<(), StoreError> {
    sqlx::query!("update store_identity set id = gen_random_uuid()")
        .execute(store.pool())
        .await?;
    Ok(())
}
