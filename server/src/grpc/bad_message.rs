//! Requests that the transport could not take: too large, or no message of the method's type. The transport answers
//! these by itself, before any handler is asked; here they get a code and a reason like every other refusal.

use crate::control::refusal::Refusal;
use futures::{FutureExt, future::BoxFuture};
use http::{Request, Response};
use std::task::{Context, Poll};
use tonic::{Code, Status, body::Body};
use tower::{Layer, Service};

/// How the transport's own statuses begin.
const TOO_LARGE: &str = "Error, decoded message length too large";
const UNREADABLE: &str = "failed to decode Protobuf message: ";

/// The layer.
#[derive(Clone, Copy, Debug, Default)]
pub struct BadMessageLayer;

/// A service whose transport's refusals are explained.
#[derive(Clone, Debug)]
pub struct BadMessage<S> {
    inner: S,
}

impl<S> Layer<S> for BadMessageLayer {
    type Service = BadMessage<S>;

    fn layer(&self, inner: S) -> Self::Service {
        BadMessage { inner }
    }
}

impl<S> Service<Request<Body>> for BadMessage<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<Body>, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let explained = |response: Response<Body>| {
            let refusal =
                Status::from_header_map(response.headers()).and_then(|status| refusal_of(&status));
            match refusal {
                Some(refusal) => Status::from(refusal).into_http(),
                None => response,
            }
        };
        self.inner
            .call(request)
            .map(move |answer| answer.map(explained))
            .boxed()
    }
}

/// What a status of the transport's own means; none for any other.
fn refusal_of(status: &Status) -> Option<Refusal> {
    if !status.details().is_empty() {
        return None;
    }
    let message = status.message();
    match status.code() {
        Code::OutOfRange if message.starts_with(TOO_LARGE) => Some(Refusal::MessageTooLarge {
            limit: super::endpoint::MAX_MESSAGE_BYTES,
        }),
        Code::Internal => message
            .strip_prefix(UNREADABLE)
            .map(|problem| Refusal::BadMessage {
                problem: problem.to_owned(),
            }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_transports_own_refusals_are_explained() {
        let too_large = Status::out_of_range(format!(
            "{TOO_LARGE}: found 5000000 bytes, the limit is: 4194304 bytes"
        ));
        assert!(matches!(
            refusal_of(&too_large),
            Some(Refusal::MessageTooLarge { .. })
        ));
        let unreadable = Status::internal(format!("{UNREADABLE}invalid tag value: 0"));
        assert!(
            matches!(refusal_of(&unreadable), Some(Refusal::BadMessage { problem }) if problem == "invalid tag value: 0")
        );
        for other in [
            Status::internal("the server failed"),
            Status::out_of_range("offset"),
            Status::ok(""),
        ] {
            assert!(refusal_of(&other).is_none(), "{other:?}");
        }
    }
}
