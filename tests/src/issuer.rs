//! Who signs tokens, and serves the keys to them at a URL.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::rsa::{KeyPair, PublicKeyComponents};
use ring::signature::RSA_PKCS1_SHA256;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring as provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::secured::seconds_from_now;

/// A key that is public, and so for tests only.
const RSA_KEY: &[u8] = include_bytes!("../data/rsa-for-tests-only.pem");

/// Who signs with RS256.
pub struct RsaSigner {
    kid: String,
    key: KeyPair,
}

impl RsaSigner {
    /// One with the key of the tests under that name.
    pub fn new(kid: &str) -> RsaSigner {
        let key = PrivatePkcs8KeyDer::from_pem_slice(RSA_KEY)
            .unwrap_or_else(|error| panic!("no PEM: {error}"));
        let key = KeyPair::from_pkcs8(key.secret_pkcs8_der())
            .unwrap_or_else(|error| panic!("no key: {error}"));
        RsaSigner {
            kid: kid.to_owned(),
            key,
        }
    }

    /// Its public key, as a set of one.
    pub fn jwks(&self) -> String {
        let public = PublicKeyComponents::<Vec<u8>>::from(self.key.public());
        json!({"keys": [{"kty": "RSA", "alg": "RS256", "use": "sig", "kid": self.kid,
            "n": URL_SAFE_NO_PAD.encode(public.n), "e": URL_SAFE_NO_PAD.encode(public.e)}]})
        .to_string()
    }

    /// A token for `name` that expires in so many seconds, with 30 s of leeway beyond.
    pub fn token(&self, name: &str, grant: Value, expires_in: i64) -> String {
        let header = json!({"alg": "RS256", "kid": self.kid});
        let claims = json!({"sub": name, "aud": "taskyard", "exp": seconds_from_now(expires_in), "taskyard": grant});
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&header), part(&claims));
        let mut signature = vec![0; self.key.public().modulus_len()];
        self.key
            .sign(
                &RSA_PKCS1_SHA256,
                &SystemRandom::new(),
                signed.as_bytes(),
                &mut signature,
            )
            .unwrap_or_else(|error| panic!("not signed: {error}"));
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// Serves a set of keys that the test changes. It is gone when this is dropped.
pub struct Issuer {
    port: u16,
    is_tls: bool,
    document: watch::Sender<String>,
    is_open: watch::Sender<bool>,
    fetches: Arc<AtomicUsize>,
    accepting: JoinHandle<()>,
}

impl Issuer {
    /// Serves by http, or with a certificate and its key by https.
    pub async fn start(jwks: String, certificate: Option<&(PathBuf, PathBuf)>) -> Issuer {
        let acceptor = certificate.map(acceptor);
        let is_tls = acceptor.is_some();
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .unwrap_or_else(|error| panic!("no port: {error}"));
        let port = listener
            .local_addr()
            .unwrap_or_else(|error| panic!("no address: {error}"))
            .port();
        let (document, current) = watch::channel(jwks);
        let (is_open, opened) = watch::channel(true);
        let fetches = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&fetches);
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (current, opened) = (current.clone(), opened.clone());
                let (acceptor, counted) = (acceptor.clone(), Arc::clone(&counted));
                tokio::spawn(async move {
                    match acceptor {
                        None => answer(stream, current, opened, &counted).await,
                        Some(acceptor) => {
                            if let Ok(stream) = acceptor.accept(stream).await {
                                answer(stream, current, opened, &counted).await;
                            }
                        }
                    }
                });
            }
        });
        Issuer {
            port,
            is_tls,
            document,
            is_open,
            fetches,
            accepting,
        }
    }

    /// Where the keys are.
    pub fn url(&self) -> String {
        let scheme = if self.is_tls { "https" } else { "http" };
        format!("{scheme}://localhost:{}/keys", self.port)
    }

    /// From now on these keys are served.
    pub fn publish(&self, jwks: String) {
        self.document.send_replace(jwks);
    }

    /// Lets fetches wait for an answer, or answers them.
    pub fn set_open(&self, is_open: bool) {
        self.is_open.send_replace(is_open);
    }

    /// How many fetches came.
    pub fn fetches(&self) -> usize {
        self.fetches.load(Ordering::SeqCst)
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn answer(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    current: watch::Receiver<String>,
    mut opened: watch::Receiver<bool>,
    fetches: &AtomicUsize,
) {
    let mut head = [0; 4096];
    let _ = stream.read(&mut head).await;
    fetches.fetch_add(1, Ordering::SeqCst);
    if opened.wait_for(|is_open| *is_open).await.is_err() {
        return;
    }
    let body = current.borrow().clone();
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
}

fn acceptor((certificate, key): &(PathBuf, PathBuf)) -> TlsAcceptor {
    let chain = CertificateDer::from_pem_file(certificate)
        .unwrap_or_else(|error| panic!("no certificate: {error}"));
    let key = PrivateKeyDer::from_pem_file(key).unwrap_or_else(|error| panic!("no key: {error}"));
    let config = ServerConfig::builder_with_provider(Arc::new(provider::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap_or_else(|error| panic!("no TLS: {error}"))
        .with_no_client_auth()
        .with_single_cert(vec![chain], key)
        .unwrap_or_else(|error| panic!("no TLS: {error}"));
    TlsAcceptor::from(Arc::new(config))
}
