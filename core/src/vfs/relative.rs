//! Paths within a directory, such as a task's working directory.

use super::path::{PathError, SessionPath};
use std::{fmt, str::FromStr};

/// A relative, clean path: parts joined by `/`, none of them empty, `.` or `..`; at least one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RelativePath(String);

impl RelativePath {
    /// The path as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The parts; at least one.
    pub fn parts(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }

    /// This path below a folder of a session.
    ///
    /// # Errors
    /// [`PathError::TooLong`].
    pub fn below(&self, folder: &SessionPath) -> Result<SessionPath, PathError> {
        format!("{}{}", folder.folder_prefix(), self.0).parse()
    }

    /// What of a session's path lies below a folder; none where it does not lie there.
    #[must_use]
    pub fn of(path: &SessionPath, folder: &SessionPath) -> Option<Self> {
        let rest = path
            .as_str()
            .strip_prefix(folder.folder_prefix().as_str())?;
        (!rest.is_empty()).then(|| Self(rest.to_owned()))
    }
}

impl FromStr for RelativePath {
    type Err = PathError;

    /// The rules are those of [`SessionPath`], but for the `/` at the start.
    fn from_str(text: &str) -> Result<Self, PathError> {
        if text.is_empty() || text.starts_with('/') {
            return Err(PathError::EmptyPart);
        }
        let absolute: SessionPath = format!("/{text}").parse()?;
        debug_assert!(!absolute.is_root());
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for RelativePath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clean_relative_paths_pass() {
        for text in ["a", "a/b.txt", ".a/..b", "ü/ "] {
            let path: RelativePath = text.parse().expect(text);
            assert_eq!(path.to_string(), text);
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for text in [
            "", "/", "/a", "a/", "a//b", ".", "..", "a/../b", "a/.", "a\0", "a\n",
        ] {
            assert!(text.parse::<RelativePath>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn below_and_of_are_each_others_inverse() {
        for folder in ["/", "/a", "/a/b"] {
            let folder: SessionPath = folder.parse().expect("a folder");
            let relative: RelativePath = "x/y".parse().expect("relative");
            let path = relative.below(&folder).expect("short");
            assert_eq!(RelativePath::of(&path, &folder), Some(relative));
            assert_eq!(RelativePath::of(&folder, &folder), None);
        }
        let path = |text: &str| text.parse::<SessionPath>().expect("a path");
        assert_eq!(RelativePath::of(&path("/ab/c"), &path("/a")), None);
    }
}
