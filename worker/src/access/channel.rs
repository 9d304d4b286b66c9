//! A connection that shows a token with each call.

use std::task::{Context, Poll};

use http::header::AUTHORIZATION;
use http::{Request, Response};
use tonic::body::Body;
use tonic::transport::Channel;
use tonic::transport::channel::ResponseFuture;
use tower::Service;

use super::bearer::Bearer;

/// The connection. Cheap to clone.
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
    type Future = ResponseFuture;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.channel.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        // what somebody else said is never passed on
        request.headers_mut().remove(AUTHORIZATION);
        if let Some(header) = self.bearer.header() {
            request.headers_mut().insert(AUTHORIZATION, header);
        }
        self.channel.call(request)
    }
}
