//! Writing one object, part by part; at most one part is in memory.

use super::{ObjectError, storage::measured};
use bytes::Bytes;
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt, PutPayload, path::Path};
use sha2::{Digest, Sha256};
use std::{mem, sync::Arc};
use tokio::runtime::Handle;

/// Bytes of one part but the last; S3 takes no smaller ones.
const PART_BYTES: usize = 8 << 20;

/// An object on its way. Dropped before its end, what was sent of it is taken back as well as can be.
pub struct ObjectUpload {
    store: Arc<dyn ObjectStore>,
    path: Path,
    parts: Option<Box<dyn MultipartUpload>>,
    waiting: Vec<Bytes>,
    waiting_bytes: usize,
    size: u64,
    hasher: Sha256,
}

impl ObjectUpload {
    pub(super) fn new(store: Arc<dyn ObjectStore>, path: Path) -> Self {
        Self {
            store,
            path,
            parts: None,
            waiting: Vec::new(),
            waiting_bytes: 0,
            size: 0,
            hasher: Sha256::new(),
        }
    }

    /// Bytes so far.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Takes the next bytes; waits where a part is full until it is stored.
    ///
    /// # Errors
    /// Any [`ObjectError`].
    pub async fn append(&mut self, data: Bytes) -> Result<(), ObjectError> {
        self.size += data.len() as u64;
        self.hasher.update(&data);
        self.waiting_bytes += data.len();
        self.waiting.push(data);
        if self.waiting_bytes < PART_BYTES {
            return Ok(());
        }
        let payload = self.take_waiting();
        if self.parts.is_none() {
            self.parts = Some(self.store.put_multipart(&self.path).await?);
        }
        if let Some(parts) = &mut self.parts {
            measured("write", parts.put_part(payload)).await?;
        }
        Ok(())
    }

    /// Makes the object appear; gives the SHA-256 of its content.
    ///
    /// # Errors
    /// Any [`ObjectError`].
    pub async fn finish(mut self) -> Result<[u8; 32], ObjectError> {
        let payload = self.take_waiting();
        match &mut self.parts {
            None => {
                measured("write", self.store.put(&self.path, payload)).await?;
            }
            Some(parts) => {
                if payload.content_length() > 0 {
                    measured("write", parts.put_part(payload)).await?;
                }
                measured("write", parts.complete()).await?;
            }
        }
        self.parts = None;
        Ok(mem::take(&mut self.hasher).finalize().into())
    }

    fn take_waiting(&mut self) -> PutPayload {
        self.waiting_bytes = 0;
        mem::take(&mut self.waiting).into_iter().collect()
    }
}

impl Drop for ObjectUpload {
    fn drop(&mut self) {
        if let (Some(mut parts), Ok(runtime)) = (self.parts.take(), Handle::try_current()) {
            runtime.spawn(async move {
                if let Err(error) = parts.abort().await {
                    tracing::debug!(%error, "an upload that broke off could not be taken back");
                }
            });
        }
    }
}
