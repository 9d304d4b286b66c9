//! The file of static tokens and client certificates. It holds hashes, never a token.

use super::{
    authenticator::digest,
    certificate::PeerCertificate,
    principal::{CredentialKind, Identity},
    reach::{BadPattern, Patterns, Reach},
    role::Role,
};
use serde::Deserialize;
use std::collections::HashMap;

/// What a static token begins with, so that one that leaks is recognised.
pub const TOKEN_PREFIX: &str = "tky_";
/// Longest name of a credential, in bytes.
pub const MAX_NAME_BYTES: usize = 128;

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AuthFileError {
    /// It is no YAML of this shape.
    #[error("it cannot be read: {0}")]
    Form(#[from] serde_yaml_ng::Error),
    /// Its entries stand below no key.
    #[error(
        "it begins with an entry; the line `tokens:` must stand above the entries of `taskyard token new`"
    )]
    NoKey,
    /// One of its entries makes no sense.
    #[error("{list}[{index}]: {problem}")]
    Entry {
        /// Which list.
        list: &'static str,
        /// Which entry, from 0.
        index: usize,
        /// What is wrong with it.
        problem: String,
    },
}

/// Everybody in the file.
#[derive(Debug, Default)]
pub struct AuthFile {
    tokens: HashMap<[u8; 32], Identity>,
    certificates: Vec<KnownCertificate>,
}

#[derive(Debug)]
struct KnownCertificate {
    mark: Mark,
    identity: Identity,
}

