//! A known caller.

use super::{reach::Reach, role::Role};
use std::{fmt, net::SocketAddr, sync::Arc};

/// What a caller showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialKind {
    /// Nothing: the server asks for nothing.
    Nothing,
    /// A static token.
    Token,
    /// A signed token.
    Jwt,
    /// A client certificate.
    Certificate,
}

impl CredentialKind {
    /// In one word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Nothing => "none",
            Self::Token => "token",
            Self::Jwt => "jwt",
            Self::Certificate => "certificate",
        }
    }
}

/// A known caller. It holds nothing that must be kept secret.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Its name.
    pub name: String,
    /// What it showed.
    pub kind: CredentialKind,
    /// Its role.
    pub role: Role,
    /// Whether it may answer questions that are for approvers.
    pub is_approver: bool,
    /// What it reaches.
    pub reach: Reach,
    /// When what it showed expires, in seconds since 1970.
    pub expires_at: Option<i64>,
    /// What stands for the credential itself: the same text for the same one, nothing that could be used as one.
    pub fingerprint: [u8; 32],
}

/// Where a call comes from, and as whom. It goes with each request, in its extensions.
#[derive(Clone, Debug)]
pub struct Calling {
    /// As whom.
    pub identity: Arc<Identity>,
    /// From where, as far as the connection tells.
    pub peer: Option<SocketAddr>,
}

impl Identity {
    /// Everybody, where nobody has to say who they are.
    #[must_use]
    pub fn unknown(is_loopback: bool) -> Self {
        Self {
            name: if is_loopback { "loopback" } else { "anonymous" }.to_owned(),
            kind: CredentialKind::Nothing,
            role: Role::Admin,
            is_approver: true,
            reach: Reach::default(),
            expires_at: None,
            fingerprint: [0; 32],
        }
    }

    /// Whose leases are whose: the holder of a lease may act under it, whichever of its credentials it shows. None where
    /// nobody has to say who they are.
    #[must_use]
    pub fn holder(&self) -> Option<String> {
        match self.kind {
            CredentialKind::Nothing => None,
            CredentialKind::Token | CredentialKind::Jwt | CredentialKind::Certificate => {
                Some(format!("{}:{}", self.kind.as_str(), self.name))
            }
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?} ({})", self.name, self.role.as_str())
    }
}
