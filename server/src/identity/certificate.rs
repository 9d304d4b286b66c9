//! Who a client certificate names.

use super::authenticator::digest;
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// What counts of a client's certificate, which was verified when the connection was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerCertificate {
    /// Its subject, such as `CN=worker-1, O=Example`.
    pub subject: String,
    /// The common name in it, if there is one.
    pub common_name: Option<String>,
    /// Its alternative names: DNS names, e-mail addresses, URIs.
    pub names: Vec<String>,
    /// The end of its validity, in seconds since 1970.
    pub not_after: i64,
    /// SHA-256 of it.
    pub fingerprint: [u8; 32],
}

impl PeerCertificate {
    /// None for what is no X.509 certificate.
    #[must_use]
    pub fn read(der: &CertificateDer<'_>) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let common_name = certificate
            .subject()
            .iter_common_name()
            .next()
            .and_then(|name| name.as_str().ok())
            .map(str::to_owned);
        let names = certificate
            .subject_alternative_name()
            .ok()
            .flatten()
            .map(|extension| {
                extension
                    .value
                    .general_names
                    .iter()
                    .filter_map(text)
                    .collect()
            })
            .unwrap_or_default();
        Some(Self {
            subject: certificate.subject().to_string(),
            common_name,
            names,
            not_after: certificate.validity().not_after.timestamp(),
            fingerprint: digest(der),
        })
    }

    /// Whether `subject` is its subject, or the common name in it.
    #[must_use]
    pub fn has_subject(&self, subject: &str) -> bool {
        self.subject == subject || self.common_name.as_deref() == Some(subject)
    }

    /// Whether `name` is one of its alternative names.
    #[must_use]
    pub fn has_name(&self, name: &str) -> bool {
        self.names.iter().any(|own| own == name)
    }
}

fn text(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) | GeneralName::RFC822Name(name) | GeneralName::URI(name) => {
            Some((*name).to_owned())
        }
        GeneralName::OtherName(..)
        | GeneralName::X400Address(_)
        | GeneralName::DirectoryName(_)
        | GeneralName::EDIPartyName(_)
        | GeneralName::IPAddress(_)
        | GeneralName::RegisteredID(_)
        | GeneralName::Invalid(..) => None,
    }
}
