//! Listing the sessions of a namespace.

use super::{namespace, page_token, refusal::Refusal};
use crate::{
    app::App,
    identity::Identity,
    store::sessions::{self, SessionRow},
};
use taskyard_core::id::SessionUid;
use taskyard_proto::v1::{ListSessionsRequest, ListSessionsResponse, Session};

const DEFAULT_PAGE: u32 = 50;
const LARGEST_PAGE: u32 = 500;

/// Lists the sessions of a namespace that the caller reaches, newest first. Who does not reach all of them is told no
/// counts.
///
/// # Errors
/// [`Refusal::NotFound`] for the namespace, [`Refusal::InvalidField`], [`Refusal::BadToken`], [`Refusal::Store`].
pub async fn list_sessions(
    app: &App,
    identity: &Identity,
    request: &ListSessionsRequest,
) -> Result<ListSessionsResponse, Refusal> {
    let limit = page_token::page_size(request.page_size, DEFAULT_PAGE, LARGEST_PAGE)? as usize;
    let namespace_id = namespace::find_namespace(app, &request.namespace).await?;
    let name = namespace::valid_namespace(&request.namespace)?;
    let scope = ["list sessions", name];
    let before = page_token::decode(&scope, &request.page_token)?
        .map(|position| position.parse().map(SessionUid))
        .transpose()
        .map_err(|_| Refusal::BadToken {
            field: "page_token",
            problem: "no server made this token",
        })?;
    let reach = identity.reach.sessions.to_ranges();
    let counts = match (before, &reach) {
        (None, None) => Some(app.namespace_counts.read(app, namespace_id).await?),
        (Some(_), _) | (None, Some(_)) => None,
    };
    let pool = app.store.pool();
    // one more than asked for tells whether there is another page
    let asked = limit as i64 + 1;
    let mut rows = match &reach {
        None => sessions::list_sessions(pool, namespace_id, before, asked).await?,
        Some(reach) => {
            sessions::list_named_sessions(pool, namespace_id, reach, before, asked).await?
        }
    };
    let has_more = rows.len() > limit;
    rows.truncate(limit);
    let next_page_token = match rows.last() {
        Some(last) if has_more => page_token::encode(&scope, &last.uid.0.to_string()),
        Some(_) | None => String::new(),
    };
    Ok(ListSessionsResponse {
        sessions: rows.into_iter().map(|row| to_session(name, row)).collect(),
        next_page_token,
        counts,
    })
}

fn to_session(namespace: &str, row: SessionRow) -> Session {
    Session {
        namespace: namespace.to_owned(),
        session_id: row.id,
        open_tasks: row.open_tasks,
        total_tasks: row.total_tasks,
        succeeded_tasks: row.succeeded_tasks,
        failed_tasks: row.failed_tasks,
        canceled_tasks: row.canceled_tasks,
        awaiting_input_tasks: row.awaiting_input_tasks,
        last_seq: row.last_seq,
        created_at: Some(row.created_at),
        updated_at: row.updated_at,
        file_bytes: row.file_bytes,
        files: row.files,
    }
}
