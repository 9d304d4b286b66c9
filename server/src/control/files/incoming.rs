//! Files on their way in, within bounds of size, number and time: small ones in memory, large ones through to the object
//! store where there is one.

use super::{content::FileContent, file_room::FileRoom};
use crate::{
    app::App,
    control::refusal::Refusal,
    limits::{
        places::{Place, Places},
        turns::Scarce,
    },
    objects::{ObjectError, ObjectId, ObjectStorage, ObjectUpload},
    store::{
        Store,
        file_objects::{self, UploadedContent},
        file_writes::FileBytes,
    },
};
use bytes::Bytes;
use futures::{Stream, StreamExt};
use std::{pin::pin, time::Duration};
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

/// What is larger goes to the object store, where there is one.
const OBJECT_THRESHOLD: usize = 1 << 20;
/// Largest file where there is an object store, in bytes.
pub(super) const MAX_OBJECT_BYTES: u64 = 1 << 30;
/// Files in memory at once, of at most 16 MiB each.
static IN_MEMORY: Places = Places::new(Scarce::IncomingFile);
/// Uploads at once, of which a part is in memory.
static UPLOADS: Places = Places::new(Scarce::Upload);
/// Longest wait for another file to be done.
const PLACE_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest silence of a sender.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(20);
/// Longest time for a whole file, and for one that goes to the object store.
const FILE_TIMEOUT: Duration = Duration::from_secs(5 * 60);
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(30 * 60);
/// How often an upload shows that it is alive, at least; more often where unused objects are soon removed.
const LONGEST_KEEP_ALIVE: Duration = Duration::from_secs(30);

/// A file that has come whole. Holds its room until it is dropped.
pub struct IncomingFile {
    content: Content,
    _place: Place<'static>,
}

enum Content {
    Memory(FileContent),
    Object(StagedObject),
}

/// Content in the object store that no file refers to yet.
struct StagedObject {
    uploaded: UploadedContent,
    size: u64,
    _alive: DropGuard,
}

impl IncomingFile {
    /// Takes all of a stream, as far as `room` has room for it.
    ///
    /// # Errors
    /// The stream's own errors; what [`FileRoom::admit`] says; [`Refusal::TooLarge`] beyond 16 MiB, or 1 GiB with an object store;
    /// [`Refusal::TooSlow`] where nothing comes for 20 seconds, or the end has not come after five minutes, or half an
    /// hour for an upload; [`Refusal::Overloaded`], [`Refusal::ObjectStoreUnavailable`], [`Refusal::Store`].
    pub async fn receive<E: From<Refusal>>(
        app: &App,
        parts: impl Stream<Item = Result<Bytes, E>>,
        room: &mut FileRoom<'_>,
    ) -> Result<Self, E> {
        let mut parts = pin!(parts);
        let mut place = take(&IN_MEMORY).await?;
        let mut content = FileContent::default();
        let receiving = async {
            while let Some(part) = in_time(parts.next()).await? {
                let part = part?;
                room.admit(app, (content.size() + part.len()) as u64)
                    .await?;
                if app.objects.is_some() && content.size() + part.len() > OBJECT_THRESHOLD {
                    return Ok(Some(part));
                }
                content.append(&part)?;
            }
            Ok::<_, E>(None)
        };
        let first_beyond = timeout(FILE_TIMEOUT, receiving)
            .await
            .unwrap_or_else(|_| Err(too_slow()))?;
        let content = match (first_beyond, &app.objects) {
            (Some(part), Some(objects)) => {
                place = take(&UPLOADS).await?;
                let mut upload = Upload::begin(app, objects).await?;
                let uploading = async {
                    for chunk in content.into_chunks() {
                        upload.append(Bytes::from(chunk)).await?;
                    }
                    upload.append(part).await?;
                    while let Some(part) = in_time(parts.next()).await? {
                        let part = part?;
                        room.admit(app, upload.object.size() + part.len() as u64)
                            .await?;
                        upload.append(part).await?;
                    }
                    Ok::<_, E>(())
                };
                let uploaded = timeout(UPLOAD_TIMEOUT, uploading)
                    .await
                    .unwrap_or_else(|_| Err(too_slow()));
                if let Err(error) = uploaded {
                    upload.give_up().await;
                    return Err(error);
                }
                Content::Object(upload.finish().await?)
            }
            (Some(_) | None, _) => Content::Memory(content),
        };
        Ok(Self {
            content,
            _place: place,
        })
    }

