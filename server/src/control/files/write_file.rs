//! Writing one file whole.

use super::{
    FileRoom, IncomingFile, file_room::check_size, node::stored_file_info, stat_file::parse_path,
};
use crate::{
    app::App,
    control::{
        namespace,
        refusal::{Refusal, StoreError},
    },
    store::{
        file_usage::FileQuotas,
        file_writes::{self, FileWrite, WriteOutcome, Writer},
    },
};
use bytes::Bytes;
use futures::Stream;
use taskyard_core::vfs::SessionPath;
use taskyard_proto::v1::{FileInfo, WriteHeader, WriteResponse};

/// Writes one file whole, in one transaction: readers see the old file or the new one. The session is created on first
/// use. Nothing is written where `parts` ends with an error, which is handed back.
///
/// # Errors
/// [`Refusal::InvalidPath`], [`Refusal::SystemPath`], [`Refusal::WrongFileType`] where a folder is there or a file
/// where a folder would have to be, [`Refusal::FileVersionMismatch`], [`Refusal::TooLarge`], [`Refusal::TooSlow`],
/// [`Refusal::Overloaded`], [`Refusal::QuotaExceeded`], [`Refusal::ObjectStoreUnavailable`], [`Refusal::InvalidField`],
/// [`Refusal::SessionDeleted`] where the session that was there at the beginning is not any more, [`Refusal::Store`].
pub async fn write_file<E: From<Refusal>>(
    app: &App,
    header: &WriteHeader,
    parts: impl Stream<Item = Result<Bytes, E>>,
) -> Result<WriteResponse, E> {
    let path = parse_path(&header.path)?;
    if path.is_system() {
        return Err(E::from(Refusal::SystemPath {
            path: path.to_string(),
        }));
    }
    if header.if_version.is_some_and(|version| version < 0) {
        return Err(E::from(Refusal::invalid(
            "header.if_version",
            "must be a version that a read gave, or 0",
        )));
    }
    namespace::check_session_id(&header.session_id)?;
    let expected = u64::try_from(header.expected_size.unwrap_or(0)).map_err(|_| {
        E::from(Refusal::invalid(
            "header.expected_size",
            "must not be negative",
        ))
    })?;
    check_size(app, expected)?;
    let namespace_id = namespace::ensure_namespace(app, &header.namespace).await?;
    // The session that the sender means is the one of this moment, not one that takes its id while the file comes.
    let found = namespace::look_up_session(app, &header.namespace, &header.session_id).await?;
    let mut room = FileRoom::look(app, namespace_id, found, &path).await?;
    room.admit(app, expected).await?;
    let content = IncomingFile::receive(app, parts, &mut room).await?;
    let session = match found {
        Some(session) => session,
        None => match namespace::ensure_session(app, &header.namespace, &header.session_id).await {
            Ok((_, session)) => session,
            Err(refusal) => {
                content.give_up(app).await;
                return Err(refusal.into());
            }
        },
    };
    let file = written_file(
        app,
        Writer::Client(session),
        &path,
        &content,
        header.if_version,
        Some(app.file_quotas),
    )
    .await
    .map_err(|refusal| match refusal {
        Refusal::Store(StoreError::SessionDeleted) => Refusal::SessionDeleted {
            session_id: header.session_id.clone(),
            what: "the file",
        },
        refusal => refusal,
    })?;
    Ok(WriteResponse { file: Some(file) })
}

/// Stores a file that has come whole; without `quotas` in any case.
///
/// # Errors
/// As [`write_file`], and [`Refusal::LeaseLost`].
pub(crate) async fn written_file(
    app: &App,
    writer: Writer,
    path: &SessionPath,
    content: &IncomingFile,
    if_version: Option<i64>,
    quotas: Option<FileQuotas>,
) -> Result<FileInfo, Refusal> {
    if path.is_root() {
        return Err(is_a_folder(path.as_str()));
    }
    let write = FileWrite {
        writer,
        path,
        content: content.bytes(),
        size: content.size(),
        if_version,
        quotas,
    };
    let outcome = file_writes::write_file(&app.store, write).await?;
    if !matches!(outcome, WriteOutcome::Written(_)) {
        content.give_up(app).await;
    }
    match outcome {
        WriteOutcome::Written(file) => Ok(stored_file_info(file)),
        WriteOutcome::VersionMismatch(found) => Err(Refusal::FileVersionMismatch {
            path: path.to_string(),
            expected: if_version.unwrap_or(0),
            found,
        }),
        WriteOutcome::FileInTheWay(file) => Err(Refusal::WrongFileType {
            path: file,
            what: "a file; nothing can be written below it",
        }),
        WriteOutcome::IsFolder => Err(is_a_folder(path.as_str())),
        WriteOutcome::LeaseLost => Err(Refusal::LeaseLost),
        WriteOutcome::SessionDeleted => Err(Refusal::Store(StoreError::SessionDeleted)),
        WriteOutcome::QuotaExceeded(exceeded) => Err(Refusal::QuotaExceeded(exceeded)),
        WriteOutcome::UploadLost => Err(Refusal::TooSlow { what: "the file" }),
    }
}

fn is_a_folder(path: &str) -> Refusal {
    Refusal::WrongFileType {
        path: path.to_owned(),
        what: "a folder; a file needs another path",
    }
}
