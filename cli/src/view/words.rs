//! The words for the wire's enums, as design and JSON spell them.

use taskyard_proto::v1::{
    CancelOutcome, FileType, GrepStop, GroupWake, IsolationLevel, MessageDirection, MonitorOverlap,
    MonitorWake, NetworkAccess, OutputStream, ResultSource, SecretSource, SessionEventType,
    StepStatus, TaskError, TaskState, WakePolicy, WakeReason, WorkerStatus,
};

pub fn state(state: TaskState) -> &'static str {
    match state {
        TaskState::Unspecified => "unknown",
        TaskState::Queued => "queued",
        TaskState::Running => "running",
        TaskState::AwaitingInput => "awaiting_input",
        TaskState::Succeeded => "succeeded",
        TaskState::Failed => "failed",
        TaskState::Canceled => "canceled",
    }
}

/// Every state that a filter can name.
pub const STATES: [TaskState; 6] = [
    TaskState::Queued,
    TaskState::Running,
    TaskState::AwaitingInput,
    TaskState::Succeeded,
    TaskState::Failed,
    TaskState::Canceled,
];

/// Why a task failed, in words for programs: `start_failed (ENOENT)`.
pub fn error(error: &TaskError) -> String {
    if error.reason.is_empty() {
        return error.kind.clone();
    }
    format!("{} ({})", error.kind, error.reason)
}

pub fn wake_policy(policy: WakePolicy) -> &'static str {
    match policy {
        WakePolicy::Unspecified | WakePolicy::Silent => "silent",
        WakePolicy::OnTerminal => "on_terminal",
        WakePolicy::OnActivity => "on_activity",
    }
}

pub fn group_wake(group_wake: GroupWake) -> &'static str {
    match group_wake {
        GroupWake::Unspecified | GroupWake::Each => "each",
        GroupWake::AllDone => "all_done",
        GroupWake::FirstFailed => "first_failed",
    }
}

pub fn overlap(overlap: MonitorOverlap) -> &'static str {
    match overlap {
        MonitorOverlap::Unspecified | MonitorOverlap::Skip => "skip",
        MonitorOverlap::QueueOne => "queue_one",
        MonitorOverlap::Allow => "allow",
    }
}

pub fn wake_on(wake: MonitorWake) -> &'static str {
    match wake {
        MonitorWake::Unspecified | MonitorWake::Failed => "failed",
        MonitorWake::Changed => "changed",
        MonitorWake::Match => "match",
        MonitorWake::Always => "always",
    }
}

pub fn secret_source(source: SecretSource) -> &'static str {
    match source {
        SecretSource::Unspecified => "unknown",
        SecretSource::Value => "value",
        SecretSource::WorkerEnv => "worker_env",
        SecretSource::WorkerFile => "worker_file",
    }
}

pub fn message_direction(direction: MessageDirection) -> &'static str {
    match direction {
        MessageDirection::Unspecified => "unknown",
        MessageDirection::Inbound => "inbound",
        MessageDirection::Outbound => "outbound",
    }
}

pub fn wake_reason(reason: WakeReason) -> &'static str {
    match reason {
        WakeReason::Unspecified => "unknown",
        WakeReason::Terminal => "terminal",
        WakeReason::Question => "question",
        WakeReason::Message => "message",
        WakeReason::GroupDone => "group_done",
        WakeReason::GroupFailed => "group_failed",
        WakeReason::Monitor => "monitor",
    }
}

pub fn step_status(status: StepStatus) -> &'static str {
    match status {
        StepStatus::Unspecified | StepStatus::Pending => "pending",
        StepStatus::InProgress => "in_progress",
        StepStatus::Done => "done",
        StepStatus::Skipped => "skipped",
    }
}

pub fn result_source(source: ResultSource) -> &'static str {
    match source {
        ResultSource::Unspecified | ResultSource::File => "file",
        ResultSource::Stdout => "stdout",
    }
}

pub fn isolation_level(level: IsolationLevel) -> &'static str {
    match level {
        IsolationLevel::Unspecified | IsolationLevel::None => "none",
        IsolationLevel::Restricted => "restricted",
    }
}

pub fn network_access(network: NetworkAccess) -> &'static str {
    match network {
        NetworkAccess::Unspecified | NetworkAccess::Allowed => "allowed",
        NetworkAccess::None => "none",
    }
}

pub fn stream(stream: OutputStream) -> &'static str {
    match stream {
        OutputStream::Unspecified => "output",
        OutputStream::Stdout => "stdout",
        OutputStream::Stderr => "stderr",
    }
}

pub fn file_type(file_type: FileType) -> &'static str {
    match file_type {
        FileType::Unspecified => "unknown",
        FileType::File => "file",
        FileType::Directory => "directory",
    }
}

pub fn worker_status(status: WorkerStatus) -> &'static str {
    match status {
        WorkerStatus::Unspecified => "unknown",
        WorkerStatus::Active => "active",
        WorkerStatus::Draining => "draining",
        WorkerStatus::Lost => "lost",
        WorkerStatus::Gone => "gone",
    }
}

pub fn event_type(event_type: SessionEventType) -> &'static str {
    match event_type {
        SessionEventType::Unspecified => "unknown",
        SessionEventType::TaskCreated => "task.created",
        SessionEventType::TaskUpdated => "task.updated",
        SessionEventType::TaskMessage => "task.message",
        SessionEventType::TaskWake => "task.wake",
        SessionEventType::TaskDeleted => "task.deleted",
        SessionEventType::SessionDeleted => "session.deleted",
    }
}

pub fn grep_stop(stop: GrepStop) -> &'static str {
    match stop {
        GrepStop::Unspecified => "",
        GrepStop::Matches => "matches",
        GrepStop::Files => "files",
        GrepStop::Bytes => "bytes",
        GrepStop::Answer => "answer",
        GrepStop::Time => "time",
    }
}

pub fn cancel_outcome(outcome: CancelOutcome) -> &'static str {
    match outcome {
        CancelOutcome::Unspecified => "unknown",
        CancelOutcome::Canceled => "canceled",
        CancelOutcome::Requested => "requested",
        CancelOutcome::AlreadyRequested => "already_requested",
        CancelOutcome::AlreadyTerminal => "already_terminal",
    }
}
