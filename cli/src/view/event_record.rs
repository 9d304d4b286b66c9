//! Items of a watch for programs: one object each, with the cursor to resume after it.

use taskyard_proto::v1::watch_response::Item;
use taskyard_proto::v1::{SessionEvent, TaskChange, TaskIdentity, WatchResponse};

use crate::view::message::message_record;
use crate::view::record::Record;
use crate::view::task_record::{
    artifacts, error, exit, input_request, links, progress, task_record, time,
};
use crate::view::wake::wake_record;
use crate::view::words;

/// One item; none for what says nothing, such as a keepalive.
pub fn event_record(response: &WatchResponse, is_full: bool) -> Option<Record> {
    let record = Record::new()
        .with_text("session_id", &response.session_id)
        .with_text("cursor", &response.cursor);
    let record = match response.item.as_ref()? {
        Item::Snapshot(task) => record
            .with("type", "snapshot")
            .with("task", task_record(task, is_full)),
        Item::SnapshotComplete(complete) => record
            .with("type", "snapshot_complete")
            .with("tasks", complete.tasks),
        Item::Event(event) => with_event(record, event, is_full),
        Item::Progress(item) => record
            .with("type", "task.progress")
            .with_text("task_id", &item.task_id)
            .with("progress", item.progress.as_ref().map(progress)),
        Item::Resync(resync) => record
            .with("type", "resync")
            .with_text("reason", &resync.reason),
        Item::Keepalive(_) => return None,
    };
    Some(if is_full { record } else { record.brief(&[]) })
}

fn with_event(record: Record, event: &SessionEvent, is_full: bool) -> Record {
    let brief = |part: Record| if is_full { part } else { part.brief(&[]) };
    record
        .with("type", words::event_type(event.r#type()))
        .with("seq", event.seq)
        .with("at", time(&event.at))
        .with_text("task_id", &event.task_id)
        .with("ordinal", event.ordinal)
        .with("generation", event.generation)
        .with("created", event.created.as_ref().map(identity).map(brief))
        .with("change", event.change.as_ref().map(change).map(brief))
        .with(
            "message",
            event.message.as_ref().map(message_record).map(brief),
        )
        .with("wake", event.wake.as_ref().map(wake_record).map(brief))
}

fn identity(identity: &TaskIdentity) -> Record {
    Record::new()
        .with_text("name", &identity.name)
        .with_text("key", &identity.key)
        .with_text("kind", &identity.kind)
        .with_text("display_name", &identity.display_name)
        .with_text("parent_task_id", &identity.parent_task_id)
        .with_text("root_task_id", &identity.root_task_id)
        .with_text("group", &identity.group)
        .with_text("queue", &identity.queue)
        .with_text("executor", &identity.executor)
}

fn change(change: &TaskChange) -> Record {
    Record::new()
        .with("state", words::state(change.state()))
        .with_text("state_detail", &change.state_detail)
        .with(
            "input_request",
            change.input_request.as_ref().map(input_request),
        )
        .with("cancel_requested_at", time(&change.cancel_requested_at))
        .with_text("summary", &change.summary)
        .with("artifacts", artifacts(&change.artifacts))
        .with("error", change.error.as_ref().map(error))
        .with("attempt", change.attempt)
        .with("run", change.run)
        .with_text("worker_id", &change.worker_id)
        .with("links", change.links.as_ref().map(links))
        .with("not_before", time(&change.not_before))
        .with("hold", change.hold)
        .with("started_at", time(&change.started_at))
        .with("finished_at", time(&change.finished_at))
        .with("exit", change.exit.as_ref().map(exit))
}
