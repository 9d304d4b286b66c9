//! Calls that come from inside a task: a worker passes them on and names the lease in their metadata.

use crate::{
    app::App,
    control::{
        agent::{Caller, Confined, Scope},
        lease_ref::LeaseRef,
        refusal::Refusal,
    },
};
use prost::Message;
use taskyard_proto::v1::Lease;
use tonic::{Request, metadata::MetadataMap};

/// Metadata under which a worker names the lease: an encoded `Lease`.
const LEASE: &str = "taskyard-lease-bin";

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
    let Some(value) = metadata.get_bin(LEASE) else {
        return Ok(None);
    };
    let no_lease = || Refusal::invalid(LEASE, "must be an encoded Lease");
    let bytes = value.to_bytes().map_err(|_| no_lease())?;
    let lease = Lease::decode(bytes).map_err(|_| no_lease())?;
    Ok(Some(Caller::admit(app, LeaseRef::try_from(&lease)?).await?))
}

/// Who calls `TaskAgentService`, which is only for what runs inside a task.
///
/// # Errors
/// As [`find_caller`], and [`Refusal::InvalidField`] for a call from elsewhere.
pub(super) async fn require_caller(app: &App, metadata: &MetadataMap) -> Result<Caller, Refusal> {
    find_caller(app, metadata).await?.ok_or_else(|| {
        Refusal::invalid(
            LEASE,
            "is required: call from inside a task, over its socket $TASKYARD_SOCKET",
        )
    })
}

/// A request of `SessionTaskService`; one from inside a task reaches what is below that task only.
///
/// # Errors
/// As [`find_caller`]; what the request's own confinement refuses.
pub(super) async fn confined<T: Confined>(
    app: &App,
    request: Request<T>,
) -> Result<ConfinedRequest<T>, Refusal> {
    let (metadata, _, mut request) = request.into_parts();
    let caller = find_caller(app, &metadata).await?;
    if let Some(caller) = caller {
        let scope = Scope::enter(app, caller).await?;
        request.confine(&scope).await?;
    }
    Ok(ConfinedRequest { request, caller })
}

/// A request of a service that is not for what runs inside a task; `problem` says why.
///
/// # Errors
/// As [`find_caller`]; [`Refusal::NotFromInside`].
pub(super) async fn from_outside<T>(
    app: &App,
    request: Request<T>,
    problem: &'static str,
) -> Result<T, Refusal> {
    match find_caller(app, request.metadata()).await? {
        None => Ok(request.into_inner()),
        Some(_) => Err(Refusal::NotFromInside { problem }),
    }
}
