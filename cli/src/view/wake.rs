//! Wakes, for programs.

use taskyard_proto::v1::Wake;

use crate::view::record::Record;
use crate::view::task_record::time;
use crate::view::words;

/// A wake as JSON; one that a watch shows has neither id nor deliveries.
pub fn wake_record(wake: &Wake) -> Record {
    Record::new()
        .with("id", wake.id)
        .with_text("session_id", &wake.session_id)
        .with_text("task_id", &wake.task_id)
        .with("ordinal", wake.ordinal)
        .with("reason", words::wake_reason(wake.reason()))
        .with("generation", wake.generation)
        .with("state", words::state(wake.state()))
        .with_text("group", &wake.group)
        .with_text("text", &wake.text)
        .with("message_number", wake.message_number)
        .with("created_at", time(&wake.created_at))
        .with("deliveries", wake.deliveries)
}
