//! Who a client certificate names.

use super::authenticator::digest;
use rustls::pki_types::CertificateDer;
use std::fmt::Write;
use x509_parser::{
    objects::{oid_registry, oid2abbrev},
    prelude::{AttributeTypeAndValue, FromDer, GeneralName, X509Certificate, X509Name},
};

/// What counts of a client's certificate, which was verified when the connection was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerCertificate {
    /// Its subject, such as `CN=worker-1, O=Example`, in the order of the certificate. What separates attributes is escaped
    /// in their values as in RFC 4514, so no value can pass for several.
    pub subject: String,
    /// The common name in it, if there is one.
    pub common_name: Option<String>,
    /// Its alternative names, each with its sort: `DNS:`, `email:`, `URI:`.
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
            subject: subject_text(certificate.subject()),
            common_name,
            names,
            not_after: certificate.validity().not_after.timestamp(),
            fingerprint: digest(der),
        })
    }

    /// Whether `subject` is its whole subject.
    #[must_use]
    pub fn has_subject(&self, subject: &str) -> bool {
        self.subject == subject
    }

    /// Whether `name` is the common name in its subject.
    #[must_use]
    pub fn has_common_name(&self, name: &str) -> bool {
        self.common_name.as_deref() == Some(name)
    }

    /// Whether `name`, with its sort, is one of its alternative names.
    #[must_use]
    pub fn has_name(&self, name: &str) -> bool {
        self.names.iter().any(|own| own == name)
    }
}

fn subject_text(subject: &X509Name<'_>) -> String {
    let parts: Vec<String> = subject
        .iter_rdn()
        .map(|part| {
            let attributes: Vec<String> = part.iter().map(attribute_text).collect();
            attributes.join(" + ")
        })
        .collect();
    parts.join(", ")
}

fn attribute_text(attribute: &AttributeTypeAndValue<'_>) -> String {
    let kind = attribute.attr_type();
    let kind = oid2abbrev(kind, oid_registry())
        .map_or_else(|_| kind.to_id_string(), |name| name.to_owned());
    match attribute.as_str() {
        Ok(value) => format!("{kind}={}", escape(value)),
        Err(_) => {
            // no text that is read here
            let mut text = format!("{kind}=#");
            for byte in attribute.as_slice() {
                // nothing fails to be written to a string
                let _ = write!(text, "{byte:02x}");
            }
            text
        }
    }
}

/// A value as RFC 4514 writes it.
fn escape(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    let last = value.chars().count().saturating_sub(1);
    for (at, letter) in value.chars().enumerate() {
        match letter {
            ',' | '+' | '"' | '\\' | '<' | '>' | ';' | '=' => escaped.extend(['\\', letter]),
            '#' if at == 0 => escaped.push_str("\\#"),
            ' ' if at == 0 || at == last => escaped.push_str("\\ "),
            letter if letter.is_control() => {
                let mut bytes = [0; 4];
                for byte in letter.encode_utf8(&mut bytes).bytes() {
                    // nothing fails to be written to a string
                    let _ = write!(escaped, "\\{byte:02x}");
                }
            }
            letter => escaped.push(letter),
        }
    }
    escaped
}

fn text(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some(format!("DNS:{name}")),
        GeneralName::RFC822Name(name) => Some(format!("email:{name}")),
        GeneralName::URI(name) => Some(format!("URI:{name}")),
        GeneralName::OtherName(..)
        | GeneralName::X400Address(_)
        | GeneralName::DirectoryName(_)
        | GeneralName::EDIPartyName(_)
        | GeneralName::IPAddress(_)
        | GeneralName::RegisteredID(_)
        | GeneralName::Invalid(..) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_value_passes_for_several_attributes() {
        for (value, escaped) in [
            ("worker-1.example", "worker-1.example"),
            ("operator, O=Admins", "operator\\, O\\=Admins"),
            ("a + b", "a \\+ b"),
            ("\\, ", "\\\\\\,\\ "),
            (" #", "\\ #"),
            ("#1", "\\#1"),
            ("a\0b", "a\\00b"),
            (" ", "\\ "),
            ("", ""),
        ] {
            assert_eq!(escape(value), escaped, "{value:?}");
        }
    }
}
