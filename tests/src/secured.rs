//! Credentials for a server that asks who one is: tokens and the file that lists them, signed tokens and their keys,
//! certificates of an authority of the test's own.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
};
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tonic::Request;
use tonic::metadata::MetadataValue;

/// A request with a token.
pub fn with_token<T>(token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let value = MetadataValue::try_from(format!("Bearer {token}"))
        .unwrap_or_else(|error| panic!("no header can hold the token: {error}"));
    request.metadata_mut().insert("authorization", value);
    request
}

/// The entry of a token; `rest` is more of it, such as `role: client, namespaces: [a]`.
pub fn entry(token: &str, rest: &str) -> String {
    let hash: String = Sha256::digest(token.as_bytes())
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("- {{name: {token}, sha256: \"{hash}\", {rest}}}\n")
}

/// Writes a file of tokens; each is its own name.
pub fn write_tokens(path: &Path, entries: &[(&str, &str)]) {
    let entries: String = entries
        .iter()
        .map(|(token, rest)| entry(token, rest))
        .collect();
    replace(path, format!("tokens:\n{entries}").as_bytes());
}

/// Writes a file so that readers see the old one or the new one.
pub fn replace(path: &Path, content: &[u8]) {
    let next = path.with_extension("next");
    std::fs::write(&next, content)
        .and_then(|()| std::fs::rename(&next, path))
        .unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
}

/// Seconds since 1970, so many from now.
pub fn seconds_from_now(seconds: i64) -> i64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |now| now.as_secs());
    i64::try_from(now).unwrap_or(i64::MAX) + seconds
}

/// Who signs tokens.
pub struct Signer {
    kid: String,
    key: Ed25519KeyPair,
}

impl Signer {
    /// One with a new key of that name.
    pub fn new(kid: &str) -> Signer {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new())
            .unwrap_or_else(|error| panic!("no key: {error}"));
        let key = Ed25519KeyPair::from_pkcs8(document.as_ref())
            .unwrap_or_else(|error| panic!("no key: {error}"));
        Signer {
            kid: kid.to_owned(),
            key,
        }
    }

    /// Its public key, as a set of one.
    pub fn jwks(&self) -> String {
        let x = URL_SAFE_NO_PAD.encode(self.key.public_key().as_ref());
        json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": self.kid, "x": x}]})
            .to_string()
    }

    /// A token for `name`, good for a minute; `change` may make it another one.
    pub fn token(&self, name: &str, grant: Value, change: impl FnOnce(&mut Value)) -> String {
        let mut claims = json!({
            "sub": name, "aud": "taskyard", "iss": "https://id.example", "exp": seconds_from_now(600), "taskyard": grant,
        });
        change(&mut claims);
        self.signed(&json!({"alg": "EdDSA", "kid": self.kid}), &claims)
    }

    /// Any claims under any header.
    pub fn signed(&self, header: &Value, claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(header), part(claims));
        let signature = URL_SAFE_NO_PAD.encode(self.key.sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    }
}

/// An authority, and a folder for what it issues.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: PathBuf,
    name: String,
}

impl Authority {
    /// A new one. Its own certificate lies in `folder` as `NAME.pem`.
    pub fn new(folder: &Path, name: &str) -> Authority {
        let mut params = CertificateParams::new(Vec::<String>::new())
            .unwrap_or_else(|error| panic!("no names: {error}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap_or_else(|error| panic!("no key: {error}"));
        let issuer = CertifiedIssuer::self_signed(params, key)
            .unwrap_or_else(|error| panic!("no authority: {error}"));
        let authority = Authority {
            issuer,
            folder: folder.to_owned(),
            name: name.to_owned(),
        };
        replace(&authority.path(), authority.issuer.pem().as_bytes());
        authority
    }

    /// Where its certificate lies.
    pub fn path(&self) -> PathBuf {
        self.folder.join(format!("{}.pem", self.name))
    }

    /// A certificate of that common name for this machine, and its key: `FILE.crt` and `FILE.key`.
    pub fn issue(&self, file: &str, common_name: &str) -> (PathBuf, PathBuf) {
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let mut params =
            CertificateParams::new(names).unwrap_or_else(|error| panic!("no names: {error}"));
        params
            .distinguished_name
            .push(DnType::CommonName, common_name);
        let key = KeyPair::generate().unwrap_or_else(|error| panic!("no key: {error}"));
        let certificate = params
            .signed_by(&key, &self.issuer)
            .unwrap_or_else(|error| panic!("no certificate: {error}"));
        let at = |extension: &str| self.folder.join(format!("{file}.{extension}"));
        replace(&at("key"), key.serialize_pem().as_bytes());
        replace(&at("crt"), certificate.pem().as_bytes());
        (at("crt"), at("key"))
    }
}

/// A path as text.
pub fn text(path: &Path) -> &str {
    path.to_str()
        .unwrap_or_else(|| panic!("{} is no text", path.display()))
}
