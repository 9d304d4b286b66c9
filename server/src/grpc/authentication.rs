//! The door: every call of every service goes through here. It finds out who calls, asks the rules, writes the audit
//! log, and ends long answers with the credential that opened them. A call beyond its caller's limits ends here, before
//! anything is written down for it.

use super::{
    call_limits::{self, HeldBody},
    connection::Peer,
    ending_body::{EndingBody, Reader},
    inside::{self, LEASE},
    prompt_body::PromptBody,
};
use crate::{
    app::App,
    audit::{AuditLog, Decision, Entry, Place},
    control::{lease_holders, reach::Subject, refusal::Refusal},
    identity::{
        Identity,
        decide::decide,
        principal::Calling,
        rules::{self, Access, Audit, Rule},
    },
    limits::measure::measure,
};
use futures::future::BoxFuture;
use http::{HeaderMap, Request, Response, header::AUTHORIZATION};
use std::{
    sync::Arc,
    task::{Context, Poll},
};
use tonic::{Code, Status, body::Body};
use tower::{Layer, Service};

/// The layer.
#[derive(Clone)]
pub struct AuthenticationLayer {
    app: Arc<App>,
}

/// A guarded service.
#[derive(Clone)]
pub struct Authentication<S> {
    inner: S,
    app: Arc<App>,
}

impl AuthenticationLayer {
    /// The door of a server.
    #[must_use]
    pub fn new(app: Arc<App>) -> Self {
        Self { app }
    }
}

impl<S> Layer<S> for AuthenticationLayer {
    type Service = Authentication<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Authentication {
            inner,
            app: Arc::clone(&self.app),
        }
    }
}

impl<S> Service<Request<Body>> for Authentication<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
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
        let clone = self.inner.clone();
        // the one that was asked whether it is ready
        let inner = std::mem::replace(&mut self.inner, clone);
        let app = Arc::clone(&self.app);
        Box::pin(async move { serve(&app, inner, request).await })
    }
}

async fn serve<S>(
    app: &Arc<App>,
    mut inner: S,
    mut request: Request<Body>,
) -> Result<Response<Body>, S::Error>
where
    S: Service<Request<Body>, Response = Response<Body>>,
{
    let Some(rule) = rules::find(request.uri().path()) else {
        // there is no such method, so nothing behind this door is asked
        let path: String = request.uri().path().chars().take(200).collect();
        return Ok(Status::unimplemented(format!("there is no method {path}")).into_http());
    };
    let peer = request
        .extensions()
        .get::<Peer>()
        .cloned()
        .unwrap_or_default();
    let measure = measure(rule.path);
    if rule.access == Access::Open {
        let underway = match call_limits::enter_unknown(app, measure, peer.address) {
            Ok(underway) => underway,
            Err(refusal) => return Ok(Status::from(refusal).into_http()),
        };
        let begun = match call_limits::begin(underway.as_ref(), measure, false).await {
            Ok(begun) => begun,
            Err(refusal) => return Ok(Status::from(refusal).into_http()),
        };
        let call = inner.call(request);
        let response = call_limits::take_turns(underway.as_ref(), begun, call).await?;
        return Ok(response.map(|body| Body::new(HeldBody::new(body, underway))));
    }
    let subject = Subject::default();
    let mut known = None;
    let identity = match admit(app, rule, &peer, request.headers(), &mut known).await {
        Ok(identity) => identity,
        Err(refusal) => {
            let denied = entry(rule, known.as_deref(), &peer, &subject, Decision::Denied);
            let status = Status::from(refusal);
            app.audit
                .record_denial(denied.with_code(&code_name(status.code())));
            return Ok(status.into_http());
        }
    };
    let entering = call_limits::enter(app, measure, &identity, peer.address, request.headers());
    let underway = match entering.await {
        Ok(underway) => underway,
        Err(refusal) => return Ok(Status::from(refusal).into_http()),
    };
    let changes = rule.audit == Audit::Calls;
    let begun = match call_limits::begin(underway.as_ref(), measure, changes).await {
        Ok(begun) => begun,
        Err(refusal) => return Ok(Status::from(refusal).into_http()),
    };
    let place = match rule.audit {
        Audit::Denials | Audit::Boots => None,
        Audit::Calls => {
            let caller = app.authenticator.is_on().then_some(identity.name.as_str());
            match app.audit.reserve(caller).await {
                Ok(place) => Some(place),
                Err(refusal) => return Ok(Status::from(refusal).into_http()),
            }
        }
    };
    let mut noted = Noted {
        place,
        rule,
        identity: Arc::clone(&identity),
        peer: peer.clone(),
        subject: subject.clone(),
    };
    // nobody behind the door has a use for it
    request.headers_mut().remove(AUTHORIZATION);
    request.extensions_mut().insert(Calling {
        identity: Arc::clone(&identity),
        peer: peer.address,
    });
    request.extensions_mut().insert(subject.clone());
    if !rule.streams_in() {
        request = request.map(|body| Body::new(PromptBody::new(body)));
    }
    let call = inner.call(request);
    let response = call_limits::take_turns(underway.as_ref(), begun, call).await?;
    let code = Status::from_header_map(response.headers()).map_or(Code::Ok, |status| status.code());
    let decision = match code {
        Code::Ok => Decision::Allowed,
        Code::PermissionDenied | Code::Unauthenticated => Decision::Denied,
        _ if subject.is_out_of_reach() => Decision::Denied,
        _ => Decision::Failed,
    };
    noted.happened(&app.audit, decision, code);
    if !app.authenticator.is_on() {
        return Ok(response.map(|body| Body::new(HeldBody::new(body, underway))));
    }
    let reader = Reader {
        authenticator: Arc::clone(&app.authenticator),
        identity,
        certificate: peer.certificate,
    };
    Ok(response.map(|body| {
        let ending = EndingBody::new(body, reader);
        Body::new(HeldBody::new(Body::new(ending), underway))
    }))
}

