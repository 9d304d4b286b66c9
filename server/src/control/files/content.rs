//! A whole file in memory, in the chunks in which the database stores it.

use crate::control::refusal::Refusal;

/// Largest file in memory, in bytes.
pub const MAX_FILE_BYTES: usize = 16 << 20;
/// Bytes of one stored chunk; the last one of a file may be shorter.
pub const CHUNK_BYTES: usize = 256 << 10;

/// A whole file in memory, cut as it is stored: chunk `n` starts at byte `n * CHUNK_BYTES`.
#[derive(Debug, Default)]
pub struct FileContent {
    chunks: Vec<Vec<u8>>,
    size: usize,
}

impl FileContent {
    /// Bytes in all.
    #[must_use]
    pub fn size(&self) -> usize {
        self.size
    }

    /// The chunks, to be sent elsewhere.
    #[must_use]
    pub fn into_chunks(self) -> Vec<Vec<u8>> {
        self.chunks
    }

    /// The chunks in order; none is empty, and all but the last have [`CHUNK_BYTES`].
    #[must_use]
    pub fn chunks(&self) -> &[Vec<u8>] {
        &self.chunks
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// [`Refusal::TooLarge`] beyond [`MAX_FILE_BYTES`].
    pub fn append(&mut self, mut part: &[u8]) -> Result<(), Refusal> {
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
