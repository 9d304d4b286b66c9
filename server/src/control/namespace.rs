//! Names of namespaces and sessions: whether they are valid, and which rows they mean.

use super::refusal::{Refusal, Resource};
use crate::{
    app::App,
    store::{self, StoreError},
};
use lru::LruCache;
use std::{
    num::NonZeroUsize,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use taskyard_core::id::SessionUid;

/// The namespace that an empty name means.
pub const DEFAULT_NAMESPACE: &str = "default";
/// Longest namespace name, in bytes.
const MAX_NAMESPACE_BYTES: usize = 63;
/// Longest session id, in bytes.
const MAX_SESSION_ID_BYTES: usize = 256;
/// Namespaces whose numbers are remembered.
const CACHED_NAMESPACES: NonZeroUsize = NonZeroUsize::new(1_024).expect("not zero");
/// Sessions whose numbers are remembered; at most about 400 bytes each.
const CACHED_SESSIONS: NonZeroUsize = NonZeroUsize::new(16_384).expect("not zero");
/// How long a session's number is taken for true. Who creates a task with a number that is true no more is told so in the
/// transaction.
const SESSION_TRUST: Duration = Duration::from_secs(2);
/// Tries to make a row that another transaction is making at the same moment.
const ENSURE_TRIES: u32 = 5;

/// Numbers of namespaces and sessions that were looked up lately. Neither is ever given to another name; a session can be
/// deleted at another server and made anew, so it is looked up again after a while.
#[derive(Debug)]
pub struct NameCache {
    namespaces: Mutex<LruCache<String, i32>>,
    sessions: Mutex<LruCache<(i32, String), (SessionUid, Instant)>>,
}

impl Default for NameCache {
    fn default() -> Self {
        Self {
            namespaces: Mutex::new(LruCache::new(CACHED_NAMESPACES)),
            sessions: Mutex::new(LruCache::new(CACHED_SESSIONS)),
        }
    }
}

/// The namespace that a name means.
#[must_use]
pub fn name_or_default(name: &str) -> &str {
    if name.is_empty() {
        DEFAULT_NAMESPACE
    } else {
        name
    }
}

/// The number of a namespace; an empty name means [`DEFAULT_NAMESPACE`].
///
/// # Errors
/// [`Refusal::InvalidField`] for a name that can be no namespace's, [`Refusal::NotFound`], [`Refusal::Store`].
pub async fn find_namespace(app: &App, name: &str) -> Result<i32, Refusal> {
    let name = valid_namespace(name)?;
    if let Some(id) = app.names.namespace(name) {
        return Ok(id);
    }
    let id = store::sessions::find_namespace(app.store.pool(), name)
        .await?
        .ok_or_else(|| not_found(Resource::Namespace, name))?;
    app.names.remember_namespace(name, id);
    Ok(id)
}

/// The number of a namespace, which is made on first use; an empty name means [`DEFAULT_NAMESPACE`].
///
/// # Errors
/// [`Refusal::InvalidField`] for a name that can be no namespace's, [`Refusal::Store`].
pub async fn ensure_namespace(app: &App, name: &str) -> Result<i32, Refusal> {
    match find_namespace(app, name).await {
        Err(Refusal::NotFound { .. }) => {}
        found_or_failed => return found_or_failed,
    }
    let name = valid_namespace(name)?;
    let mut tries = 1;
    let id = loop {
        match store::sessions::ensure_namespace(app.store.pool(), name).await {
            // another transaction makes it at this moment and its row cannot be seen yet; it can in the next statement
            Err(StoreError::Conflict(_)) if tries < ENSURE_TRIES => tries += 1,
            made => break made?,
        }
    };
    app.names.remember_namespace(name, id);
    Ok(id)
}

/// The number of a session.
///
/// # Errors
/// [`Refusal::InvalidField`] for what can be no name, [`Refusal::NotFound`], [`Refusal::Store`].
pub async fn find_session(
    app: &App,
    namespace: &str,
    session_id: &str,
) -> Result<SessionUid, Refusal> {
    check_session_id(session_id)?;
    let namespace_id = find_namespace(app, namespace).await?;
    find_session_in(app, namespace_id, session_id).await
}

/// The number of a session as the store has it at this moment; none: there is no such session, or no such namespace yet.
///
/// # Errors
/// [`Refusal::InvalidField`] for what can be no name, [`Refusal::Store`].
pub async fn look_up_session(
    app: &App,
    namespace: &str,
    session_id: &str,
) -> Result<Option<SessionUid>, Refusal> {
    check_session_id(session_id)?;
    let namespace_id = match find_namespace(app, namespace).await {
        Ok(id) => id,
        Err(Refusal::NotFound { .. }) => return Ok(None),
        Err(refusal) => return Err(refusal),
    };
    let found = store::sessions::find_session(app.store.pool(), namespace_id, session_id).await?;
    match found {
        Some(uid) => app.names.remember_session(namespace_id, session_id, uid),
        None => app.names.forget_session(namespace_id, session_id),
    }
    Ok(found)
}

/// The numbers of a namespace and of a session in it, both made on first use.
///
/// # Errors
/// [`Refusal::InvalidField`] for what can be no name, [`Refusal::TooManySessions`], [`Refusal::Store`].
pub async fn ensure_session(
    app: &App,
    namespace: &str,
    session_id: &str,
) -> Result<(i32, SessionUid), Refusal> {
    check_session_id(session_id)?;
    let namespace_id = ensure_namespace(app, namespace).await?;
    match find_session_in(app, namespace_id, session_id).await {
        Ok(uid) => return Ok((namespace_id, uid)),
        Err(Refusal::NotFound { .. }) => {}
        Err(refusal) => return Err(refusal),
    }
    let room = &app.namespace_room;
    if let Err(no_room) = room.add_session(&app.store, namespace_id).await? {
        return Err(Refusal::TooManySessions {
            limit: no_room.limit,
        });
    }
    let mut tries = 1;
    let uid = loop {
        match store::sessions::ensure_session(app.store.pool(), namespace_id, session_id).await {
            // see `ensure_namespace`
            Err(StoreError::Conflict(_)) if tries < ENSURE_TRIES => tries += 1,
            made => break made?,
        }
    };
    app.names.remember_session(namespace_id, session_id, uid);
    Ok((namespace_id, uid))
}

/// Refuses a session id that is empty, too long or holds control characters.
///
/// # Errors
/// [`Refusal::InvalidField`].
pub fn check_session_id(session_id: &str) -> Result<(), Refusal> {
    let problem = if session_id.is_empty() {
        "is required; any text of 1 to 256 bytes names a session"
    } else if session_id.len() > MAX_SESSION_ID_BYTES {
        "must have at most 256 bytes"
    } else if session_id.chars().any(char::is_control) {
        "must not hold control characters"
    } else {
        return Ok(());
    };
    Err(Refusal::invalid("session_id", problem))
}

/// The namespace that a name means, if it can be one's.
///
/// # Errors
/// [`Refusal::InvalidField`].
pub fn valid_namespace(name: &str) -> Result<&str, Refusal> {
    if name.is_empty() {
        return Ok(DEFAULT_NAMESPACE);
    }
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = name.as_bytes();
    let ends_are_words =
        bytes.first().copied().is_some_and(is_word) && bytes.last().copied().is_some_and(is_word);
    if bytes.len() > MAX_NAMESPACE_BYTES
        || !ends_are_words
        || !bytes.iter().all(|&byte| is_word(byte) || byte == b'-')
    {
        return Err(Refusal::invalid(
            "namespace",
            "must be 1 to 63 of a-z, 0-9 and `-`, and neither start nor end with `-`",
        ));
    }
    Ok(name)
}

async fn find_session_in(
    app: &App,
    namespace_id: i32,
    session_id: &str,
) -> Result<SessionUid, Refusal> {
    if let Some(uid) = app.names.session(namespace_id, session_id) {
        return Ok(uid);
    }
    let uid = store::sessions::find_session(app.store.pool(), namespace_id, session_id)
        .await?
        .ok_or_else(|| not_found(Resource::Session, session_id))?;
    app.names.remember_session(namespace_id, session_id, uid);
    Ok(uid)
}

fn not_found(resource: Resource, name: &str) -> Refusal {
    Refusal::NotFound {
        resource,
        name: name.to_owned(),
    }
}

impl NameCache {
    fn namespace(&self, name: &str) -> Option<i32> {
        lock(&self.namespaces).get(name).copied()
    }

    fn remember_namespace(&self, name: &str, id: i32) {
        lock(&self.namespaces).put(name.to_owned(), id);
    }

    fn session(&self, namespace_id: i32, session_id: &str) -> Option<SessionUid> {
        let (uid, seen_at) = *lock(&self.sessions).get(&(namespace_id, session_id.to_owned()))?;
        (seen_at.elapsed() < SESSION_TRUST).then_some(uid)
    }

    fn remember_session(&self, namespace_id: i32, session_id: &str, uid: SessionUid) {
        let seen = (uid, Instant::now());
        lock(&self.sessions).put((namespace_id, session_id.to_owned()), seen);
    }

    /// Forgets a session that was deleted.
    pub(super) fn forget_session(&self, namespace_id: i32, session_id: &str) {
        lock(&self.sessions).pop(&(namespace_id, session_id.to_owned()));
    }
}

/// A cache whose holder panicked is still a cache: each change of it is one call.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_namespace_is_the_default_one() {
        assert_eq!(valid_namespace("").ok(), Some("default"));
    }

    #[test]
    fn namespaces_are_short_words_with_inner_dashes() {
        let longest = "a".repeat(63);
        for name in ["a", "0", "a-b", "a--b", longest.as_str()] {
            assert_eq!(valid_namespace(name).ok(), Some(name));
        }
        let too_long = "a".repeat(64);
        for name in [
            "-",
            "-a",
            "a-",
            "A",
            "a_b",
            "a b",
            "ä",
            "a\0",
            too_long.as_str(),
        ] {
            assert!(valid_namespace(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn session_ids_are_free_text_without_control_characters() {
        let longest = "s".repeat(256);
        for id in ["s", " ", "über/alles?", "日本", longest.as_str()] {
            assert!(check_session_id(id).is_ok(), "{id:?}");
        }
        let too_long = "s".repeat(257);
        for id in ["", "a\nb", "a\0", "\u{85}", too_long.as_str()] {
            assert!(check_session_id(id).is_err(), "{id:?}");
        }
    }
}
