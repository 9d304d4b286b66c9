//! One task as the group commit handles it: locked, changed in memory, written back.

use chrono::{DateTime, Utc};
use prost::Message;
use std::{borrow::Cow, time::Duration};
use taskyard_core::{
    id::{SessionUid, TaskId},
    output::Retention,
    task::{ErrorKind, Task},
};
use taskyard_proto::{
    storage::v1::{RunEnd, TaskContent},
    v1::{Exit, GroupWake, InputRequest, Progress, TaskSpec, WakePolicy},
};

/// A locked task.
#[derive(Clone, Debug)]
pub struct TaskRow {
    /// What the state machine decides on.
    pub task: Task,
    /// What it carries beside.
    pub body: Body,
    /// Number of the owning session.
    pub session: SessionUid,
    /// The root of its tree; itself, if it has no parent.
    pub root: TaskId,
    /// Its ordinal.
    pub ordinal: i64,
    /// When the offer was made; set exactly while it is offered.
    pub offered_at: Option<DateTime<Utc>>,
    /// How much of its output is kept.
    pub retention: Retention,
    /// Name of the worker that holds its lease.
    pub holder_name: Option<String>,
    /// When that worker was last heard.
    pub holder_renewed_at: Option<DateTime<Utc>>,
    /// Its thread, in numbers.
    pub thread: Thread,
    /// What decides whether and how the owner is woken.
    pub wake: WakeTerms,
    /// What the end row holds beside; none while the task is live.
    pub end: Option<EndRow>,
}

/// The thread of a live task, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Thread {
    /// Number of the newest message.
    pub newest: i64,
    /// Up to where the inbound messages were handed to the work.
    pub delivered: i64,
    /// The run that got them; another run starts again.
    pub delivered_run: i32,
}

/// What a task's definition says of waking its owner.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WakeTerms {
    /// Number of its namespace.
    pub namespace_id: i32,
    /// As on the wire.
    pub policy: WakePolicy,
    /// As on the wire.
    pub group_wake: GroupWake,
    /// Its group.
    pub group: Option<String>,
    /// What the owner calls it: display name, name, or nothing.
    pub title: String,
}

/// The parts of a task that decide nothing.
#[derive(Clone, Debug, Default)]
pub struct Body {
    /// A few words about the state.
    pub state_detail: String,
    /// One line about the outcome.
    pub summary: String,
    /// Latest progress.
    pub progress: Option<Progress>,
    /// When it was reported.
    pub progress_at: Option<DateTime<Utc>>,
    /// Artifacts and links.
    pub content: TaskContent,
    /// Why the task, or the run before, failed.
    pub error: Option<StoredError>,
    /// How the last run's process ended.
    pub last_exit: Option<Exit>,
    /// The pending question.
    pub question: Option<InputRequest>,
    /// Name of the worker that holds the task, or held it last.
    pub worker_name: Option<String>,
    /// The task that this one repeats; part of the links that a reader sees.
    pub retry_of: Option<TaskId>,
    /// When the generation last grew.
    pub updated_at: DateTime<Utc>,
}

/// An error as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredError {
    /// Its kind.
    pub kind: ErrorKind,
    /// One sentence.
    pub message: String,
    /// Whether running the same work again may help.
    pub retryable: bool,
    /// What exactly it was, in one word; empty: nothing more is known. It lies with the content.
    pub reason: String,
}

/// What only an ended task has.
#[derive(Clone, Debug)]
pub struct EndRow {
    /// When it ended.
    pub finished_at: DateTime<Utc>,
    /// How its last run went.
    pub run_end: RunEnd,
}

/// Number of the last report applied under the lease that is held, or was held last.
pub(super) fn last_item_no(task: &Task) -> i64 {
    match (task.lease(), task.settled) {
        (Some(lease), _) => lease.item_no,
        (None, Some(settled)) => settled.item_no,
        (None, None) => 0,
    }
}

pub(super) fn encode<M: Message>(message: Option<&M>) -> Option<Vec<u8>> {
    message.map(Message::encode_to_vec)
}

/// Most tasks have neither artifacts nor links, nor an error with a reason: nothing is stored for them.
pub(super) fn encode_content(body: &Body) -> Option<Vec<u8>> {
    let reason = body.error.as_ref().map_or("", |error| &error.reason);
    let mut content = Cow::Borrowed(&body.content);
    if content.error_reason != reason {
        reason.clone_into(&mut content.to_mut().error_reason);
    }
    (*content != TaskContent::default()).then(|| content.encode_to_vec())
}

pub(super) fn column(count: u32) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// Milliseconds, as stored.
pub(super) fn to_ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// How much of a task's output is kept, by its spec.
#[must_use]
pub fn retention(spec: &TaskSpec) -> Retention {
    let bytes = spec
        .output_limits
        .map_or(Retention::DEFAULT_BYTES, |limits| {
            u64::try_from(limits.max_bytes_per_stream).unwrap_or(0)
        });
    Retention::of(bytes)
}

/// Exit codes that count as success, by a task's spec.
#[must_use]
pub fn success_exit_codes(spec: &TaskSpec) -> Vec<i32> {
    match &spec.command {
        Some(command) if !command.success_exit_codes.is_empty() => {
            command.success_exit_codes.clone()
        }
        Some(_) | None => vec![0],
    }
}
