//! From a credential to an [`Identity`], with files and keys that change while the server runs.

use super::{
    auth_file::{AuthFile, AuthFileError},
    certificate::PeerCertificate,
    fetch::{FetchError, Trust, fetch},
    jwks::{KeySet, KeySetError},
    jwt::{self, Expected, JwtError},
    key_misses::{KeyMisses, Miss},
    principal::{CredentialKind, Identity},
    settings::AuthSettings,
    watched_files::{FileError, LOOK_INTERVAL, WatchedFiles},
};
use rand::Rng;
use sha2::{Digest, Sha256};
use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;

/// How often keys are fetched from a URL, and how soon after a failure; both are drawn from half of it up.
const FETCH_INTERVAL: Duration = Duration::from_secs(5 * 60);
const FIRST_RETRY: Duration = Duration::from_secs(2);
/// How long a call waits for keys that are being fetched, and how many calls do at a time; others are told to come again.
const MISS_PATIENCE: Duration = Duration::from_secs(5);
const MAX_WAITING: usize = 256;
/// When those come again.
const COME_AGAIN: Duration = Duration::from_secs(1);

/// Why a caller is not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAuthentic {
    /// It showed nothing.
    #[error(
        "no credential was shown; send a bearer token (TASKYARD_TOKEN, TASKYARD_TOKEN_FILE) or a client certificate"
    )]
    Nothing,
    /// The header is no bearer token.
    #[error("the authorization metadata must be `Bearer` and a token")]
    Header,
    /// The token is in no list, and signed by nobody.
    #[error("the token is not known; it may have been revoked, or be meant for another server")]
    UnknownToken,
    /// The signed token is not believed.
    #[error("the token is not believed: {0}")]
    Jwt(JwtError),
    /// The certificate stands for nobody.
    #[error(
        "the client certificate of {0:?} stands for nobody; add it to the server's --auth-file"
    )]
    UnknownCertificate(String),
    /// The credential has expired.
    #[error("the credential has expired; get a new one")]
    Expired,
    /// The signed token is of a key that is not known, and may be before long: the keys were fetched before it was asked
    /// for, or cannot be fetched.
    #[error("the token is signed with a key that this server has not fetched yet; try again in {} s", .retry_after.as_secs_f64().ceil())]
    KeyNotFetched {
        /// When to come again.
        retry_after: Duration,
    },
}

impl NotAuthentic {
    /// When the same credential may be known; none: it will not be.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::KeyNotFetched { retry_after } => Some(*retry_after),
            Self::Nothing
            | Self::Header
            | Self::UnknownToken
            | Self::Jwt(_)
            | Self::UnknownCertificate(_)
            | Self::Expired => None,
        }
    }

    /// A stable word for programs.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Nothing => "NO_CREDENTIAL",
            Self::Header | Self::UnknownToken | Self::UnknownCertificate(_) => "UNKNOWN_CREDENTIAL",
            Self::Jwt(JwtError::Expired) | Self::Expired => "CREDENTIAL_EXPIRED",
            Self::Jwt(_) => "BAD_TOKEN_SIGNATURE_OR_CLAIMS",
            Self::KeyNotFetched { .. } => "KEY_NOT_FETCHED",
        }
    }
}

