//! Signed tokens: signature first, then claims.

use super::{
    auth_file::{build, roles},
    authenticator::digest,
    jwks::{Algorithm, KeySet},
    principal::{CredentialKind, Identity},
    role::Role,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;

/// How far clocks may be apart, in seconds.
pub const LEEWAY: i64 = 30;
/// Longest token, in bytes.
pub const MAX_TOKEN_BYTES: usize = 8 << 10;

/// What a token must say.
#[derive(Clone, Debug)]
pub struct Expected {
    /// Its issuer; none: anybody with a key.
    pub issuer: Option<String>,
    /// Its audience.
    pub audience: String,
}

/// Why a token is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JwtError {
    /// It is no signed token.
    #[error("it is no signed token")]
    Form,
    /// Its algorithm is none that is spoken.
    #[error("its algorithm is neither EdDSA nor RS256")]
    Algorithm,
    /// It names a key that is not in the set.
    #[error("its key {0:?} is not known")]
    UnknownKey(String),
    /// Its signature is not of a known key.
    #[error("its signature is not good")]
    Signature,
    /// It has expired.
    #[error("it has expired")]
    Expired,
    /// It is not valid yet.
    #[error("it is not valid yet")]
    TooEarly,
    /// It is for somebody else.
    #[error("it is not for the audience {0:?}")]
    Audience(String),
    /// It is from somebody else.
    #[error("it is not from the issuer {0:?}")]
    Issuer(String),
    /// A claim is missing or makes no sense.
    #[error("{0}")]
    Claim(String),
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    /// What a verifier must understand; nothing is.
    crit: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Claims {
    sub: Option<String>,
    iss: Option<String>,
    aud: Option<Audience>,
    exp: Option<f64>,
    nbf: Option<f64>,
    taskyard: Option<Grant>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Grant {
    role: String,
    #[serde(default)]
    approver: bool,
    #[serde(default)]
    namespaces: Option<Vec<String>>,
    #[serde(default)]
    sessions: Option<Vec<String>>,
    #[serde(default)]
    pools: Option<Vec<String>>,
}

/// Whether a token has the shape of a signed one.
#[must_use]
pub fn looks_signed(token: &str) -> bool {
    token.bytes().filter(|&byte| byte == b'.').count() == 2
}

/// Who a token says that its holder is, at `now`, in seconds since 1970.
///
/// # Errors
/// Any [`JwtError`].
pub fn verify(
    token: &str,
    keys: &KeySet,
    expected: &Expected,
    now: i64,
) -> Result<Identity, JwtError> {
    if token.len() > MAX_TOKEN_BYTES {
        return Err(JwtError::Form);
    }
    let (signed, signature) = token.rsplit_once('.').ok_or(JwtError::Form)?;
    let (header, claims) = signed.split_once('.').ok_or(JwtError::Form)?;
    let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|_| JwtError::Form);
    let header: Header = serde_json::from_slice(&decode(header)?).map_err(|_| JwtError::Form)?;
    if header.crit.is_some() {
        return Err(JwtError::Form);
    }
    let algorithm = Algorithm::parse(&header.alg).ok_or(JwtError::Algorithm)?;
    let kid = header.kid.as_deref();
    if let Some(kid) = kid
        && !keys.knows(kid)
    {
        return Err(JwtError::UnknownKey(kid.chars().take(64).collect()));
    }
    // before the keys were first fetched
    if keys.is_empty() {
        return Err(JwtError::UnknownKey(String::new()));
    }
    if !keys.verify(algorithm, kid, signed.as_bytes(), &decode(signature)?) {
        return Err(JwtError::Signature);
    }
    let claims: Claims = serde_json::from_slice(&decode(claims)?)
        .map_err(|error| JwtError::Claim(format!("its claims cannot be read: {error}")))?;
    read_claims(claims, expected, now, digest(token.as_bytes()))
}

fn read_claims(
    claims: Claims,
    expected: &Expected,
    now: i64,
    fingerprint: [u8; 32],
) -> Result<Identity, JwtError> {
    let claim = |problem: &str| JwtError::Claim(problem.to_owned());
    let expires_at = seconds(claims.exp.ok_or_else(|| claim("it has no exp"))?);
    if now >= expires_at.saturating_add(LEEWAY) {
        return Err(JwtError::Expired);
    }
    if claims
        .nbf
        .is_some_and(|from| now.saturating_add(LEEWAY) < seconds(from))
    {
        return Err(JwtError::TooEarly);
    }
    let is_for_us = match &claims.aud {
        None => false,
        Some(Audience::One(audience)) => *audience == expected.audience,
        Some(Audience::Many(audiences)) => audiences.contains(&expected.audience),
    };
    if !is_for_us {
        return Err(JwtError::Audience(expected.audience.clone()));
    }
    if let Some(issuer) = &expected.issuer
        && claims.iss.as_ref() != Some(issuer)
    {
        return Err(JwtError::Issuer(issuer.clone()));
    }
    let name = claims.sub.ok_or_else(|| claim("it has no sub"))?;
    let grant = claims
        .taskyard
        .ok_or_else(|| claim("it has no taskyard claim with a role"))?;
    let role = Role::parse(&grant.role)
        .ok_or_else(|| claim(&format!("{:?} is no role: {}", grant.role, roles())))?;
    build(
        name,
        CredentialKind::Jwt,
        role,
        grant.approver,
        [grant.namespaces, grant.sessions, grant.pools],
        Some(expires_at.saturating_add(LEEWAY)),
        fingerprint,
    )
    .map_err(JwtError::Claim)
}

/// Whole seconds of a time that may have a fraction.
#[expect(clippy::cast_possible_truncation, reason = "the cast saturates")]
fn seconds(time: f64) -> i64 {
    time.floor() as i64
}

#[cfg(test)]
mod table;

#[cfg(test)]
mod tests {
    use super::*;
    use ring::{
        rand::SystemRandom,
        signature::{Ed25519KeyPair, KeyPair},
    };
    use serde_json::json;

    const NOW: i64 = 1_800_000_000;

    fn key() -> Ed25519KeyPair {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("random");
        Ed25519KeyPair::from_pkcs8(document.as_ref()).expect("just made")
    }

    fn set(key: &Ed25519KeyPair, kid: &str) -> KeySet {
        let x = URL_SAFE_NO_PAD.encode(key.public_key().as_ref());
        let json =
            json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": kid, "use": "sig", "x": x}]});
        KeySet::parse(json.to_string().as_bytes()).expect("a key")
    }

    fn token(
        key: &Ed25519KeyPair,
        header: &serde_json::Value,
        claims: &serde_json::Value,
    ) -> String {
        let part = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(header), part(claims));
        let signature = URL_SAFE_NO_PAD.encode(key.sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    }

    fn claims() -> serde_json::Value {
        json!({"sub": "ci", "aud": ["other", "taskyard"], "iss": "https://id.example", "exp": NOW + 60,
            "taskyard": {"role": "client", "namespaces": ["a"]}})
    }

    fn expected() -> Expected {
        Expected {
            issuer: Some("https://id.example".to_owned()),
            audience: "taskyard".to_owned(),
        }
    }

    #[test]
    fn a_good_token_names_its_holder() {
        let key = key();
        let good = token(&key, &json!({"alg": "EdDSA", "kid": "k1"}), &claims());
        let found = verify(&good, &set(&key, "k1"), &expected(), NOW).expect("good");
        assert_eq!((found.name.as_str(), found.role), ("ci", Role::Client));
        assert!(found.reach.namespaces.allow("a") && !found.reach.namespaces.allow("b"));
    }

    #[test]
    fn each_claim_is_held_to() {
        let key = key();
        let keys = set(&key, "k1");
        let with = |name: &str, value: serde_json::Value| {
            let mut claims = claims();
            claims[name] = value;
            let token = token(&key, &json!({"alg": "EdDSA", "kid": "k1"}), &claims);
            verify(&token, &keys, &expected(), NOW).err()
        };
        assert_eq!(with("exp", json!(NOW - 31)), Some(JwtError::Expired));
        assert_eq!(with("exp", json!(NOW - 29)), None);
        assert_eq!(with("nbf", json!(NOW + 31)), Some(JwtError::TooEarly));
        assert_eq!(with("nbf", json!(NOW + 29)), None);
        assert!(matches!(
            with("aud", json!("x")),
            Some(JwtError::Audience(_))
        ));
        assert!(matches!(with("iss", json!("x")), Some(JwtError::Issuer(_))));
        for (name, value) in [
            ("exp", json!(null)),
            ("sub", json!(null)),
            ("taskyard", json!(null)),
            ("taskyard", json!({"role": "god"})),
            ("taskyard", json!({"role": "worker", "sessions": ["s"]})),
        ] {
            assert!(
                matches!(with(name, value), Some(JwtError::Claim(_))),
                "{name}"
            );
        }
    }

    #[test]
    fn no_other_algorithm_and_no_other_key_is_believed() {
        let (key, other) = (key(), key());
        let keys = set(&key, "k1");
        let refused = |token: &str| verify(token, &keys, &expected(), NOW).expect_err("refused");
        for alg in ["none", "HS256", "RS512", "ES256", "eddsa", ""] {
            let token = token(&key, &json!({"alg": alg, "kid": "k1"}), &claims());
            assert_eq!(refused(&token), JwtError::Algorithm, "{alg}");
        }
        // an Ed25519 key is never taken for another kind
        let confused = token(&key, &json!({"alg": "RS256", "kid": "k1"}), &claims());
        assert_eq!(refused(&confused), JwtError::Signature);
        let foreign = token(&other, &json!({"alg": "EdDSA", "kid": "k1"}), &claims());
        assert_eq!(refused(&foreign), JwtError::Signature);
        let unknown = token(&key, &json!({"alg": "EdDSA", "kid": "k2"}), &claims());
        assert_eq!(refused(&unknown), JwtError::UnknownKey("k2".to_owned()));
        let critical = token(
            &key,
            &json!({"alg": "EdDSA", "kid": "k1", "crit": ["x"]}),
            &claims(),
        );
        assert_eq!(refused(&critical), JwtError::Form);
        for malformed in ["", "..", "a.b", "a.b.c", "e30.e30.", "e30.e30.e30.e30"] {
            assert!(
                verify(malformed, &keys, &expected(), NOW).is_err(),
                "{malformed}"
            );
        }
    }
}
