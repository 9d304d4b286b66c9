//! Files of sessions: one row for a file, its bytes in chunks of one version. Folders are implied by the files in
//! them. Writers of what could collide (a file `/a` and a file `/a/b`) take turns by a lock on the path's first parts.

use super::{Store, StoreError, conflict::Tries, times};
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

/// A stored file.
#[derive(Clone, Debug, PartialEq)]
pub struct FileRow {
    /// Its path.
    pub path: String,
    /// Grows with each write of the path.
    pub version: i64,
    /// Bytes.
    pub size: i64,
    /// When it was written.
    pub modified_at: prost_types::Timestamp,
}

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
    /// Its bytes, in chunks of one size.
    pub chunks: &'a [Vec<u8>],
    /// Bytes in all.
    pub size: i64,
    /// The version that it must have now; 0: there must be none.
    pub if_version: Option<i64>,
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

/// One entry of a folder.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The file or folder.
    pub path: String,
    /// The file; none: it is a folder.
    pub file: Option<FileRow>,
    /// Where the entries after this one start; see [`list_entries`].
    pub next: String,
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

/// A file.
///
/// # Errors
/// Any [`StoreError`].
pub async fn find_file(
    db: impl PgExecutor<'_>,
    session: SessionUid,
    path: &str,
) -> Result<Option<FileRow>, StoreError> {
    let row = sqlx::query!(
        "select version, size, modified_at from file where session_uid = $1 and path = $2",
        session.0,
        path
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| FileRow {
        path: path.to_owned(),
        version: row.version,
        size: row.size,
        modified_at: times::to_proto(row.modified_at),
    }))
}

/// A file with one of its chunks, both of one moment; no chunk where the file has fewer.
///
/// # Errors
/// Any [`StoreError`].
pub async fn find_file_with_chunk(
    db: impl PgExecutor<'_>,
    session: SessionUid,
    path: &str,
    chunk_no: i32,
) -> Result<Option<(FileRow, Option<Vec<u8>>)>, StoreError> {
    let row = sqlx::query!(
        r#"select f.version, f.size, f.modified_at, c.data as "data?"
           from file f
           left join file_chunk c on c.session_uid = f.session_uid and c.path = f.path
             and c.version = f.version and c.chunk_no = $3
           where f.session_uid = $1 and f.path = $2"#,
        session.0,
        path,
        chunk_no
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| {
        let file = FileRow {
            path: path.to_owned(),
            version: row.version,
            size: row.size,
            modified_at: times::to_proto(row.modified_at),
        };
        (file, row.data)
    }))
}

/// One chunk of one version; none where that version is gone.
///
/// # Errors
/// Any [`StoreError`].
pub async fn read_chunk(
    db: impl PgExecutor<'_>,
    session: SessionUid,
    path: &str,
    version: i64,
    chunk_no: i32,
) -> Result<Option<Vec<u8>>, StoreError> {
    Ok(sqlx::query_scalar!(
        "select data from file_chunk where session_uid = $1 and path = $2 and version = $3 and chunk_no = $4",
        session.0,
        path,
        version,
        chunk_no
    )
    .fetch_optional(db)
    .await?)
}

/// Whether there is a file below this path.
///
/// # Errors
/// Any [`StoreError`].
pub async fn is_folder(
    db: impl PgExecutor<'_>,
    session: SessionUid,
    path: &SessionPath,
) -> Result<bool, StoreError> {
    let (from, to) = range_below(path);
    Ok(sqlx::query_scalar!(
        r#"select exists (select 1 from file where session_uid = $1 and path >= $2 and path < $3) as "exists!""#,
        session.0,
        from,
        to
    )
    .fetch_one(db)
    .await?)
}

/// Entries of a folder in the order of their paths, where a folder counts as its path with a `/` at the end. `from` is
/// the `next` of the entry before; none: from the start. Costs one index look-up an entry, however much is below it.
///
/// # Errors
/// Any [`StoreError`].
pub async fn list_entries(
    db: impl PgExecutor<'_>,
    session: SessionUid,
    folder: &SessionPath,
    from: Option<&str>,
    limit: i64,
) -> Result<Vec<Entry>, StoreError> {
    let (start, end) = range_below(folder);
    let from = from.map_or(start.as_str(), |from| from.max(start.as_str()));
    let rows = sqlx::query!(
        r#"with recursive step (n, path, next, is_folder, version, size, modified_at) as (
             select 0::bigint, null::text collate "C", $3::text collate "C", false, null::bigint, null::bigint, null::timestamptz
             union all
             select s.n + 1,
               case when f.is_folder then $2 || f.name else f.path end collate "C",
               -- `0` is the character after `/`, and no path holds the character 1
               case when f.is_folder then $2 || f.name || '0' else f.path || chr(1) end collate "C",
               f.is_folder, f.version, f.size, f.modified_at
             from step s
             cross join lateral (
               select path, version, size, modified_at,
                 split_part(substr(path, length($2) + 1), '/', 1) as name,
                 strpos(substr(path, length($2) + 1), '/') > 0 as is_folder
               from file
               where session_uid = $1 and file.path >= s.next and file.path < $4
               order by file.path limit 1) f
             where s.n < $5)
           select path as "path!", next as "next!", is_folder as "is_folder!", version, size, modified_at
           from step where n > 0 order by n"#,
        session.0,
        start,
        from,
        end,
        limit
    )
    .fetch_all(db)
    .await?;
    rows.into_iter()
        .map(|row| {
            let file = match (row.is_folder, row.version, row.size, row.modified_at) {
                (true, _, _, _) => None,
                (false, Some(version), Some(size), Some(modified_at)) => Some(FileRow {
                    path: row.path.clone(),
                    version,
                    size,
                    modified_at: times::to_proto(modified_at),
                }),
                (false, _, _, _) => return Err(StoreError::corrupt("file row", &row.path)),
            };
            Ok(Entry {
                path: row.path,
                file,
                next: row.next,
            })
        })
        .collect()
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