/// A call that is under way, for the audit log.
struct Noted {
    place: Option<Place>,
    rule: &'static Rule,
    identity: Arc<Identity>,
    peer: Peer,
    subject: Subject,
}

impl Noted {
    fn happened(&mut self, audit: &AuditLog, decision: Decision, code: Code) {
        let entry = self.entry(decision).with_code(&code_name(code));
        match self.place.take() {
            Some(place) => place.record(entry),
            None if decision == Decision::Denied => audit.record_denial(entry),
            None => {}
        }
    }

    fn entry(&self, decision: Decision) -> Entry {
        entry(
            self.rule,
            Some(&self.identity),
            &self.peer,
            &self.subject,
            decision,
        )
    }
}

/// Who goes away before the answer does not keep out of the log what may have been done.
impl Drop for Noted {
    fn drop(&mut self) {
        if let Some(place) = self.place.take() {
            let entry = self.entry(Decision::Failed);
            place.record(entry.with_code(&code_name(Code::Cancelled)));
        }
    }
}

/// Who calls, if it may. `known` tells who it is even where it may not.
async fn admit(
    app: &App,
    rule: &Rule,
    peer: &Peer,
    headers: &HeaderMap,
    known: &mut Option<Arc<Identity>>,
) -> Result<Arc<Identity>, Refusal> {
    if !app.authenticator.is_on() {
        let is_loopback = peer.address.is_some_and(|peer| peer.ip().is_loopback());
        return Ok(Arc::new(Identity::unknown(is_loopback)));
    }
    let authorization = headers
        .get(AUTHORIZATION)
        // what is no text is no bearer token either
        .map(|value| value.to_str().unwrap_or_default());
    let identity = app
        .authenticator
        .authenticate(authorization, peer.certificate.as_deref())
        .await
        .map_err(Refusal::NotAuthentic)?;
    let identity = Arc::new(identity);
    *known = Some(Arc::clone(&identity));
    let has_lease = headers.contains_key(LEASE);
    decide(rule, Some(&identity), has_lease).map_err(Refusal::Denied)?;
    if has_lease {
        let lease = inside::read_lease(headers)?;
        call_limits::credential_turns(app, &identity, peer.address)
            .scope(lease_holders::ensure_held(app, &identity, &[lease]))
            .await?;
    }
    Ok(identity)
}

fn entry(
    rule: &Rule,
    identity: Option<&Identity>,
    peer: &Peer,
    subject: &Subject,
    decision: Decision,
) -> Entry {
    let named = subject.read();
    Entry {
        who: identity
            .map(|identity| identity.name.clone())
            .unwrap_or_default(),
        role: identity.map_or("", |identity| identity.role.as_str()),
        credential: identity.map_or("none", |identity| identity.kind.as_str()),
        peer: peer
            .address
            .map(|peer| peer.to_string())
            .unwrap_or_default(),
        method: rule.path,
        namespace: named.namespace,
        session_id: named.session_id,
        task: named.task,
        request_id: named.request_id,
        worker: named.worker,
        pool: named.pool,
        decision,
        code: String::new(),
        calls: 1,
    }
}

/// A code as the protocol's manual writes it; empty for OK.
pub(super) fn code_name(code: Code) -> String {
    let mut name = String::new();
    if code == Code::Ok {
        return name;
    }
    for letter in format!("{code:?}").chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_written_as_everywhere() {
        assert_eq!(code_name(Code::PermissionDenied), "PERMISSION_DENIED");
        assert_eq!(code_name(Code::Unauthenticated), "UNAUTHENTICATED");
        assert_eq!(code_name(Code::Ok), "");
    }
}
