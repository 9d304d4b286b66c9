//! Reading and removing objects. Every call has an end: requests are repeated for 15 seconds at most.

use super::{ObjectLocation, ObjectUpload};
use bytes::Bytes;
use object_store::{
    BackoffConfig, ClientOptions, ObjectStore, ObjectStoreExt, RetryConfig, aws::AmazonS3Builder,
    local::LocalFileSystem, path::Path,
};
use std::{
    ops::Range,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};
use taskyard_telemetry::metrics::table;
use uuid::Uuid;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
const MAX_RETRIES: usize = 3;
const RETRY_TIMEOUT: Duration = Duration::from_secs(15);
const LONGEST_BACKOFF: Duration = Duration::from_secs(2);

/// Name of an object, unique for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ObjectId(pub Uuid);

/// Where large content is kept. Clones are the same.
#[derive(Clone, Debug)]
pub struct ObjectStorage {
    store: Arc<dyn ObjectStore>,
    prefix: String,
    /// The directory itself, where it is one.
    directory: Option<PathBuf>,
}

/// Why an object could not be written, read or removed.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// There is no such object.
    #[error("there is no such object")]
    Missing,
    /// This server has no object store.
    #[error("this server was started without --object-store, and the content lies in one")]
    NotConfigured,
    /// The object store is out of reach, or does not do what it is asked.
    #[error("the object store does not do it")]
    Unavailable(#[source] object_store::Error),
    /// The directory cannot be made or used.
    #[error("the directory {path} cannot be used")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl ObjectStorage {
    /// Opens a place. A directory is made; whether a bucket can be reached shows when it is used.
    ///
    /// # Errors
    /// [`ObjectError::Directory`]; [`ObjectError::Unavailable`] for settings that make no sense.
    pub fn open(location: &ObjectLocation) -> Result<Self, ObjectError> {
        match location {
            ObjectLocation::Directory(path) => Self::open_directory(path.clone()),
            ObjectLocation::S3 { bucket, prefix } => Self::open_s3(bucket, prefix.clone()),
        }
    }

    fn open_directory(path: PathBuf) -> Result<Self, ObjectError> {
        std::fs::create_dir_all(&path).map_err(|source| ObjectError::Directory {
            path: path.clone(),
            source,
        })?;
        // what the database refers to must be there after a crash of the machine, too
        let store = LocalFileSystem::new_with_prefix(&path)?.with_fsync(true);
        Ok(Self {
            store: Arc::new(store),
            prefix: String::new(),
            directory: Some(path),
        })
    }

    fn open_s3(bucket: &str, prefix: String) -> Result<Self, ObjectError> {
        // An error means that there is a provider already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let allow_http = std::env::var("AWS_ALLOW_HTTP")
            .is_ok_and(|value| value == "1" || value.eq_ignore_ascii_case("true"));
        let store = AmazonS3Builder::from_env()
            .with_bucket_name(bucket)
            .with_client_options(
                ClientOptions::new()
                    .with_allow_http(allow_http)
                    .with_connect_timeout(CONNECT_TIMEOUT)
                    .with_timeout(REQUEST_TIMEOUT),
            )
            .with_retry(RetryConfig {
                backoff: BackoffConfig {
                    max_backoff: LONGEST_BACKOFF,
                    ..BackoffConfig::default()
                },
                max_retries: MAX_RETRIES,
                retry_timeout: RETRY_TIMEOUT,
            })
            .build()?;
        Ok(Self {
            store: Arc::new(store),
            prefix,
            directory: None,
        })
    }

    /// Begins a new object.
    #[must_use]
    pub fn begin(&self, id: ObjectId) -> ObjectUpload {
        ObjectUpload::new(self.store.clone(), self.path(id))
    }

    /// Reads a range that lies within an object.
    ///
    /// # Errors
    /// Any [`ObjectError`].
    pub async fn read(&self, id: ObjectId, range: Range<u64>) -> Result<Bytes, ObjectError> {
        let path = self.path(id);
        let reading = self.store.get_range(&path, range);
        Ok(measured("read", reading).await?)
    }

    /// Removes an object, and what an upload that broke off left of it. One that is not there is no error.
    ///
    /// # Errors
    /// Any [`ObjectError`] but [`ObjectError::Missing`].
    pub async fn remove(&self, id: ObjectId) -> Result<(), ObjectError> {
        let path = self.path(id);
        if let Some(directory) = &self.directory {
            // how the library names the file that it writes before the object appears
            let unfinished = directory.join(format!("{path}#1"));
            let _ = tokio::fs::remove_file(unfinished).await;
        }
        let deleted = measured("remove", self.store.delete(&path)).await;
        match deleted.map_err(ObjectError::from) {
            Ok(()) | Err(ObjectError::Missing) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// 256 folders, so that no directory grows without end.
    pub(crate) fn path(&self, id: ObjectId) -> Path {
        let name = id.0.simple().to_string();
        let folder = &name[name.len() - 2..];
        Path::from(format!("{}/{folder}/{name}", self.prefix))
    }
}

/// A request, with its time in the metrics. That an object is not there is an answer, not a failure.
pub(super) async fn measured<T>(
    operation: &str,
    request: impl Future<Output = object_store::Result<T>>,
) -> object_store::Result<T> {
    let began_at = Instant::now();
    let answered = request.await;
    let outcome = match &answered {
        Ok(_) | Err(object_store::Error::NotFound { .. }) => "done",
        Err(_) => "failed",
    };
    if outcome == "failed" {
        table::OBJECT_STORE_FAILURES.add(1, &[operation]);
    }
    table::OBJECT_STORE_DURATION.record_time(began_at.elapsed(), &[operation, outcome]);
    answered
}

impl From<object_store::Error> for ObjectError {
    fn from(error: object_store::Error) -> Self {
        match error {
            object_store::Error::NotFound { .. } => Self::Missing,
            error => Self::Unavailable(error),
        }
    }
}
