//! Requests of one message, which has to come in time: what a call holds meanwhile, it holds for so long at most.

use crate::control::refusal::Refusal;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::{Sleep, sleep};
use tonic::{Status, body::Body as TonicBody};

/// How long one message may be on its way.
const PATIENCE: Duration = Duration::from_secs(30);

/// A request's body that ends within 30 s, with its message or with a refusal.
pub(super) struct PromptBody {
    inner: TonicBody,
    deadline: Pin<Box<Sleep>>,
}

impl PromptBody {
    pub(super) fn new(inner: TonicBody) -> Self {
        Self {
            inner,
            deadline: Box::pin(sleep(PATIENCE)),
        }
    }
}

impl Body for PromptBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(context) {
            return Poll::Ready(frame);
        }
        self.deadline.as_mut().poll(context).map(|()| {
            let refusal = Refusal::invalid("message", "must come within 30 s of the call");
            Some(Err(refusal.into()))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::{BodyExt, Full, StreamBody};
    use tokio::time::Instant;
    use tonic::Code;

    #[tokio::test(start_paused = true)]
    async fn a_message_that_does_not_come_ends_the_call() {
        let never = StreamBody::new(futures::stream::pending::<Result<Frame<Bytes>, Status>>());
        let began = Instant::now();
        let mut body = PromptBody::new(TonicBody::new(never));
        let end = body.frame().await.expect("an end").expect_err("a refusal");
        assert_eq!(end.code(), Code::InvalidArgument);
        assert!(began.elapsed() >= PATIENCE);

        let full = TonicBody::new(Full::new(Bytes::from_static(b"message")));
        let whole = PromptBody::new(full).collect().await.expect("in time");
        assert_eq!(whole.to_bytes(), "message");
    }
}
