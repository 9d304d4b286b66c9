//! Reading files of sessions: one row for a file, its bytes in chunks of one version. Folders are implied by the files
//! in them.

use super::{StoreError, times};
use sqlx::PgExecutor;
use taskyard_core::{
    id::{Epoch, LeaseId, SessionUid, TaskId},
    vfs::SessionPath,
};
use uuid::Uuid;

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

/// A stored file that is to be read.
#[derive(Clone, Debug)]
pub struct OpenedFile {
    /// The file.
    pub file: FileRow,
    /// Where its content is, if not in chunks.
    pub object: Option<Uuid>,
    /// The chunk that was asked for; none where the file has fewer.
    pub chunk: Option<Vec<u8>>,
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
) -> Result<Option<OpenedFile>, StoreError> {
    let row = sqlx::query!(
        r#"select f.version, f.size, f.modified_at, f.object_id, c.data as "data?"
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
        OpenedFile {
            file,
            object: row.object_id,
            chunk: row.data,
        }
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

/// Files whose paths lie in a range (see [`range_below`]), by path.
///
/// # Errors
/// Any [`StoreError`].
pub async fn list_range(
    db: impl PgExecutor<'_>,
    session: SessionUid,
    from: &str,
    to: &str,
    limit: i64,
) -> Result<Vec<FileRow>, StoreError> {
    let rows = sqlx::query!(
        "select path, version, size, modified_at from file
         where session_uid = $1 and path >= $2 and path < $3 order by path limit $4",
        session.0,
        from,
        to,
        limit
    )
    .fetch_all(db)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| FileRow {
            path: row.path,
            version: row.version,
            size: row.size,
            modified_at: times::to_proto(row.modified_at),
        })
        .collect())
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

/// The range of paths below a folder: from the first value, included, to the second, excluded.
#[must_use]
pub fn range_below(folder: &SessionPath) -> (String, String) {
    let from = folder.folder_prefix();
    // `0` is the character after `/`
    let to = format!("{}0", from.trim_end_matches('/'));
    (from, to)
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
}
