//! Writing and deleting files of sessions. Writers of what could collide (a file `/a` and a file `/a/b`) take turns by
//! a lock on the path's first parts.

use super::{
    Store, StoreError,
    conflict::Tries,
    file_objects::{self, UploadedContent},
    file_usage::{self, FileQuotas, Growth, QuotaExceeded},
    files::{FileRow, find_file, range_below, session_of_lease},
    times,
};
use sqlx::{PgConnection, PgExecutor};
use taskyard_core::{
    id::{Epoch, LeaseId, SessionUid, TaskId},
    vfs::SessionPath,
};
use uuid::Uuid;

/// Chunks that one statement stores: 2 MiB where chunks have 256 KiB.
const CHUNKS_PER_INSERT: usize = 8;
/// Tells our advisory locks on files from others.
const LOCK_SEED: i64 = 0x7461_736b_6669_6c65;

/// For whom a file is written.
#[derive(Clone, Copy, Debug)]
pub enum Writer {
    /// A client, into this session.
    Client(SessionUid),
    /// A worker, into the session of the task that it holds a lease on.
    Lease {
        /// The task.
        task: TaskId,
        /// The lease's epoch.
        epoch: Epoch,
        /// The lease's id.
        lease_id: LeaseId,
    },
}

/// A file to be written.
#[derive(Clone, Copy, Debug)]
pub struct FileWrite<'a> {
    /// For whom.
    pub writer: Writer,
    /// Where; not `/`.
    pub path: &'a SessionPath,
    /// Its bytes.
    pub content: FileBytes<'a>,
    /// Bytes in all.
    pub size: i64,
    /// The version that it must have now; 0: there must be none.
    pub if_version: Option<i64>,
    /// What must not be exceeded; none: it is written in any case.
    pub quotas: Option<FileQuotas>,
}

/// The bytes of a file to be written.
#[derive(Clone, Copy, Debug)]
pub enum FileBytes<'a> {
    /// In chunks of one size.
    Chunks(&'a [Vec<u8>]),
    /// In the object store.
    Object(UploadedContent),
}

/// What became of a write.
#[derive(Clone, Debug)]
pub enum WriteOutcome {
    /// It is stored.
    Written(FileRow),
    /// The version was another one; 0: there is no file.
    VersionMismatch(i64),
    /// This file is where a folder would have to be.
    FileInTheWay(String),
    /// The path is a folder.
    IsFolder,
    /// The lease is not the one that is held.
    LeaseLost,
    /// The client's session is not there any more.
    SessionDeleted,
    /// There would be too much.
    QuotaExceeded(QuotaExceeded),
    /// The upload was given up before it was written; nothing of it is left.
    UploadLost,
}

/// What became of the deletion of one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeleteOutcome {
    /// It is gone.
    Deleted,
    /// There is none.
    NotFound,
    /// Its version was another one.
    VersionMismatch(i64),
}

/// Writes a file, replacing an older version.
///
/// # Errors
/// Any [`StoreError`].
pub async fn write_file(store: &Store, write: FileWrite<'_>) -> Result<WriteOutcome, StoreError> {
    let mut tries = Tries::default();
    loop {
        let settled = write_once(store, write).await;
        if !tries.run_again(&settled).await {
            return settled;
        }
    }
}

/// Deletes one file.
///
/// # Errors
/// Any [`StoreError`].
pub async fn delete_file(
    store: &Store,
    session: SessionUid,
    path: &SessionPath,
    if_version: Option<i64>,
) -> Result<DeleteOutcome, StoreError> {
    let mut tries = Tries::default();
    loop {
        let settled = delete_once(store, session, path, if_version).await;
        if !tries.run_again(&settled).await {
            return settled;
        }
    }
}

