//! New tasks like existing ones, for retries and clones.

use super::{
    create_task::{self, Origin, Owner, StoredTask},
    definition::{self, Definition},
    refusal::{Refusal, Resource},
};
use crate::{app::App, store::creates::RequestKey};
use taskyard_core::task::NoSpawn;
use taskyard_proto::v1::{SessionTask, TaskDefinition, TaskState};

/// What a copy is stored with.
#[derive(Clone)]
pub(super) struct Copy {
    /// The task that it repeats, and who makes it.
    pub(super) origin: Origin,
    /// The caller's `request_id`, if it gave one.
    pub(super) request: Option<RequestKey>,
    /// SHA-256 of the request.
    pub(super) fingerprint: [u8; 32],
    /// Whether it must stay below its parent, or else be refused.
    pub(super) needs_parent: bool,
}

/// The definition of a task, as its record tells it. The key stays with the first task; times were the first one's.
pub(super) fn definition_of(task: SessionTask) -> TaskDefinition {
    TaskDefinition {
        name: task.name,
        key: String::new(),
        kind: task.kind,
        display_name: task.display_name,
        spec: task.spec,
        parent_task_id: task.parent_task_id,
        group: task.group,
        labels: task.labels,
        tags: task.tags,
        queue: task.queue,
        executor: task.executor,
        priority: task.priority,
        not_before: None,
        start_deadline: None,
        timeout: task.timeout,
        retry: task.retry,
        hold: false,
        wake_policy: task.wake_policy,
        group_wake: task.group_wake,
        schedule: None,
        parent_item: None,
        // see `task_secrets::copied`
        secrets: Vec::new(),
    }
}

/// Whether a record is of a task that has ended.
pub(super) fn is_terminal(task: &SessionTask) -> bool {
    match TaskState::try_from(task.state) {
        Ok(TaskState::Succeeded | TaskState::Failed | TaskState::Canceled) => true,
        Ok(
            TaskState::Queued
            | TaskState::Running
            | TaskState::AwaitingInput
            | TaskState::Unspecified,
        )
        | Err(_) => false,
    }
}

/// Stores a copy below the parent of what it copies; where that one gets no children any more, since it has ended or a
/// cancel of it was asked for, or is a monitor, which has none but its firings, as a root of its own.
pub(super) async fn store_copy(
    app: &App,
    owner: &Owner<'_>,
    definition: Definition,
    copy: Copy,
) -> Result<StoredTask, Refusal> {
    let store = |definition: Definition| {
        let request = copy.request.clone().map(|key| (key, copy.fingerprint));
        create_task::store_task(
            app,
            owner,
            definition,
            copy.origin,
            request,
            copy.fingerprint,
        )
    };
    let alone = definition::Definition {
        parent: None,
        ..definition.clone()
    };
    match store(definition).await {
        Err(
            Refusal::NoSpawn(
                NoSpawn::ParentEnded | NoSpawn::ParentCanceled | NoSpawn::ParentIsMonitor,
            )
            | Refusal::NotFound {
                resource: Resource::Task,
                ..
            },
        ) if !copy.needs_parent => store(alone).await,
        stored => stored,
    }
}
