//! Which store this is. Cursors and workers carry the identity, so that a restored or promoted store is noticed.

use super::{Store, StoreError};

/// Identity of the store: the row that the first migration made, the cluster's own identifier and its timeline. Where
/// the role may not read the latter two, the row alone.
///
/// # Errors
/// Any [`StoreError`].
pub async fn store_identity(store: &Store) -> Result<String, StoreError> {
    let row = sqlx::query!("select id from store_identity")
        .fetch_one(store.pool())
        .await?;
    let cluster = sqlx::query!(
        r#"select s.system_identifier as "system!", c.timeline_id as "timeline!"
           from pg_control_system() s, pg_control_checkpoint() c"#
    )
    .fetch_one(store.pool())
    .await;
    match cluster.map_err(StoreError::from) {
        Ok(cluster) => Ok(format!(
            "{}-{:x}-{}",
            row.id.simple(),
            cluster.system,
            cluster.timeline
        )),
        Err(StoreError::Refused { .. }) => Ok(row.id.simple().to_string()),
        Err(error) => Err(error),
    }
}
