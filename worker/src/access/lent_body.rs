//! The body of a request that may have to be sent once more: nothing was done if nobody has looked into it, because then no
//! message of it can have reached a server; and if the server says so, as long as there is a copy of it.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::task::noop_waker_ref;
use http_body::{Body as _, Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;

/// How much of a body is kept at most, in bytes, with what it takes to hold them. Requests are smaller, but for those that
/// carry output and files.
const MAX_KEPT: usize = 64 << 10;

/// A body that its owner lends to the transport.
pub(super) struct LentBody {
    loan: Arc<Mutex<Loan>>,
    is_empty: bool,
    size: SizeHint,
}

/// Gives a lent body back. Dropped, it lets go of what was kept for that.
pub(super) struct Pledge(Arc<Mutex<Loan>>);

/// Whether the server has said that it took nothing of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    NothingTaken,
    None,
}

/// What both sides of the loan see.
struct Loan {
    /// None when its owner has it back.
    body: Option<Body>,
    is_looked_into: bool,
    has_ended: bool,
    /// What came out of the body. None if that is not all that is in it, or if nobody will ask for it.
    kept: Option<VecDeque<Bytes>>,
    kept_size: usize,
}

/// Lends a body.
pub(super) fn lend(body: Body) -> (LentBody, Pledge) {
    let (is_empty, size) = (body.is_end_stream(), body.size_hint());
    let loan = Arc::new(Mutex::new(Loan {
        body: Some(body),
        is_looked_into: false,
        has_ended: false,
        kept: Some(VecDeque::new()),
        kept_size: 0,
    }));
    let lent = LentBody {
        loan: Arc::clone(&loan),
        is_empty,
        size,
    };
    (lent, Pledge(loan))
}

impl Pledge {
    /// The body as it was, and nobody gets it from the lent one any more: if nobody looked into it; or, upon the server's
    /// word, if it has come to its end and was kept whole. So a stream that goes on is not given back.
    pub(super) fn redeem(self, word: Word) -> Option<Body> {
        let mut loan = lock(&self.0);
        let body = loan.body.take()?;
        if !loan.is_looked_into {
            return Some(body);
        }
        match word {
            Word::NothingTaken if loan.has_ended || is_at_its_end(body) => {
                loan.kept.take().map(|kept| Body::new(KeptBody(kept)))
            }
            Word::NothingTaken | Word::None => None,
        }
    }
}

impl Drop for Pledge {
    fn drop(&mut self) {
        lock(&self.0).kept = None;
    }
}

/// The transport looks behind the last message only when it has sent it.
fn is_at_its_end(mut body: Body) -> bool {
    // nobody is woken, for nobody waits: what is not there by now is a stream that goes on
    let mut context = Context::from_waker(noop_waker_ref());
    body.is_end_stream()
        || matches!(
            Pin::new(&mut body).poll_frame(&mut context),
            Poll::Ready(None)
        )
}

impl Loan {
    fn keep(&mut self, frame: &Frame<Bytes>) {
        let Some(kept) = &mut self.kept else { return };
        match frame.data_ref() {
            Some(data) if self.kept_size + cost(data) <= MAX_KEPT => {
                self.kept_size += cost(data);
                kept.push_back(data.clone());
            }
            // requests of gRPC have no trailers
            Some(_) | None => self.kept = None,
        }
    }
}

fn cost(data: &Bytes) -> usize {
    data.len() + size_of::<Bytes>()
}

impl http_body::Body for LentBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let mut loan = lock(&self.loan);
        loan.is_looked_into = true;
        let Some(body) = &mut loan.body else {
            // its owner sends it again, so nobody waits for what becomes of this one
            return Poll::Ready(Some(Err(Status::cancelled("the request is sent again"))));
        };
        let polled = Pin::new(body).poll_frame(context);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => loan.keep(frame),
            Poll::Ready(Some(Err(_))) => loan.kept = None,
            Poll::Ready(None) => loan.has_ended = true,
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        let loan = lock(&self.loan);
        loan.body
            .as_ref()
            .map_or(self.is_empty, Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let loan = lock(&self.loan);
        loan.body.as_ref().map_or(self.size, Body::size_hint)
    }
}

/// A body that was read once.
struct KeptBody(VecDeque<Bytes>);

impl http_body::Body for KeptBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Poll::Ready(self.0.pop_front().map(|data| Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }
}

/// What a body does when it panics is lost with it; the rest is whole at any time.
fn lock(loan: &Mutex<Loan>) -> MutexGuard<'_, Loan> {
    loan.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
