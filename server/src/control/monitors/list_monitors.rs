//! ListMonitors: how the live monitors stand.

use crate::{
    app::App,
    control::{namespace, page_token, refusal::Refusal},
    store::{
        monitors::{self, MonitorStanding},
        records, times,
    },
};
use std::collections::HashMap;
use taskyard_core::id::TaskId;
use taskyard_proto::v1::{ListMonitorsRequest, ListMonitorsResponse, Monitor, SessionTask};

const DEFAULT_PAGE: u32 = 50;
const LARGEST_PAGE: u32 = 500;

/// Lists live monitors, newest first.
///
/// # Errors
/// [`Refusal::NotFound`] for namespace and session, [`Refusal::InvalidField`], [`Refusal::BadToken`],
/// [`Refusal::Store`].
pub async fn list_monitors(
    app: &App,
    request: &ListMonitorsRequest,
) -> Result<ListMonitorsResponse, Refusal> {
    let limit = page_token::page_size(request.page_size, DEFAULT_PAGE, LARGEST_PAGE)? as usize;
    let namespace_id = namespace::find_namespace(app, &request.namespace).await?;
    let session = match request.session_id.as_str() {
        "" => None,
        session => Some(namespace::find_session(app, &request.namespace, session).await?),
    };
    let name = namespace::valid_namespace(&request.namespace)?;
    // not the session's id, which may stand for another one by the next page
    let session_number = session.map_or_else(String::new, |session| session.0.to_string());
    let scope = ["list monitors", name, &session_number];
    let before = page_token::decode(&scope, &request.page_token)?
        .map(|position| position.parse::<TaskId>())
        .transpose()
        .map_err(|_| Refusal::BadToken {
            field: "page_token",
            problem: "no server made this token",
        })?;
    let pool = app.store.pool();
    // one more than asked for tells whether there is another page
    let mut rows =
        monitors::list_standings(pool, namespace_id, session, before, limit as i64 + 1).await?;
    let has_more = rows.len() > limit;
    rows.truncate(limit);
    let next_page_token = match rows.last() {
        Some(last) if has_more => page_token::encode(&scope, &last.task.to_string()),
        Some(_) | None => String::new(),
    };
    let ids: Vec<TaskId> = rows.iter().map(|row| row.task).collect();
    let mut tasks: HashMap<TaskId, SessionTask> = records::read_records(pool, &ids)
        .await?
        .into_iter()
        .map(|record| (record.id, record.task))
        .collect();
    let shown = rows.into_iter().filter_map(|row| {
        // one that was deleted between the two looks is left out
        let task = tasks.remove(&row.task)?;
        Some(Monitor {
            task: Some(SessionTask { spec: None, ..task }),
            ..standing(row)
        })
    });
    Ok(ListMonitorsResponse {
        monitors: shown.collect(),
        next_page_token,
    })
}

/// How a live monitor stands, without its task; none: it is no monitor, or has ended.
///
/// # Errors
/// [`Refusal::Store`].
pub async fn find_monitor(app: &App, task: TaskId) -> Result<Option<Monitor>, Refusal> {
    let row = monitors::find_standing(app.store.pool(), task).await?;
    Ok(row.map(standing))
}

fn standing(row: MonitorStanding) -> Monitor {
    let (last_task_id, last_state, last_summary) = match row.last {
        Some((task, state, summary)) => (task.to_string(), state.into(), summary),
        None => Default::default(),
    };
    Monitor {
        task: None,
        schedule: row.definition.schedule,
        next_at: row.next_at.map(times::to_proto),
        firings: row.firings,
        skipped: row.skipped,
        open_firings: i32::try_from(row.open).unwrap_or(i32::MAX),
        last_task_id,
        last_state,
        last_summary,
    }
}
