//! Paths of a session's files. A path that is not clean is refused, never cleaned: two spellings of one file would be
//! two files to whoever compares them.

use std::{error::Error, fmt, str::FromStr};

/// An absolute, clean path: `/`, or parts each led by `/`, none of them empty, `.` or `..`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionPath(String);

/// Why a text is no session path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathError {
    /// It does not start with `/`.
    NotAbsolute,
    /// It has an empty part: `//`, or `/` at its end.
    EmptyPart,
    /// It has a part `.` or `..`.
    DotPart,
    /// It holds a NUL or another control character.
    ControlCharacter,
    /// It is longer than [`SessionPath::MAX_BYTES`], or one part than [`SessionPath::MAX_PART_BYTES`].
    TooLong,
}

impl SessionPath {
    /// Longest path, in bytes.
    pub const MAX_BYTES: usize = 1_024;
    /// Longest part, in bytes: what file systems take.
    pub const MAX_PART_BYTES: usize = 255;
    /// Folder of the system's own files.
    pub const SYSTEM: &str = "/.tasks";

    /// The path as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is `/`.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.0 == "/"
    }

    /// The parts; none for `/`.
    pub fn parts(&self) -> impl Iterator<Item = &str> {
        self.0.split('/').skip(1).filter(|part| !part.is_empty())
    }

    /// Whether the path is the system's folder or in it.
    #[must_use]
    pub fn is_system(&self) -> bool {
        self.parts().next() == Some(&Self::SYSTEM[1..])
    }

    /// What every path below this folder starts with.
    #[must_use]
    pub fn folder_prefix(&self) -> String {
        if self.is_root() {
            self.0.clone()
        } else {
            format!("{}/", self.0)
        }
    }
}

impl FromStr for SessionPath {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        let Some(relative) = text.strip_prefix('/') else {
            return Err(PathError::NotAbsolute);
        };
        if text.len() > Self::MAX_BYTES {
            return Err(PathError::TooLong);
        }
        if text.chars().any(char::is_control) {
            return Err(PathError::ControlCharacter);
        }
        if relative.is_empty() {
            return Ok(Self(text.to_owned()));
        }
        for part in relative.split('/') {
            match part {
                "" => return Err(PathError::EmptyPart),
                "." | ".." => return Err(PathError::DotPart),
                part if part.len() > Self::MAX_PART_BYTES => return Err(PathError::TooLong),
                _ => {}
            }
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for SessionPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Display for PathError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::NotAbsolute => "a path must start with `/`",
            Self::EmptyPart => "a path must not have empty parts or end with `/`",
            Self::DotPart => "a path must not have the parts `.` or `..`",
            Self::ControlCharacter => "a path must not hold control characters",
            Self::TooLong => "a path has at most 1,024 bytes, each part at most 255",
        })
    }
}

impl Error for PathError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clean_paths_pass_unchanged() {
        for text in ["/", "/a", "/a/b.txt", "/.tasks/x", "/..a/b..", "/ü/ "] {
            assert_eq!(
                text.parse::<SessionPath>().map(|path| path.to_string()),
                Ok(text.to_owned())
            );
        }
    }

    #[test]
    fn everything_else_is_refused() {
        let long = format!("/{}", "x".repeat(1_024));
        let long_part = format!("/{}", "x".repeat(256));
        for (text, error) in [
            ("", PathError::NotAbsolute),
            ("a", PathError::NotAbsolute),
            ("//", PathError::EmptyPart),
            ("/a/", PathError::EmptyPart),
            ("/a//b", PathError::EmptyPart),
            ("/.", PathError::DotPart),
            ("/a/../b", PathError::DotPart),
            ("/a\0b", PathError::ControlCharacter),
            ("/a\nb", PathError::ControlCharacter),
            (&long, PathError::TooLong),
            (&long_part, PathError::TooLong),
        ] {
            assert_eq!(text.parse::<SessionPath>(), Err(error), "{text:?}");
        }
    }

    #[test]
    fn the_system_folder_is_known_by_its_first_part() {
        let is_system = |text: &str| {
            text.parse::<SessionPath>()
                .is_ok_and(|path| path.is_system())
        };
        assert!(is_system("/.tasks") && is_system("/.tasks/task_1/result.json"));
        assert!(!is_system("/.tasksy") && !is_system("/a/.tasks") && !is_system("/"));
    }
}
