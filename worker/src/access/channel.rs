//! A connection that shows a token with each call, and makes a call again that found the connection on its way out.

use std::error::Error;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use http::header::AUTHORIZATION;
use http::{Request, Response};
use tonic::body::Body;
use tonic::transport::Channel;
use tonic::{ConnectError, TimeoutExpired};
use tower::{Service, ServiceExt};

use super::bearer::Bearer;
use super::lent_body::lend;

/// How often a call is made at most that was never sent. Each time the connection must have closed at that moment.
const MAX_TRIES: usize = 3;

/// The connection. Cheap to clone.
///
/// A server that closes a connection says so first, and takes no more calls on it. Such a word can meet a call that the
/// transport has taken and not sent yet; the transport then says that it was canceled. Nothing of it was sent, so it is made
/// again, on the next connection, which is made at once and looks up the server's name anew.
#[derive(Clone, Debug)]
pub struct AuthorizedChannel {
    channel: Channel,
    bearer: Bearer,
}

impl AuthorizedChannel {
    /// A connection that shows a token.
    #[must_use]
    pub fn new(channel: Channel, bearer: Bearer) -> AuthorizedChannel {
        AuthorizedChannel { channel, bearer }
    }
}

impl Service<Request<Body>> for AuthorizedChannel {
    type Response = Response<Body>;
    type Error = tonic::transport::Error;
    type Future = BoxFuture<'static, Result<Response<Body>, tonic::transport::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.channel.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        // what somebody else said is never passed on
        request.headers_mut().remove(AUTHORIZATION);
        if let Some(header) = self.bearer.header() {
            request.headers_mut().insert(AUTHORIZATION, header);
        }
        let again = self.channel.clone();
        // the one that was asked whether it is ready
        let ready = std::mem::replace(&mut self.channel, again.clone());
        Box::pin(send(ready, again, request))
    }
}

async fn send(
    mut ready: Channel,
    again: Channel,
    request: Request<Body>,
) -> Result<Response<Body>, tonic::transport::Error> {
    let (head, mut body) = request.into_parts();
    let mut tries = 1;
    loop {
        let (lent, pledge) = lend(body);
        let sent = ready.call(Request::from_parts(head.clone(), Body::new(lent)));
        let error = match sent.await {
            Ok(response) => return Ok(response),
            Err(error) => error,
        };
        match pledge.redeem() {
            Some(unsent) if tries < MAX_TRIES && is_closed_connection(&error) => body = unsent,
            Some(_) | None => return Err(error),
        }
        tries += 1;
        ready = again.clone();
        ready.ready().await?;
    }
}

/// Whether there was a connection; without one the next try would end as this one did, and a limit of time is one.
fn is_closed_connection(error: &tonic::transport::Error) -> bool {
    let mut source: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = source {
        if error.is::<ConnectError>() || error.is::<TimeoutExpired>() {
            return false;
        }
        source = error.source();
    }
    true
}

#[cfg(test)]
mod tests;