/// Why authentication cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The list of tokens makes no sense.
    #[error("--auth-file cannot be used: {0}")]
    List(#[from] AuthFileError),
    /// The keys cannot be used.
    #[error("--auth-jwks cannot be used: {0}")]
    Keys(#[from] KeySetError),
    /// The authorities for the URL of the keys cannot be used.
    #[error("--auth-jwks-ca cannot be used")]
    Trust(#[source] FetchError),
}

/// Where the keys come from.
#[derive(Debug)]
enum KeySource {
    None,
    File(PathBuf),
    Url { url: String, trust: Trust },
}

/// Everybody who is known, and whose signature is believed.
#[derive(Debug)]
pub struct Authenticator {
    expected: Expected,
    source: KeySource,
    list: RwLock<Arc<AuthFile>>,
    keys: RwLock<Arc<KeySet>>,
    is_on: bool,
    misses: Mutex<KeyMisses>,
    waiting: Semaphore,
    wanted: Notify,
    fetched: Notify,
}

/// The files of an authenticator, as they were last read.
#[derive(Debug)]
pub struct AuthFiles {
    list: Option<WatchedFiles>,
    keys: Option<WatchedFiles>,
}

impl Authenticator {
    /// Reads the files. Keys of a URL are fetched by [`Authenticator::run`]; until then no signed token is believed.
    ///
    /// # Errors
    /// Any [`AuthError`].
    pub fn open(settings: &AuthSettings) -> Result<(Arc<Self>, AuthFiles), AuthError> {
        let source = match settings.jwks.as_deref() {
            None => KeySource::None,
            Some(url) if url.starts_with("http://") || url.starts_with("https://") => {
                if is_open_to_forgery(url) {
                    tracing::warn!(
                        "the keys for signed tokens come over http: whoever is on the way can make tokens; use https"
                    );
                }
                let trust = Trust {
                    authorities: settings.jwks_ca.clone(),
                };
                trust.check().map_err(AuthError::Trust)?;
                KeySource::Url {
                    url: url.to_owned(),
                    trust,
                }
            }
            Some(path) => {
                KeySource::File(PathBuf::from(path.strip_prefix("file://").unwrap_or(path)))
            }
        };
        let mut files = AuthFiles {
            list: settings
                .file
                .as_ref()
                .map(|path| WatchedFiles::new(vec![path.clone()])),
            keys: match &source {
                KeySource::File(path) => Some(WatchedFiles::new(vec![path.clone()])),
                KeySource::None | KeySource::Url { .. } => None,
            },
        };
        let mut list = AuthFile::default();
        if let Some(content) = files.list.as_mut().map_or(Ok(None), read_one)? {
            list = AuthFile::parse(&content)?;
        }
        let mut keys = KeySet::default();
        if let Some(content) = files.keys.as_mut().map_or(Ok(None), read_one)? {
            keys = KeySet::parse(&content)?;
        }
        let authenticator = Self {
            expected: Expected {
                issuer: settings.issuer.clone(),
                audience: settings.audience.clone(),
            },
            source,
            list: RwLock::new(Arc::new(list)),
            keys: RwLock::new(Arc::new(keys)),
            is_on: settings.is_on(),
            misses: Mutex::default(),
            waiting: Semaphore::new(MAX_WAITING),
            wanted: Notify::new(),
            fetched: Notify::new(),
        };
        Ok((Arc::new(authenticator), files))
    }

    /// Whether callers have to say who they are.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.is_on
    }

    /// Reads the files again when they change and fetches keys, until `shutdown`. What cannot be used is told, and
    /// changes nothing.
    pub async fn run(&self, files: AuthFiles, shutdown: CancellationToken) {
        let working = async {
            tokio::join!(self.reread(files), self.refetch());
        };
        shutdown.run_until_cancelled(working).await;
    }

    /// Who calls, by what is shown: a bearer token, else a certificate.
    ///
    /// # Errors
    /// Why that is nobody.
    pub async fn authenticate(
        &self,
        authorization: Option<&str>,
        certificate: Option<&PeerCertificate>,
    ) -> Result<Identity, NotAuthentic> {
        let identity = match (authorization, certificate) {
            (Some(authorization), _) => {
                let token = bearer(authorization).ok_or(NotAuthentic::Header)?;
                self.by_token(token).await?
            }
            (None, Some(certificate)) => self
                .list()
                .find_certificate(certificate)
                .ok_or_else(|| NotAuthentic::UnknownCertificate(certificate.subject.clone()))?,
            (None, None) => return Err(NotAuthentic::Nothing),
        };
        if has_expired(&identity) {
            return Err(NotAuthentic::Expired);
        }
        Ok(identity)
    }

    /// Whether somebody who was known is known still, by the same credential. Cheap; for streams that stay open.
    #[must_use]
    pub fn still_knows(&self, identity: &Identity, certificate: Option<&PeerCertificate>) -> bool {
        if has_expired(identity) {
            return false;
        }
        match identity.kind {
            CredentialKind::Nothing | CredentialKind::Jwt => true,
            CredentialKind::Token => {
                self.list()
                    .find_hash(&identity.fingerprint)
                    .is_some_and(|now| {
                        now.role == identity.role
                            && now.reach == identity.reach
                            && now.is_approver == identity.is_approver
                            && now.name == identity.name
                            && !has_expired(now)
                    })
            }
            CredentialKind::Certificate => certificate
                .and_then(|certificate| self.list().find_certificate(certificate))
                .is_some_and(|now| {
                    now.role == identity.role
                        && now.reach == identity.reach
                        && now.is_approver == identity.is_approver
                        && now.name == identity.name
                }),
        }
    }

    /// When the first of the listed tokens that are good still expires, in seconds since 1970.
    #[must_use]
    pub fn soonest_expiry(&self) -> Option<i64> {
        self.list().soonest_expiry(unix_now())
    }

    async fn by_token(&self, token: &str) -> Result<Identity, NotAuthentic> {
        if let Some(identity) = self.list().find_token(token) {
            return Ok(identity.clone());
        }
        if !jwt::looks_signed(token) || matches!(self.source, KeySource::None) {
            return Err(NotAuthentic::UnknownToken);
        }
        let verify = || jwt::verify(token, &self.keys(), &self.expected, unix_now());
        let kid = match verify() {
            Err(JwtError::UnknownKey(kid)) if matches!(self.source, KeySource::Url { .. }) => kid,
            verified => return verified.map_err(NotAuthentic::Jwt),
        };
        if let Err(retry_after) = self.wait_for_key(&kid).await {
            return Err(NotAuthentic::KeyNotFetched { retry_after });
        }
        match verify() {
            Err(JwtError::UnknownKey(kid)) => match self.misses().judge(&kid, Instant::now()) {
                Miss::Later(retry_after) => Err(NotAuthentic::KeyNotFetched { retry_after }),
                Miss::Absent | Miss::Fetch | Miss::Wait => {
                    Err(NotAuthentic::Jwt(JwtError::UnknownKey(kid)))
                }
            },
            verified => verified.map_err(NotAuthentic::Jwt),
        }
    }

    /// Waits for the fetch that may bring a key, and has it begun where none was a moment ago. Else the error is when to
    /// come again.
    async fn wait_for_key(&self, kid: &str) -> Result<(), Duration> {
        // heard from here on, so that no end falls between
        let fetched = self.fetched.notified();
        match self.misses().ask(kid, Instant::now()) {
            Miss::Absent => return Ok(()),
            Miss::Later(retry_after) => return Err(retry_after),
            Miss::Fetch => self.wanted.notify_one(),
            Miss::Wait => {}
        }
        let _waiting = self.waiting.try_acquire().map_err(|_| COME_AGAIN)?;
        tokio::time::timeout(MISS_PATIENCE, fetched)
            .await
            .map_err(|_| COME_AGAIN)
    }

    async fn reread(&self, mut files: AuthFiles) {
        let (mut list_was_bad, mut keys_were_bad) = (false, false);
        loop {
            tokio::time::sleep(LOOK_INTERVAL).await;
            if let Some(file) = &mut files.list {
                let read = read_one(file).map_err(AuthError::from).and_then(|content| {
                    content
                        .map(|content| AuthFile::parse(&content))
                        .transpose()
                        .map_err(AuthError::from)
                });
                if let Some(list) = tell(read, &mut list_was_bad, "--auth-file") {
                    tracing::info!(
                        entries = list.len(),
                        "the file of credentials was read again"
                    );
                    *self.list.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(list);
                }
            }
            if let Some(file) = &mut files.keys {
                let read = read_one(file).map_err(AuthError::from).and_then(|content| {
                    content
                        .map(|content| KeySet::parse(&content))
                        .transpose()
                        .map_err(AuthError::from)
                });
                if let Some(keys) = tell(read, &mut keys_were_bad, "--auth-jwks") {
                    tracing::info!("the keys for signed tokens were read again");
                    *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
                }
            }
        }
    }

    async fn refetch(&self) {
        let KeySource::Url { url, trust } = &self.source else {
            return;
        };
        let mut wait_after_failure = FIRST_RETRY;
        let mut was_bad = false;
        loop {
            self.misses().begin(Instant::now());
            let fetched = fetch_keys(url, trust).await;
            let brought_keys = fetched.is_ok();
            let next = match fetched {
                Ok(keys) => {
                    *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
                    (wait_after_failure, was_bad) = (FIRST_RETRY, false);
                    FETCH_INTERVAL
                }
                Err(error) => {
                    if !std::mem::replace(&mut was_bad, true) {
                        tracing::warn!(
                            error = error.as_ref() as &dyn std::error::Error,
                            url = without_credentials(url),
                            "the keys for signed tokens cannot be fetched; those of before are kept, and it is tried on"
                        );
                    }
                    let wait = wait_after_failure;
                    wait_after_failure = (wait * 2).min(FETCH_INTERVAL);
                    wait
                }
            };
            self.misses().end(brought_keys);
            self.fetched.notify_waiters();
            let jitter = rand::rng().random_range(0.5..1.0);
            tokio::select! {
                () = tokio::time::sleep(next.mul_f64(jitter)) => {}
                () = self.wanted.notified() => {}
            }
        }
    }

    fn misses(&self) -> MutexGuard<'_, KeyMisses> {
        self.misses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn list(&self) -> Arc<AuthFile> {
        Arc::clone(&self.list.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn keys(&self) -> Arc<KeySet> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A URL as a log may show it: without who we are to its host.
fn without_credentials(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return String::new();
    };
    let place = rest.split(['?', '#']).next().unwrap_or_default();
    let (authority, path) = place.split_at(place.find('/').unwrap_or(place.len()));
    let host = authority.rsplit('@').next().unwrap_or_default();
    format!("{scheme}://{host}{path}")
}

/// Whether it is fetched in the clear from another machine.
fn is_open_to_forgery(url: &str) -> bool {
    let shown = without_credentials(url);
    let is_own = ["http://127.", "http://localhost", "http://[::1]"]
        .iter()
        .any(|own| shown.starts_with(own));
    shown.starts_with("http://") && !is_own
}

async fn fetch_keys(
    url: &str,
    trust: &Trust,
) -> Result<KeySet, Box<dyn std::error::Error + Send + Sync>> {
    let document = fetch(url, trust).await?;
    Ok(KeySet::parse(&document)?)
}

fn read_one(files: &mut WatchedFiles) -> Result<Option<Vec<u8>>, FileError> {
    Ok(files
        .read_changed()?
        .map(|contents| contents.into_iter().flatten().collect()))
}

/// What was read, if it can be used and is new; what cannot be used is told when that begins.
fn tell<T>(
    read: Result<Option<T>, AuthError>,
    was_bad: &mut bool,
    flag: &'static str,
) -> Option<T> {
    match read {
        Ok(None) => None,
        Ok(Some(value)) => {
            *was_bad = false;
            Some(value)
        }
        Err(error) => {
            if !std::mem::replace(was_bad, true) {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    flag,
                    "the changed file cannot be used; what was read before is kept"
                );
            }
            None
        }
    }
}

fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

fn has_expired(identity: &Identity) -> bool {
    identity
        .expires_at
        .is_some_and(|expires_at| unix_now() >= expires_at)
}

/// Seconds since 1970, by this machine's clock: credentials are held against nothing else.
#[must_use]
pub fn unix_now() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| {
            i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
        })
}

/// SHA-256.
#[must_use]
pub fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_shows_where_keys_come_from_and_not_as_whom() {
        let url = "https://user:secret@keys.example:8443/jwks?token=secret";
        assert_eq!(without_credentials(url), "https://keys.example:8443/jwks");
        for own in [
            "http://127.0.0.1:1/k",
            "http://localhost/k",
            "https://keys.example/k",
        ] {
            assert!(!is_open_to_forgery(own), "{own}");
        }
        for open in ["http://keys.example/k", "http://127.0.0.1@keys.example/k"] {
            assert!(is_open_to_forgery(open), "{open}");
        }
    }
}
