//! The token that goes with each call.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::HeaderValue;

/// How long a token that was read from a file is taken for the one in it.
const TRUST: Duration = Duration::from_secs(1);
/// Longest file that is taken for a token.
const MAX_FILE_BYTES: usize = 16 << 10;

/// A token, none, or the one that a file holds at the moment. Clones are the same.
#[derive(Clone, Default)]
pub struct Bearer(Option<Arc<Source>>);

enum Source {
    Given(HeaderValue),
    File {
        path: PathBuf,
        read: Mutex<(Instant, HeaderValue)>,
    },
}

impl Bearer {
    /// No token.
    #[must_use]
    pub fn none() -> Bearer {
        Bearer(None)
    }

    /// A token that stays. None for what no header can hold.
    #[must_use]
    pub fn given(token: &str) -> Option<Bearer> {
        Some(Bearer(Some(Arc::new(Source::Given(header(token)?)))))
    }

    /// The token that a file holds, whenever it is asked for.
    ///
    /// # Errors
    /// The file cannot be read, or holds no token.
    pub fn file(path: &Path) -> io::Result<Bearer> {
        let read = Mutex::new((Instant::now(), read_token(path)?));
        let path = path.to_owned();
        Ok(Bearer(Some(Arc::new(Source::File { path, read }))))
    }

    /// What to say in `authorization`. Of a file that cannot be read at the moment, what it held before.
    #[must_use]
    pub fn header(&self) -> Option<HeaderValue> {
        match self.0.as_deref()? {
            Source::Given(header) => Some(header.clone()),
            Source::File { path, read } => {
                let mut read = read.lock().unwrap_or_else(PoisonError::into_inner);
                if read.0.elapsed() >= TRUST {
                    read.0 = Instant::now();
                    if let Ok(token) = read_token(path) {
                        read.1 = token;
                    }
                }
                Some(read.1.clone())
            }
        }
    }
}

impl fmt::Debug for Bearer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_deref() {
            None => formatter.write_str("Bearer(none)"),
            Some(Source::Given(_)) => formatter.write_str("Bearer(***)"),
            Some(Source::File { path, .. }) => write!(formatter, "Bearer({})", path.display()),
        }
    }
}

fn read_token(path: &Path) -> io::Result<HeaderValue> {
    let text = std::fs::read_to_string(path)?;
    if text.len() > MAX_FILE_BYTES {
        return Err(io::Error::other("it is too long for a token"));
    }
    header(text.trim()).ok_or_else(|| io::Error::other("it holds no token"))
}

fn header(token: &str) -> Option<HeaderValue> {
    if token.is_empty() {
        return None;
    }
    let mut header = HeaderValue::try_from(format!("Bearer {token}")).ok()?;
    header.set_sensitive(true);
    Some(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_again_and_its_last_token_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("token");
        std::fs::write(&path, "one\n").expect("written");
        let bearer = Bearer::file(&path).expect("a token");
        assert_eq!(bearer.header().expect("a token"), "Bearer one");
        let age = |bearer: &Bearer| {
            if let Some(Source::File { read, .. }) = bearer.0.as_deref() {
                let mut read = read.lock().expect("not poisoned");
                read.0 = read.0.checked_sub(TRUST).expect("uptime");
            }
        };
        std::fs::write(&path, "two").expect("written");
        age(&bearer);
        assert_eq!(bearer.header().expect("a token"), "Bearer two");
        std::fs::remove_file(&path).expect("removed");
        age(&bearer);
        assert_eq!(bearer.header().expect("a token"), "Bearer two");
        assert!(Bearer::file(&path).is_err());
        assert!(Bearer::given("a\nb").is_none() && Bearer::given("").is_none());
    }
}
