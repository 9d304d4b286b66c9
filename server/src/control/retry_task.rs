//! RetryTask: a new task with the spec of a terminal one.

use super::{
    create_task::{self, Origin, Owner},
    definition, get_task,
    monitors::plan,
    namespace,
    refusal::Refusal,
    resolve,
};
use crate::{
    app::App,
    commit::{Change, Content},
    store::creates::{RequestKey, RequestMethod},
};
use prost::Message;
use sha2::{Digest, Sha256};
use taskyard_core::task::Event;
use taskyard_proto::v1::{
    RetryTaskRequest, RetryTaskResponse, SessionTask, TaskDefinition, TaskState,
};

/// Creates a task that repeats one that has ended. It keeps everything but key, parent's fence and times.
///
/// # Errors
/// [`Refusal::TaskNotTerminal`], [`Refusal::NameTaken`], [`Refusal::RequestIdConflict`], or what resolving and storing
/// say.
pub async fn retry_task(
    app: &App,
    request: RetryTaskRequest,
) -> Result<RetryTaskResponse, Refusal> {
    definition::check_text("request_id", &request.request_id, 128)?;
    let found =
        resolve::resolve(app, &request.namespace, &request.session_id, &request.task).await?;
    let old = get_task::read_task(app, found.id).await?.task;
    if !is_terminal(&old) {
        return Err(Refusal::TaskNotTerminal);
    }
    if old.kind == plan::MONITOR {
        return Err(Refusal::invalid(
            "task",
            "is a monitor: its schedule has ended with it; create a new one",
        ));
    }
    let namespace_id = namespace::find_namespace(app, &request.namespace).await?;
    let fingerprint = Sha256::digest(
        RetryTaskRequest {
            request_id: String::new(),
            task: old.id.clone(),
            session_id: String::new(),
            ..request.clone()
        }
        .encode_to_vec(),
    )
    .into();
    let key = (!request.request_id.is_empty()).then_some(RequestKey {
        namespace_id,
        method: RequestMethod::Retry,
        request_id: request.request_id,
    });
    let owner = Owner {
        namespace: namespace::name_or_default(&request.namespace),
        namespace_id,
        session_id: old.session_id.clone(),
        session: found.session,
    };
    let definition = definition::parse(repeated(old))?;
    let origin = Origin {
        retry_of: Some(found.id),
        ..Origin::default()
    };
    let stored = create_task::store_task(app, &owner, definition, origin, key, fingerprint).await?;
    if stored.is_new {
        let link = Change::new(found.id, Event::Enrich, Content::RetriedAs(stored.id));
        app.commits.change(found.session, link).await?;
    }
    Ok(RetryTaskResponse {
        task: Some(stored.task),
        created: stored.is_new,
    })
}

fn is_terminal(task: &SessionTask) -> bool {
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

/// The definition of a task, as its record tells it. The key stays with the first task; times were the first one's.
fn repeated(task: SessionTask) -> TaskDefinition {
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
    }
}
