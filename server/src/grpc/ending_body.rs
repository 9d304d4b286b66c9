//! Answers that end with the credential that they are given to.

use crate::{
    control::refusal::Refusal,
    identity::{Authenticator, Identity, authenticator::unix_now, certificate::PeerCertificate},
};
use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::{Status, body::Body as TonicBody};

/// A credential that was revoked ends its streams within this time; one that expires does so at its hour.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// An answer that goes on for as long as its reader is known. A timer runs only while the answer makes its reader wait.
pub(super) struct EndingBody {
    inner: TonicBody,
    reader: Reader,
    next_look: Instant,
    timer: Option<Pin<Box<Sleep>>>,
    has_ended: bool,
}

/// Who reads an answer.
pub(super) struct Reader {
    pub(super) authenticator: Arc<Authenticator>,
    pub(super) identity: Arc<Identity>,
    pub(super) certificate: Option<Arc<PeerCertificate>>,
}

impl EndingBody {
    pub(super) fn new(inner: TonicBody, reader: Reader) -> Self {
        let next_look = Instant::now() + reader.pause();
        Self {
            inner,
            reader,
            next_look,
            timer: None,
            has_ended: false,
        }
    }

    /// What ends the answer, if its reader is known no more.
    fn look(&mut self) -> Option<Frame<Bytes>> {
        if Instant::now() < self.next_look || self.reader.is_known() {
            return None;
        }
        self.has_ended = true;
        let mut trailers = HeaderMap::new();
        // what cannot be said in trailers is an end without a word, which clients take for a broken stream
        let _ = Status::from(Refusal::CredentialEnded).add_header(&mut trailers);
        Some(Frame::trailers(trailers))
    }
}

impl Reader {
    /// Whether the credential holds still.
    pub(super) fn is_known(&self) -> bool {
        self.authenticator
            .still_knows(&self.identity, self.certificate.as_deref())
    }

    /// Until the next look: to the hour of expiry, if that is near.
    fn pause(&self) -> Duration {
        let left = self.identity.expires_at.map_or(u64::MAX, |at| {
            u64::try_from(at.saturating_sub(unix_now())).unwrap_or(0)
        });
        LOOK_INTERVAL.min(Duration::from_secs(left.max(1)))
    }
}

impl Body for EndingBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.has_ended {
            return Poll::Ready(None);
        }
        loop {
            if Instant::now() >= self.next_look {
                if let Some(end) = self.look() {
                    return Poll::Ready(Some(Ok(end)));
                }
                self.next_look = Instant::now() + self.reader.pause();
                self.timer = None;
            }
            if let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(context) {
                return Poll::Ready(frame);
            }
            let next_look = self.next_look;
            let timer = self
                .timer
                .get_or_insert_with(|| Box::pin(sleep_until(next_look)));
            if timer.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.has_ended || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
