//! ListTasks: tasks of a session or a namespace, newest or oldest first, in pages.

use super::{namespace, page_token, refusal::Refusal, resolve, task_search, wire_time};
use crate::{
    app::App,
    store::{
        records,
        task_listing::{Place, TaskFilter},
    },
};
use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use prost::Message;
use std::collections::BTreeMap;
use taskyard_core::id::{SessionUid, TaskId};
use taskyard_proto::v1::{ListTasksRequest, ListTasksResponse, SessionTask, TaskOrder, TaskState};

const DEFAULT_PAGE_SIZE: u32 = 50;
const MAX_PAGE_SIZE: u32 = 500;
/// Most values in one filter.
const MAX_FILTER_VALUES: usize = 32;
/// Longest value in a filter, in bytes: as long as any that a task can have.
const MAX_FILTER_BYTES: usize = 256;
/// An answer is cut before it exceeds this, well below the 4 MiB that clients take.
const MAX_ANSWER_BYTES: usize = 3 << 20;
/// Records that are read at once, since each may hold a large spec and result.
const RECORDS_PER_READ: usize = 50;

/// Lists tasks. A page may hold fewer than were asked for where they are large, or where the search for them was long.
///
/// # Errors
/// [`Refusal::InvalidField`], [`Refusal::BadToken`], [`Refusal::NotFound`] for the namespace, the session, the parent
/// or the root, [`Refusal::Store`].
pub async fn list_tasks(
    app: &App,
    request: ListTasksRequest,
) -> Result<ListTasksResponse, Refusal> {
    let page_size =
        page_token::page_size(request.page_size, DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)? as usize;
    let is_oldest_first = read_order(request.order)?;
    let mut filter = read_filter(&request)?;
    filter.namespace_id = namespace::find_namespace(app, &request.namespace).await?;
    if !request.session_id.is_empty() {
        filter.session =
            Some(namespace::find_session(app, &request.namespace, &request.session_id).await?);
    }
    let scope = scope(&request, filter.namespace_id, filter.session);
    let scope = ["list tasks", scope.as_str()];
    let place = page_token::decode(&scope, &request.page_token)?
        .map(|position| {
            read_place(&position).ok_or(Refusal::BadToken {
                field: "page_token",
                problem: "no server made this token",
            })
        })
        .transpose()?;
    filter.parent = find_relative(app, &request, "parent_task_id", &request.parent_task_id).await?;
    filter.root = find_relative(app, &request, "root_task_id", &request.root_task_id).await?;

    let found = task_search::search(app, &filter, is_oldest_first, place, page_size).await?;
    let ids: Vec<TaskId> = found.places.iter().map(|place| place.id).collect();
    let tasks = read_page(app, &ids, request.include_spec).await?;
    let next = match tasks.len().checked_sub(1) {
        Some(last) if tasks.len() < ids.len() => found.places.get(last).copied(),
        Some(_) | None => found.next,
    };
    let next_page_token = next.map_or_else(String::new, |place| {
        page_token::encode(&scope, &format!("{} {}", place.ordinal, place.id))
    });
    Ok(ListTasksResponse {
        tasks: tasks.into_iter().flatten().collect(),
        next_page_token,
    })
}

