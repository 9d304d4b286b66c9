//! The flags for files: how much they may take, and where large ones are kept.

use std::path::Path;
use std::time::Duration;

use clap::Args;
use taskyard_server::{FileQuota, FileQuotas, ObjectLocation};

use crate::failure::Failure;
use crate::quantity::{parse_duration, parse_size};

const UNLIMITED: &str = "unlimited";

/// Flags for files. Those that few need are in docs/configuration.md and not in the help, which has its size.
#[derive(Debug, Clone, Args)]
pub struct StorageArguments {
    /// Where files above 1 MiB are kept: file:///DIR or s3://BUCKET/PREFIX
    #[arg(
        long,
        value_name = "URL",
        env = "TASKYARD_OBJECT_STORE",
        hide_env = true
    )]
    object_store: Option<String>,
    /// How long what no file refers to is kept there
    #[arg(
        long,
        value_name = "DURATION",
        env = "TASKYARD_OBJECT_GRACE",
        hide = true,
        default_value = "1h",
        value_parser = parse_duration
    )]
    object_grace: Duration,
    /// Most bytes of a session's files, or unlimited
    #[arg(
        long,
        value_name = "SIZE",
        env = "TASKYARD_SESSION_FILE_BYTES",
        hide = true,
        default_value = "10GiB",
        value_parser = parse_bytes
    )]
    session_file_bytes: Limit,
    /// Most files of a session, or unlimited
    #[arg(
        long,
        value_name = "N",
        env = "TASKYARD_SESSION_FILES",
        hide = true,
        default_value = "100000",
        value_parser = parse_count
    )]
    session_files: Limit,
    /// Most bytes of a namespace's files
    #[arg(
        long,
        value_name = "SIZE",
        env = "TASKYARD_NAMESPACE_FILE_BYTES",
        hide = true,
        default_value = UNLIMITED,
        value_parser = parse_bytes
    )]
    namespace_file_bytes: Limit,
    /// Most files of a namespace
    #[arg(
        long,
        value_name = "N",
        env = "TASKYARD_NAMESPACE_FILES",
        hide = true,
        default_value = UNLIMITED,
        value_parser = parse_count
    )]
    namespace_files: Limit,
}

/// A limit, if there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Limit(Option<u64>);

/// What a server is told about files.
#[derive(Debug, Clone)]
pub struct Storage {
    pub file_quotas: FileQuotas,
    pub object_store: Option<ObjectLocation>,
    pub object_grace: Duration,
}

impl StorageArguments {
    /// Checks them; without an object store everything is kept in the database.
    pub fn checked(&self) -> Result<Storage, Failure> {
        let object_store = match self.object_store.as_deref() {
            None | Some("") => None,
            Some(url) => {
                let location = url
                    .parse()
                    .map_err(|error| Failure::Usage(format!("--object-store: {error}")))?;
                Some(location)
            }
        };
        Ok(Storage {
            file_quotas: FileQuotas {
                session: FileQuota {
                    bytes: self.session_file_bytes.0,
                    files: self.session_files.0,
                },
                namespace: FileQuota {
                    bytes: self.namespace_file_bytes.0,
                    files: self.namespace_files.0,
                },
            },
            object_store,
            object_grace: self.object_grace,
        })
    }

    /// Checks them; without an object store large files are kept in the data directory.
    pub fn checked_with_default(&self, data_dir: &Path) -> Result<Storage, Failure> {
        let mut storage = self.checked()?;
        storage.object_store.get_or_insert_with(|| {
            ObjectLocation::Directory(
                std::path::absolute(data_dir)
                    .unwrap_or_else(|_| data_dir.to_owned())
                    .join("objects"),
            )
        });
        Ok(storage)
    }
}

fn parse_bytes(text: &str) -> Result<Limit, String> {
    if text == UNLIMITED {
        return Ok(Limit(None));
    }
    parse_size(text).map(|bytes| Limit(Some(bytes)))
}

fn parse_count(text: &str) -> Result<Limit, String> {
    if text == UNLIMITED {
        return Ok(Limit(None));
    }
    text.parse()
        .map(|count| Limit(Some(count)))
        .map_err(|_| format!("`{text}` is no number of files; write one, or {UNLIMITED}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_numbers_or_none() {
        assert_eq!(parse_bytes("unlimited"), Ok(Limit(None)));
        assert_eq!(parse_bytes("1GiB"), Ok(Limit(Some(1 << 30))));
        assert_eq!(parse_count("7"), Ok(Limit(Some(7))));
        assert!(parse_count("-1").is_err() && parse_count("many").is_err());
    }
}
