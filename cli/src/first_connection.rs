//! The first connection of a command, and the proof that a server answers there.
//!
//! A server that ends closes its port and what came to it last: behind one address of several servers the next connection
//! finds another one. So what breaks off in the middle is tried again for a moment. A plain refusal, a server that is not
//! trusted and whoever speaks another protocol are told at once: those stay as they are.

use std::error::Error;
use std::io;
use std::time::Duration;

use taskyard_worker::access::dial::Dialer;
use taskyard_worker::access::{AuthorizedChannel, Bearer};
use tonic::TimeoutExpired;
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::backoff::Backoff;
use crate::failure::{CLOSED, FOREIGN, Failure, REFUSED, connection_cause, unreachable_endpoint};

/// Longest time to connect, and for the first answer.
pub const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// How often a connection is made again that broke off, with pauses of 0.7 s in all, a half more or less.
const TRIES_MORE: u32 = 3;

/// Where and how to connect.
pub struct FirstConnection<'a> {
    /// The address as a person gave it.
    pub endpoint: &'a str,
    pub connecting: Endpoint,
    /// Makes the connections, where they are by TLS.
    pub dialer: Option<Dialer>,
    pub bearer: Bearer,
}

/// Why there is no connection.
enum Unmade {
    /// It broke off in the middle: the next one may hold.
    BrokenOff(Failure),
    /// Nobody listens.
    Refused(Failure),
    /// It will not be otherwise in a moment.
    Final(Failure),
}

impl FirstConnection<'_> {
    /// A connection to a server that answers.
    pub async fn make(&self) -> Result<AuthorizedChannel, Failure> {
        let mut backoff = Backoff::within(Duration::MAX);
        let mut tries_left = TRIES_MORE;
        loop {
            let failure = match self.once().await {
                Ok(channel) => return Ok(channel),
                Err(Unmade::BrokenOff(failure)) => failure,
                // who was there a moment ago may be about to come back
                Err(Unmade::Refused(failure)) if backoff.is_failing() => failure,
                Err(Unmade::Refused(failure) | Unmade::Final(failure)) => return Err(failure),
            };
            if tries_left == 0 || !backoff.pause().await {
                return Err(failure);
            }
            tries_left -= 1;
        }
    }

    /// Connects, and asks for an answer: each within five seconds.
    async fn once(&self) -> Result<AuthorizedChannel, Unmade> {
        // The limit of the transport does not cover the look-up of a name.
        let connected = async {
            match &self.dialer {
                None => self.connecting.connect().await,
                Some(dialer) => dialer.connected(&self.connecting).await,
            }
        };
        let channel = match tokio::time::timeout(CONNECT_LIMIT, connected).await {
            Ok(Ok(channel)) => AuthorizedChannel::new(channel, self.bearer.clone()),
            Ok(Err(error)) => return Err(self.unmade(&error)),
            Err(_) => return Err(self.silent("no answer within 5 s")),
        };
        self.ensure_answers(&channel).await?;
        Ok(channel)
    }

    /// Whoever listens may be somebody else, or hang: better to learn that from a call that needs no patience.
    async fn ensure_answers(&self, channel: &AuthorizedChannel) -> Result<(), Unmade> {
        let mut health = HealthClient::new(channel.clone());
        let checking = health.check(HealthCheckRequest::default());
        match tokio::time::timeout(CONNECT_LIMIT, checking).await {
            // Whatever it says of its health: it answers.
            Ok(Ok(_)) => Ok(()),
            Ok(Err(status)) => match status.source() {
                Some(cause) => Err(self.unmade(cause)),
                None => Ok(()),
            },
            Err(_) => Err(self.silent("something listens there and gives no answer within 5 s")),
        }
    }

    fn unmade(&self, error: &(dyn Error + 'static)) -> Unmade {
        let cause = connection_cause(error);
        let failure = unreachable_endpoint(self.endpoint, &cause);
        match cause.as_str() {
            CLOSED => Unmade::BrokenOff(self.closed()),
            REFUSED => Unmade::Refused(failure),
            FOREIGN => Unmade::Final(failure),
            // The transport's own words for a connection that was there. What the system or TLS says stays as it is.
            _ if !is_said_below(error) => Unmade::BrokenOff(failure),
            _ => Unmade::Final(failure),
        }
    }

    fn silent(&self, cause: &str) -> Unmade {
        Unmade::Final(unreachable_endpoint(self.endpoint, cause))
    }

    fn closed(&self) -> Failure {
        Failure::Own(format!(
            "{} closed the connection without an answer; check --endpoint, and try again if it is a Taskyard server that \
             is just starting or stopping{}",
            self.endpoint,
            certificate_hint(self.endpoint)
        ))
    }
}

/// Whether something below HTTP/2 failed: the socket, TLS, or the look-up of a name.
fn is_said_below(error: &(dyn Error + 'static)) -> bool {
    let mut causes = std::iter::successors(Some(error), |&error| error.source());
    causes.any(|cause| cause.is::<io::Error>() || cause.is::<TimeoutExpired>())
}

/// Who wants a client certificate and gets none, or one that it does not trust, hangs up after the handshake.
fn certificate_hint(endpoint: &str) -> &'static str {
    if endpoint.starts_with("https://") {
        "; or it wants a client certificate that it trusts (TASKYARD_CLIENT_CERT, TASKYARD_CLIENT_KEY)"
    } else {
        ""
    }
}

#[cfg(test)]
mod tests;
