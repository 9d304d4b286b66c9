//! One TLS connection by hand: which certificate a server shows, and whether it takes the one that it is shown.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// Shakes hands with what serves at `endpoint`, such as `https://127.0.0.1:40123`, trusting the authorities of a file and
/// showing a certificate with its key, if any; answers with the certificate that was shown.
///
/// # Errors
/// Either side does not take the other.
pub async fn shown(
    endpoint: &str,
    trusted: &Path,
    client: Option<&(PathBuf, PathBuf)>,
) -> io::Result<Vec<u8>> {
    let address: SocketAddr = endpoint
        .trim_start_matches("https://")
        .parse()
        .map_err(io::Error::other)?;
    let mut roots = RootCertStore::empty();
    for authority in CertificateDer::pem_file_iter(trusted).map_err(io::Error::other)? {
        let authority = authority.map_err(io::Error::other)?;
        roots.add(authority).map_err(io::Error::other)?;
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots);
    let mut config = match client {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => builder
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_file(certificate).map_err(io::Error::other)?],
                PrivateKeyDer::from_pem_file(key).map_err(io::Error::other)?,
            )
            .map_err(io::Error::other)?,
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
    let mut stream = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await?;
    // with TLS 1.3 a client learns only now whether its certificate was taken
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        .await?;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await?;
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    Ok(chain
        .first()
        .map(|first| first.to_vec())
        .unwrap_or_default())
}

/// The first certificate of a PEM file, as a handshake shows it.
///
/// # Panics
/// When there is none.
pub fn certificate(path: &Path) -> Vec<u8> {
    CertificateDer::from_pem_file(path)
        .unwrap_or_else(|error| panic!("no certificate in {}: {error}", path.display()))
        .to_vec()
}
