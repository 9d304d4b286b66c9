//! The bytes of a file on their way into the store: whole, in chunks, within bounds of size, number and time.

use crate::control::refusal::Refusal;
use bytes::Bytes;
use futures::{Stream, StreamExt};
use std::{pin::pin, time::Duration};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::timeout,
};

/// Largest file, in bytes.
pub const MAX_FILE_BYTES: usize = 16 << 20;
/// Bytes of one stored chunk; the last one of a file may be shorter.
pub const CHUNK_BYTES: usize = 256 << 10;
/// Files that may be on their way at once; with [`MAX_FILE_BYTES`] this bounds the memory that they take.
const MAX_INCOMING_FILES: usize = 8;
/// Longest wait for another file to be done.
const SLOT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest silence of a sender.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(20);
/// Longest time for a whole file.
const FILE_TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// Bounds how many files are on their way into the store at once.
#[derive(Debug)]
pub struct FileSlots(Semaphore);

/// Room for one file; gives itself back when dropped.
#[derive(Debug)]
pub struct FileSlot<'a> {
    _permit: SemaphorePermit<'a>,
}

/// A whole file in memory, cut as it is stored: chunk `n` starts at byte `n * CHUNK_BYTES`.
#[derive(Debug, Default)]
pub struct FileContent {
    chunks: Vec<Vec<u8>>,
    size: usize,
}

impl Default for FileSlots {
    fn default() -> Self {
        Self(Semaphore::new(MAX_INCOMING_FILES))
    }
}

impl FileSlots {
    /// Waits for room for one more file.
    ///
    /// # Errors
    /// [`Refusal::Overloaded`] after ten seconds.
    pub async fn take(&self) -> Result<FileSlot<'_>, Refusal> {
        match timeout(SLOT_TIMEOUT, self.0.acquire()).await {
            Ok(Ok(permit)) => Ok(FileSlot { _permit: permit }),
            Ok(Err(_)) | Err(_) => Err(Refusal::Overloaded {
                what: "files to be written",
            }),
        }
    }
}

impl FileContent {
    /// Takes all of a stream.
    ///
    /// # Errors
    /// The stream's own errors; [`Refusal::TooLarge`] beyond [`MAX_FILE_BYTES`]; [`Refusal::TooSlow`] where nothing
    /// comes for 20 seconds, or the end has not come after five minutes.
    pub async fn receive<E: From<Refusal>>(
        parts: impl Stream<Item = Result<Bytes, E>>,
    ) -> Result<Self, E> {
        let receiving = async {
            let mut parts = pin!(parts);
            let mut content = Self::default();
            loop {
                match in_time(parts.next()).await? {
                    Some(part) => content.append(&part?)?,
                    None => return Ok(content),
                }
            }
        };
        timeout(FILE_TIMEOUT, receiving)
            .await
            .unwrap_or_else(|_| Err(too_slow()))
    }

    /// Bytes in all.
    #[must_use]
    pub fn size(&self) -> usize {
        self.size
    }

    /// The chunks in order; none is empty, and all but the last have [`CHUNK_BYTES`].
    #[must_use]
    pub fn chunks(&self) -> &[Vec<u8>] {
        &self.chunks
    }

    fn append(&mut self, mut part: &[u8]) -> Result<(), Refusal> {
        if self.size + part.len() > MAX_FILE_BYTES {
            return Err(Refusal::TooLarge {
                what: "the file".to_owned(),
                limit: MAX_FILE_BYTES as u64,
            });
        }
        self.size += part.len();
        while !part.is_empty() {
            match self.chunks.last_mut() {
                Some(chunk) if chunk.len() < CHUNK_BYTES => {
                    let (fitting, rest) = part.split_at(part.len().min(CHUNK_BYTES - chunk.len()));
                    chunk.extend_from_slice(fitting);
                    part = rest;
                }
                Some(_) | None => self.chunks.push(Vec::new()),
            }
        }
        Ok(())
    }
}

/// The next thing of a sender, if it comes within 20 seconds.
///
/// # Errors
/// [`Refusal::TooSlow`].
pub async fn in_time<T>(coming: impl Future<Output = T>) -> Result<T, Refusal> {
    timeout(SILENCE_TIMEOUT, coming)
        .await
        .map_err(|_| too_slow())
}

fn too_slow<E: From<Refusal>>() -> E {
    Refusal::TooSlow { what: "the file" }.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::stream;

    fn append_all(parts: &[&[u8]]) -> Result<FileContent, Refusal> {
        let mut content = FileContent::default();
        parts.iter().try_for_each(|part| content.append(part))?;
        Ok(content)
    }

    #[test]
    fn bytes_are_cut_at_the_same_places_however_they_come() {
        let whole: Vec<u8> = (0..CHUNK_BYTES * 2 + 7).map(|n| n as u8).collect();
        let (left, right) = whole.split_at(CHUNK_BYTES - 3);
        for parts in [
            vec![whole.as_slice()],
            vec![left, right],
            vec![b"", left, b"", right],
        ] {
            let content = append_all(&parts).expect("fits");
            let lengths: Vec<usize> = content.chunks().iter().map(Vec::len).collect();
            assert_eq!(lengths, [CHUNK_BYTES, CHUNK_BYTES, 7]);
            assert_eq!(content.chunks().concat(), whole);
            assert_eq!(content.size(), whole.len());
        }
    }

    #[test]
    fn an_empty_file_has_no_chunks() {
        assert!(append_all(&[b""]).expect("fits").chunks().is_empty());
    }

    #[test]
    fn the_largest_file_fits_and_one_byte_more_is_refused() {
        let largest = vec![0; MAX_FILE_BYTES];
        assert!(append_all(&[&largest]).is_ok());
        assert!(matches!(
            append_all(&[&largest, b"x"]),
            Err(Refusal::TooLarge { .. })
        ));
    }

    #[test]
    fn a_senders_error_ends_the_file() {
        let parts = stream::iter([Ok(Bytes::from_static(b"a")), Err(Refusal::ShuttingDown)]);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime");
        assert!(matches!(
            runtime.block_on(FileContent::receive(parts)),
            Err(Refusal::ShuttingDown)
        ));
    }
}
