//! ListTasks: tasks of a session or a namespace, newest first, in pages.

use super::{namespace, page_token, refusal::Refusal, resolve, wire_time};
use crate::{
    app::App,
    store::records::{self, TaskFilter},
};
use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use prost::Message;
use taskyard_core::id::TaskId;
use taskyard_proto::v1::{ListTasksRequest, ListTasksResponse, SessionTask, TaskState};

const DEFAULT_PAGE_SIZE: u32 = 50;
const MAX_PAGE_SIZE: u32 = 500;
/// Most values in one filter.
const MAX_FILTER_VALUES: usize = 32;
/// An answer is cut before it exceeds this, well below the 4 MiB that clients take.
const MAX_ANSWER_BYTES: usize = 3 << 20;
/// Records that are read at once, since each may hold a large spec and result.
const RECORDS_PER_READ: usize = 50;

/// Lists tasks. A page may hold fewer than were asked for where they are large.
///
/// # Errors
/// [`Refusal::InvalidField`], [`Refusal::BadToken`], [`Refusal::NotFound`] for the namespace, the session or the
/// parent, [`Refusal::Store`].
pub async fn list_tasks(
    app: &App,
    request: ListTasksRequest,
) -> Result<ListTasksResponse, Refusal> {
    let page_size =
        page_token::page_size(request.page_size, DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)? as usize;
    let scope = scope(&request);
    let scope = ["list tasks", scope.as_str()];
    let mut filter = read_filter(&request)?;
    if let Some(position) = page_token::decode(&scope, &request.page_token)? {
        let before: TaskId = position.parse().map_err(|_| Refusal::BadToken {
            field: "page_token",
            problem: "no server made this token",
        })?;
        filter.before = Some(before);
    }
    filter.namespace_id = namespace::find_namespace(app, &request.namespace).await?;
    if !request.session_id.is_empty() {
        filter.session =
            Some(namespace::find_session(app, &request.namespace, &request.session_id).await?);
    }
    if !request.parent_task_id.is_empty() {
        let parent = resolve::resolve_field(
            app,
            &request.namespace,
            &request.session_id,
            "parent_task_id",
            &request.parent_task_id,
        );
        filter.parent = Some(parent.await?.id);
    }

    let limit = i64::try_from(page_size + 1).unwrap_or(i64::MAX);
    let ids = records::list_ids(app.store.pool(), &filter, limit).await?;
    let tasks = read_page(app, &ids[..ids.len().min(page_size)], request.include_spec).await?;
    let next_page_token = match ids.get(tasks.len().wrapping_sub(1)) {
        Some(last) if tasks.len() < ids.len() => page_token::encode(&scope, &last.to_string()),
        Some(_) | None => String::new(),
    };
    Ok(ListTasksResponse {
        tasks: tasks.into_iter().flatten().collect(),
        next_page_token,
    })
}

/// The tasks with these ids, as far as they fit; none for one that is gone since it was listed.
async fn read_page(
    app: &App,
    ids: &[TaskId],
    include_spec: bool,
) -> Result<Vec<Option<SessionTask>>, Refusal> {
    let mut tasks = Vec::with_capacity(ids.len());
    let mut bytes = 0;
    for some in ids.chunks(RECORDS_PER_READ) {
        let mut found = records::read_records(app.store.pool(), some).await?;
        for id in some {
            let place = found.iter().position(|record| record.id == *id);
            let task = place
                .map(|place| found.swap_remove(place).task)
                .map(|task| SessionTask {
                    spec: task.spec.filter(|_| include_spec),
                    ..task
                });
            bytes += task.as_ref().map_or(0, SessionTask::encoded_len);
            if bytes > MAX_ANSWER_BYTES && !tasks.is_empty() {
                return Ok(tasks);
            }
            tasks.push(task);
        }
    }
    Ok(tasks)
}

