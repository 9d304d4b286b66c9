//! Keys that signed tokens are verified with. A key is of one algorithm, and the token has no say in that.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::signature::{
    ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use serde::Deserialize;

/// Most keys in a set.
const MAX_KEYS: usize = 100;

/// Keys that tokens may be signed with.
#[derive(Debug, Default)]
pub struct KeySet {
    keys: Vec<Key>,
}

#[derive(Debug)]
struct Key {
    kid: Option<String>,
    public: PublicKey,
}

#[derive(Debug)]
enum PublicKey {
    Ed25519(Vec<u8>),
    Rsa { modulus: Vec<u8>, exponent: Vec<u8> },
}

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub enum KeySetError {
    /// It is no JWK set.
    #[error("it is no JWK set: {0}")]
    Form(#[from] serde_json::Error),
    /// None of its keys can be used.
    #[error("it holds no Ed25519 or RSA key for signatures")]
    Empty,
    /// Too many.
    #[error("it holds more than {MAX_KEYS} keys")]
    TooMany,
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<Jwk>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    alg: Option<String>,
    crv: Option<String>,
    x: Option<String>,
    n: Option<String>,
    e: Option<String>,
}

impl KeySet {
    /// Reads a JWK set. Keys that are of another kind, or not for signatures, are passed over.
    ///
    /// # Errors
    /// Any [`KeySetError`].
    pub fn parse(json: &[u8]) -> Result<Self, KeySetError> {
        let document: Document = serde_json::from_slice(json)?;
        if document.keys.len() > MAX_KEYS {
            return Err(KeySetError::TooMany);
        }
        let keys: Vec<Key> = document.keys.into_iter().filter_map(read_key).collect();
        if keys.is_empty() {
            return Err(KeySetError::Empty);
        }
        Ok(Self { keys })
    }

    /// Whether there is no key at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Whether there is a key of that name.
    #[must_use]
    pub fn knows(&self, kid: &str) -> bool {
        self.keys.iter().any(|key| key.kid.as_deref() == Some(kid))
    }

    /// Whether a signature is of one of the keys: of that named `kid`, or, where the token names none, of any.
    #[must_use]
    pub fn verify(
        &self,
        algorithm: Algorithm,
        kid: Option<&str>,
        message: &[u8],
        signature: &[u8],
    ) -> bool {
        self.keys
            .iter()
            .filter(|key| kid.is_none() || key.kid.as_deref() == kid)
            .any(|key| match (&key.public, algorithm) {
                (PublicKey::Ed25519(public), Algorithm::EdDsa) => {
                    UnparsedPublicKey::new(&ED25519, public)
                        .verify(message, signature)
                        .is_ok()
                }
                (PublicKey::Rsa { modulus, exponent }, Algorithm::Rs256) => {
                    let public = RsaPublicKeyComponents {
                        n: modulus,
                        e: exponent,
                    };
                    public
                        .verify(&RSA_PKCS1_2048_8192_SHA256, message, signature)
                        .is_ok()
                }
                (PublicKey::Ed25519(_), Algorithm::Rs256)
                | (PublicKey::Rsa { .. }, Algorithm::EdDsa) => false,
            })
    }
}

/// The algorithms that are spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// Ed25519.
    EdDsa,
    /// RSA with PKCS #1 v1.5 padding and SHA-256, 2,048 bits and more.
    Rs256,
}

impl Algorithm {
    /// None for every other one, `none` included.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "EdDSA" => Some(Self::EdDsa),
            "RS256" => Some(Self::Rs256),
            _ => None,
        }
    }
}

fn read_key(jwk: Jwk) -> Option<Key> {
    if jwk.usage.is_some_and(|usage| usage != "sig") {
        return None;
    }
    let bytes = |text: Option<String>| URL_SAFE_NO_PAD.decode(text?.as_bytes()).ok();
    let is_for = |name: &str| jwk.alg.as_deref().is_none_or(|alg| alg == name);
    let public = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
        ("OKP", Some("Ed25519")) if is_for("EdDSA") => {
            PublicKey::Ed25519(bytes(jwk.x).filter(|public| public.len() == 32)?)
        }
        ("RSA", _) if is_for("RS256") => PublicKey::Rsa {
            modulus: bytes(jwk.n)?,
            exponent: bytes(jwk.e)?,
        },
        _ => return None,
    };
    Some(Key {
        kid: jwk.kid,
        public,
    })
}
