//! RetryTask: a new task with the spec of a terminal one.

use super::{
    agent::Caller,
    copied_task::{self, Copy},
    create_task::{self, Origin, Owner},
    definition::{self, Definition},
    fingerprint, get_task,
    monitors::plan,
    namespace,
    refusal::Refusal,
    resolve, task_secrets,
};
use crate::{
    app::App,
    commit::{Change, Content},
    store::creates::{RequestKey, RequestMethod},
};
use taskyard_core::task::Event;
use taskyard_proto::v1::{RetryTaskRequest, RetryTaskResponse, TaskDefinition};

/// Creates a task that repeats one that has ended. It keeps everything but key, hold and times, and its name unless a live
/// task has it. Where the parent gets no children any more, or is a monitor, the new task is a root of its own; but not if
/// `caller`, what runs inside a task, asks for it, which could escape the cancel of its tree so.
///
/// # Errors
/// [`Refusal::TaskNotTerminal`], [`Refusal::RequestIdConflict`], or what resolving and storing
/// say.
pub async fn retry_task(
    app: &App,
    request: RetryTaskRequest,
    caller: Option<Caller>,
) -> Result<RetryTaskResponse, Refusal> {
    definition::check_text(
        "request_id",
        &request.request_id,
        create_task::MAX_REQUEST_ID,
    )?;
    let found =
        resolve::resolve(app, &request.namespace, &request.session_id, &request.task).await?;
    let old = get_task::read_task(app, found.id).await?.task;
    if !copied_task::is_terminal(&old) {
        return Err(Refusal::TaskNotTerminal);
    }
    if old.kind == plan::MONITOR {
        return Err(Refusal::invalid(
            "task",
            "is a monitor: its schedule has ended with it; create a new one",
        ));
    }
    let namespace_id = namespace::find_namespace(app, &request.namespace).await?;
    let fingerprint = fingerprint::of_retry(&request, &old.id);
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
    let is_own_child = |caller: &Caller| old.parent_task_id == caller.task().to_string();
    let spawner = caller.filter(is_own_child).map(|caller| caller.fence());
    let copy = Copy {
        origin: Origin {
            retry_of: Some(found.id),
            spawner,
            firing: None,
            below: None,
        },
        request: key,
        fingerprint,
        needs_parent: caller.is_some(),
    };
    let secrets = task_secrets::copied(&old, request.secrets)?;
    let definition = definition::parse(TaskDefinition {
        secrets,
        ..copied_task::definition_of(old)
    })?;
    let nameless = Definition {
        name: None,
        ..definition.clone()
    };
    let stored = match copied_task::store_copy(app, &owner, definition, copy.clone()).await {
        // a task that was created since has it, and the work is to run all the same
        Err(Refusal::NameTaken { .. }) => {
            copied_task::store_copy(app, &owner, nameless, copy).await?
        }
        stored => stored?,
    };
    if stored.is_new {
        let link = Change::new(found.id, Event::Enrich, Content::RetriedAs(stored.id));
        app.commits.change(found.session, link).await?;
    }
    Ok(RetryTaskResponse {
        task: Some(stored.task),
        created: stored.is_new,
    })
}
