//! Connections to the control plane.

use std::time::Duration;

use http::Uri;
use http::uri::InvalidUri;

use crate::access::dial::{Dialer, transport};
use crate::access::{AccessSettings, AuthorizedChannel, Bearer};
use crate::error::WorkerError;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// The control plane's address, checked. Nothing is connected until the first call.
#[derive(Debug, Clone)]
pub struct Endpoint {
    endpoint: tonic::transport::Endpoint,
    bearer: Bearer,
    /// Where TLS is spoken.
    dialer: Option<Dialer>,
}

impl Endpoint {
    /// # Errors
    /// [`WorkerError::BadEndpoint`] for what is neither `http://HOST[:PORT]` nor `https://HOST[:PORT]`,
    /// [`WorkerError::Access`].
    pub fn parse(address: &str, access: &AccessSettings) -> Result<Endpoint, WorkerError> {
        let bad = |reason: String| WorkerError::BadEndpoint {
            endpoint: address.to_owned(),
            reason,
        };
        let uri: Uri = address
            .parse()
            .map_err(|error: InvalidUri| bad(error.to_string()))?;
        let endpoint = transport(&uri)
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .tcp_nodelay(true);
        let port = uri.port_u16();
        match (uri.scheme_str(), uri.host()) {
            (Some("http"), Some(_)) => Ok(Endpoint {
                endpoint,
                bearer: access.bearer()?,
                dialer: None,
            }),
            (Some("https"), Some(host)) => Ok(Endpoint {
                endpoint,
                bearer: access.bearer()?,
                dialer: Some(access.dialer(host, port.unwrap_or(443))?),
            }),
            (Some("http" | "https"), None) => Err(bad("it names no host".to_owned())),
            (Some(other), _) => Err(bad(format!("the scheme {other} is not spoken"))),
            (None, _) => Err(bad("it has no scheme".to_owned())),
        }
    }

    /// A connection of its own, made when it is first used and again whenever it broke.
    pub fn connect(&self) -> AuthorizedChannel {
        let channel = match &self.dialer {
            None => self.endpoint.connect_lazy(),
            Some(dialer) => dialer.channel(&self.endpoint),
        };
        AuthorizedChannel::new(channel, self.bearer.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_an_endpoint_is_refused() {
        for address in [
            "",
            "localhost",
            "127.0.0.1:8275",
            "ftp://localhost",
            "http://",
            "a b",
        ] {
            let refused = Endpoint::parse(address, &AccessSettings::default()).expect_err(address);
            assert!(
                matches!(refused, WorkerError::BadEndpoint { .. }),
                "{refused:?}"
            );
        }
        for address in [
            "http://127.0.0.1:8275",
            "https://localhost",
            "https://[::1]:8275",
        ] {
            assert!(Endpoint::parse(address, &AccessSettings::default()).is_ok());
        }
    }
}
