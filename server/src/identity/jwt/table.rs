//! What is taken for a signed token and what is not: tokens as they come, and as somebody makes them who tries.

use super::*;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use ring::{
    hmac,
    rand::SystemRandom,
    rsa::{KeyPair as RsaKeyPair, PublicKeyComponents},
    signature::{
        Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RSA_PKCS1_SHA512, RSA_PSS_SHA256,
        RsaEncoding,
    },
};
use rustls::pki_types::{PrivatePkcs8KeyDer, pem::PemObject};
use serde_json::{Value, json};

const NOW: i64 = 1_800_000_000;

struct Keys {
    ed: Ed25519KeyPair,
    other_ed: Ed25519KeyPair,
    rsa: RsaKeyPair,
}

impl Keys {
    fn new() -> Self {
        let pem = include_bytes!("../../../../tests/data/rsa-for-tests-only.pem");
        let rsa = PrivatePkcs8KeyDer::from_pem_slice(pem).expect("a PEM key");
        let ed = || {
            let made = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("random");
            Ed25519KeyPair::from_pkcs8(made.as_ref()).expect("just made")
        };
        Self {
            ed: ed(),
            other_ed: ed(),
            rsa: RsaKeyPair::from_pkcs8(rsa.secret_pkcs8_der()).expect("an RSA key"),
        }
    }

    fn ed_jwk(&self, kid: &str) -> Value {
        ed_jwk(&self.ed, kid)
    }

    fn rsa_jwk(&self, kid: &str) -> Value {
        let public = PublicKeyComponents::<Vec<u8>>::from(self.rsa.public());
        json!({"kty": "RSA", "alg": "RS256", "use": "sig", "kid": kid,
            "n": URL_SAFE_NO_PAD.encode(public.n), "e": URL_SAFE_NO_PAD.encode(public.e)})
    }

    fn both(&self) -> KeySet {
        set(&[self.ed_jwk("ed"), self.rsa_jwk("rsa")])
    }

    fn by_ed(&self, header: &Value, claims: &Value) -> String {
        signed_by_ed(&self.ed, header, claims)
    }

    fn by_rsa(&self, padding: &'static dyn RsaEncoding, header: &Value, claims: &Value) -> String {
        let signed = unsigned(header, claims);
        let mut signature = vec![0; self.rsa.public().modulus_len()];
        self.rsa
            .sign(
                padding,
                &SystemRandom::new(),
                signed.as_bytes(),
                &mut signature,
            )
            .expect("signed");
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

fn ed_jwk(key: &Ed25519KeyPair, kid: &str) -> Value {
    let x = URL_SAFE_NO_PAD.encode(key.public_key().as_ref());
    json!({"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": kid, "x": x})
}

fn set(keys: &[Value]) -> KeySet {
    KeySet::parse(json!({ "keys": keys }).to_string().as_bytes()).expect("a set")
}

fn unsigned(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}", part(header), part(claims))
}

fn signed_by_ed(key: &Ed25519KeyPair, header: &Value, claims: &Value) -> String {
    let signed = unsigned(header, claims);
    let signature = URL_SAFE_NO_PAD.encode(key.sign(signed.as_bytes()));
    format!("{signed}.{signature}")
}

fn claims() -> Value {
    json!({"sub": "ci", "aud": "taskyard", "exp": NOW + 60, "taskyard": {"role": "client"}})
}

fn ask(token: &str, keys: &KeySet) -> Result<Identity, JwtError> {
    let expected = Expected {
        issuer: None,
        audience: "taskyard".to_owned(),
    };
    verify(token, keys, &expected, NOW)
}

#[test]
fn each_algorithm_is_believed_with_a_key_of_its_own_only() {
    let keys = Keys::new();
    let both = keys.both();
    let header = |alg: &str, kid: &str| json!({"alg": alg, "kid": kid});
    let ed = keys.by_ed(&header("EdDSA", "ed"), &claims());
    let rsa = keys.by_rsa(&RSA_PKCS1_SHA256, &header("RS256", "rsa"), &claims());
    for good in [&ed, &rsa] {
        assert_eq!(ask(good, &both).expect("believed").name, "ci");
    }

    let public = PublicKeyComponents::<Vec<u8>>::from(keys.rsa.public());
    let der = keys.rsa.public().as_ref().to_vec();
    let pem = format!(
        "-----BEGIN RSA PUBLIC KEY-----\n{}\n-----END RSA PUBLIC KEY-----\n",
        STANDARD.encode(&der)
    );
    // the public key of one algorithm as the secret of another
    for secret in [
        public.n,
        der,
        pem.into_bytes(),
        keys.rsa_jwk("rsa").to_string().into_bytes(),
    ] {
        let signed = unsigned(&header("HS256", "rsa"), &claims());
        let tag = hmac::sign(
            &hmac::Key::new(hmac::HMAC_SHA256, &secret),
            signed.as_bytes(),
        );
        let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag));
        assert_eq!(ask(&token, &both).err(), Some(JwtError::Algorithm));
        // and under the name of an algorithm that is spoken
        for alg in ["RS256", "EdDSA"] {
            let signed = unsigned(&header(alg, "rsa"), &claims());
            let tag = hmac::sign(
                &hmac::Key::new(hmac::HMAC_SHA256, &secret),
                signed.as_bytes(),
            );
            let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag));
            assert_eq!(ask(&token, &both).err(), Some(JwtError::Signature), "{alg}");
        }
    }
    let none = unsigned(&header("none", "ed"), &claims());
    let table = [
        ("none", format!("{none}."), JwtError::Algorithm),
        (
            "None",
            format!("{}.", unsigned(&header("None", "ed"), &claims())),
            JwtError::Algorithm,
        ),
        (
            "no signature",
            format!("{}.", unsigned(&header("EdDSA", "ed"), &claims())),
            JwtError::Signature,
        ),
        (
            "EdDSA, the name of the RSA key",
            keys.by_ed(&header("EdDSA", "rsa"), &claims()),
            JwtError::Signature,
        ),
        (
            "RS256, the name of the Ed25519 key",
            keys.by_rsa(&RSA_PKCS1_SHA256, &header("RS256", "ed"), &claims()),
            JwtError::Signature,
        ),
        (
            "EdDSA over an RSA signature",
            keys.by_rsa(&RSA_PKCS1_SHA256, &header("EdDSA", "rsa"), &claims()),
            JwtError::Signature,
        ),
        (
            "RS256 over PSS",
            keys.by_rsa(&RSA_PSS_SHA256, &header("RS256", "rsa"), &claims()),
            JwtError::Signature,
        ),
        (
            "RS256 over SHA-512",
            keys.by_rsa(&RSA_PKCS1_SHA512, &header("RS256", "rsa"), &claims()),
            JwtError::Signature,
        ),
        (
            "RS512",
            keys.by_rsa(&RSA_PKCS1_SHA512, &header("RS512", "rsa"), &claims()),
            JwtError::Algorithm,
        ),
        (
            "PS256",
            keys.by_rsa(&RSA_PSS_SHA256, &header("PS256", "rsa"), &claims()),
            JwtError::Algorithm,
        ),
    ];
    for (what, token, refused) in table {
        assert_eq!(ask(&token, &both).err(), Some(refused), "{what}");
    }
    // the claims of one token under the signature of another
    let (_, signature) = ed.rsplit_once('.').expect("three parts");
    let mut admin = claims();
    admin["taskyard"]["role"] = "admin".into();
    let forged = format!("{}.{signature}", unsigned(&header("EdDSA", "ed"), &admin));
    assert_eq!(ask(&forged, &both).err(), Some(JwtError::Signature));
}

