//! The answer to a call on its way to the caller.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::Frame;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::Status;
use tonic::body::Body;

use super::refusal;
use super::waits::Wait;
use crate::link::lease_calls;

/// An answer that ends with LEASE_LOST when the lease is lost, and with UNAVAILABLE where the control plane goes away.
pub(super) struct GuardedBody {
    /// Absent: the answer is over.
    passing: Option<Passing>,
}

struct Passing {
    body: Body,
    lost: CancellationToken,
    lost_now: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Counts the call among those of the attempt.
    _call: OwnedSemaphorePermit,
    /// Present where the caller waits for as long as the answer lasts.
    _wait: Option<Wait>,
}

impl GuardedBody {
    pub(super) fn new(
        body: Body,
        lost: CancellationToken,
        call: OwnedSemaphorePermit,
        wait: Option<Wait>,
    ) -> GuardedBody {
        GuardedBody {
            passing: Some(Passing {
                body,
                lost_now: Box::pin(lost.clone().cancelled_owned()),
                lost,
                _call: call,
                _wait: wait,
            }),
        }
    }

    fn end_with(&mut self, status: &Status) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.passing = None;
        Poll::Ready(Some(Ok(Frame::trailers(refusal::trailers(status)))))
    }
}

impl http_body::Body for GuardedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Some(passing) = &mut self.passing else {
            return Poll::Ready(None);
        };
        if passing.lost_now.as_mut().poll(context).is_ready() {
            return self.end_with(&refusal::lease_lost());
        }
        match Pin::new(&mut passing.body).poll_frame(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(Ok(frame))) => {
                if frame.trailers_ref().is_some_and(refusal::says_lease_lost) {
                    passing.lost.cancel();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(status))) => {
                self.end_with(&lease_calls::unreachable(status.message()))
            }
            Poll::Ready(None) => {
                self.passing = None;
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.passing
            .as_ref()
            .is_none_or(|passing| passing.body.is_end_stream())
    }
}