fn read_filter(request: &ListTasksRequest) -> Result<TaskFilter, Refusal> {
    for (field, count) in [
        ("states", request.states.len()),
        ("kinds", request.kinds.len()),
        ("tags", request.tags.len()),
    ] {
        if count > MAX_FILTER_VALUES {
            return Err(Refusal::invalid(
                field,
                format!("must hold at most {MAX_FILTER_VALUES} values"),
            ));
        }
    }
    if request
        .kinds
        .iter()
        .chain(&request.tags)
        .any(|value| value.contains('\0'))
    {
        return Err(Refusal::invalid(
            "kinds, tags",
            "must not hold NUL characters",
        ));
    }
    let mut filter = TaskFilter {
        states: read_states(&request.states)?,
        kinds: request.kinds.clone(),
        created_after: wire_time::time_field("created_after", request.created_after.as_ref())?,
        created_before: wire_time::time_field("created_before", request.created_before.as_ref())?,
        ..TaskFilter::default()
    };
    for tag in &request.tags {
        match tag.strip_suffix('*') {
            Some(prefix) if prefix.ends_with('.') && prefix.len() > 1 && !prefix.contains('*') => {
                filter.tag_prefixes.push(prefix.to_owned());
            }
            None if !tag.is_empty() && !tag.contains('*') => filter.tags.push(tag.clone()),
            Some(_) | None => {
                let problem =
                    format!("{tag:?} is neither a tag nor the beginning of tags, such as `team.*`");
                return Err(Refusal::invalid("tags", problem));
            }
        }
    }
    Ok(filter)
}

/// The states as they are stored; none for all.
fn read_states(states: &[i32]) -> Result<Vec<i16>, Refusal> {
    let mut stored = Vec::with_capacity(states.len());
    for state in states {
        let state = TaskState::try_from(*state)
            .map_err(|_| Refusal::invalid("states", format!("{state} is no state")))?;
        stored.push(match state {
            TaskState::Unspecified => return Ok(Vec::new()),
            TaskState::Queued => 0,
            TaskState::Running => 1,
            TaskState::AwaitingInput => 2,
            TaskState::Succeeded => 3,
            TaskState::Failed => 4,
            TaskState::Canceled => 5,
        });
    }
    Ok(stored)
}

/// Everything of the request that decides what is listed.
fn scope(request: &ListTasksRequest) -> String {
    let filters = ListTasksRequest {
        page_size: 0,
        page_token: String::new(),
        include_spec: false,
        ..request.clone()
    };
    STANDARD_NO_PAD.encode(filters.encode_to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::records::task_state;

    #[test]
    fn states_are_listed_as_they_are_stored() {
        for stored in 0..=5_i16 {
            let state = task_state(stored).map_or(0, i32::from);
            assert_eq!(read_states(&[state]).ok(), Some(vec![stored]));
        }
        assert_eq!(read_states(&[1, 0]).ok(), Some(vec![]));
        assert!(read_states(&[99]).is_err());
    }

    #[test]
    fn a_tag_is_whole_or_ends_with_a_star_below_a_dot() {
        let read = |tag: &str| {
            read_filter(&ListTasksRequest {
                tags: vec![tag.to_owned()],
                ..ListTasksRequest::default()
            })
        };
        assert!(read("team.search").is_ok_and(|filter| filter.tags == ["team.search"]));
        assert!(read("team.*").is_ok_and(|filter| filter.tag_prefixes == ["team."]));
        for tag in ["", "*", ".*", "te*m", "team*", "a*.*", "a\0"] {
            assert!(read(tag).is_err(), "{tag:?}");
        }
    }

    #[test]
    fn the_scope_is_what_is_listed_and_not_which_page() {
        let request = ListTasksRequest {
            session_id: "s".to_owned(),
            ..ListTasksRequest::default()
        };
        let page = ListTasksRequest {
            page_token: "t".to_owned(),
            page_size: 7,
            ..request.clone()
        };
        let other = ListTasksRequest {
            kinds: vec!["s".to_owned()],
            ..request.clone()
        };
        assert_eq!(scope(&request), scope(&page));
        assert_ne!(scope(&request), scope(&other));
    }
}
