//! What an operator says about TLS and authentication.

use std::path::PathBuf;

/// The audience that a bearer token must name where nothing else is said.
pub const DEFAULT_AUDIENCE: &str = "taskyard";

/// How connections are encrypted.
#[derive(Clone, Debug)]
pub struct TlsSettings {
    /// The server's certificate chain, as PEM.
    pub certificate: PathBuf,
    /// Its private key, as PEM.
    pub key: PathBuf,
    /// Authorities whose client certificates are believed, as PEM; none: clients show no certificate.
    pub client_ca: Option<PathBuf>,
    /// Whether a client must show one.
    pub client_auth: ClientAuth,
}

/// Whether a client must show a certificate where client certificates are verified.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientAuth {
    /// Nobody connects without one.
    #[default]
    Required,
    /// One that is shown must be good; none is fine, too.
    Optional,
}

/// Whose credentials are believed. With neither keys nor a file there is no authentication: every caller may do all.
#[derive(Clone, Debug)]
pub struct AuthSettings {
    /// Keys of those who sign bearer tokens: path or URL of a JWK set.
    pub jwks: Option<String>,
    /// Authorities that the URL's certificate is held against, as PEM; none: those of the public web.
    pub jwks_ca: Option<PathBuf>,
    /// Who must have issued a bearer token; none: whoever has the keys.
    pub issuer: Option<String>,
    /// Whom a bearer token must be meant for.
    pub audience: String,
    /// File with the hashes of static tokens, and who client certificates stand for.
    pub file: Option<PathBuf>,
}

impl Default for AuthSettings {
    fn default() -> Self {
        Self {
            jwks: None,
            jwks_ca: None,
            issuer: None,
            audience: DEFAULT_AUDIENCE.to_owned(),
            file: None,
        }
    }
}

impl AuthSettings {
    /// Whether callers have to say who they are.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.jwks.is_some() || self.file.is_some()
    }
}
