//! Files that are read again when they change. They are looked at, not listened to: mounted secrets change by links
//! that are swapped.

use std::{io, path::PathBuf, time::Duration};

/// How often files are looked at.
pub const LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// Longest file that is read.
const MAX_BYTES: u64 = 4 << 20;

/// Some files, and what they held when they were last read.
#[derive(Debug)]
pub struct WatchedFiles {
    paths: Vec<PathBuf>,
    seen: Option<Vec<[u8; 32]>>,
}

/// A file that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{} cannot be read", .path.display())]
pub struct FileError {
    /// Which.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

impl WatchedFiles {
    /// Files that nobody has read yet.
    #[must_use]
    pub fn new(paths: Vec<PathBuf>) -> Self {
        Self { paths, seen: None }
    }

    /// What they hold, in their order; none: the same as when this was last asked.
    ///
    /// # Errors
    /// The first that cannot be read, or has more than 4 MiB. What was read before counts as seen still.
    pub fn read_changed(&mut self) -> Result<Option<Vec<Vec<u8>>>, FileError> {
        let mut contents = Vec::with_capacity(self.paths.len());
        for path in &self.paths {
            let read = || {
                let length = std::fs::metadata(path)?.len();
                if length > MAX_BYTES {
                    return Err(io::Error::other("it has more than 4 MiB"));
                }
                std::fs::read(path)
            };
            contents.push(read().map_err(|source| FileError {
                path: path.clone(),
                source,
            })?);
        }
        let digests: Vec<[u8; 32]> = contents
            .iter()
            .map(|content| super::authenticator::digest(content))
            .collect();
        if self.seen.as_ref() == Some(&digests) {
            return Ok(None);
        }
        self.seen = Some(digests);
        Ok(Some(contents))
    }
}
