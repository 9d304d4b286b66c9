//! Reading a range of a file in parts. Nothing is held in the database between two parts, so a reader may be as slow
//! as it likes; a file that is overwritten meanwhile ends the read instead of mixing two versions.

use super::{
    CHUNK_BYTES,
    log_view::{LogView, Piece},
};
use crate::{
    control::refusal::Refusal,
    objects::{ObjectError, ObjectId, ObjectStorage},
    store::{
        Store, files,
        task_files::{self, StreamKey},
    },
};
use bytes::Bytes;
use futures::{Stream, stream};
use std::ops::Range;
use taskyard_core::id::SessionUid;
use taskyard_proto::v1::FileInfo;
use tokio_util::sync::CancellationToken;

/// Most bytes of one part.
const MAX_PART_BYTES: u64 = 256 << 10;
/// Bytes that are fetched from the object store at once.
const FETCHED_BYTES: u64 = 2 << 20;

/// A file being read.
pub struct FileReader {
    store: Store,
    shutdown: CancellationToken,
    file: FileInfo,
    file_is_told: bool,
    source: Source,
    range: Range<u64>,
}

/// Part of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct FilePart {
    /// The file; in the first part only.
    pub file: Option<FileInfo>,
    /// The next bytes, at most 256 KiB; empty in the first part of an empty range only.
    pub data: Bytes,
}

/// Where a file's bytes come from.
pub(super) enum Source {
    /// Chunks of one version; one of them came with the file's row.
    Stored {
        /// Whose file.
        session: SessionUid,
        /// Number and bytes of the chunk that came with it.
        first_chunk: Option<(i32, Bytes)>,
    },
    /// The object store, from which more than one part is fetched at once.
    Object {
        /// The object store.
        objects: ObjectStorage,
        /// The object.
        id: ObjectId,
        /// What was fetched and not yet read; it starts where the range does.
        fetched: Bytes,
    },
    /// Memory.
    Rendered(Bytes),
    /// The stored bytes of a stream.
    Log(StreamKey, LogView),
}

impl FileReader {
    /// Reads `range` of a file, or as much of it as there is.
    pub(super) fn new(
        store: Store,
        shutdown: CancellationToken,
        file: FileInfo,
        source: Source,
        range: Range<u64>,
    ) -> Self {
        let size = u64::try_from(file.size).unwrap_or(0);
        let end = range.end.min(size);
        Self {
            store,
            shutdown,
            file,
            file_is_told: false,
            source,
            range: range.start.min(end)..end,
        }
    }

    /// The file that is being read.
    #[must_use]
    pub fn file(&self) -> &FileInfo {
        &self.file
    }

    /// The next part; none after the last. There is always a first one.
    ///
    /// # Errors
    /// [`Refusal::FileChanged`], [`Refusal::ShuttingDown`], [`Refusal::ObjectStoreUnavailable`], [`Refusal::Store`].
    pub async fn next_part(&mut self) -> Result<Option<FilePart>, Refusal> {
        if self.file_is_told && self.range.is_empty() {
            return Ok(None);
        }
        if self.shutdown.is_cancelled() {
            return Err(Refusal::ShuttingDown);
        }
        let data = if self.range.is_empty() {
            Bytes::new()
        } else {
            self.next_bytes().await?
        };
        self.range.start += data.len() as u64;
        let file = (!self.file_is_told).then(|| self.file.clone());
        self.file_is_told = true;
        Ok(Some(FilePart { file, data }))
    }

    /// All parts, ended by the first refusal.
    pub fn into_stream(self) -> impl Stream<Item = Result<FilePart, Refusal>> + Send + 'static {
        stream::try_unfold(self, |mut reader| async move {
            Ok(reader.next_part().await?.map(|part| (part, reader)))
        })
    }

    /// From the start of the range, which is not empty; at least one byte.
    async fn next_bytes(&mut self) -> Result<Bytes, Refusal> {
        let wanted = self.range.start..self.range.end.min(self.range.start + MAX_PART_BYTES);
        let data = match &mut self.source {
            Source::Rendered(bytes) => {
                let to_index = |offset: u64| usize::try_from(offset).unwrap_or(usize::MAX);
                bytes.slice(to_index(wanted.start)..to_index(wanted.end).min(bytes.len()))
            }
            Source::Stored {
                session,
                first_chunk,
            } => {
                let chunk_no = chunk_no(wanted.start);
                let chunk = match first_chunk.take() {
                    Some((no, chunk)) if no == chunk_no => Some(chunk),
                    Some(_) | None => files::read_chunk(
                        self.store.pool(),
                        *session,
                        &self.file.path,
                        self.file.version,
                        chunk_no,
                    )
                    .await?
                    .map(Bytes::from),
                };
                part_of_chunk(chunk.unwrap_or_default(), &wanted)
            }
            Source::Object {
                objects,
                id,
                fetched,
            } => {
                if fetched.is_empty() {
                    let end = self.range.end.min(wanted.start + FETCHED_BYTES);
                    *fetched = match objects.read(*id, wanted.start..end).await {
                        Ok(bytes) => bytes,
                        Err(ObjectError::Missing) => Bytes::new(),
                        Err(error) => return Err(Refusal::ObjectStoreUnavailable(error)),
                    };
                }
                let length = usize::try_from(wanted.end - wanted.start).unwrap_or(usize::MAX);
                fetched.split_to(length.min(fetched.len()))
            }
            Source::Log(key, view) => match view.at(wanted.start, wanted.end - wanted.start) {
                Some(Piece::Text(text)) => Bytes::from(text),
                Some(Piece::Stored(range)) => {
                    let expected = range.end - range.start;
                    let data =
                        task_files::read_stored_range(self.store.pool(), *key, range).await?;
                    if data.len() as u64 == expected {
                        Bytes::from(data)
                    } else {
                        Bytes::new()
                    }
                }
                None => Bytes::new(),
            },
        };
        if data.is_empty() {
            return Err(Refusal::FileChanged {
                path: self.file.path.clone(),
            });
        }
        Ok(data)
    }
}

/// Number of the chunk that holds a byte.
pub(super) fn chunk_no(offset: u64) -> i32 {
    i32::try_from(offset / CHUNK_BYTES as u64).unwrap_or(i32::MAX)
}

/// What of the wanted range lies in the chunk that holds its first byte.
fn part_of_chunk(chunk: Bytes, wanted: &Range<u64>) -> Bytes {
    let from = (wanted.start % CHUNK_BYTES as u64) as usize;
    let length = usize::try_from(wanted.end - wanted.start).unwrap_or(usize::MAX);
    if from >= chunk.len() {
        return Bytes::new();
    }
    chunk.slice(from..from.saturating_add(length).min(chunk.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_ends_where_its_chunk_ends() {
        let chunk_bytes = CHUNK_BYTES as u64;
        let chunk = Bytes::from((0..CHUNK_BYTES).map(|n| n as u8).collect::<Vec<_>>());
        let start = chunk_bytes * 3 + 10;
        assert_eq!(chunk_no(start), 3);
        assert_eq!(
            part_of_chunk(chunk.clone(), &(start..start + 5)),
            chunk.slice(10..15)
        );
        let far = start..start + chunk_bytes;
        assert_eq!(part_of_chunk(chunk.clone(), &far), chunk.slice(10..));
        assert_eq!(chunk_no(start + chunk_bytes - 10), 4);
    }

    #[test]
    fn a_missing_chunk_gives_nothing() {
        assert!(part_of_chunk(Bytes::new(), &(5..9)).is_empty());
    }
}