#[test]
fn a_key_is_found_by_its_name_or_tried_where_the_token_names_none() {
    let keys = Keys::new();
    let nameless = keys.by_ed(&json!({"alg": "EdDSA"}), &claims());
    let nameless_rsa = keys.by_rsa(&RSA_PKCS1_SHA256, &json!({"alg": "RS256"}), &claims());
    ask(&nameless, &set(&[keys.ed_jwk("ed")])).expect("the one key");
    ask(&nameless, &keys.both()).expect("one of two keys");
    ask(&nameless_rsa, &keys.both()).expect("one of two keys");
    let others = set(&[ed_jwk(&keys.other_ed, "ed"), keys.rsa_jwk("rsa")]);
    assert_eq!(ask(&nameless, &others).err(), Some(JwtError::Signature));

    // two keys of one name, as while an issuer changes them: either is believed, and only for its own algorithm
    let twins = set(&[
        ed_jwk(&keys.other_ed, "k"),
        keys.ed_jwk("k"),
        keys.rsa_jwk("k"),
    ]);
    for token in [
        keys.by_ed(&json!({"alg": "EdDSA", "kid": "k"}), &claims()),
        signed_by_ed(
            &keys.other_ed,
            &json!({"alg": "EdDSA", "kid": "k"}),
            &claims(),
        ),
        keys.by_rsa(
            &RSA_PKCS1_SHA256,
            &json!({"alg": "RS256", "kid": "k"}),
            &claims(),
        ),
    ] {
        ask(&token, &twins).expect("one of the keys of that name");
    }
    // a key that the token brings along is none
    let brought = json!({"alg": "EdDSA", "kid": "mine", "jwk": ed_jwk(&keys.other_ed, "mine"),
        "jku": "https://attacker.example/keys"});
    let brought = signed_by_ed(&keys.other_ed, &brought, &claims());
    let unknown = Some(JwtError::UnknownKey("mine".to_owned()));
    assert_eq!(ask(&brought, &keys.both()).err(), unknown);
    // keys that are for something else are not in the set
    let mut encrypting = ed_jwk(&keys.other_ed, "enc");
    encrypting["use"] = "enc".into();
    let mut misnamed = ed_jwk(&keys.other_ed, "misnamed");
    misnamed["alg"] = "RS256".into();
    let mixed = set(&[encrypting, misnamed, keys.ed_jwk("ed")]);
    assert!(!mixed.knows("enc") && !mixed.knows("misnamed") && mixed.knows("ed"));
    // before any key was fetched nothing is said about a token
    assert_eq!(
        ask(&nameless, &KeySet::default()).err(),
        Some(JwtError::UnknownKey(String::new()))
    );
}

