//! Files for the holder of a lease: it reads its session's files, and writes its own task's results.

use super::{
    collect_glob,
    files::{self, COLLECT, FilePart, FileRoom, IncomingFile, OUTPUT},
    lease_ref::LeaseRef,
    refusal::Refusal,
};
use crate::{
    app::App,
    store::{self, claim, file_writes::Writer},
};
use bytes::Bytes;
use futures::Stream;
use taskyard_core::{id::SessionUid, vfs::SessionPath};
use taskyard_proto::v1::{FileInfo, ListFilesRequest, ListFilesResponse, ReadFileRequest};

/// Files in one answer.
const FILES_PER_PAGE: usize = 500;

/// Writes `/.tasks/<id>/<name>` for the holder of a lease, in one transaction that keeps the lease from being taken
/// meanwhile. `name` is `output.json`, `collect.json`, or a clean path below `artifacts/`; or an absolute path that the
/// task's `collect` allows, which is written as it is. Nothing is written where `parts` ends with an error, which is
/// handed back.
///
/// # Errors
/// [`Refusal::LeaseLost`]; [`Refusal::InvalidField`] and [`Refusal::InvalidPath`] for another name;
/// [`Refusal::CollectNotAllowed`];
/// [`Refusal::WrongFileType`], [`Refusal::TooLarge`], [`Refusal::QuotaExceeded`] (for artifacts and what is collected),
/// [`Refusal::TooSlow`], [`Refusal::Overloaded`], [`Refusal::ObjectStoreUnavailable`], [`Refusal::Store`].
pub async fn write_lease_file<E: From<Refusal>>(
    app: &App,
    lease: LeaseRef,
    name: &str,
    parts: impl Stream<Item = Result<Bytes, E>>,
) -> Result<FileInfo, E> {
    let path = if name.starts_with('/') {
        collected_path(app, lease, name).await?
    } else {
        result_path(lease, name)?
    };
    let content = IncomingFile::receive(app, parts, &mut FileRoom::any()).await?;
    let writer = Writer::Lease {
        task: lease.task,
        epoch: lease.epoch,
        lease_id: lease.lease_id,
    };
    // what tells of the run must not be lost to a quota: it is bounded itself
    let quotas = (name != OUTPUT && name != COLLECT).then_some(app.file_quotas);
    Ok(files::written_file(app, writer, &path, &content, None, quotas).await?)
}

/// Reads a file of the session of a lease's task.
///
/// # Errors
/// [`Refusal::LeaseLost`]; [`Refusal::InvalidField`] for what can be no lease; those of [`files::open_file`]. On the
/// stream [`Refusal::FileChanged`], [`Refusal::ShuttingDown`] and [`Refusal::Store`].
pub async fn read_lease_file(
    app: &App,
    lease: LeaseRef,
    request: &ReadFileRequest,
) -> Result<impl Stream<Item = Result<FilePart, Refusal>> + Send + 'static + use<>, Refusal> {
    let session = session_of(app, lease).await?;
    let reader =
        files::open_file(app, session, &request.path, request.offset, request.limit).await?;
    Ok(reader.into_stream())
}

/// Lists the files of the session of a lease's task at and below a path, at most 500.
///
/// # Errors
/// [`Refusal::LeaseLost`]; [`Refusal::InvalidPath`], [`Refusal::NotFound`] for the path, [`Refusal::BadToken`],
/// [`Refusal::Store`].
pub async fn list_lease_files(
    app: &App,
    lease: LeaseRef,
    request: &ListFilesRequest,
) -> Result<ListFilesResponse, Refusal> {
    let session = session_of(app, lease).await?;
    let path = files::parse_path(&request.path)?;
    let page = files::list_below(app, session, &path, &request.page_token, FILES_PER_PAGE).await?;
    Ok(ListFilesResponse {
        files: page.files,
        next_page_token: page.next_page_token,
        is_folder: page.is_folder,
    })
}

async fn session_of(app: &App, lease: LeaseRef) -> Result<SessionUid, Refusal> {
    store::files::session_of_lease(app.store.pool(), lease.task, lease.epoch, lease.lease_id)
        .await?
        .ok_or(Refusal::LeaseLost)
}

/// A path that the task's `collect` allows.
async fn collected_path(app: &App, lease: LeaseRef, name: &str) -> Result<SessionPath, Refusal> {
    let path = files::parse_path(name)?;
    let spec = claim::find_lease_spec(app.store.pool(), lease.task, lease.epoch, lease.lease_id)
        .await?
        .ok_or(Refusal::LeaseLost)?;
    if !collect_glob::allows(&spec.collect, &path) {
        return Err(Refusal::CollectNotAllowed {
            path: path.to_string(),
        });
    }
    Ok(path)
}

fn result_path(lease: LeaseRef, name: &str) -> Result<SessionPath, Refusal> {
    if name != OUTPUT && name != COLLECT && !name.starts_with("artifacts/") {
        return Err(Refusal::invalid(
            "name",
            "must be `output.json` or `collect.json`, or start with `artifacts/`, or with `/` for what is collected",
        ));
    }
    format!("{}/{name}", files::task_folder(lease.task))
        .parse()
        .map_err(|problem| Refusal::InvalidPath {
            path: name.to_owned(),
            problem,
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use taskyard_core::id::{Epoch, LeaseId, TaskId};

    const LEASE: LeaseRef = LeaseRef {
        task: TaskId(0x0190_aaaa_bbbb_7ccc_8ddd_eeee_ffff_0001),
        epoch: Epoch(1),
        lease_id: LeaseId(1),
    };

    #[test]
    fn results_lie_in_the_tasks_own_folder() {
        for name in [
            "output.json",
            "collect.json",
            "artifacts/a",
            "artifacts/b/c.txt",
        ] {
            let path = result_path(LEASE, name).expect("allowed");
            assert_eq!(
                path.as_str(),
                format!("/.tasks/task_0190aaaabbbb7ccc8dddeeeeffff0001/{name}")
            );
        }
    }

    #[test]
    fn nothing_else_can_be_written() {
        let names = [
            "",
            "/",
            "a",
            "result.json",
            "stdout.log",
            "artifacts",
            "artifacts/",
            "artifacts//a",
            "artifacts/../result.json",
            "artifacts/./a",
            "artifacts/a/",
            "artifacts/a\0",
            "../x/output.json",
            "output.json/a",
            "/output.json",
        ];
        for name in names {
            assert!(result_path(LEASE, name).is_err(), "{name:?}");
        }
    }
}
