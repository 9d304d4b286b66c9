//! Calls that come from inside a task: a worker passes them on and names the lease in their metadata.

use crate::{
    app::App,
    control::{
        agent::{Caller, Confined, Scope},
        lease_holders,
        lease_ref::LeaseRef,
        reach::{Limits, Reached, Subject},
        refusal::Refusal,
    },
    identity::{Identity, authenticator::NotAuthentic, principal::Calling},
};
use http::HeaderMap;
use prost::Message;
use std::sync::Arc;
use taskyard_proto::v1::Lease;
use tonic::{Extensions, Request, metadata::MetadataMap};

/// Metadata under which a worker names the lease: an encoded `Lease`.
pub(super) const LEASE: &str = "taskyard-lease-bin";

/// A request, bent to what its caller may reach.
pub(super) struct ConfinedRequest<T> {
    /// The request.
    pub(super) request: T,
    /// What runs inside a task, if that is who calls.
    pub(super) caller: Option<Caller>,
}

/// Who calls from inside a task; none: the call comes from elsewhere.
///
/// # Errors
/// [`Refusal::InvalidField`] for what can be no lease, [`Refusal::LeaseLost`], [`Refusal::Store`].
pub(super) async fn find_caller(
    app: &App,
    metadata: &MetadataMap,
) -> Result<Option<Caller>, Refusal> {
    if !metadata.contains_key(LEASE) {
        return Ok(None);
    }
    Ok(Some(Caller::admit(app, lease_in(metadata)?).await?))
}

/// The lease that a call names in its headers.
///
/// # Errors
/// [`Refusal::InvalidField`] for what can be no lease.
pub(super) fn read_lease(headers: &HeaderMap) -> Result<LeaseRef, Refusal> {
    lease_in(&MetadataMap::from_headers(headers.clone()))
}

fn lease_in(metadata: &MetadataMap) -> Result<LeaseRef, Refusal> {
    let no_lease = || Refusal::invalid(LEASE, "must be an encoded Lease");
    let value = metadata.get_bin(LEASE).ok_or_else(no_lease)?;
    let bytes = value.to_bytes().map_err(|_| no_lease())?;
    let lease = Lease::decode(bytes).map_err(|_| no_lease())?;
    LeaseRef::try_from(&lease)
}

/// As whom a call is made.
///
/// # Errors
/// [`Refusal::NotAuthentic`] for a call that did not come through the door.
pub(super) fn caller_identity(extensions: &Extensions) -> Result<Arc<Identity>, Refusal> {
    let calling = extensions.get::<Calling>();
    calling
        .map(|calling| Arc::clone(&calling.identity))
        .ok_or(Refusal::NotAuthentic(NotAuthentic::Nothing))
}

/// Refuses a request for what its caller does not reach.
///
/// # Errors
/// What the request's own reach refuses.
pub(super) async fn ensure_reached<T: Reached>(
    app: &App,
    extensions: &Extensions,
    request: &mut T,
) -> Result<Arc<Identity>, Refusal> {
    let identity = caller_identity(extensions)?;
    let subject = extensions.get::<Subject>().cloned().unwrap_or_default();
    let limits = Limits {
        app,
        identity: &identity,
        subject: &subject,
    };
    request.reach(&limits).await?;
    Ok(identity)
}

/// A request that nothing inside a task makes, for what its caller reaches.
///
/// # Errors
/// As [`ensure_reached`].
pub(super) async fn reached<T: Reached>(app: &App, request: Request<T>) -> Result<T, Refusal> {
    let (_, extensions, mut request) = request.into_parts();
    ensure_reached(app, &extensions, &mut request).await?;
    Ok(request)
}

/// A request of a worker, under leases that are its own.
///
/// # Errors
/// As `ensure_held` of `control::lease_holders`.
pub(super) async fn held<T>(
    app: &App,
    request: Request<T>,
    leases: impl FnOnce(&T) -> Vec<Option<Lease>>,
) -> Result<T, Refusal> {
    let (_, extensions, request) = request.into_parts();
    let identity = caller_identity(&extensions)?;
    let leases = leases(&request);
    if let [lease] = &leases[..] {
        name_lease(&extensions, lease.as_ref());
    }
    let named = leases.iter().map(Option::as_ref);
    let held = lease_holders::ensure_held_on_wire(app, &identity, named).await;
    held.map_err(|refusal| denied_lease(&extensions, refusal))?;
    Ok(request)
}

/// Tells the audit log of which task a lease is.
pub(super) fn name_lease(extensions: &Extensions, lease: Option<&Lease>) {
    if let (Some(lease), Some(subject)) = (lease, extensions.get::<Subject>()) {
        subject.name("", "", &lease.task_id, "");
    }
}

/// Tells the audit log that a lease was refused since it is another's.
pub(super) fn denied_lease(extensions: &Extensions, refusal: Refusal) -> Refusal {
    if let (Refusal::LeaseLost, Some(subject)) = (&refusal, extensions.get::<Subject>()) {
        subject.put_out_of_reach();
    }
    refusal
}

/// Who calls `TaskAgentService`, which is only for what runs inside a task.
///
/// # Errors
/// As [`find_caller`], and [`Refusal::InvalidField`] for a call from elsewhere.
pub(super) async fn require_caller<T>(app: &App, request: &Request<T>) -> Result<Caller, Refusal> {
    let caller = find_caller(app, request.metadata()).await?.ok_or_else(|| {
        Refusal::invalid(
            LEASE,
            "is required: call from inside a task, over its socket $TASKYARD_SOCKET",
        )
    })?;
    if let Some(subject) = request.extensions().get::<Subject>() {
        subject.name("", "", &caller.task().to_string(), "");
    }
    Ok(caller)
}

/// A request of `SessionTaskService`; one from inside a task reaches what is below that task only, another one what its
/// caller reaches.
///
/// # Errors
/// As [`find_caller`]; what the request's own confinement or reach refuses.
pub(super) async fn confined<T: Confined + Reached>(
    app: &App,
    request: Request<T>,
) -> Result<ConfinedRequest<T>, Refusal> {
    let (metadata, extensions, mut request) = request.into_parts();
    let caller = find_caller(app, &metadata).await?;
    if let Some(caller) = caller {
        let scope = Scope::enter(app, caller).await?;
        request.confine(&scope).await?;
    }
    // below a task everything is of its session, so this refuses nothing there; it tells the audit log
    ensure_reached(app, &extensions, &mut request).await?;
    Ok(ConfinedRequest { request, caller })
}

/// A request of a service that is not for what runs inside a task; `problem` says why.
///
/// # Errors
/// As [`find_caller`]; [`Refusal::NotFromInside`].
pub(super) async fn from_outside<T: Reached>(
    app: &App,
    request: Request<T>,
    problem: &'static str,
) -> Result<T, Refusal> {
    match find_caller(app, request.metadata()).await? {
        None => reached(app, request).await,
        Some(_) => Err(Refusal::NotFromInside { problem }),
    }
}
