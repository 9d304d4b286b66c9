//! How much one caller may do at once: asked by the door for each call, before anything is done or written down for it,
//! and held until its answer has been sent.

use super::inside;
use crate::{
    app::App,
    control::{refusal::Refusal, task_sessions},
    identity::{Identity, principal::CredentialKind},
    limits::{
        callers::{CallerKey, Underway},
        measure::Measure,
        turns::{Scarce, Turn, Turns},
    },
};
use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use std::{
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};
use tonic::{Status, body::Body as TonicBody};

/// Counts a call of whoever this is. What runs inside a task counts as its session, not as the worker whose credential it
/// comes with: the lease must have been looked at before.
///
/// # Errors
/// [`Refusal::CallLimit`]; [`Refusal::InvalidField`] and [`Refusal::Store`] for a lease.
pub(super) async fn enter(
    app: &App,
    measure: Measure,
    identity: &Identity,
    peer: Option<SocketAddr>,
    headers: &HeaderMap,
) -> Result<Option<Underway>, Refusal> {
    if measure == Measure::Free {
        return Ok(None);
    }
    let outside = outside(identity, peer);
    let key = if headers.contains_key(inside::LEASE) {
        let task = inside::read_lease(headers)?.task;
        let turns = credential_turns(app, identity, peer);
        let sessions = turns.scope(task_sessions::find(app, &[task])).await?;
        sessions.get(&task).copied().map(CallerKey::Inside)
    } else {
        None
    };
    let key = key.unwrap_or(outside);
    app.callers.enter(&key, measure).map_err(Refusal::CallLimit)
}

/// The turns of a credential, or an address, for what has to be known of a call before it is known for whom it is made.
pub(super) fn credential_turns(app: &App, identity: &Identity, peer: Option<SocketAddr>) -> Turns {
    app.callers.turns(&outside(identity, peer))
}

/// Counts a call of a method that everybody may call, known or not.
///
/// # Errors
/// [`Refusal::CallLimit`].
pub(super) fn enter_unknown(
    app: &App,
    measure: Measure,
    peer: Option<SocketAddr>,
) -> Result<Option<Underway>, Refusal> {
    let key = outside(&Identity::unknown(false), peer);
    app.callers.enter(&key, measure).map_err(Refusal::CallLimit)
}

/// The turn of a call with one answer, which it needs before its message is read; of another one none.
///
/// # Errors
/// [`Refusal::Overloaded`] after ten seconds.
pub(super) async fn begin(
    underway: Option<&Underway>,
    measure: Measure,
    changes: bool,
) -> Result<Turn, Refusal> {
    match (underway, measure) {
        (Some(underway), Measure::Call) => {
            let call = if changes { Scarce::Write } else { Scarce::Read };
            Ok(underway.turns().begin(call).await?)
        }
        (Some(_), Measure::Free | Measure::Stream | Measure::Watcher) | (None, _) => {
            Ok(Turn::default())
        }
    }
}

/// Runs a call with the turns of its caller.
pub(super) async fn take_turns<F: Future>(
    underway: Option<&Underway>,
    begun: Turn,
    call: F,
) -> F::Output {
    match underway {
        Some(underway) => underway.turns().scope_begun(begun, call).await,
        None => call.await,
    }
}

fn outside(identity: &Identity, peer: Option<SocketAddr>) -> CallerKey {
    match (identity.kind, peer) {
        (CredentialKind::Nothing, Some(peer)) => CallerKey::address(peer.ip()),
        (CredentialKind::Nothing, None)
        | (CredentialKind::Token | CredentialKind::Jwt | CredentialKind::Certificate, _) => {
            CallerKey::Name(identity.name.clone())
        }
    }
}

/// An answer whose call is under way until its end is handed to the transport, or nobody wants it any more. The end is
/// noted before the reader can see it, so that whoever makes one call after the other has one under way.
pub(super) struct HeldBody {
    inner: TonicBody,
    underway: Option<Underway>,
}

impl HeldBody {
    pub(super) fn new(inner: TonicBody, underway: Option<Underway>) -> Self {
        let underway = underway.filter(|_| !inner.is_end_stream());
        Self { inner, underway }
    }
}

impl Body for HeldBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let body = &mut *self;
        let inner = Pin::new(&mut body.inner);
        let polled = match &body.underway {
            Some(underway) => underway.turns().poll(|| inner.poll_frame(context)),
            None => inner.poll_frame(context),
        };
        let is_last = match &polled {
            Poll::Ready(Some(Ok(frame))) => frame.is_trailers(),
            Poll::Ready(Some(Err(_)) | None) => true,
            Poll::Pending => false,
        };
        if is_last {
            self.underway = None;
        }
        polled
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
    use crate::limits::{callers::Callers, settings::CallLimits};
    use http_body_util::{BodyExt, Full, StreamBody};
    use std::net::{IpAddr, Ipv4Addr};

    #[tokio::test]
    async fn a_call_is_over_when_its_end_is_handed_on_or_nobody_reads_on() {
        let limits = CallLimits {
            calls: Some(1),
            ..CallLimits::DEFAULT
        };
        let callers = Callers::new(limits);
        let enter = || {
            let key = CallerKey::address(IpAddr::V4(Ipv4Addr::LOCALHOST));
            callers.enter(&key, Measure::Call)
        };
        let frames: [Result<_, Status>; 2] = [
            Ok(Frame::data(Bytes::from_static(b"answer"))),
            Ok(Frame::trailers(HeaderMap::new())),
        ];
        let answer = TonicBody::new(StreamBody::new(futures::stream::iter(frames)));
        let mut body = HeldBody::new(answer, enter().expect("room"));
        body.frame().await.expect("data").expect("well");
        assert!(enter().is_err(), "it is not read to its end");
        body.frame().await.expect("trailers").expect("well");
        let next = enter().expect("over");

        let never = HeldBody::new(TonicBody::new(Full::new(Bytes::from_static(b"x"))), next);
        assert!(enter().is_err());
        drop(never);
        let empty = HeldBody::new(TonicBody::empty(), enter().expect("over"));
        assert!(enter().is_ok(), "there is nothing to read");
        drop(empty);
    }
}
