//! Connections to the control plane.

use std::time::Duration;

use tonic::transport::Channel;

use crate::error::WorkerError;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// The control plane's address, checked. Nothing is connected until the first call.
#[derive(Debug, Clone)]
pub struct Endpoint {
    endpoint: tonic::transport::Endpoint,
}

impl Endpoint {
    /// # Errors
    /// [`WorkerError::BadEndpoint`] for what is not `http://HOST[:PORT]`.
    pub fn parse(address: &str) -> Result<Endpoint, WorkerError> {
        let bad = |reason: String| WorkerError::BadEndpoint {
            endpoint: address.to_owned(),
            reason,
        };
        let endpoint = tonic::transport::Endpoint::from_shared(address.to_owned())
            .map_err(|error| bad(error.to_string()))?
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .tcp_nodelay(true);
        match endpoint.uri().scheme_str() {
            Some("http") if endpoint.uri().host().is_some() => Ok(Endpoint { endpoint }),
            Some("http") => Err(bad("it names no host".to_owned())),
            Some(other) => Err(bad(format!("the scheme {other} is not spoken"))),
            None => Err(bad("it has no scheme".to_owned())),
        }
    }

    /// A connection of its own, made when it is first used and again whenever it broke.
    pub fn connect(&self) -> Channel {
        self.endpoint.connect_lazy()
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
            "https://localhost",
            "ftp://localhost",
            "http://",
            "a b",
        ] {
            let refused = Endpoint::parse(address).expect_err(address);
            assert!(
                matches!(refused, WorkerError::BadEndpoint { .. }),
                "{refused:?}"
            );
        }
        assert!(Endpoint::parse("http://127.0.0.1:8275").is_ok());
    }
}
