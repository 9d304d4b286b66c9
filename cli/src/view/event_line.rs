//! Items of a watch for people: a line each.

use taskyard_proto::v1::watch_response::Item;
use taskyard_proto::v1::{
    SessionEvent, SessionEventType, SessionTask, TaskChange, TaskState, WatchResponse,
};

use crate::console::clean;
use crate::view::message::message_text;
use crate::view::moment;
use crate::view::task_table::{outline, progress, title};
use crate::view::words;

/// One line without its end; none for what says nothing, such as a keepalive.
pub fn event_line(
    response: &WatchResponse,
    has_sessions: bool,
    has_cursor: bool,
) -> Option<String> {
    let (at, seq, task, text) = match response.item.as_ref()? {
        Item::Snapshot(task) => (
            task.updated_at,
            None,
            format!("t{}", task.ordinal),
            snapshot(task),
        ),
        Item::SnapshotComplete(complete) => {
            let noun = if complete.tasks == 1 { "task" } else { "tasks" };
            let text = format!("{} {noun} so far; changes follow", complete.tasks);
            (Some(moment::now()), None, "-".to_owned(), text)
        }
        Item::Event(event) => (
            event.at,
            Some(event.seq),
            match event.r#type() {
                SessionEventType::SessionDeleted => "-".to_owned(),
                SessionEventType::Unspecified
                | SessionEventType::TaskCreated
                | SessionEventType::TaskUpdated
                | SessionEventType::TaskMessage
                | SessionEventType::TaskWake
                | SessionEventType::TaskDeleted => format!("t{}", event.ordinal),
            },
            describe_event(event),
        ),
        Item::Progress(item) => {
            let task = SessionTask {
                progress: item.progress.clone(),
                ..SessionTask::default()
            };
            let text = format!("progress  {}", progress(&task));
            (Some(moment::now()), None, item.task_id.clone(), text)
        }
        Item::Resync(resync) => {
            let text = format!("starts afresh: {}", resync.reason);
            (Some(moment::now()), None, "-".to_owned(), text)
        }
        Item::Keepalive(_) => return None,
    };
    let time = at
        .as_ref()
        .map_or_else(|| "-".to_owned(), moment::clock_time);
    let seq = seq.map_or_else(|| "-".to_owned(), |seq| format!("#{seq}"));
    let session = if has_sessions {
        format!("{:<16}  ", response.session_id)
    } else {
        String::new()
    };
    let cursor = if has_cursor && !response.cursor.is_empty() {
        format!("  cursor={}", response.cursor)
    } else {
        String::new()
    };
    let line = format!("{time:<12}  {session}{seq:<6}  {task:<5}  {text}{cursor}");
    Some(clean(line.trim_end()))
}

fn snapshot(task: &SessionTask) -> String {
    let parts = [
        words::state(task.state()).to_owned(),
        title(task),
        outline(task),
    ];
    joined(&parts)
}

fn describe_event(event: &SessionEvent) -> String {
    let change = event.change.clone().unwrap_or_default();
    let what = describe_change(&change);
    match event.r#type() {
        SessionEventType::TaskCreated => {
            let identity = event.created.clone().unwrap_or_default();
            let name = if identity.display_name.is_empty() {
                identity.name
            } else {
                identity.display_name
            };
            joined(&["created".to_owned(), name, identity.kind, what])
        }
        SessionEventType::TaskMessage => {
            let message = event.message.clone().unwrap_or_default();
            let direction = words::message_direction(message.direction());
            joined(&[format!("message {direction}"), message_text(&message)])
        }
        SessionEventType::TaskWake => {
            let wake = event.wake.clone().unwrap_or_default();
            joined(&["wake".to_owned(), wake.text])
        }
        SessionEventType::TaskDeleted => "deleted".to_owned(),
        SessionEventType::SessionDeleted => "the session was deleted".to_owned(),
        SessionEventType::TaskUpdated | SessionEventType::Unspecified => what,
    }
}

/// The state after the change, and what goes with it there.
fn describe_change(change: &TaskChange) -> String {
    let state = words::state(change.state()).to_owned();
    let error = change
        .error
        .as_ref()
        .map(|error| format!("{}: {}", words::error(error), error.message))
        .unwrap_or_default();
    let cancel = match (&change.cancel_requested_at, change.state()) {
        (Some(_), TaskState::Queued | TaskState::Running | TaskState::AwaitingInput) => {
            "cancel requested".to_owned()
        }
        (Some(_) | None, _) => String::new(),
    };
    let details = match change.state() {
        TaskState::Queued => {
            let until = change
                .not_before
                .as_ref()
                .map(|at| format!("not before {}", moment::clock_time(at)));
            let hold = if change.hold { "on hold" } else { "" };
            vec![
                hold.to_owned(),
                change.state_detail.clone(),
                until.unwrap_or_default(),
                error,
            ]
        }
        TaskState::Running => {
            let place = format!("run {} on {}", change.run, change.worker_id);
            vec![place, change.state_detail.clone(), change.summary.clone()]
        }
        TaskState::AwaitingInput => {
            let prompt = change
                .input_request
                .as_ref()
                .map(|request| request.prompt.clone());
            vec![prompt.unwrap_or_default()]
        }
        TaskState::Succeeded | TaskState::Failed | TaskState::Canceled
            if change.summary.is_empty() =>
        {
            vec![error]
        }
        TaskState::Succeeded | TaskState::Failed | TaskState::Canceled => {
            vec![change.summary.clone()]
        }
        TaskState::Unspecified => Vec::new(),
    };
    // The summary of a canceled task begins with its state.
    let says_state = details
        .first()
        .is_some_and(|detail| detail.starts_with(&state));
    let mut parts = vec![if says_state { String::new() } else { state }, cancel];
    parts.extend(details);
    joined(&parts)
}

fn joined(parts: &[String]) -> String {
    let said: Vec<&str> = parts
        .iter()
        .map(String::as_str)
        .filter(|part| !part.is_empty())
        .collect();
    said.join("  ")
}
