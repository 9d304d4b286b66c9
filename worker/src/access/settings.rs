//! What is said about the way to the server.

use std::fmt;
use std::path::PathBuf;

use super::bearer::Bearer;
use super::dial::Dialer;

const CA: &str = "TASKYARD_CA";
const CLIENT_CERT: &str = "TASKYARD_CLIENT_CERT";
const CLIENT_KEY: &str = "TASKYARD_CLIENT_KEY";
const TOKEN: &str = "TASKYARD_TOKEN";
const TOKEN_FILE: &str = "TASKYARD_TOKEN_FILE";
const SERVER_NAME: &str = "TASKYARD_TLS_SERVER_NAME";

/// Variables that no task gets from its worker, whatever it asks for: they are, or lead to, what the worker shows the
/// server.
pub const PRIVATE_VARIABLES: [&str; 4] = [TOKEN, TOKEN_FILE, CLIENT_CERT, CLIENT_KEY];

/// What to trust, and what to show.
#[derive(Clone, Default)]
pub struct AccessSettings {
    /// PEM file of the authorities to trust; none: those of the public web.
    pub ca: Option<PathBuf>,
    /// PEM files of a client certificate and its key.
    pub client: Option<(PathBuf, PathBuf)>,
    /// Name that the server's certificate must bear; none: the host of the address.
    pub server_name: Option<String>,
    /// A token.
    pub token: Option<String>,
    /// File with a token, which is read again as it changes.
    pub token_file: Option<PathBuf>,
}

/// Settings that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// One of two that belong together is missing.
    #[error("{CLIENT_CERT} and {CLIENT_KEY} belong together; set both or none")]
    HalfAPair,
    /// Two tokens.
    #[error("{TOKEN} and {TOKEN_FILE} are both set; set one")]
    TwoTokens,
    /// A token that no header can hold.
    #[error("{TOKEN} holds characters that no token has")]
    BadToken,
    /// A file cannot be used.
    #[error("{what} cannot be used: {problem}")]
    File {
        /// Which variable names it.
        what: &'static str,
        /// What is wrong.
        problem: String,
    },
}

impl AccessSettings {
    /// What the environment says; an empty variable says nothing.
    ///
    /// # Errors
    /// Any [`AccessError`].
    pub fn from_environment() -> Result<AccessSettings, AccessError> {
        let text = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
        let path = |name: &str| text(name).map(PathBuf::from);
        let client = match (path(CLIENT_CERT), path(CLIENT_KEY)) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            (Some(_), None) | (None, Some(_)) => return Err(AccessError::HalfAPair),
        };
        let settings = AccessSettings {
            ca: path(CA),
            client,
            server_name: text(SERVER_NAME),
            token: text(TOKEN),
            token_file: path(TOKEN_FILE),
        };
        if settings.token.is_some() && settings.token_file.is_some() {
            return Err(AccessError::TwoTokens);
        }
        Ok(settings)
    }

    /// The token.
    ///
    /// # Errors
    /// [`AccessError::BadToken`], or a file that cannot be read.
    pub fn bearer(&self) -> Result<Bearer, AccessError> {
        match (&self.token, &self.token_file) {
            (Some(token), _) => Bearer::given(token).ok_or(AccessError::BadToken),
            (None, Some(path)) => Bearer::file(path).map_err(|error| AccessError::File {
                what: TOKEN_FILE,
                problem: error.to_string(),
            }),
            (None, None) => Ok(Bearer::none()),
        }
    }

    /// Files that lead to what is shown to the server; no task gets them from its worker.
    #[must_use]
    pub fn private_files(&self) -> Vec<PathBuf> {
        let key = self.client.as_ref().map(|(_, key)| key.clone());
        self.token_file.iter().cloned().chain(key).collect()
    }

    /// What makes TLS connections to a server.
    ///
    /// # Errors
    /// A file that cannot be used.
    pub fn dialer(&self, host: &str, port: u16) -> Result<Dialer, AccessError> {
        let dialer = Dialer::new(self.clone(), host, port);
        dialer.check()?;
        Ok(dialer)
    }
}

/// The token is not shown.
impl fmt::Debug for AccessSettings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("AccessSettings")
            .field("ca", &self.ca)
            .field("client", &self.client)
            .field("server_name", &self.server_name)
            .field("token", &self.token.as_ref().map(|_| "***"))
            .field("token_file", &self.token_file)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_never_shown() {
        let settings = AccessSettings {
            token: Some("tky_verysecret".to_owned()),
            ..AccessSettings::default()
        };
        let bearer = settings.bearer().expect("a token");
        for shown in [format!("{settings:?}"), format!("{bearer:?}")] {
            assert!(!shown.contains("verysecret"), "{shown}");
        }
    }
}
