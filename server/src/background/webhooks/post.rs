//! One call of a webhook. The address that was checked is the one that is connected to, and redirects are not followed,
//! so that no name can lead to where it must not.

use super::letter::Letter;
use crate::control::webhooks::target::Target;
use http::{Request, header};
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use std::{io, net::SocketAddr, sync::Arc, time::Duration};
use taskyard_core::webhook::is_public;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{InvalidDnsNameError, ServerName},
    },
};

/// Longest time from the look-up of the name to the status of the answer.
const CALL_LIMIT: Duration = Duration::from_secs(10);
/// Addresses of a name that are tried.
const MAX_ADDRESSES: usize = 4;
/// Largest head of an answer.
const MAX_HEAD_BYTES: usize = 64 << 10;

/// What calls webhooks.
pub(super) struct Poster {
    tls: TlsConnector,
    allows_private: bool,
}

/// Why there was no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum PostError {
    #[error("the URL {0}")]
    BadUrl(&'static str),
    #[error("the host cannot be found")]
    NoHost(#[source] io::Error),
    #[error(
        "the host leads to no address of the public internet; servers deliver to others only with --allow-private-webhooks"
    )]
    Private,
    #[error("the host cannot be connected to")]
    NoConnection(#[source] io::Error),
    #[error("the host's name cannot be checked by TLS")]
    BadName(#[from] InvalidDnsNameError),
    #[error("TLS failed")]
    NoTls(#[source] io::Error),
    #[error("the request cannot be made")]
    BadRequest(#[from] http::Error),
    #[error("the connection broke")]
    Broken(#[from] hyper::Error),
    #[error("no answer within {} s", CALL_LIMIT.as_secs())]
    TooSlow,
}

impl PostError {
    /// Whether another try would end the same way: what the URL says, or where this server lets it lead, is wrong.
    pub(super) fn is_permanent(&self) -> bool {
        match self {
            Self::BadUrl(_) | Self::Private | Self::BadName(_) | Self::BadRequest(_) => true,
            Self::NoHost(_)
            | Self::NoConnection(_)
            | Self::NoTls(_)
            | Self::Broken(_)
            | Self::TooSlow => false,
        }
    }
}

impl Poster {
    /// # Errors
    /// TLS cannot be set up.
    pub(super) fn new(allows_private: bool) -> Result<Self, tokio_rustls::rustls::Error> {
        let roots = RootCertStore {
            roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
        };
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self {
            tls: TlsConnector::from(Arc::new(config)),
            allows_private,
        })
    }

    /// Sends a letter; the status of the answer.
    ///
    /// # Errors
    /// Any [`PostError`]: there was no answer.
    pub(super) async fn post(&self, url: &str, letter: Letter) -> Result<u16, PostError> {
        let target = Target::parse(url).map_err(PostError::BadUrl)?;
        timeout(CALL_LIMIT, self.call(&target, letter))
            .await
            .map_err(|_| PostError::TooSlow)?
    }

    async fn call(&self, target: &Target, letter: Letter) -> Result<u16, PostError> {
        let stream = self.connect(target).await?;
        if !target.is_tls {
            return exchange(stream, target, letter).await;
        }
        let name = ServerName::try_from(target.host.clone())?;
        let stream = self
            .tls
            .connect(name, stream)
            .await
            .map_err(PostError::NoTls)?;
        exchange(stream, target, letter).await
    }

    async fn connect(&self, target: &Target) -> Result<TcpStream, PostError> {
        let found = tokio::net::lookup_host((target.host.as_str(), target.port))
            .await
            .map_err(PostError::NoHost)?;
        let addresses: Vec<SocketAddr> = found
            .filter(|address| self.allows_private || is_public(address.ip()))
            .take(MAX_ADDRESSES)
            .collect();
        let mut last = PostError::Private;
        for address in addresses {
            match TcpStream::connect(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = PostError::NoConnection(error),
            }
        }
        Err(last)
    }
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    target: &Target,
    letter: Letter,
) -> Result<u16, PostError> {
    let mut request = Request::post(target.path.clone())
        .header(header::HOST, &target.authority)
        .header(header::CONNECTION, "close")
        .body(Full::new(letter.body))?;
    request.headers_mut().extend(letter.headers);
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(MAX_HEAD_BYTES)
        .handshake(TokioIo::new(stream))
        .await?;
    // ends with this call: the body of an answer is nobody's business
    let mut driving = JoinSet::new();
    driving.spawn(connection);
    let answer = sender.send_request(request).await?;
    Ok(answer.status().as_u16())
}