/// The newest version that any file has.
///
/// # Errors
/// Any [`StoreError`].
pub async fn newest_version(db: impl PgExecutor<'_>) -> Result<i64, StoreError> {
    Ok(
        sqlx::query_scalar!(r#"select last_value as "last_value!" from file_version"#)
            .fetch_one(db)
            .await?,
    )
}

/// Deletes files below a folder whose version is at most `newest`, at most `limit` of them; says how many.
///
/// # Errors
/// Any [`StoreError`].
pub async fn delete_below(
    store: &Store,
    session: SessionUid,
    folder: &SessionPath,
    newest: i64,
    limit: i64,
) -> Result<u64, StoreError> {
    let mut tries = Tries::default();
    loop {
        let settled = delete_below_once(store, session, folder, newest, limit).await;
        if !tries.run_again(&settled).await {
            return settled;
        }
    }
}

async fn write_once(store: &Store, write: FileWrite<'_>) -> Result<WriteOutcome, StoreError> {
    let mut transaction = store.begin("begin").await?;
    let session = match write.writer {
        Writer::Client(session) => session,
        Writer::Lease {
            task,
            epoch,
            lease_id,
        } => match session_of_lease(&mut *transaction, task, epoch, lease_id).await? {
            Some(session) => session,
            None => return Ok(WriteOutcome::LeaseLost),
        },
    };
    lock_neighbourhood(&mut transaction, session, write.path).await?;
    let (from, to) = range_below(write.path);
    let found = sqlx::query!(
        r#"select
             (select version from file where session_uid = $1 and path = $2) as version,
             (select size from file where session_uid = $1 and path = $2) as size,
             (select path from file where session_uid = $1 and path = any($3) limit 1) as file_above,
             exists (select 1 from file where session_uid = $1 and path >= $4 and path < $5) as "is_folder!",
             exists (select 1 from session where uid = $1 and deleted_at is null) as "has_session!""#,
        session.0,
        write.path.as_str(),
        &folders_above(write.path),
        from,
        to
    )
    .fetch_one(&mut *transaction)
    .await?;
    // What a task leaves goes with its session; nobody but its worker learns of it.
    if matches!(write.writer, Writer::Client(_)) && !found.has_session {
        return Ok(WriteOutcome::SessionDeleted);
    }
    if let Some(path) = found.file_above {
        return Ok(WriteOutcome::FileInTheWay(path));
    }
    if found.is_folder {
        return Ok(WriteOutcome::IsFolder);
    }
    let version = found.version.unwrap_or(0);
    if write.if_version.is_some_and(|expected| expected != version) {
        return Ok(WriteOutcome::VersionMismatch(version));
    }
    if let Some(quotas) = write.quotas {
        file_usage::take_turn(&mut transaction, session, quotas).await?;
    }
    let object = match write.content {
        FileBytes::Chunks(_) => None,
        FileBytes::Object(content) => {
            match file_objects::settle(&mut transaction, session, content, write.size).await? {
                Some(object) => Some(object),
                None => return Ok(WriteOutcome::UploadLost),
            }
        }
    };
    let file = replace(&mut transaction, session, &write, object).await?;
    if let Some(quotas) = write.quotas {
        let growth = Growth {
            files: i64::from(found.version.is_none()),
            bytes: write.size - found.size.unwrap_or(0),
        };
        let exceeded = file_usage::find_exceeded(&mut transaction, session, quotas, growth).await?;
        if let Some(exceeded) = exceeded {
            return Ok(WriteOutcome::QuotaExceeded(exceeded));
        }
    }
    // Last, so that the task's committer waits for no more than this commit.
    if let Writer::Lease {
        task,
        epoch,
        lease_id,
    } = write.writer
        && !hold_lease(&mut *transaction, task, epoch, lease_id).await?
    {
        return Ok(WriteOutcome::LeaseLost);
    }
    transaction.commit().await?;
    Ok(WriteOutcome::Written(file))
}

async fn delete_once(
    store: &Store,
    session: SessionUid,
    path: &SessionPath,
    if_version: Option<i64>,
) -> Result<DeleteOutcome, StoreError> {
    let mut transaction = store.begin("begin").await?;
    lock_neighbourhood(&mut transaction, session, path).await?;
    let Some(file) = find_file(&mut *transaction, session, path.as_str()).await? else {
        return Ok(DeleteOutcome::NotFound);
    };
    if if_version.is_some_and(|expected| expected != file.version) {
        return Ok(DeleteOutcome::VersionMismatch(file.version));
    }
    delete_paths(&mut transaction, session, &[file.path]).await?;
    transaction.commit().await?;
    Ok(DeleteOutcome::Deleted)
}

async fn delete_below_once(
    store: &Store,
    session: SessionUid,
    folder: &SessionPath,
    newest: i64,
    limit: i64,
) -> Result<u64, StoreError> {
    let (from, to) = range_below(folder);
    let mut transaction = store.begin("begin").await?;
    lock_neighbourhood(&mut transaction, session, folder).await?;
    let paths = sqlx::query_scalar!(
        "select path from file
         where session_uid = $1 and path >= $2 and path < $3 and version <= $4 order by path limit $5",
        session.0,
        from,
        to,
        newest,
        limit
    )
    .fetch_all(&mut *transaction)
    .await?;
    delete_paths(&mut transaction, session, &paths).await?;
    transaction.commit().await?;
    Ok(paths.len() as u64)
}

/// Whether a lease is held; it stays held until the transaction ends.
async fn hold_lease(
    db: impl PgExecutor<'_>,
    task: TaskId,
    epoch: Epoch,
    lease_id: LeaseId,
) -> Result<bool, StoreError> {
    Ok(sqlx::query_scalar!(
        "select session_uid from task_live
         where id = $1 and epoch = $2 and lease_id = $3 and worker_session is not null for share",
        Uuid::from_u128(task.0),
        epoch.0,
        Uuid::from_u128(lease_id.0)
    )
    .fetch_optional(db)
    .await?
    .is_some())
}

async fn replace(
    db: &mut PgConnection,
    session: SessionUid,
    write: &FileWrite<'_>,
    object: Option<Uuid>,
) -> Result<FileRow, StoreError> {
    let path = write.path.as_str();
    let row = sqlx::query!(
        "insert into file (session_uid, path, version, size, modified_at, object_id)
         values ($1, $2, nextval('file_version'), $3, clock_timestamp(), $4)
         on conflict (session_uid, path) do update
           set version = excluded.version, size = excluded.size, modified_at = excluded.modified_at,
             object_id = excluded.object_id
         returning version, modified_at",
        session.0,
        path,
        write.size,
        object
    )
    .fetch_one(&mut *db)
    .await?;
    sqlx::query!(
        "delete from file_chunk where session_uid = $1 and path = $2",
        session.0,
        path
    )
    .execute(&mut *db)
    .await?;
    let mut first_chunk_no = 0;
    let chunks = match write.content {
        FileBytes::Chunks(chunks) => chunks,
        FileBytes::Object(_) => &[],
    };
    for chunks in chunks.chunks(CHUNKS_PER_INSERT) {
        sqlx::query!(
            "insert into file_chunk (session_uid, path, version, chunk_no, data)
             select $1, $2, $3, $4 + c.position::integer - 1, c.data
             from unnest($5::bytea[]) with ordinality c(data, position)",
            session.0,
            path,
            row.version,
            first_chunk_no,
            chunks
        )
        .execute(&mut *db)
        .await?;
        first_chunk_no += chunks.len() as i32;
    }
    Ok(FileRow {
        path: path.to_owned(),
        version: row.version,
        size: write.size,
        modified_at: times::to_proto(row.modified_at),
    })
}

async fn delete_paths(
    db: &mut PgConnection,
    session: SessionUid,
    paths: &[String],
) -> Result<(), StoreError> {
    sqlx::query!(
        "delete from file where session_uid = $1 and path = any($2)",
        session.0,
        paths
    )
    .execute(&mut *db)
    .await?;
    sqlx::query!(
        "delete from file_chunk where session_uid = $1 and path = any($2)",
        session.0,
        paths
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Makes writers of paths that could collide take turns, until the transaction ends. Two such paths have the same
/// first part; those of the system the same task.
async fn lock_neighbourhood(
    db: &mut PgConnection,
    session: SessionUid,
    path: &SessionPath,
) -> Result<(), StoreError> {
    let shared_parts = if path.is_system() { 2 } else { 1 };
    let parts: Vec<&str> = path.parts().take(shared_parts).collect();
    sqlx::query!(
        "select pg_advisory_xact_lock(hashtextextended($1, $2))",
        format!("{}/{}", session.0, parts.join("/")),
        LOCK_SEED
    )
    .execute(db)
    .await?;
    Ok(())
}

/// The folders that a path lies in, without `/`.
fn folders_above(path: &SessionPath) -> Vec<String> {
    path.as_str()
        .match_indices('/')
        .map(|(index, _)| path.as_str()[..index].to_owned())
        .filter(|folder| !folder.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> SessionPath {
        text.parse().expect("a clean path")
    }

    #[test]
    fn folders_above_leave_out_the_root() {
        assert_eq!(folders_above(&path("/a/b/c")), ["/a", "/a/b"]);
        assert!(folders_above(&path("/a")).is_empty());
    }
}
