//! What the session's log says of a change.

use crate::store::{new_tasks::NewTask, records::result_path, task_row::TaskRow, times};
use bytes::Bytes;
use taskyard_core::{
    id::TaskId,
    task::{Gate, State},
};
use taskyard_proto::{
    storage::v1::LoggedEvent,
    v1::{SessionEventType, TaskChange, TaskError, TaskIdentity, TaskMessage, TaskState},
};

/// The event of a changed task.
pub(super) fn updated(row: &TaskRow) -> LoggedEvent {
    LoggedEvent {
        task_id: id_bytes(row.task.id),
        r#type: SessionEventType::TaskUpdated.into(),
        ordinal: row.ordinal,
        generation: row.task.generation.cast_signed(),
        change: Some(change(row)),
        ..LoggedEvent::default()
    }
}

/// The event of a message.
pub(super) fn posted(row: &TaskRow, message: &TaskMessage) -> LoggedEvent {
    LoggedEvent {
        task_id: id_bytes(row.task.id),
        r#type: SessionEventType::TaskMessage.into(),
        ordinal: row.ordinal,
        generation: row.task.generation.cast_signed(),
        message: Some(message.clone()),
        ..LoggedEvent::default()
    }
}

/// The event of a new task; its ordinal is filled in when the session has numbered it.
pub(super) fn created(task: &NewTask) -> LoggedEvent {
    let shown = |id: Option<TaskId>| id.map(|id| id.to_string()).unwrap_or_default();
    LoggedEvent {
        task_id: id_bytes(task.id),
        r#type: SessionEventType::TaskCreated.into(),
        ordinal: 0,
        generation: 1,
        change: Some(TaskChange {
            state: TaskState::Queued.into(),
            not_before: task.policy.not_before.map(times::core_to_proto),
            hold: matches!(task.gate, Gate::Held { .. }),
            links: task.retry_of.map(|id| taskyard_proto::v1::Links {
                retry_of: id.to_string(),
                ..Default::default()
            }),
            ..TaskChange::default()
        }),
        created: Some(TaskIdentity {
            name: task.name.clone().unwrap_or_default(),
            key: task.key.clone().unwrap_or_default(),
            kind: task.kind.clone(),
            display_name: task.display_name.clone(),
            parent_task_id: shown(task.parent.map(|above| above.parent)),
            root_task_id: shown(Some(task.parent.map_or(task.id, |above| above.root))),
            group: task.group.clone().unwrap_or_default(),
            queue: task.queue.clone(),
            executor: task.executor.clone(),
        }),
        ..LoggedEvent::default()
    }
}

fn change(row: &TaskRow) -> TaskChange {
    let (task, body) = (&row.task, &row.body);
    let (not_before, hold) = match &task.state {
        State::Queued { gate, .. } => match gate {
            Gate::Open | Gate::Monitor => (None, false),
            Gate::Until(due) => (Some(times::core_to_proto(*due)), false),
            Gate::Held { until } => (until.map(times::core_to_proto), true),
        },
        State::Running { .. } | State::AwaitingInput { .. } | State::Terminal(_) => (None, false),
    };
    let mut links = body.content.links.clone().unwrap_or_default();
    links.retry_of = body.retry_of.map(|id| id.to_string()).unwrap_or_default();
    TaskChange {
        state: published_state(&task.state).into(),
        state_detail: body.state_detail.clone(),
        input_request: body.question.clone(),
        cancel_requested_at: task
            .cancel
            .map(|cancel| times::core_to_proto(cancel.requested_at)),
        summary: body.summary.clone(),
        artifacts: body.content.artifacts.clone(),
        error: body.error.as_ref().map(|error| TaskError {
            kind: error.kind.as_str().to_owned(),
            message: error.message.clone(),
            retryable: error.retryable,
            hint: error.kind.hint_for(task.id),
            reason: error.reason.clone(),
        }),
        attempt: i32::try_from(task.attempt).unwrap_or(i32::MAX),
        run: i32::try_from(task.run).unwrap_or(i32::MAX),
        worker_id: body.worker_name.clone().unwrap_or_default(),
        links: (links != Default::default()).then_some(links),
        not_before,
        hold,
        started_at: task.started_at.map(times::core_to_proto),
        finished_at: row.end.as_ref().map(|end| times::to_proto(end.finished_at)),
        exit: row
            .end
            .as_ref()
            .and_then(|end| end.run_end.exit.clone())
            .or_else(|| body.last_exit.clone()),
        usage: row.end.as_ref().and_then(|end| end.run_end.usage.clone()),
        result_path: match &row.end {
            Some(_) => result_path(task.id),
            None => String::new(),
        },
        updated_at: Some(times::to_proto(body.updated_at)),
        isolation: row
            .end
            .as_ref()
            .map(|end| end.run_end.isolation.clone())
            .unwrap_or_default(),
    }
}

/// The state as it is published.
pub(super) fn published_state(state: &State) -> TaskState {
    use taskyard_core::task::TerminalState;
    match state {
        State::Queued { .. } => TaskState::Queued,
        State::Running { .. } => TaskState::Running,
        State::AwaitingInput { .. } => TaskState::AwaitingInput,
        State::Terminal(TerminalState::Succeeded) => TaskState::Succeeded,
        State::Terminal(TerminalState::Failed) => TaskState::Failed,
        State::Terminal(TerminalState::Canceled) => TaskState::Canceled,
    }
}

pub(super) fn id_bytes(id: TaskId) -> Bytes {
    Bytes::copy_from_slice(&id.0.to_be_bytes())
}
