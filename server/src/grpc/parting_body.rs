//! Long answers that end with their connection's age. Whoever reads one is told so, behind a whole message, and goes on
//! upon another connection from where the last message left off.

use super::connection::Peer;
use crate::control::refusal::Refusal;
use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame, SizeHint};
use std::{
    pin::Pin,
    task::{Context, Poll},
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::{Status, body::Body as TonicBody};
use tower::{Layer, Service};

/// The answers that last as long as their readers please, by the last part of their methods' names, those of health and
/// reflection among them. Workers' streams are told by their own handlers; files end by themselves.
const LONG_ANSWERS: [&str; 4] = [
    "/Watch",
    "/TailOutput",
    "/StreamIsActive",
    "/ServerReflectionInfo",
];

/// The layer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PartingLayer;

/// A service whose long answers end with their connections' age.
#[derive(Clone, Debug)]
pub(super) struct Parting<S> {
    inner: S,
}

impl<S> Layer<S> for PartingLayer {
    type Service = Parting<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Parting { inner }
    }
}

impl<S> Service<Request<TonicBody>> for Parting<S>
where
    S: Service<Request<TonicBody>, Response = Response<TonicBody>>,
    S::Future: Send + 'static,
    S::Error: 'static,
{
    type Response = Response<TonicBody>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<TonicBody>, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<TonicBody>) -> Self::Future {
        let path = request.uri().path();
        let end = LONG_ANSWERS
            .iter()
            .any(|name| path.ends_with(name))
            .then(|| request.extensions().get::<Peer>())
            .flatten()
            .map(|peer| peer.streams_end.clone());
        let answering = self.inner.call(request);
        let Some(end) = end else {
            return answering.boxed();
        };
        async move {
            let response = answering.await?;
            Ok(response.map(|body| TonicBody::new(PartingBody::new(body, end))))
        }
        .boxed()
    }
}

/// An answer that ends when it is told to.
struct PartingBody {
    inner: TonicBody,
    end: Pin<Box<WaitForCancellationFutureOwned>>,
    has_ended: bool,
}

impl PartingBody {
    fn new(inner: TonicBody, end: CancellationToken) -> Self {
        Self {
            inner,
            end: Box::pin(end.cancelled_owned()),
            has_ended: false,
        }
    }
}

impl Body for PartingBody {
    type Data = Bytes;
    type Error = Status;

    /// A frame of data holds whole messages, so there is always one between two frames.
    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.has_ended {
            return Poll::Ready(None);
        }
        if self.inner.is_end_stream() || self.end.as_mut().poll(context).is_pending() {
            return Pin::new(&mut self.inner).poll_frame(context);
        }
        self.has_ended = true;
        let mut trailers = HeaderMap::new();
        // what cannot be said in trailers is an end without a word, which clients take for a broken stream
        let _ = Status::from(Refusal::ConnectionAged).add_header(&mut trailers);
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.has_ended || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::{StreamExt, stream};
    use http_body_util::{BodyExt, StreamBody};
    use tonic::Code;
    use tonic_types::StatusExt;

    #[tokio::test]
    async fn an_answer_ends_behind_a_whole_frame_and_says_why() {
        let data =
            |text: &'static str| Ok::<_, Status>(Frame::data(Bytes::from_static(text.as_bytes())));
        let frames = stream::iter(["one", "two"]).map(data);
        let frames = TonicBody::new(StreamBody::new(frames.chain(stream::pending())));
        let end = CancellationToken::new();
        let mut body = PartingBody::new(frames, end.clone());
        let first = body.frame().await.expect("a frame").expect("no error");
        assert_eq!(first.into_data().expect("data"), "one");
        end.cancel();
        let last = body.frame().await.expect("trailers").expect("no error");
        let trailers = last.into_trailers().expect("trailers");
        let status = Status::from_header_map(&trailers).expect("a status");
        assert_eq!(status.code(), Code::Unavailable);
        let details = status.get_error_details();
        let reason = details.error_info().map(|info| info.reason.as_str());
        assert_eq!(reason, Some("CONNECTION_AGED"));
        assert!(details.retry_info().is_some());
        assert!(body.frame().await.is_none() && body.is_end_stream());
    }
}
