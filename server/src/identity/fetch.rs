//! Fetches a small document by http or https.

use super::watched_files::WatchedFiles;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Request, header};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use std::{error::Error, io, path::PathBuf, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::TlsConnector;

/// Longest time for one fetch.
const LIMIT: Duration = Duration::from_secs(10);
/// Longest document.
const MAX_BYTES: usize = 1 << 20;

/// Why a document cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The URL is none.
    #[error("the URL must begin with https:// or http:// and name a host")]
    Url,
    /// No connection, no TLS, or no answer.
    #[error("the fetch failed")]
    Failed(#[source] Box<dyn Error + Send + Sync>),
    /// The answer is none with a document.
    #[error("the answer has the status {0}")]
    Status(u16),
    /// The authorities cannot be read.
    #[error("{} cannot be read", .path.display())]
    Authorities {
        /// Their file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There are none.
    #[error("{} holds no PEM certificate of an authority", .0.display())]
    NoAuthority(PathBuf),
    /// It took too long.
    #[error("there was no answer within {} s", LIMIT.as_secs())]
    TooSlow,
}

/// Whose certificates are believed.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    /// Authorities, as a PEM file that is read for each fetch; none: those of the public web.
    pub authorities: Option<PathBuf>,
}

impl Trust {
    /// Whether the file can be used.
    ///
    /// # Errors
    /// [`FetchError::Authorities`], [`FetchError::NoAuthority`].
    pub fn check(&self) -> Result<(), FetchError> {
        self.roots().map(drop)
    }

    fn roots(&self) -> Result<RootCertStore, FetchError> {
        let Some(path) = &self.authorities else {
            return Ok(RootCertStore {
                roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
            });
        };
        let none = || FetchError::NoAuthority(path.clone());
        let mut files = WatchedFiles::new(vec![path.clone()]);
        let contents = files
            .read_changed()
            .map_err(|error| FetchError::Authorities {
                path: error.path,
                source: error.source,
            })?
            .unwrap_or_default();
        let mut roots = RootCertStore::empty();
        for authority in CertificateDer::pem_slice_iter(&contents.concat()) {
            roots
                .add(authority.map_err(|_| none())?)
                .map_err(|_| none())?;
        }
        if roots.is_empty() {
            return Err(none());
        }
        Ok(roots)
    }
}

/// The document at a URL, of at most 1 MiB, within 10 s. Redirects are not followed.
///
/// # Errors
/// Any [`FetchError`].
pub async fn fetch(url: &str, trust: &Trust) -> Result<Vec<u8>, FetchError> {
    timeout(LIMIT, get(url, trust))
        .await
        .map_err(|_| FetchError::TooSlow)?
}

async fn get(url: &str, trust: &Trust) -> Result<Vec<u8>, FetchError> {
    let uri: http::Uri = url.parse().map_err(|_| FetchError::Url)?;
    let is_tls = match uri.scheme_str() {
        Some("https") => true,
        Some("http") => false,
        Some(_) | None => return Err(FetchError::Url),
    };
    let authority = uri.authority().ok_or(FetchError::Url)?;
    let host = authority.host().trim_matches(['[', ']']).to_owned();
    let port = authority
        .port_u16()
        .unwrap_or(if is_tls { 443 } else { 80 });
    let stream = TcpStream::connect((host.as_str(), port))
        .await
        .map_err(failed)?;
    if !is_tls {
        return exchange(stream, &uri).await;
    }
    let roots = trust.roots()?;
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(failed)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(host).map_err(failed)?;
    let stream = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .map_err(failed)?;
    exchange(stream, &uri).await
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    uri: &http::Uri,
) -> Result<Vec<u8>, FetchError> {
    let host = uri.authority().map_or("", |authority| authority.as_str());
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::get(path)
        .header(header::HOST, host)
        .header(header::ACCEPT, "application/json")
        .header(header::CONNECTION, "close")
        .body(Empty::<bytes::Bytes>::new())
        .map_err(failed)?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(failed)?;
    // ends with this call
    let mut driving = JoinSet::new();
    driving.spawn(connection);
    let answer = sender.send_request(request).await.map_err(failed)?;
    if !answer.status().is_success() {
        return Err(FetchError::Status(answer.status().as_u16()));
    }
    let body = Limited::new(answer.into_body(), MAX_BYTES)
        .collect()
        .await
        .map_err(FetchError::Failed)?;
    Ok(body.to_bytes().to_vec())
}

fn failed(error: impl Error + Send + Sync + 'static) -> FetchError {
    FetchError::Failed(Box::new(error))
}
