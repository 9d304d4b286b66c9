//! Content that lies in the object store: what is on its way, what is stored and by how many files it is referred to
//! (which a trigger counts), what is to be removed.

use super::StoreError;
use sqlx::{PgConnection, PgExecutor, postgres::types::PgInterval};
use std::time::Duration;
use taskyard_core::id::SessionUid;
use uuid::Uuid;

/// Tells our advisory locks on content from others.
const LOCK_SEED: i64 = 0x7461_736b_6f62_6a65;

/// Content that has come whole into the object store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UploadedContent {
    /// Its object.
    pub id: Uuid,
    /// Its hash.
    pub sha256: [u8; 32],
}

/// Notes that content is on its way, before any of it is sent.
///
/// # Errors
/// Any [`StoreError`].
pub async fn begin(db: impl PgExecutor<'_>, id: Uuid) -> Result<(), StoreError> {
    sqlx::query!("insert into file_object (id, state) values ($1, 1)", id)
        .execute(db)
        .await?;
    Ok(())
}

/// Notes that content is still on its way; false where that was given up.
///
/// # Errors
/// Any [`StoreError`].
pub async fn touch(db: impl PgExecutor<'_>, id: Uuid) -> Result<bool, StoreError> {
    let touched = sqlx::query!(
        "update file_object set touched_at = clock_timestamp() where id = $1 and state = 1",
        id
    )
    .execute(db)
    .await?;
    Ok(touched.rows_affected() == 1)
}

/// Gives up content that no file will refer to.
///
/// # Errors
/// Any [`StoreError`].
pub async fn give_up(db: impl PgExecutor<'_>, id: Uuid) -> Result<(), StoreError> {
    sqlx::query!(
        "update file_object set state = 3 where id = $1 and state = 1",
        id
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Makes uploaded content the namespace's, within the transaction that will refer to it. Gives the object to refer to:
/// this one, or an older one with the same content; none where the upload was given up.
///
/// # Errors
/// Any [`StoreError`].
pub(super) async fn settle(
    db: &mut PgConnection,
    session: SessionUid,
    content: UploadedContent,
    size: i64,
) -> Result<Option<Uuid>, StoreError> {
    let namespace_id =
        sqlx::query_scalar!("select namespace_id from session where uid = $1", session.0)
            .fetch_one(&mut *db)
            .await?;
    // two uploads of the same content take turns
    let digest: String = content
        .sha256
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    sqlx::query!(
        "select pg_advisory_xact_lock(hashtextextended($1, $2))",
        format!("{namespace_id}/{digest}"),
        LOCK_SEED
    )
    .execute(&mut *db)
    .await?;
    let older = sqlx::query_scalar!(
        "select id from file_object
         where namespace_id = $1 and sha256 = $2 and size = $3 and state = 2 for update",
        namespace_id,
        &content.sha256[..],
        size
    )
    .fetch_optional(&mut *db)
    .await?;
    let (state, namespace_id) = match older {
        Some(_) => (3, None),
        None => (2, Some(namespace_id)),
    };
    let settled = sqlx::query!(
        "update file_object set state = $2, namespace_id = $3, sha256 = $4, size = $5, touched_at = clock_timestamp()
         where id = $1 and state = 1",
        content.id,
        state,
        namespace_id,
        &content.sha256[..],
        size
    )
    .execute(db)
    .await?;
    Ok(match older {
        Some(older) => Some(older),
        None => (settled.rows_affected() == 1).then_some(content.id),
    })
}

/// Marks content as to be removed that no file has referred to, and no upload has shown life of, for the grace; at most
/// `limit`. Nothing can refer to it from here on.
///
/// # Errors
/// Any [`StoreError`].
pub async fn doom_unused(
    db: impl PgExecutor<'_>,
    grace: Duration,
    limit: i64,
) -> Result<u64, StoreError> {
    let grace = PgInterval {
        months: 0,
        days: 0,
        microseconds: i64::try_from(grace.as_micros()).unwrap_or(i64::MAX),
    };
    let doomed = sqlx::query!(
        "update file_object set state = 3 where id in (
           select id from file_object
           where refs = 0 and state in (1, 2) and touched_at < clock_timestamp() - $1::interval
           order by touched_at limit $2 for update skip locked)",
        grace,
        limit
    )
    .execute(db)
    .await?;
    Ok(doomed.rows_affected())
}

/// Content that is to be removed, at most `limit`.
///
/// # Errors
/// Any [`StoreError`].
pub async fn list_doomed(db: impl PgExecutor<'_>, limit: i64) -> Result<Vec<Uuid>, StoreError> {
    Ok(sqlx::query_scalar!(
        "select id from file_object where refs = 0 and state = 3 order by touched_at limit $1",
        limit
    )
    .fetch_all(db)
    .await?)
}

/// Forgets content that was removed.
///
/// # Errors
/// Any [`StoreError`].
pub async fn forget(db: impl PgExecutor<'_>, ids: &[Uuid]) -> Result<(), StoreError> {
    sqlx::query!(
        "delete from file_object where state = 3 and id = any($1)",
        ids
    )
    .execute(db)
    .await?;
    Ok(())
}
