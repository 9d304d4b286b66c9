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
use super::lent_body::{Word, lend};

/// How often a call is made at most of which nothing was done. The transport notices only upon the next call, or the one
/// after it, that a connection takes no more, so one goodbye can cost up to three tries. They are made at once: the last is
/// made on a connection that has just been opened.
const MAX_TRIES: usize = 5;

/// The connection. Cheap to clone.
///
/// A server that closes a connection says so first (GOAWAY), and takes no more calls on it. Such a word can meet a call that
/// is on its way. Where nothing of the call was done, it is made again, on the next connection, which is made at once and
/// looks up the server's name anew:
///
/// - Nobody has looked into its body yet, so no message was sent, whatever the transport says of the reason.
/// - The server said of this call that it was not taken: its number is above the last one in the GOAWAY, whose reason is
///   NO_ERROR. `h2` gives that error to no other call whose body it has read: those up to the last number go on, and fail as
///   broken pipes or errors of I/O if the connection does. Body and end must have been read, and a copy be there, which is
///   not kept of large ones (above 64 KiB). So a stream that the client has not ended is not made again.
///
/// Anything else may have been done in part, and fails.
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
        if tries == MAX_TRIES || !is_closed_connection(&error) {
            return Err(error);
        }
        match pledge.redeem(word_of(&error)) {
            Some(unsent) => body = unsent,
            None => return Err(error),
        }
        tries += 1;
        ready = again.clone();
        ready.ready().await?;
    }
}

/// Whether there was a connection; without one the next try would end as this one did, and a limit of time is one.
fn is_closed_connection(error: &tonic::transport::Error) -> bool {
    !causes(error).any(|cause| cause.is::<ConnectError>() || cause.is::<TimeoutExpired>())
}

/// What the server said of the call in its goodbye.
fn word_of(error: &tonic::transport::Error) -> Word {
    let is_refused = causes(error)
        .filter_map(|cause| cause.downcast_ref::<h2::Error>())
        .any(|cause| {
            cause.is_go_away() && cause.is_remote() && cause.reason() == Some(h2::Reason::NO_ERROR)
        });
    if is_refused {
        Word::NothingTaken
    } else {
        Word::None
    }
}

/// The error and what is behind it.
fn causes(error: &tonic::transport::Error) -> impl Iterator<Item = &(dyn Error + 'static)> {
    let first: &(dyn Error + 'static) = error;
    std::iter::successors(Some(first), |&error| error.source())
}

#[cfg(test)]
mod tests;