/// By what a certificate is known.
#[derive(Debug)]
enum Mark {
    Subject(String),
    CommonName(String),
    Name(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    tokens: Vec<TokenEntry>,
    #[serde(default)]
    certificates: Vec<CertificateEntry>,
}

/// What both kinds of entry say.
struct Common {
    name: String,
    role: String,
    approver: bool,
    namespaces: Option<Vec<String>>,
    sessions: Option<Vec<String>>,
    pools: Option<Vec<String>>,
    expires_at: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenEntry {
    name: String,
    sha256: String,
    role: String,
    #[serde(default)]
    approver: bool,
    #[serde(default)]
    namespaces: Option<Vec<String>>,
    #[serde(default)]
    sessions: Option<Vec<String>>,
    #[serde(default)]
    pools: Option<Vec<String>>,
    #[serde(default)]
    expires_at: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CertificateEntry {
    name: String,
    #[serde(default)]
    subject: Option<String>,
    #[serde(default)]
    common_name: Option<String>,
    #[serde(default)]
    san: Option<String>,
    role: String,
    #[serde(default)]
    approver: bool,
    #[serde(default)]
    namespaces: Option<Vec<String>>,
    #[serde(default)]
    sessions: Option<Vec<String>>,
    #[serde(default)]
    pools: Option<Vec<String>>,
    #[serde(default)]
    expires_at: Option<String>,
}

impl AuthFile {
    /// Reads the file. One bad entry spoils all of it: who is left out by a slip would learn of it too late.
    ///
    /// # Errors
    /// Any [`AuthFileError`].
    pub fn parse(yaml: &[u8]) -> Result<Self, AuthFileError> {
        let read = serde_yaml_ng::from_slice(yaml);
        let is_list = || serde_yaml_ng::from_slice::<Vec<serde::de::IgnoredAny>>(yaml).is_ok();
        if read.is_err() && is_list() {
            return Err(AuthFileError::NoKey);
        }
        let document: Document = read?;
        let mut file = Self::default();
        for (index, entry) in document.tokens.into_iter().enumerate() {
            let bad = |problem: String| AuthFileError::Entry {
                list: "tokens",
                index,
                problem,
            };
            let hash = parse_hash(&entry.sha256)
                .ok_or_else(|| bad("sha256 must be 64 hexadecimal digits".to_owned()))?;
            let common = Common {
                name: entry.name,
                role: entry.role,
                approver: entry.approver,
                namespaces: entry.namespaces,
                sessions: entry.sessions,
                pools: entry.pools,
                expires_at: entry.expires_at,
            };
            let identity = common.identity(CredentialKind::Token, hash).map_err(bad)?;
            if file.tokens.insert(hash, identity).is_some() {
                return Err(bad("another entry has the same sha256".to_owned()));
            }
        }
        for (index, entry) in document.certificates.into_iter().enumerate() {
            let bad = |problem: String| AuthFileError::Entry {
                list: "certificates",
                index,
                problem,
            };
            let mark = Mark::parse(entry.subject, entry.common_name, entry.san).map_err(bad)?;
            let common = Common {
                name: entry.name,
                role: entry.role,
                approver: entry.approver,
                namespaces: entry.namespaces,
                sessions: entry.sessions,
                pools: entry.pools,
                expires_at: entry.expires_at,
            };
            let identity = common
                .identity(CredentialKind::Certificate, [0; 32])
                .map_err(bad)?;
            file.certificates.push(KnownCertificate { mark, identity });
        }
        Ok(file)
    }

    /// Who holds a token.
    #[must_use]
    pub fn find_token(&self, token: &str) -> Option<&Identity> {
        self.find_hash(&digest(token.as_bytes()))
    }

    /// Who holds the token with a hash. The look takes a time that depends on the hash, and that tells nothing: who tries
    /// tokens chooses texts, not hashes, so how much of a hash is right says nothing of the text that has the whole of it.
    #[must_use]
    pub fn find_hash(&self, hash: &[u8; 32]) -> Option<&Identity> {
        self.tokens.get(hash)
    }

    /// Whom a certificate stands for: the first entry that fits.
    #[must_use]
    pub fn find_certificate(&self, certificate: &PeerCertificate) -> Option<Identity> {
        let known = self
            .certificates
            .iter()
            .find(|known| known.mark.fits(certificate))?;
        let mut identity = known.identity.clone();
        identity.fingerprint = certificate.fingerprint;
        identity.expires_at = Some(
            identity
                .expires_at
                .unwrap_or(i64::MAX)
                .min(certificate.not_after),
        );
        Some(identity)
    }

    /// When the first of the tokens that have not expired at `now` does, both in seconds since 1970.
    #[must_use]
    pub fn soonest_expiry(&self, now: i64) -> Option<i64> {
        let ends = self.tokens.values().filter_map(|token| token.expires_at);
        ends.filter(|end| *end > now).min()
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tokens.len() + self.certificates.len()
    }

    /// Whether there is no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Mark {
    fn parse(
        subject: Option<String>,
        common_name: Option<String>,
        san: Option<String>,
    ) -> Result<Self, String> {
        match (subject, common_name, san) {
            (Some(subject), None, None) if subject.contains('=') => Ok(Self::Subject(subject)),
            (Some(_), None, None) => Err(
                "subject must be a whole one, such as CN=worker-1, O=Example; for the common name in it say common_name"
                    .to_owned(),
            ),
            (None, Some(name), None) if !name.is_empty() => Ok(Self::CommonName(name)),
            (None, None, Some(name))
                if ["DNS:", "URI:", "email:"]
                    .iter()
                    .any(|sort| name.len() > sort.len() && name.starts_with(sort)) =>
            {
                Ok(Self::Name(name))
            }
            (None, None, Some(_)) => {
                Err("san must begin with DNS:, URI: or email:, and name something".to_owned())
            }
            (Some(_) | None, Some(_) | None, Some(_) | None) => {
                Err("needs one of subject, common_name and san".to_owned())
            }
        }
    }

    fn fits(&self, certificate: &PeerCertificate) -> bool {
        match self {
            Self::Subject(subject) => certificate.has_subject(subject),
            Self::CommonName(name) => certificate.has_common_name(name),
            Self::Name(name) => certificate.has_name(name),
        }
    }
}

impl Common {
    fn identity(self, kind: CredentialKind, fingerprint: [u8; 32]) -> Result<Identity, String> {
        let role = Role::parse(&self.role)
            .ok_or_else(|| format!("{:?} is no role: {}", self.role, roles()))?;
        let expires_at = self
            .expires_at
            .map(|text| {
                chrono::DateTime::parse_from_rfc3339(&text)
                    .map(|time| time.timestamp())
                    .map_err(|_| {
                        format!("expires_at {text:?} is no time such as 2027-01-31T12:00:00Z")
                    })
            })
            .transpose()?;
        build(
            self.name,
            kind,
            role,
            self.approver,
            [self.namespaces, self.sessions, self.pools],
            expires_at,
            fingerprint,
        )
    }
}

/// A caller, of what a file or a signed token says of it; `lists` are namespaces, sessions and pools; what is left
/// out is all of them.
pub(super) fn build(
    name: String,
    kind: CredentialKind,
    role: Role,
    approver: bool,
    lists: [Option<Vec<String>>; 3],
    expires_at: Option<i64>,
    fingerprint: [u8; 32],
) -> Result<Identity, String> {
    if name.is_empty() || name.len() > MAX_NAME_BYTES || name.chars().any(char::is_control) {
        return Err(format!(
            "the name must have 1 to {MAX_NAME_BYTES} bytes without control characters"
        ));
    }
    if role == Role::Worker && approver {
        return Err("a worker speaks for tasks, so it is no approver".to_owned());
    }
    let list = |what: &str, patterns: Option<Vec<String>>| match patterns {
        None => Ok(Patterns::all()),
        Some(patterns) => {
            Patterns::parse(patterns).map_err(|error: BadPattern| format!("{what}: {error}"))
        }
    };
    let [namespaces, sessions, pools] = lists;
    let reach = Reach {
        namespaces: list("namespaces", namespaces)?,
        sessions: list("sessions", sessions)?,
        pools: list("pools", pools)?,
    };
    if role == Role::Worker && !reach.is_whole() {
        return Err(
            "a worker runs tasks of all namespaces and sessions; narrow it by pools".to_owned(),
        );
    }
    Ok(Identity {
        name,
        kind,
        role,
        is_approver: approver || role.approves(),
        reach,
        expires_at,
        fingerprint,
    })
}

/// The roles, as a person is told them.
pub(super) fn roles() -> String {
    Role::ALL.map(Role::as_str).join(", ")
}

fn parse_hash(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    let mut hash = [0; 32];
    for (byte, digits) in hash.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(hash: [u8; 32]) -> String {
        hash.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn a_token_is_found_by_its_hash() {
        let yaml = format!(
            "tokens:\n- {{name: ci, sha256: {}, role: client, namespaces: [team-a], sessions: ['ci-*'], expires_at: 2027-01-01T00:00:00Z}}\n",
            hex(digest(b"tky_secret"))
        );
        let file = AuthFile::parse(yaml.as_bytes()).expect("good");
        let found = file.find_token("tky_secret").expect("known");
        assert_eq!((found.name.as_str(), found.role), ("ci", Role::Client));
        assert!(found.reach.namespaces.allow("team-a") && !found.reach.namespaces.allow("b"));
        assert_eq!(found.expires_at, Some(1_798_761_600));
        assert!(file.find_token("tky_other").is_none());
    }

    #[test]
    fn one_bad_entry_spoils_the_file() {
        let hash = hex([7; 32]);
        for (entry, problem) in [
            (
                format!("{{name: a, sha256: {hash}, role: owner}}"),
                "no role",
            ),
            ("{name: a, sha256: 12, role: admin}".to_owned(), "64"),
            (format!("{{name: '', sha256: {hash}, role: admin}}"), "name"),
            (
                format!("{{name: a, sha256: {hash}, role: worker, namespaces: [x]}}"),
                "pools",
            ),
            (
                format!("{{name: a, sha256: {hash}, role: worker, approver: true}}"),
                "approver",
            ),
            (
                format!("{{name: a, sha256: {hash}, role: client, namespaces: []}}"),
                "namespaces: an empty list",
            ),
            (
                format!("{{name: a, sha256: {hash}, role: client, sessions: []}}"),
                "sessions: an empty list",
            ),
            (
                format!("{{name: a, sha256: {hash}, role: admin, expires_at: soon}}"),
                "expires_at",
            ),
            (
                format!("{{name: a, sha256: {hash}, role: admin, token: x}}"),
                "unknown field",
            ),
        ] {
            let refused = AuthFile::parse(format!("tokens:\n- {entry}\n").as_bytes())
                .expect_err(&entry)
                .to_string();
            assert!(refused.contains(problem), "{entry}: {refused}");
        }
        for mark in [
            "",
            "subject: worker-1,",
            "common_name: '',",
            "san: ops.example,",
            "san: 'DNS:',",
            "common_name: a, san: 'DNS:a',",
        ] {
            let entry = format!("certificates:\n- {{name: a, {mark} role: admin}}\n");
            assert!(AuthFile::parse(entry.as_bytes()).is_err(), "{mark}");
        }
    }

    #[test]
    fn entries_without_the_line_above_them_are_told_which() {
        let entries = b"- name: a\n  role: admin\n";
        let refused = AuthFile::parse(entries).expect_err("no key");
        assert!(matches!(refused, AuthFileError::NoKey), "{refused}");
        assert!(refused.to_string().contains("`tokens:`"), "{refused}");
    }

    #[test]
    fn a_certificate_is_known_by_its_subject_or_a_name() {
        let yaml = b"certificates:\n- {name: w, common_name: worker-1, role: worker, pools: [gpu]}\n- {name: ops, san: 'DNS:ops.example', role: admin}\n- {name: whole, subject: 'CN=operator, O=Admins', role: admin}\n";
        let file = AuthFile::parse(yaml).expect("good");
        let mut certificate = PeerCertificate {
            subject: "CN=worker-1, O=Example".to_owned(),
            common_name: Some("worker-1".to_owned()),
            names: Vec::new(),
            not_after: 77,
            fingerprint: [1; 32],
        };
        let found = file.find_certificate(&certificate).expect("known");
        assert_eq!((found.name.as_str(), found.expires_at), ("w", Some(77)));
        certificate.common_name = Some("ops.example".to_owned());
        certificate.subject = "CN=ops.example".to_owned();
        assert!(file.find_certificate(&certificate).is_none());
        certificate.names = vec!["URI:ops.example".to_owned()];
        assert!(file.find_certificate(&certificate).is_none());
        certificate.common_name = Some("CN=operator, O=Admins".to_owned());
        assert!(file.find_certificate(&certificate).is_none());
        certificate.names = vec!["DNS:ops.example".to_owned()];
        assert_eq!(
            file.find_certificate(&certificate).map(|found| found.role),
            Some(Role::Admin)
        );
    }
}