#[test]
fn forms_and_claims_are_taken_as_written() {
    let keys = Keys::new();
    let both = keys.both();
    let header = json!({"alg": "EdDSA", "kid": "ed"});
    let with = |name: &str, value: Value| {
        let mut claims = claims();
        claims[name] = value;
        ask(&keys.by_ed(&header, &claims), &both)
    };
    let taken = [
        ("exp", json!(1_800_000_000.5)),
        ("exp", json!(1e300)),
        ("nbf", json!(NOW)),
        ("nbf", json!(1_800_000_029.5)),
        ("aud", json!(["other", "taskyard"])),
        ("sub", json!("s".repeat(128))),
        ("iat", json!("whatever")),
        ("iss", json!("anybody")),
    ];
    for (name, value) in taken {
        let said = format!("{name} {value}");
        with(name, value).expect(&said);
    }
    type Fits = fn(&JwtError) -> bool;
    let expired: Fits = |error| *error == JwtError::Expired;
    let early: Fits = |error| *error == JwtError::TooEarly;
    let audience: Fits = |error| matches!(error, JwtError::Audience(_));
    let claim: Fits = |error| matches!(error, JwtError::Claim(_));
    let refused: [(&str, Value, Fits); 20] = [
        ("exp", json!(NOW - 30), expired),
        ("exp", json!(0), expired),
        ("exp", json!(-1e300), expired),
        ("exp", json!(null), claim),
        ("exp", json!((NOW + 60).to_string()), claim),
        ("exp", json!([NOW + 60]), claim),
        ("nbf", json!(NOW + 31), early),
        ("nbf", json!(1e300), early),
        ("nbf", json!("soon"), claim),
        ("aud", json!(null), audience),
        ("aud", json!([]), audience),
        ("aud", json!(["other"]), audience),
        ("aud", json!("taskyard2"), audience),
        ("aud", json!({"taskyard": true}), claim),
        ("sub", json!("s".repeat(129)), claim),
        ("sub", json!(""), claim),
        ("sub", json!("a\u{0}b"), claim),
        ("sub", json!(7), claim),
        (
            "taskyard",
            json!({"role": "client", "namespaces": []}),
            claim,
        ),
        ("taskyard", json!({"role": "client", "tenant": "a"}), claim),
    ];
    for (name, value, fits) in refused {
        let said = format!("{name} {value}");
        let error = with(name, value).expect_err(&said);
        assert!(fits(&error), "{said}: {error:?}");
    }

    let good = keys.by_ed(&header, &claims());
    let parts: Vec<&str> = good.split('.').collect();
    let mut long = claims();
    long["padding"] = "x".repeat(MAX_TOKEN_BYTES).into();
    let twice = r#"{"alg": "EdDSA", "alg": "none", "kid": "ed"}"#;
    let twice = format!("{}.{}", URL_SAFE_NO_PAD.encode(twice), parts[1]);
    let twice = format!(
        "{twice}.{}",
        URL_SAFE_NO_PAD.encode(keys.ed.sign(twice.as_bytes()))
    );
    let forms = [
        ("huge", keys.by_ed(&header, &long)),
        (
            "crit",
            keys.by_ed(
                &json!({"alg": "EdDSA", "kid": "ed", "crit": ["exp"]}),
                &claims(),
            ),
        ),
        (
            "no crit",
            keys.by_ed(&json!({"alg": "EdDSA", "kid": "ed", "crit": []}), &claims()),
        ),
        ("no alg", keys.by_ed(&json!({"kid": "ed"}), &claims())),
        (
            "alg is a list",
            keys.by_ed(&json!({"alg": ["EdDSA"], "kid": "ed"}), &claims()),
        ),
        (
            "kid is a number",
            keys.by_ed(&json!({"alg": "EdDSA", "kid": 7}), &claims()),
        ),
        ("a member twice", twice),
        ("two parts", format!("{}.{}", parts[0], parts[1])),
        (
            "padded",
            format!(
                "{}.{}.{}",
                parts[0],
                parts[1],
                URL_SAFE.encode(URL_SAFE_NO_PAD.decode(parts[2]).expect("base64"))
            ),
        ),
        (
            "a line break",
            format!("{}.{}.{}\n", parts[0], parts[1], parts[2]),
        ),
        (
            "header in the clear",
            format!("{header}.{}.{}", parts[1], parts[2]),
        ),
    ];
    for (what, token) in forms {
        assert_eq!(ask(&token, &both).err(), Some(JwtError::Form), "{what}");
    }
    let doubled = r#"{"sub":"ci","aud":"taskyard","exp":1800000060,"exp":1900000000,"taskyard":{"role":"client"}}"#;
    let doubled = format!("{}.{}", parts[0], URL_SAFE_NO_PAD.encode(doubled));
    let doubled = format!(
        "{doubled}.{}",
        URL_SAFE_NO_PAD.encode(keys.ed.sign(doubled.as_bytes()))
    );
    assert!(matches!(ask(&doubled, &both), Err(JwtError::Claim(_))));
}
