//! TLS connections, each with what the files hold when it is made: certificates that rotate need no restart.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use http::uri::Scheme;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tonic::transport::{Channel, Endpoint};

use super::settings::{AccessError, AccessSettings};

/// Longest time to connect and shake hands.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// The transport's side of an address. Its calls name the address as it is; but to one of `https` it would connect by TLS of
/// its own only, so it is told `http`, and a [`Dialer`] brings the connections.
#[must_use]
pub fn transport(address: &Uri) -> Endpoint {
    let mut parts = address.clone().into_parts();
    parts.scheme = Some(Scheme::HTTP);
    match Uri::from_parts(parts) {
        Ok(plain) => Endpoint::from(plain).origin(address.clone()),
        // without a host it leads nowhere in any case
        Err(_) => Endpoint::from(address.clone()),
    }
}

/// Makes connections to one server.
#[derive(Clone, Debug)]
pub struct Dialer {
    settings: AccessSettings,
    host: String,
    port: u16,
}

impl Dialer {
    pub(super) fn new(settings: AccessSettings, host: &str, port: u16) -> Dialer {
        Dialer {
            settings,
            host: host.trim_matches(['[', ']']).to_owned(),
            port,
        }
    }

    /// Whether the files can be used at this moment.
    pub(super) fn check(&self) -> Result<(), AccessError> {
        self.config()?;
        self.server_name().map(|_| ())
    }

    /// A channel that connects when it is first used, and again whenever that broke. `endpoint` says how; where to
    /// connect to is known here.
    #[must_use]
    pub fn channel(&self, endpoint: &Endpoint) -> Channel {
        endpoint.connect_with_connector_lazy(self.connector())
    }

    /// A channel that is connected.
    ///
    /// # Errors
    /// There is no connection.
    pub async fn connected(&self, endpoint: &Endpoint) -> Result<Channel, tonic::transport::Error> {
        endpoint.connect_with_connector(self.connector()).await
    }

    fn connector(
        &self,
    ) -> impl tower::Service<
        Uri,
        Response = TokioIo<TlsStream<TcpStream>>,
        Error = io::Error,
        Future = impl Send + use<>,
    >
    + Send
    + 'static
    + use<> {
        let dialer = self.clone();
        tower::service_fn(move |_: Uri| {
            let dialer = dialer.clone();
            async move {
                tokio::time::timeout(CONNECT_LIMIT, dialer.dial())
                    .await
                    .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
                    .map(TokioIo::new)
            }
        })
    }

    async fn dial(&self) -> io::Result<TlsStream<TcpStream>> {
        let config = self.config().map_err(io::Error::other)?;
        let name = self.server_name().map_err(io::Error::other)?;
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        stream.set_nodelay(true)?;
        TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await
    }

    fn server_name(&self) -> Result<ServerName<'static>, AccessError> {
        let name = self.settings.server_name.as_ref().unwrap_or(&self.host);
        ServerName::try_from(name.clone()).map_err(|_| AccessError::File {
            what: "TASKYARD_TLS_SERVER_NAME",
            problem: format!("{name:?} is no name of a server"),
        })
    }

    fn config(&self) -> Result<ClientConfig, AccessError> {
        let mut roots = RootCertStore::empty();
        match &self.settings.ca {
            None => roots
                .roots
                .extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
            Some(path) => {
                for authority in certificates("TASKYARD_CA", path)? {
                    roots
                        .add(authority)
                        .map_err(|error| unusable("TASKYARD_CA", path, &error))?;
                }
            }
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| AccessError::File {
                what: "TLS",
                problem: error.to_string(),
            })?
            .with_root_certificates(roots);
        let mut config = match &self.settings.client {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = certificates("TASKYARD_CLIENT_CERT", certificate)?;
                let private = PrivateKeyDer::from_pem_file(key)
                    .map_err(|error| unusable("TASKYARD_CLIENT_KEY", key, &error))?;
                builder
                    .with_client_auth_cert(chain, private)
                    .map_err(|error| unusable("TASKYARD_CLIENT_CERT", certificate, &error))?
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }
}

fn certificates(
    what: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, AccessError> {
    let found: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| unusable(what, path, &error))?;
    if found.is_empty() {
        return Err(AccessError::File {
            what,
            problem: format!("{} holds no PEM certificate", path.display()),
        });
    }
    Ok(found)
}

fn unusable(what: &'static str, path: &Path, error: &dyn std::fmt::Display) -> AccessError {
    AccessError::File {
        what,
        problem: format!("{}: {error}", path.display()),
    }
}
