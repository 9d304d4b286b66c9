//! Listing the workers.

use super::{page_token, refusal::Refusal};
use crate::{
    app::App,
    store::workers_read::{self, WorkerRow},
};
use taskyard_proto::v1::{ListWorkersRequest, ListWorkersResponse, Worker};

const DEFAULT_PAGE: u32 = 100;
const LARGEST_PAGE: u32 = 500;
const SCOPE: [&str; 1] = ["list workers"];

/// Lists the workers that are attached or ended within the last hour, by name and then newest boot first.
///
/// # Errors
/// [`Refusal::InvalidField`], [`Refusal::BadToken`], [`Refusal::Store`].
pub async fn list_workers(
    app: &App,
    request: &ListWorkersRequest,
) -> Result<ListWorkersResponse, Refusal> {
    let limit = page_token::page_size(request.page_size, DEFAULT_PAGE, LARGEST_PAGE)? as usize;
    let token = page_token::decode(&SCOPE, &request.page_token)?;
    let after = token.as_deref().map(parse_position).transpose()?;
    // one more than asked for tells whether there is another page
    let mut rows = workers_read::list_workers(app.store.pool(), after, limit as i64 + 1).await?;
    let has_more = rows.len() > limit;
    rows.truncate(limit);
    let next_page_token = match rows.last() {
        Some(last) if has_more => page_token::encode(&SCOPE, &format!("{} {}", last.id, last.name)),
        Some(_) | None => String::new(),
    };
    Ok(ListWorkersResponse {
        workers: rows.into_iter().map(to_worker).collect(),
        next_page_token,
    })
}

fn parse_position(position: &str) -> Result<(&str, i64), Refusal> {
    position
        .split_once(' ')
        .and_then(|(id, name)| Some((name, id.parse().ok()?)))
        .ok_or(Refusal::BadToken {
            field: "page_token",
            problem: "no server made this token",
        })
}

fn to_worker(row: WorkerRow) -> Worker {
    Worker {
        name: row.name,
        worker_session_id: row.id.to_string(),
        // stored as the wire numbers it
        status: i32::from(row.status),
        slots: row.slots,
        held: i32::try_from(row.held).unwrap_or(i32::MAX),
        queues: row.queues,
        kinds: row.kinds,
        executors: row.executors,
        labels: row.labels,
        version: row.version,
        attached_at: Some(row.attached_at),
        heartbeat_at: Some(row.renewed_at),
    }
}
