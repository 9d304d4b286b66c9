//! Reading one file, or a range of it.

use super::{
    file_reader::{FilePart, FileReader, Source, chunk_no},
    incoming::object_store,
    node::{Node, find_node, no_file, stored_file_info},
    stat_file::parse_path,
    system_path::SystemPlace,
};
use crate::{
    app::App,
    control::{namespace, refusal::Refusal},
    objects::ObjectId,
    store::files,
};
use bytes::Bytes;
use futures::{Stream, StreamExt};
use std::ops::Range;
use taskyard_core::{id::SessionUid, vfs::SessionPath};
use taskyard_proto::v1::{ReadRequest, ReadResponse};

/// Reads a range of a file, in messages of at most 256 KiB, all of one version.
///
/// # Errors
/// As [`open_file`], and [`Refusal::NotFound`] for the session. On the stream [`Refusal::FileChanged`],
/// [`Refusal::ShuttingDown`] and [`Refusal::Store`].
pub async fn read_file(
    app: &App,
    request: &ReadRequest,
) -> Result<impl Stream<Item = Result<ReadResponse, Refusal>> + Send + 'static + use<>, Refusal> {
    let session = namespace::find_session(app, &request.namespace, &request.session_id).await?;
    let reader = open_file(app, session, &request.path, request.offset, request.limit).await?;
    let to_response = |part: FilePart| ReadResponse {
        file: part.file,
        data: part.data,
    };
    Ok(reader.into_stream().map(move |part| part.map(to_response)))
}

/// Opens a file of a session for reading; `limit` 0 means to the end.
///
/// # Errors
/// [`Refusal::InvalidPath`], [`Refusal::OutOfRange`], [`Refusal::NotFound`] for the path, [`Refusal::WrongFileType`]
/// for a folder, [`Refusal::ObjectStoreUnavailable`] where the content lies in an object store and this server has none,
/// [`Refusal::Store`].
pub async fn open_file(
    app: &App,
    session: SessionUid,
    path: &str,
    offset: i64,
    limit: i64,
) -> Result<FileReader, Refusal> {
    let path = parse_path(path)?;
    let range = valid_range(offset, limit)?;
    let reader = |file, source| {
        FileReader::new(
            app.store.clone(),
            app.shutdown.clone(),
            file,
            source,
            range.clone(),
        )
    };
    if is_stored(&path) {
        let first = chunk_no(range.start);
        let found =
            files::find_file_with_chunk(app.store.pool(), session, path.as_str(), first).await?;
        if let Some(found) = found {
            let source = match found.object {
                Some(object) => Source::Object {
                    objects: object_store(app)?,
                    id: ObjectId(object),
                    fetched: Bytes::new(),
                },
                None => Source::Stored {
                    session,
                    first_chunk: found.chunk.map(|chunk| (first, Bytes::from(chunk))),
                },
            };
            return Ok(reader(stored_file_info(found.file), source));
        }
    }
    match find_node(app, session, &path).await? {
        Node::Folder(_) => Err(Refusal::WrongFileType {
            path: path.to_string(),
            what: "a folder; list it instead",
        }),
        // it came into being between the two looks
        Node::Stored(_) if is_stored(&path) => Err(Refusal::FileChanged {
            path: path.to_string(),
        }),
        Node::Stored(_) => Err(no_file(&path)),
        Node::Rendered(file, text) => Ok(reader(file, Source::Rendered(Bytes::from(text)))),
        Node::Log(file, key, view) => Ok(reader(file, Source::Log(key, view))),
    }
}

/// Whether what is at this path, if anything, was written by somebody rather than rendered.
fn is_stored(path: &SessionPath) -> bool {
    !path.is_system() || matches!(SystemPlace::of(path), Some(SystemPlace::Stored(_)))
}

fn valid_range(offset: i64, limit: i64) -> Result<Range<u64>, Refusal> {
    let start = to_unsigned("offset", offset)?;
    let length = match to_unsigned("limit", limit)? {
        0 => u64::MAX,
        length => length,
    };
    Ok(start..start.saturating_add(length))
}

fn to_unsigned(what: &'static str, value: i64) -> Result<u64, Refusal> {
    u64::try_from(value).map_err(|_| Refusal::OutOfRange {
        what,
        offset: value,
        problem: "it must not be negative".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_limit_means_to_the_end() {
        assert_eq!(valid_range(5, 0).ok(), Some(5..u64::MAX));
        assert_eq!(valid_range(5, 7).ok(), Some(5..12));
        let end = i64::MAX as u64;
        assert_eq!(valid_range(i64::MAX, i64::MAX).ok(), Some(end..end * 2));
    }

    #[test]
    fn negative_ranges_are_refused() {
        for (offset, limit) in [(-1, 0), (0, -1), (i64::MIN, i64::MIN)] {
            assert!(matches!(
                valid_range(offset, limit),
                Err(Refusal::OutOfRange { .. })
            ));
        }
    }
}