/// The task that a filter names by id, or within a session also by ordinal or name; none where it names none.
async fn find_relative(
    app: &App,
    request: &ListTasksRequest,
    field: &str,
    task: &str,
) -> Result<Option<TaskId>, Refusal> {
    if task.is_empty() {
        return Ok(None);
    }
    let (namespace, session_id) = (&request.namespace, &request.session_id);
    let found = resolve::resolve_field(app, namespace, session_id, field, task).await?;
    Ok(Some(found.id))
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

fn read_order(order: i32) -> Result<bool, Refusal> {
    match TaskOrder::try_from(order) {
        Ok(TaskOrder::Unspecified | TaskOrder::NewestFirst) => Ok(false),
        Ok(TaskOrder::OldestFirst) => Ok(true),
        Err(_) => {
            let problem = "must be TASK_ORDER_NEWEST_FIRST or TASK_ORDER_OLDEST_FIRST";
            Err(Refusal::invalid("order", problem))
        }
    }
}

/// The place in a token.
fn read_place(position: &str) -> Option<Place> {
    let (ordinal, id) = position.split_once(' ')?;
    Some(Place {
        ordinal: ordinal.parse().ok()?,
        id: id.parse().ok()?,
    })
}

fn read_filter(request: &ListTasksRequest) -> Result<TaskFilter, Refusal> {
    check_counts(request)?;
    check_texts(request)?;
    let mut filter = TaskFilter {
        states: read_states(&request.states)?,
        kinds: request.kinds.clone(),
        parent: None,
        root: None,
        group: given(&request.group),
        labels: labels_json(&request.labels),
        worker: given(&request.worker),
        key: given(&request.key),
        created_after: wire_time::time_field("created_after", request.created_after.as_ref())?,
        created_before: wire_time::time_field("created_before", request.created_before.as_ref())?,
        ..TaskFilter::default()
    };
    if filter.key.is_some() && request.session_id.is_empty() {
        let problem = "needs session_id: a key means something in its session only";
        return Err(Refusal::invalid("key", problem));
    }
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

fn check_counts(request: &ListTasksRequest) -> Result<(), Refusal> {
    for (field, count) in [
        ("states", request.states.len()),
        ("kinds", request.kinds.len()),
        ("tags", request.tags.len()),
        ("labels", request.labels.len()),
    ] {
        if count > MAX_FILTER_VALUES {
            return Err(Refusal::invalid(
                field,
                format!("must hold at most {MAX_FILTER_VALUES} values"),
            ));
        }
    }
    Ok(())
}

fn check_texts(request: &ListTasksRequest) -> Result<(), Refusal> {
    let singles = [
        ("group", &request.group),
        ("worker", &request.worker),
        ("key", &request.key),
    ];
    let labels = request
        .labels
        .iter()
        .flat_map(|(name, value)| [("labels", name), ("labels", value)]);
    let texts = request
        .kinds
        .iter()
        .map(|kind| ("kinds", kind))
        .chain(request.tags.iter().map(|tag| ("tags", tag)))
        .chain(labels)
        .chain(singles);
    for (field, text) in texts {
        if text.contains('\0') || text.len() > MAX_FILTER_BYTES {
            let problem = format!(
                "must hold no NUL characters and at most {MAX_FILTER_BYTES} bytes in one value"
            );
            return Err(Refusal::invalid(field, problem));
        }
    }
    Ok(())
}

/// Labels as the store compares them.
pub(super) fn labels_json(labels: &BTreeMap<String, String>) -> String {
    let object: serde_json::Map<String, serde_json::Value> = labels
        .iter()
        .map(|(name, value)| (name.clone(), value.as_str().into()))
        .collect();
    serde_json::Value::Object(object).to_string()
}

fn given(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

/// The states as they are stored; none for all.
fn read_states(states: &[i32]) -> Result<Vec<i16>, Refusal> {
    let mut stored = Vec::with_capacity(states.len());
    for state in states {
        stored.push(match TaskState::try_from(*state) {
            Ok(TaskState::Queued) => 0,
            Ok(TaskState::Running) => 1,
            Ok(TaskState::AwaitingInput) => 2,
            Ok(TaskState::Succeeded) => 3,
            Ok(TaskState::Failed) => 4,
            Ok(TaskState::Canceled) => 5,
            Ok(TaskState::Unspecified) | Err(_) => {
                return Err(Refusal::invalid("states", format!("{state} is no state")));
            }
        });
    }
    Ok(stored)
}

/// Everything that decides what is listed: the filters of the request, and in place of names what they mean, so that a
/// token of a session that was deleted is not one of the session that took its id.
fn scope(request: &ListTasksRequest, namespace_id: i32, session: Option<SessionUid>) -> String {
    let filters = ListTasksRequest {
        namespace: String::new(),
        session_id: String::new(),
        page_size: 0,
        page_token: String::new(),
        include_spec: false,
        ..request.clone()
    };
    let filters = STANDARD_NO_PAD.encode(filters.encode_to_vec());
    let session = session.map_or_else(String::new, |session| session.0.to_string());
    format!("{namespace_id} {session} {filters}")
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
        assert_eq!(read_states(&[]).ok(), Some(vec![]));
        for states in [&[0][..], &[1, 0], &[99]] {
            assert!(read_states(states).is_err(), "{states:?}");
        }
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
    fn a_place_comes_back_from_its_token() {
        let place = Place {
            ordinal: 7,
            id: TaskId(9),
        };
        let position = format!("{} {}", place.ordinal, place.id);
        assert_eq!(read_place(&position), Some(place));
        for other in ["", "7", "7 x", "x task_00000000000000000000000000000009"] {
            assert_eq!(read_place(other), None, "{other:?}");
        }
    }

    #[test]
    fn labels_are_compared_as_a_json_object() {
        let labels = BTreeMap::from([("a\"b".to_owned(), "c\\d".to_owned())]);
        assert_eq!(labels_json(&labels), r#"{"a\"b":"c\\d"}"#);
        assert_eq!(labels_json(&BTreeMap::new()), "{}");
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
        let by_name = ListTasksRequest {
            namespace: "default".to_owned(),
            ..request.clone()
        };
        let session = Some(SessionUid(3));
        let first = scope(&request, 1, session);
        assert_eq!(first, scope(&page, 1, session));
        assert_eq!(first, scope(&by_name, 1, session));
        for another in [
            scope(&other, 1, session),
            scope(&request, 2, session),
            scope(&request, 1, Some(SessionUid(4))),
            scope(&request, 1, None),
        ] {
            assert_ne!(first, another);
        }
    }
}
