//! GetLeaseSpec: the spec behind an offer that was too large to carry it.

use super::{lease_ref::LeaseRef, refusal::Refusal};
use crate::{app::App, store::claim};
use taskyard_proto::v1::{GetLeaseSpecRequest, GetLeaseSpecResponse};

/// The spec, for the holder of the lease.
///
/// # Errors
/// [`Refusal::InvalidField`], [`Refusal::LeaseLost`], or what the store says.
pub async fn get_lease_spec(
    app: &App,
    request: &GetLeaseSpecRequest,
) -> Result<GetLeaseSpecResponse, Refusal> {
    let lease = request
        .lease
        .as_ref()
        .ok_or_else(|| Refusal::invalid("lease", "is required"))?;
    let lease = LeaseRef::try_from(lease)?;
    let spec = claim::find_lease_spec(app.store.pool(), lease.task, lease.epoch, lease.lease_id)
        .await?
        .ok_or(Refusal::LeaseLost)?;
    Ok(GetLeaseSpecResponse { spec: Some(spec) })
}
