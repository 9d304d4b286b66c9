//! The server's end of TLS. Each connection is accepted with what the files held when it came.

use super::{
    certificate::PeerCertificate,
    settings::{ClientAuth, TlsSettings},
    watched_files::{FileError, LOOK_INTERVAL, WatchedFiles},
};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{VerifierBuilderError, WebPkiClientVerifier},
};
use std::{
    io,
    sync::{Arc, PoisonError, RwLock},
};
use taskyard_telemetry::metrics::table;
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;

/// Protocols that are spoken inside: HTTP/2, and HTTP/1.1 for gRPC-Web.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Why TLS cannot be spoken.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// No certificate in a file that should hold some.
    #[error("{0} holds no PEM certificate")]
    NoCertificate(&'static str),
    /// No private key.
    #[error("--tls-key holds no PEM private key")]
    NoKey,
    /// Certificate and key do not fit, or are of no known kind.
    #[error("certificate and key cannot be used")]
    Pair(#[from] rustls::Error),
    /// The authorities cannot be used.
    #[error("--tls-client-ca cannot be used")]
    Authorities(#[from] VerifierBuilderError),
}

/// TLS as the files say.
#[derive(Debug)]
pub struct Tls {
    settings: TlsSettings,
    current: RwLock<Arc<ServerConfig>>,
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// Any [`TlsError`].
    pub fn open(settings: TlsSettings) -> Result<(Arc<Self>, WatchedFiles), TlsError> {
        let mut paths = vec![settings.certificate.clone(), settings.key.clone()];
        paths.extend(settings.client_ca.clone());
        let mut files = WatchedFiles::new(paths);
        let contents = files.read_changed()?.unwrap_or_default();
        let current = RwLock::new(Arc::new(config(&settings, &contents)?));
        tell_expiry(&contents);
        Ok((Arc::new(Self { settings, current }), files))
    }

    /// Reads the files again when they change, until `shutdown`. What cannot be used is told, and changes nothing.
    pub async fn run(&self, mut files: WatchedFiles, shutdown: CancellationToken) {
        let mut was_readable = true;
        while shutdown
            .run_until_cancelled(tokio::time::sleep(LOOK_INTERVAL))
            .await
            .is_some()
        {
            let config = match files.read_changed() {
                Ok(None) => continue,
                Ok(Some(contents)) => {
                    let config = config(&self.settings, &contents);
                    if config.is_ok() {
                        tell_expiry(&contents);
                    }
                    config
                }
                Err(error) => {
                    if !std::mem::replace(&mut was_readable, false) {
                        continue;
                    }
                    Err(error.into())
                }
            };
            match config {
                Ok(config) => {
                    was_readable = true;
                    *self.current.write().unwrap_or_else(PoisonError::into_inner) =
                        Arc::new(config);
                    tracing::info!("new connections are served with the new TLS certificate");
                }
                Err(error) => tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the changed TLS files cannot be used; the old certificate is kept"
                ),
            }
        }
    }

    /// Shakes hands with a client.
    ///
    /// # Errors
    /// It does not speak TLS, or shows no good certificate where one is required.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let config = Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner));
        TlsAcceptor::from(config).accept(stream).await
    }
}

/// The certificate that a client showed, verified.
#[must_use]
pub fn peer_certificate(stream: &TlsStream<TcpStream>) -> Option<Arc<PeerCertificate>> {
    let certificates = stream.get_ref().1.peer_certificates()?;
    Some(Arc::new(PeerCertificate::read(certificates.first()?)?))
}

fn config(settings: &TlsSettings, contents: &[Vec<u8>]) -> Result<ServerConfig, TlsError> {
    let mut contents = contents.iter();
    let mut next = || contents.next().map(Vec::as_slice).unwrap_or_default();
    let chain = certificates(next(), "--tls-cert")?;
    let key = PrivateKeyDer::from_pem_slice(next()).map_err(|_| TlsError::NoKey)?;
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?;
    let builder = if settings.client_ca.is_some() {
        let mut roots = RootCertStore::empty();
        for authority in certificates(next(), "--tls-client-ca")? {
            roots.add(authority)?;
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        let verifier = match settings.client_auth {
            ClientAuth::Required => verifier,
            ClientAuth::Optional => verifier.allow_unauthenticated(),
        };
        builder.with_client_cert_verifier(verifier.build()?)
    } else {
        builder.with_no_client_auth()
    };
    let mut config = builder.with_single_cert(chain, key)?;
    config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
    Ok(config)
}

/// Has the metrics tell when the certificate expires that is shown from now on.
fn tell_expiry(contents: &[Vec<u8>]) {
    let chain = contents.first().map(Vec::as_slice).unwrap_or_default();
    let own = certificates(chain, "--tls-cert")
        .ok()
        .and_then(|chain| PeerCertificate::read(chain.first()?));
    #[expect(clippy::cast_precision_loss, reason = "times stay far below 2^52")]
    let end = own.map(|own| own.not_after as f64);
    table::CERTIFICATE_EXPIRY.replace(end.map(|end| (Vec::new(), end)));
}

fn certificates(pem: &[u8], flag: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|_| TlsError::NoCertificate(flag))?;
    if found.is_empty() {
        return Err(TlsError::NoCertificate(flag));
    }
    Ok(found)
}
