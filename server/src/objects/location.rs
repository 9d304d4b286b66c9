//! Where objects lie, as a URL says it.

use std::{path::PathBuf, str::FromStr};

/// Where objects lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ObjectLocation {
    /// A directory, which is made: `file:///dir`.
    Directory(PathBuf),
    /// A bucket and the start of its names: `s3://bucket/prefix`. Region, endpoint and keys come from the usual
    /// `AWS_...` variables.
    S3 {
        /// The bucket.
        bucket: String,
        /// Without `/` at its ends; empty: none.
        prefix: String,
    },
}

/// A URL that says no place for objects.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{url:?} is no place for objects: {problem}")]
pub struct ObjectLocationError {
    /// What came.
    pub url: String,
    /// What is wrong, and what would be right.
    pub problem: &'static str,
}

impl FromStr for ObjectLocation {
    type Err = ObjectLocationError;

    fn from_str(url: &str) -> Result<Self, ObjectLocationError> {
        let bad = |problem| ObjectLocationError {
            url: url.to_owned(),
            problem,
        };
        if let Some(path) = url.strip_prefix("file://") {
            if !path.starts_with('/') || path.contains(['%', '?', '#', '\0']) {
                return Err(bad(
                    "a directory is written with its whole path and nothing else, such as file:///var/lib/objects",
                ));
            }
            return Ok(Self::Directory(PathBuf::from(path)));
        }
        if let Some(rest) = url.strip_prefix("s3://") {
            let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            let is_word =
                |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
            if bucket.is_empty() || !bucket.bytes().all(is_word) {
                return Err(bad(
                    "the bucket's name is missing or odd; write s3://bucket/prefix",
                ));
            }
            let prefix = prefix.trim_matches('/');
            if !prefix.bytes().all(|byte| is_word(byte) || byte == b'/')
                || prefix.split('/').any(|part| part == "." || part == "..")
                || prefix.contains("//")
            {
                return Err(bad(
                    "the prefix is parts of a-z, A-Z, 0-9, `-`, `_` and `.` between `/`",
                ));
            }
            return Ok(Self::S3 {
                bucket: bucket.to_owned(),
                prefix: prefix.to_owned(),
            });
        }
        Err(bad("write file:///dir or s3://bucket/prefix"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_and_buckets_are_read() {
        let s3 = |bucket: &str, prefix: &str| ObjectLocation::S3 {
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
        };
        for (url, location) in [
            ("file:///a/b c", ObjectLocation::Directory("/a/b c".into())),
            ("s3://yard", s3("yard", "")),
            ("s3://yard/", s3("yard", "")),
            ("s3://my.yard/a/b/", s3("my.yard", "a/b")),
        ] {
            assert_eq!(url.parse(), Ok(location));
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for url in [
            "",
            "/dir",
            "file://dir",
            "file:dir",
            "file:///a%20b",
            "s3://",
            "s3:///prefix",
            "s3://user:key@bucket",
            "s3://bucket/a//b",
            "s3://bucket/../x",
            "https://bucket",
        ] {
            assert!(url.parse::<ObjectLocation>().is_err(), "{url:?}");
        }
    }
}
