//! The body of a request that may have to be sent once more: as long as nobody has looked into it, no message of it can
//! have reached a server, so nothing was done.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;

/// A body that its owner lends to the transport.
pub(super) struct LentBody {
    place: Arc<Mutex<Option<Body>>>,
    /// Taken when the transport first looks into it.
    taken: Option<Body>,
    is_empty: bool,
    size: SizeHint,
}

/// Gives a lent body back, if nobody looked into it.
pub(super) struct Pledge(Arc<Mutex<Option<Body>>>);

/// Lends a body.
pub(super) fn lend(body: Body) -> (LentBody, Pledge) {
    let (is_empty, size) = (body.is_end_stream(), body.size_hint());
    let place = Arc::new(Mutex::new(Some(body)));
    let lent = LentBody {
        place: Arc::clone(&place),
        taken: None,
        is_empty,
        size,
    };
    (lent, Pledge(place))
}

impl Pledge {
    /// The body as it was, and nobody gets it from the lent one any more.
    pub(super) fn redeem(self) -> Option<Body> {
        take(&self.0)
    }
}

impl http_body::Body for LentBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.taken.is_none() {
            self.taken = take(&self.place);
        }
        match &mut self.taken {
            Some(body) => Pin::new(body).poll_frame(context),
            // its owner sends it again, so nobody waits for what becomes of this one
            None => Poll::Ready(Some(Err(Status::cancelled("the request is sent again")))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.taken
            .as_ref()
            .map_or(self.is_empty, Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.taken.as_ref().map_or(self.size, Body::size_hint)
    }
}

/// What is behind the lock is one value, whole at any time.
fn take(place: &Mutex<Option<Body>>) -> Option<Body> {
    place.lock().unwrap_or_else(PoisonError::into_inner).take()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::{BodyExt, Full};

    fn body() -> Body {
        Body::new(Full::new(Bytes::from_static(b"message")))
    }

    #[tokio::test]
    async fn a_body_comes_back_until_somebody_looks_into_it() {
        let (lent, pledge) = lend(body());
        drop(lent);
        let back = pledge.redeem().expect("nobody looked");
        let whole = back.collect().await.expect("a body");
        assert_eq!(whole.to_bytes(), "message");

        let (mut lent, pledge) = lend(body());
        let read = lent.frame().await.expect("a frame").expect("no error");
        assert_eq!(read.into_data().expect("data"), "message");
        assert!(pledge.redeem().is_none());

        let (mut lent, pledge) = lend(body());
        assert!(pledge.redeem().is_some());
        assert!(lent.frame().await.expect("an end").is_err(), "sent once");
    }
}
