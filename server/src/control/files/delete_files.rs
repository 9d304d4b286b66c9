//! Deleting a file, or a folder with all that is in it.

use super::{node::no_file, stat_file::parse_path};
use crate::{
    app::App,
    control::{namespace, refusal::Refusal},
    store::{
        file_writes::{self, DeleteOutcome},
        files,
    },
};
use taskyard_core::{id::SessionUid, vfs::SessionPath};
use taskyard_proto::v1::{DeleteRequest, DeleteResponse};

/// Files that one transaction deletes.
const FILES_PER_PASS: i64 = 500;

/// Deletes a file, or a folder with what was in it when the call came. A folder goes in several transactions: where
/// the call fails, or the server stops, part of it may be gone, and the same call deletes the rest.
///
/// # Errors
/// [`Refusal::NotFound`] for the session or the path, [`Refusal::InvalidPath`], [`Refusal::SystemPath`],
/// [`Refusal::InvalidField`] for `/`, [`Refusal::FolderNeedsRecursive`], [`Refusal::FileVersionMismatch`],
/// [`Refusal::ShuttingDown`], [`Refusal::Store`].
pub async fn delete_files(app: &App, request: &DeleteRequest) -> Result<DeleteResponse, Refusal> {
    let path = parse_path(&request.path)?;
    if path.is_root() {
        return Err(Refusal::invalid("path", "the folder `/` cannot be deleted"));
    }
    if path.is_system() {
        return Err(Refusal::SystemPath {
            path: path.to_string(),
        });
    }
    let session = namespace::find_session(app, &request.namespace, &request.session_id).await?;
    match file_writes::delete_file(&app.store, session, &path, request.if_version).await? {
        DeleteOutcome::Deleted => return Ok(DeleteResponse { deleted: 1 }),
        DeleteOutcome::VersionMismatch(found) => {
            return Err(Refusal::FileVersionMismatch {
                path: path.to_string(),
                expected: request.if_version.unwrap_or(0),
                found,
            });
        }
        DeleteOutcome::NotFound => {}
    }
    if !files::is_folder(app.store.pool(), session, &path).await? {
        return Err(match request.if_version {
            Some(expected) if expected > 0 => Refusal::FileVersionMismatch {
                path: path.to_string(),
                expected,
                found: 0,
            },
            Some(_) | None => no_file(&path),
        });
    }
    if request.if_version.is_some() {
        return Err(Refusal::invalid(
            "if_version",
            "is for files; this path is a folder",
        ));
    }
    if !request.recursive {
        return Err(Refusal::FolderNeedsRecursive {
            path: path.to_string(),
        });
    }
    delete_folder(app, session, &path).await
}

/// Ends although others keep writing into the folder: what is newer than the call stays.
async fn delete_folder(
    app: &App,
    session: SessionUid,
    folder: &SessionPath,
) -> Result<DeleteResponse, Refusal> {
    let newest = file_writes::newest_version(app.store.pool()).await?;
    let mut deleted = 0;
    loop {
        if app.shutdown.is_cancelled() {
            return Err(Refusal::ShuttingDown);
        }
        let in_pass =
            file_writes::delete_below(&app.store, session, folder, newest, FILES_PER_PASS).await?;
        deleted += i64::try_from(in_pass).unwrap_or(FILES_PER_PASS);
        if in_pass < FILES_PER_PASS as u64 {
            return Ok(DeleteResponse { deleted });
        }
    }
}
