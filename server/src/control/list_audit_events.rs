//! Listing the audit log.

use super::{page_token, refusal::Refusal, wire_time::time_field};
use crate::{
    app::App,
    identity::Identity,
    store::audit::{self, AuditFilter},
};
use taskyard_proto::v1::{AuditDecision, ListAuditEventsRequest, ListAuditEventsResponse};

const DEFAULT_PAGE: u32 = 100;
const LARGEST_PAGE: u32 = 500;

/// Lists what was done and what was denied, newest first, as far as the caller reaches.
///
/// # Errors
/// [`Refusal::InvalidField`], [`Refusal::BadToken`], [`Refusal::Store`].
pub async fn list_audit_events(
    app: &App,
    identity: &Identity,
    request: &ListAuditEventsRequest,
) -> Result<ListAuditEventsResponse, Refusal> {
    for (field, text) in [
        ("namespace", &request.namespace),
        ("session_id", &request.session_id),
        ("who", &request.who),
        ("method", &request.method),
    ] {
        // no entry has any, and the database takes no zero
        if text.chars().any(char::is_control) {
            return Err(Refusal::invalid(field, "must have no control characters"));
        }
    }
    let limit = page_token::page_size(request.page_size, DEFAULT_PAGE, LARGEST_PAGE)? as usize;
    let decision = AuditDecision::try_from(request.decision)
        .map_err(|_| Refusal::invalid("decision", "is none that this server knows"))?;
    let since = time_field("since", request.since.as_ref())?;
    let until = time_field("until", request.until.as_ref())?;
    let [shown_since, shown_until] =
        [since, until].map(|time| time.map(|time| time.to_rfc3339()).unwrap_or_default());
    let scope = [
        "list audit events",
        &request.namespace,
        &request.session_id,
        &request.who,
        &request.method,
        decision.as_str_name(),
        &shown_since,
        &shown_until,
    ];
    let before = page_token::decode(&scope, &request.page_token)?
        .map(|position| position.parse())
        .transpose()
        .map_err(|_| Refusal::BadToken {
            field: "page_token",
            problem: "no server made this token",
        })?;
    let reach = identity.reach.namespaces.to_like();
    // of one namespace only its own entries are looked at
    let only = identity.reach.namespaces.only_name();
    let filter = AuditFilter {
        reach: reach.as_deref(),
        namespace: only.unwrap_or(&request.namespace),
        session_id: &request.session_id,
        who: &request.who,
        method: &request.method,
        decision: decision as i16,
        since,
        until,
        before,
    };
    // one more than asked for tells whether there is another page
    let mut events = audit::list(app.store.pool(), &filter, limit as i64 + 1).await?;
    let has_more = events.len() > limit;
    events.truncate(limit);
    let next_page_token = match events.last() {
        Some(last) if has_more => page_token::encode(&scope, &last.id.to_string()),
        Some(_) | None => String::new(),
    };
    Ok(ListAuditEventsResponse {
        events,
        next_page_token,
    })
}
