//! The flags of `server` that say who is believed: TLS, tokens, and how long it is kept who did what.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use taskyard_server::{AuthSettings, ClientAuth, DEFAULT_AUDIT_RETENTION, TlsSettings};

use crate::dev::listen::Guard;
use crate::failure::Failure;
use crate::quantity::parse_audit_retention;

/// Whose connections and credentials are believed. They have no room in the help, which names them.
#[derive(Debug, Clone, Args)]
pub struct IdentityArguments {
    /// Certificate chain to serve with, as PEM; read again when it changes
    #[arg(long, value_name = "FILE", env = "TASKYARD_TLS_CERT", hide = true)]
    pub tls_cert: Option<PathBuf>,
    /// Its private key, as PEM
    #[arg(long, value_name = "FILE", env = "TASKYARD_TLS_KEY", hide = true)]
    pub tls_key: Option<PathBuf>,
    /// Authorities whose client certificates are believed, as PEM
    #[arg(long, value_name = "FILE", env = "TASKYARD_TLS_CLIENT_CA", hide = true)]
    pub tls_client_ca: Option<PathBuf>,
    /// Whether clients must show a certificate [default: required]
    #[arg(
        long,
        value_name = "WORD",
        env = "TASKYARD_TLS_CLIENT_AUTH",
        hide = true
    )]
    pub tls_client_auth: Option<ClientAuthName>,
    /// Keys of those who sign tokens: path or URL of a JWK set
    #[arg(long, value_name = "FILE|URL", env = "TASKYARD_AUTH_JWKS", hide = true)]
    pub auth_jwks: Option<String>,
    /// Authorities that certify the URL of these keys, as PEM, in place of those of the public web
    #[arg(long, value_name = "FILE", env = "TASKYARD_AUTH_JWKS_CA", hide = true)]
    pub auth_jwks_ca: Option<PathBuf>,
    /// Who must have issued a signed token
    #[arg(long, value_name = "TEXT", env = "TASKYARD_AUTH_ISSUER", hide = true)]
    pub auth_issuer: Option<String>,
    /// Whom a signed token must be meant for
    #[arg(
        long,
        value_name = "TEXT",
        env = "TASKYARD_AUTH_AUDIENCE",
        default_value = "taskyard",
        hide = true
    )]
    pub auth_audience: String,
    /// File with hashes of tokens, and who client certificates stand for
    #[arg(long, value_name = "FILE", env = "TASKYARD_AUTH_FILE", hide = true)]
    pub auth_file: Option<PathBuf>,
    /// Allow authentication without TLS on an address that others can reach
    #[arg(
        long,
        env = "TASKYARD_PLAINTEXT_LISTEN",
        value_parser = clap::builder::FalseyValueParser::new(),
        action = clap::ArgAction::SetTrue,
        hide = true
    )]
    pub plaintext_listen: bool,
    /// For how long it is kept who did what, 7d to 3660d [default: 90d]
    #[arg(long, value_name = "DURATION", env = "TASKYARD_AUDIT_RETENTION", value_parser = parse_audit_retention, hide = true)]
    pub audit_retention: Option<Duration>,
}

/// Whether clients must show a certificate.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum ClientAuthName {
    Required,
    Optional,
}

/// The same, checked.
#[derive(Debug)]
pub struct CheckedIdentity {
    pub tls: Option<TlsSettings>,
    pub auth: AuthSettings,
    pub audit_retention: Duration,
}

impl IdentityArguments {
    /// What stands before the port.
    pub fn guard(&self) -> Guard {
        let asks_who = self.auth_jwks.is_some() || self.auth_file.is_some();
        match (asks_who, self.tls_cert.is_some() || self.plaintext_listen) {
            (false, _) => Guard::Open,
            (true, false) => Guard::Plaintext,
            (true, true) => Guard::Guarded,
        }
    }

    /// Checks what belongs together.
    pub fn checked(self) -> Result<CheckedIdentity, Failure> {
        let client_auth = match self.tls_client_auth {
            None | Some(ClientAuthName::Required) => ClientAuth::Required,
            Some(ClientAuthName::Optional) => ClientAuth::Optional,
        };
        let usage = |text: &str| Err(Failure::Usage(text.to_owned()));
        let tls = match (self.tls_cert, self.tls_key) {
            (Some(certificate), Some(key)) => Some(TlsSettings {
                certificate,
                key,
                client_ca: self.tls_client_ca,
                client_auth,
            }),
            (None, None) if self.tls_client_ca.is_some() => {
                return usage("--tls-client-ca needs --tls-cert and --tls-key");
            }
            (None, None) => None,
            (Some(_), None) | (None, Some(_)) => {
                return usage("--tls-cert and --tls-key belong together; give both or none");
            }
        };
        if self.auth_issuer.is_some() && self.auth_jwks.is_none() {
            return usage("--auth-issuer is about signed tokens; give --auth-jwks, too");
        }
        let keys = self.auth_jwks.as_deref().unwrap_or_default();
        if self.auth_jwks_ca.is_some() && !keys.starts_with("https://") {
            return usage(
                "--auth-jwks-ca is for keys that are fetched; give --auth-jwks an https:// URL",
            );
        }
        Ok(CheckedIdentity {
            tls,
            auth: AuthSettings {
                jwks: self.auth_jwks,
                jwks_ca: self.auth_jwks_ca,
                issuer: self.auth_issuer,
                audience: self.auth_audience,
                file: self.auth_file,
            },
            audit_retention: self.audit_retention.unwrap_or(DEFAULT_AUDIT_RETENTION),
        })
    }
}
