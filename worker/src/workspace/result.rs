//! The structured result of a run.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use rustix::fs::{Mode, OFlags, open};

/// The largest structured result, in bytes.
pub const RESULT_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// The structured result, as it was found.
#[derive(Debug, PartialEq, Eq)]
pub enum Collected {
    Nothing,
    Json(String),
}

/// Why there is no structured result although something was written.
#[derive(Debug, thiserror::Error)]
pub enum ResultProblem {
    #[error("the result is not valid JSON ({reason})")]
    NotJson { reason: String },
    #[error("the result is larger than {} MiB", RESULT_BYTES_MAX / 1024 / 1024)]
    TooLarge,
    #[error("the result is not a regular file")]
    NotRegular,
    #[error("cannot read the result")]
    Io(#[source] io::Error),
}

impl ResultProblem {
    /// The stable word for it.
    pub fn word(&self) -> Option<&'static str> {
        match self {
            ResultProblem::NotJson { .. } => Some("NOT_JSON"),
            ResultProblem::TooLarge => Some("TOO_LARGE"),
            ResultProblem::NotRegular => Some("NOT_A_FILE"),
            ResultProblem::Io(_) => None,
        }
    }
}

/// Reads and checks the result file; a missing or empty one is no result. It blocks.
pub fn read_result_file(path: &Path) -> Result<Collected, ResultProblem> {
    let file = match open_regular(path) {
        Ok(Some(file)) => file,
        Ok(None) => return Err(ResultProblem::NotRegular),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Collected::Nothing),
        Err(error) => return Err(ResultProblem::Io(error)),
    };
    let mut content = Vec::new();
    file.take(RESULT_BYTES_MAX + 1)
        .read_to_end(&mut content)
        .map_err(ResultProblem::Io)?;
    if content.len() as u64 > RESULT_BYTES_MAX {
        return Err(ResultProblem::TooLarge);
    }
    if content.is_empty() {
        return Ok(Collected::Nothing);
    }
    check_json(content).map(Collected::Json)
}

/// One JSON value in UTF-8, kept as it came but for the space around it.
pub fn check_json(content: Vec<u8>) -> Result<String, ResultProblem> {
    let not_json = |reason: String| ResultProblem::NotJson { reason };
    let text = String::from_utf8(content).map_err(|error| not_json(error.to_string()))?;
    serde_json::from_str::<serde::de::IgnoredAny>(&text)
        .map_err(|error| not_json(error.to_string()))?;
    let trimmed = text.trim();
    if trimmed.len() == text.len() {
        Ok(text)
    } else {
        Ok(trimmed.to_owned())
    }
}

/// Opens a regular file, never through a symbolic link and without waiting for the other end of a pipe. `None` where
/// something else is in its place.
pub fn open_regular(path: &Path) -> io::Result<Option<File>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match open(path, flags, Mode::empty()) {
        Ok(descriptor) => File::from(descriptor),
        Err(rustix::io::Errno::LOOP | rustix::io::Errno::NXIO) => return Ok(None),
        Err(errno) => return Err(errno.into()),
    };
    Ok(file.metadata()?.is_file().then_some(file))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_result_is_json_or_nothing_or_a_problem() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("result.json");
        assert_eq!(
            read_result_file(&path).expect("missing is fine"),
            Collected::Nothing
        );
        fs::write(&path, b"").expect("written");
        assert_eq!(
            read_result_file(&path).expect("empty is fine"),
            Collected::Nothing
        );
        fs::write(&path, b" {\"a\": 1.50}\n").expect("written");
        assert_eq!(
            read_result_file(&path).expect("good"),
            Collected::Json("{\"a\": 1.50}".to_owned())
        );
        for bad in [&b"{"[..], b"1 2", b"\xff", b"nul"] {
            fs::write(&path, bad).expect("written");
            assert!(
                matches!(read_result_file(&path), Err(ResultProblem::NotJson { .. })),
                "{bad:?}"
            );
        }
        let large = fs::File::create(&path).expect("created");
        large.set_len(RESULT_BYTES_MAX + 1).expect("sparse");
        assert!(matches!(
            read_result_file(&path),
            Err(ResultProblem::TooLarge)
        ));
    }

    #[test]
    fn a_link_a_directory_and_a_pipe_are_no_results() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("result.json");
        std::os::unix::fs::symlink("/etc/hostname", &path).expect("linked");
        assert!(matches!(
            read_result_file(&path),
            Err(ResultProblem::NotRegular)
        ));
        fs::remove_file(&path).expect("removed");
        fs::create_dir(&path).expect("created");
        assert!(matches!(
            read_result_file(&path),
            Err(ResultProblem::NotRegular)
        ));
        fs::remove_dir(&path).expect("removed");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &path,
            rustix::fs::FileType::Fifo,
            Mode::RUSR | Mode::WUSR,
            0,
        )
        .expect("a pipe");
        assert!(matches!(
            read_result_file(&path),
            Err(ResultProblem::NotRegular)
        ));
    }
}
