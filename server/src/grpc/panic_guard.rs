//! Turns a panic in a handler into `INTERNAL` for its caller. Everybody else is served on.

use futures::{FutureExt, future::BoxFuture};
use http::{Request, Response};
use std::{
    any::Any,
    panic::AssertUnwindSafe,
    task::{Context, Poll},
};
use tonic::{Status, body::Body};
use tower::{Layer, Service};

/// The layer.
#[derive(Clone, Copy, Debug, Default)]
pub struct PanicGuardLayer;

/// A guarded service.
#[derive(Clone, Debug)]
pub struct PanicGuard<S> {
    inner: S,
}

impl<S> Layer<S> for PanicGuardLayer {
    type Service = PanicGuard<S>;

    fn layer(&self, inner: S) -> Self::Service {
        PanicGuard { inner }
    }
}

impl<S> Service<Request<Body>> for PanicGuard<S>
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
        let method = request.uri().path().to_owned();
        // What a handler shares with others is behind locks that shrug off a holder's panic.
        let answering = AssertUnwindSafe(self.inner.call(request)).catch_unwind();
        Box::pin(async move {
            answering.await.unwrap_or_else(|panic| {
                tracing::error!(rpc.method = %method, panic = panic_text(&*panic), "a handler panicked");
                Ok(Status::internal("the server failed; its log says how").into_http())
            })
        })
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    #[tokio::test]
    async fn a_panic_is_answered_with_internal_and_the_next_call_is_served() {
        let answer = |request: Request<Body>| async move {
            assert!(request.uri().path() != "/panics", "as asked");
            Ok::<_, Infallible>(Response::new(Body::empty()))
        };
        let mut guarded = PanicGuardLayer.layer(tower::service_fn(answer));
        let request = |path: &str| {
            let mut request = Request::new(Body::empty());
            *request.uri_mut() = path.parse().expect("a path");
            request
        };
        let Ok(refused) = guarded.call(request("/panics")).await;
        let status = Status::from_header_map(refused.headers()).expect("a status");
        assert_eq!(status.code(), tonic::Code::Internal);
        let Ok(served) = guarded.call(request("/works")).await;
        assert!(Status::from_header_map(served.headers()).is_none());
    }
}