/// The session of a task under a lease that is held at this moment.
///
/// # Errors
/// Any [`StoreError`].
pub async fn session_of_lease(
    db: impl PgExecutor<'_>,
    task: TaskId,
    epoch: Epoch,
    lease_id: LeaseId,
) -> Result<Option<SessionUid>, StoreError> {
    Ok(sqlx::query_scalar!(
        "select session_uid from task_live
         where id = $1 and epoch = $2 and lease_id = $3 and worker_session is not null",
        Uuid::from_u128(task.0),
        epoch.0,
        Uuid::from_u128(lease_id.0)
    )
    .fetch_optional(db)
    .await?
    .map(SessionUid))
}

async fn write_once(store: &Store, write: FileWrite<'_>) -> Result<WriteOutcome, StoreError> {
    let mut transaction = store.pool().begin().await?;
    let session = match write.writer {
        Writer::Client(session) => session,
        Writer::Lease {
            task,
            epoch,
            lease_id,
        } => match hold_lease(&mut *transaction, task, epoch, lease_id).await? {
            Some(session) => session,
            None => return Ok(WriteOutcome::LeaseLost),
        },
    };
    lock_neighbourhood(&mut transaction, session, write.path).await?;
    let (from, to) = range_below(write.path);
    let found = sqlx::query!(
        r#"select
             (select version from file where session_uid = $1 and path = $2) as version,
             (select path from file where session_uid = $1 and path = any($3) limit 1) as file_above,
             exists (select 1 from file where session_uid = $1 and path >= $4 and path < $5) as "is_folder!""#,
        session.0,
        write.path.as_str(),
        &folders_above(write.path),
        from,
        to
    )
    .fetch_one(&mut *transaction)
    .await?;
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
    let file = replace(&mut transaction, session, &write).await?;
    transaction.commit().await?;
    Ok(WriteOutcome::Written(file))
}

async fn delete_once(
    store: &Store,
    session: SessionUid,
    path: &SessionPath,
    if_version: Option<i64>,
) -> Result<DeleteOutcome, StoreError> {
    let mut transaction = store.pool().begin().await?;
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
    let mut transaction = store.pool().begin().await?;
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

/// The session of a task under a held lease, which stays held until the transaction ends.
async fn hold_lease(
    db: impl PgExecutor<'_>,
    task: TaskId,
    epoch: Epoch,
    lease_id: LeaseId,
) -> Result<Option<SessionUid>, StoreError> {
    Ok(sqlx::query_scalar!(
        "select session_uid from task_live
         where id = $1 and epoch = $2 and lease_id = $3 and worker_session is not null for share",
        Uuid::from_u128(task.0),
        epoch.0,
        Uuid::from_u128(lease_id.0)
    )
    .fetch_optional(db)
    .await?
    .map(SessionUid))
}

async fn replace(
    db: &mut PgConnection,
    session: SessionUid,
    write: &FileWrite<'_>,
) -> Result<FileRow, StoreError> {
    let path = write.path.as_str();
    let row = sqlx::query!(
        "insert into file (session_uid, path, version, size, modified_at)
         values ($1, $2, nextval('file_version'), $3, clock_timestamp())
         on conflict (session_uid, path) do update
           set version = excluded.version, size = excluded.size, modified_at = excluded.modified_at
         returning version, modified_at",
        session.0,
        path,
        write.size
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
    for chunks in write.chunks.chunks(CHUNKS_PER_INSERT) {
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

/// The range of paths below a folder: from the first value, included, to the second, excluded.
fn range_below(folder: &SessionPath) -> (String, String) {
    let from = folder.folder_prefix();
    // `0` is the character after `/`
    let to = format!("{}0", from.trim_end_matches('/'));
    (from, to)
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
    fn the_range_below_a_folder_holds_its_files_only() {
        let (from, to) = range_below(&path("/a"));
        let is_below = |text: &str| from.as_str() <= text && text < to.as_str();
        assert!(is_below("/a/b") && is_below("/a/b/c") && is_below("/a/\u{10ffff}"));
        assert!(!is_below("/a") && !is_below("/a.b") && !is_below("/a0") && !is_below("/b"));
        assert_eq!(range_below(&path("/")), ("/".to_owned(), "0".to_owned()));
    }

    #[test]
    fn folders_above_leave_out_the_root() {
        assert_eq!(folders_above(&path("/a/b/c")), ["/a", "/a/b"]);
        assert!(folders_above(&path("/a")).is_empty());
    }
}
