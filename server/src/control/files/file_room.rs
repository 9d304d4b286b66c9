//! Whether there is room for a file before it has come, so that nobody sends what cannot be stored.

use super::{MAX_FILE_BYTES, incoming::MAX_OBJECT_BYTES};
use crate::{
    app::App,
    control::refusal::Refusal,
    store::file_usage::{self, QuotaStanding},
};
use taskyard_core::{id::SessionUid, vfs::SessionPath};

/// The room for one file on its way. What decides is the transaction that writes it; this only spares the way there.
pub struct FileRoom<'a>(Option<Looked<'a>>);

/// What was seen of the quotas, and where to look again.
struct Looked<'a> {
    namespace_id: i32,
    session: Option<SessionUid>,
    path: &'a SessionPath,
    standing: QuotaStanding,
}

impl<'a> FileRoom<'a> {
    /// As much as any file may take.
    #[must_use]
    pub fn any() -> Self {
        Self(None)
    }

    /// What the quotas of a session and its namespace leave; no session: it is not made yet.
    ///
    /// # Errors
    /// [`Refusal::Store`].
    pub async fn look(
        app: &App,
        namespace_id: i32,
        session: Option<SessionUid>,
        path: &'a SessionPath,
    ) -> Result<Self, Refusal> {
        let pool = app.store.pool();
        let standing =
            file_usage::read_standing(pool, namespace_id, session, path, app.file_quotas).await?;
        Ok(Self(Some(Looked {
            namespace_id,
            session,
            path,
            standing,
        })))
    }

    /// Whether a file of at least so many bytes can be stored. Where it seems that it cannot, the quotas are looked at
    /// again first: others may have deleted files meanwhile.
    ///
    /// # Errors
    /// [`Refusal::QuotaExceeded`], [`Refusal::Store`].
    pub async fn admit(&mut self, app: &App, size: u64) -> Result<(), Refusal> {
        let Some(looked) = &mut self.0 else {
            return Ok(());
        };
        if looked.standing.exceeded_by(size).is_none() {
            return Ok(());
        }
        looked.standing = file_usage::read_standing(
            app.store.pool(),
            looked.namespace_id,
            looked.session,
            looked.path,
            app.file_quotas,
        )
        .await?;
        match looked.standing.exceeded_by(size) {
            None => Ok(()),
            Some(exceeded) => Err(Refusal::QuotaExceeded(exceeded)),
        }
    }
}

/// Refuses a size that no file may have here.
///
/// # Errors
/// [`Refusal::TooLarge`].
pub(super) fn check_size(app: &App, size: u64) -> Result<(), Refusal> {
    let limit = if app.objects.is_some() {
        MAX_OBJECT_BYTES
    } else {
        MAX_FILE_BYTES as u64
    };
    if size > limit {
        return Err(Refusal::TooLarge {
            what: "the file".to_owned(),
            limit,
        });
    }
    Ok(())
}