    /// Bytes in all.
    #[must_use]
    pub fn size(&self) -> i64 {
        let size = match &self.content {
            Content::Memory(content) => content.size() as u64,
            Content::Object(object) => object.size,
        };
        i64::try_from(size).unwrap_or(i64::MAX)
    }

    /// Its bytes, for the store.
    #[must_use]
    pub fn bytes(&self) -> FileBytes<'_> {
        match &self.content {
            Content::Memory(content) => FileBytes::Chunks(content.chunks()),
            Content::Object(object) => FileBytes::Object(object.uploaded),
        }
    }

    /// It was not written: what lies in the object store is removed soon. Where that cannot be noted it is found by its
    /// age.
    pub async fn give_up(&self, app: &App) {
        if let Content::Object(object) = &self.content {
            give_up(&app.store, object.uploaded.id).await;
        }
    }
}

/// Content on its way into the object store. The database knows of it before the first byte is sent, so that nothing is
/// left behind unknown, whatever breaks.
struct Upload {
    store: Store,
    id: Uuid,
    object: ObjectUpload,
    alive: DropGuard,
}

impl Upload {
    async fn begin(app: &App, objects: &ObjectStorage) -> Result<Self, Refusal> {
        let id = Uuid::new_v4();
        file_objects::begin(app.store.pool(), id).await?;
        let alive = CancellationToken::new();
        let period = LONGEST_KEEP_ALIVE.min(app.object_grace / 4);
        tokio::spawn(keep_alive(app.store.clone(), id, period, alive.clone()));
        Ok(Self {
            store: app.store.clone(),
            id,
            object: objects.begin(ObjectId(id)),
            alive: alive.drop_guard(),
        })
    }

    async fn append(&mut self, part: Bytes) -> Result<(), Refusal> {
        if self.object.size() + part.len() as u64 > MAX_OBJECT_BYTES {
            return Err(Refusal::TooLarge {
                what: "the file".to_owned(),
                limit: MAX_OBJECT_BYTES,
            });
        }
        self.object
            .append(part)
            .await
            .map_err(Refusal::ObjectStoreUnavailable)
    }

    async fn finish(self) -> Result<StagedObject, Refusal> {
        let size = self.object.size();
        match self.object.finish().await {
            Ok(sha256) => Ok(StagedObject {
                uploaded: UploadedContent {
                    id: self.id,
                    sha256,
                },
                size,
                _alive: self.alive,
            }),
            Err(error) => {
                give_up(&self.store, self.id).await;
                Err(Refusal::ObjectStoreUnavailable(error))
            }
        }
    }

    async fn give_up(self) {
        give_up(&self.store, self.id).await;
    }
}

/// Shows that an upload is alive until `ended`, so that it is not taken for one that broke off.
async fn keep_alive(store: Store, id: Uuid, period: Duration, ended: CancellationToken) {
    loop {
        tokio::select! {
            () = ended.cancelled() => return,
            () = tokio::time::sleep(period) => {}
        }
        match file_objects::touch(store.pool(), id).await {
            Ok(true) => {}
            // written, or given up
            Ok(false) => return,
            Err(error) => tracing::debug!(%error, "an upload could not show that it is alive"),
        }
    }
}

async fn give_up(store: &Store, id: Uuid) {
    if let Err(error) = file_objects::give_up(store.pool(), id).await {
        tracing::debug!(%error, "an upload could not be given up; it will be found by its age");
    }
}

async fn take(places: &'static Places) -> Result<Place<'static>, Refusal> {
    Ok(places.take(PLACE_TIMEOUT).await?)
}

/// The next thing of a sender, if it comes within 20 seconds.
///
/// # Errors
/// [`Refusal::TooSlow`].
pub async fn in_time<T>(coming: impl Future<Output = T>) -> Result<T, Refusal> {
    timeout(SILENCE_TIMEOUT, coming)
        .await
        .map_err(|_| too_slow())
}

fn too_slow<E: From<Refusal>>() -> E {
    Refusal::TooSlow { what: "the file" }.into()
}

/// The object store of this server, for content that lies in one.
///
/// # Errors
/// [`Refusal::ObjectStoreUnavailable`] where the server has none.
pub(super) fn object_store(app: &App) -> Result<ObjectStorage, Refusal> {
    app.objects
        .clone()
        .ok_or(Refusal::ObjectStoreUnavailable(ObjectError::NotConfigured))
}
