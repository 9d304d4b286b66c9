//! CreateTask: parse, place, store; and wait for the outcome if asked to.

use super::{
    agent::Caller,
    definition::{self, Definition},
    fingerprint, get_task, isolation, namespace,
    refusal::{Refusal, Resource, StoreError},
    resolve, result_json, task_secrets, wait_tasks,
    wire_time::duration_field,
};
use crate::{
    app::App,
    commit::{CommitError, Created, Creation},
    dispatch::RouteName,
    limits::turns,
    store::{
        creates::{self, RequestKey, RequestMethod},
        monitors::{Firing, MonitorPart},
        new_tasks::{Ancestry, NewTask, Placement},
        records::duration_from_ms,
        times,
    },
};
use std::{collections::BTreeMap, time::Duration};
use taskyard_core::{
    id::{SessionUid, TaskId},
    task::{Fence, Gate, jittered},
};
use taskyard_proto::v1::{
    CreateTaskRequest, CreateTaskResponse, Links, RetryPolicy, SessionTask, TaskState,
};
use taskyard_telemetry::trace::current;
use uuid::Uuid;

/// Longest time to wait for the outcome.
const MAX_WAIT: Duration = Duration::from_secs(30);
/// Tries to find or make the session, where others delete it at the same time.
pub(super) const SESSION_TRIES: u32 = 3;
/// Longest `request_id`, in bytes.
pub(super) const MAX_REQUEST_ID: usize = 128;

/// Stores a task and queues it. `caller` is what runs inside the parent, if that is who creates it.
///
/// # Errors
/// [`Refusal::InvalidField`], [`Refusal::NameTaken`], [`Refusal::KeyConflict`], [`Refusal::RequestIdConflict`],
/// [`Refusal::RequestTaskDeleted`], [`Refusal::NotFound`] for the parent, or what the store says.
pub async fn create_task(
    app: &App,
    request: CreateTaskRequest,
    caller: Option<Caller>,
) -> Result<CreateTaskResponse, Refusal> {
    let mut tries = 1;
    loop {
        match try_create(app, request.clone(), caller).await {
            // the session was deleted a moment ago; its id now stands for a new one
            Err(Refusal::Store(StoreError::SessionDeleted)) if tries < SESSION_TRIES => {
                tries += 1;
                forget_session(app, &request.namespace, &request.session_id).await?;
            }
            outcome => return outcome,
        }
    }
}

/// Forgets which session an id stands for, where that was deleted meanwhile.
pub(super) async fn forget_session(
    app: &App,
    namespace: &str,
    session_id: &str,
) -> Result<(), Refusal> {
    let namespace_id = namespace::find_namespace(app, namespace).await?;
    app.names.forget_session(namespace_id, session_id);
    Ok(())
}

async fn try_create(
    app: &App,
    request: CreateTaskRequest,
    caller: Option<Caller>,
) -> Result<CreateTaskResponse, Refusal> {
    let wait = duration_field("wait", request.wait.as_ref(), Duration::ZERO, MAX_WAIT)?;
    definition::check_text("request_id", &request.request_id, MAX_REQUEST_ID)?;
    let fingerprint = fingerprint::of_create(&request);
    let CreateTaskRequest {
        namespace,
        session_id,
        task,
        request_id,
        wait: _,
    } = request;
    let task = task.ok_or_else(|| Refusal::invalid("task", "is required"))?;
    let definition = definition::parse(task)?;
    let (namespace_id, session) = namespace::ensure_session(app, &namespace, &session_id).await?;
    let key = (!request_id.is_empty()).then_some(RequestKey {
        namespace_id,
        method: RequestMethod::Create,
        request_id,
    });
    let owner = Owner {
        namespace: namespace::name_or_default(&namespace),
        namespace_id,
        session_id,
        session,
    };
    let origin = Origin {
        retry_of: None,
        spawner: caller.map(|caller| caller.fence()),
        firing: None,
        below: None,
    };
    let request = key.map(|key| (key, fingerprint));
    let created = store_task(app, &owner, definition, origin, request, fingerprint).await?;
    let mut response = CreateTaskResponse {
        task: Some(created.task),
        created: created.is_new,
        result_json: String::new(),
    };
    if let Some(wait) = wait {
        turns::rest();
        let ended = wait_tasks::wait_for_end(app, created.id, session, wait).await;
        let record = ended.map_err(|refusal| or_deleted(created.id, refusal))?;
        if record.run_end.is_some() {
            response.result_json = result_json::render(&record)?;
        }
        response.task = Some(record.task);
    }
    Ok(response)
}

/// Who will own a new task.
pub struct Owner<'a> {
    /// Namespace, by name.
    pub namespace: &'a str,
    /// Namespace, by number.
    pub namespace_id: i32,
    /// Session, by id.
    pub session_id: String,
    /// Session, by number.
    pub session: SessionUid,
}

/// Where a new task comes from.
#[derive(Clone, Copy, Debug, Default)]
pub struct Origin {
    /// The task that it repeats.
    pub retry_of: Option<TaskId>,
    /// The lease of what runs inside the parent, if that is who creates it.
    pub spawner: Option<Fence>,
    /// The firing that it is, of the monitor that is its parent.
    pub firing: Option<Firing>,
    /// Its place below a task of the same batch; none: its definition says.
    pub below: Option<Ancestry>,
}

/// A task that was stored now or before.
pub struct StoredTask {
    /// Its id.
    pub id: TaskId,
    /// Its record.
    pub task: SessionTask,
    /// Whether it was stored now.
    pub is_new: bool,
}

/// A creation that is ready to be committed, with what its record is made of beside it.
pub(super) struct Prepared {
    /// The creation.
    pub(super) creation: Creation,
    labels: BTreeMap<String, String>,
    tags: Vec<String>,
}

/// Stores a parsed definition. `request` is the caller's `request_id` with the fingerprint of the call, `fingerprint`
/// that of the definition.
pub async fn store_task(
    app: &App,
    owner: &Owner<'_>,
    definition: Definition,
    origin: Origin,
    request: Option<(RequestKey, [u8; 32])>,
    fingerprint: [u8; 32],
) -> Result<StoredTask, Refusal> {
    let prepared = prepare(app, owner, definition, origin, request, fingerprint).await?;
    match app.commits.create(prepared.creation.clone()).await {
        Ok(created) => stored(app, owner, prepared, created).await,
        Err(error) => Err(refused(&prepared.creation, error)),
    }
}

/// Places a parsed definition: its parent, its route, its id.
pub(super) async fn prepare(
    app: &App,
    owner: &Owner<'_>,
    mut definition: Definition,
    origin: Origin,
    request: Option<(RequestKey, [u8; 32])>,
    fingerprint: [u8; 32],
) -> Result<Prepared, Refusal> {
    let parent = match (origin.below, &definition.parent) {
        (Some(below), _) => Some(below),
        (None, Some(parent)) => Some(find_parent(app, owner, parent).await?),
        (None, None) => None,
    };
    let route = RouteName {
        queue: definition.queue.clone(),
        kind: definition.kind.clone(),
        executor: definition.executor.clone(),
        worker_labels: isolation::required_labels(&definition.spec),
    };
    let route_id = app.routes.ensure(&app.store, &route).await?;
    let id = TaskId(Uuid::now_v7().as_u128());
    // a monitor never starts itself; its firings are jittered one by one
    if let (Some(most), false) = (definition.start_jitter, definition.policy.is_monitor) {
        let now = creates::now(app.store.pool()).await?;
        let not_before = definition.policy.not_before;
        definition.policy.not_before = Some(jittered(id, not_before, now, most));
    }
    let gate = match definition.policy.not_before {
        until if definition.hold => Gate::Held { until },
        _ if definition.policy.is_monitor => Gate::Monitor,
        Some(due) => Gate::Until(due),
        None => Gate::Open,
    };
    let secrets = task_secrets::seal(&app.secret_keys, owner.namespace_id, id, definition.secrets)?;
    let monitor = match (origin.firing, definition.monitor) {
        (Some(firing), _) => Some(MonitorPart::Firing(firing)),
        (None, Some(monitor)) => Some(MonitorPart::Monitor(Box::new(monitor.plan(app, id).await?))),
        (None, None) => None,
    };
    let survives = definition
        .spec
        .command
        .as_ref()
        .is_some_and(|command| command.survive_worker_restart);
    // A process that outlives its worker has this time for the worker to come back, whether it may run again or not.
    let lease = match definition.policy.retry.may_retry() {
        _ if survives => app.lease.retryable.max(app.lease.other),
        true => app.lease.retryable,
        false => app.lease.other,
    };
    let task = NewTask {
        id,
        namespace_id: owner.namespace_id,
        session: owner.session,
        route_id,
        virtual_time: app
            .routes
            .virtual_time(&definition.queue, definition.priority),
        queue: definition.queue,
        kind: definition.kind,
        executor: definition.executor,
        name: definition.name,
        key: definition.key,
        display_name: definition.display_name,
        spec: definition.spec,
        secrets,
        parent,
        group: definition.group,
        labels_json: json(&definition.labels),
        tags_json: json(&definition.tags),
        priority: definition.priority,
        timeout: definition.timeout,
        gate,
        wake_policy: definition.wake_policy as i16,
        group_wake: definition.group_wake as i16,
        retry_of: origin.retry_of,
        lease,
        policy: definition.policy,
        fingerprint,
        trace: current::context(),
        monitor,
    };
    let room = &app.namespace_room;
    let full_namespace = match room.add_task(&app.store, owner.namespace_id).await? {
        Ok(()) => None,
        Err(no_room) => Some(no_room.limit),
    };
    app.task_sessions.remember(id, owner.session);
    Ok(Prepared {
        creation: Creation {
            request,
            task,
            spawner: origin.spawner,
            full_namespace,
        },
        labels: definition.labels,
        tags: definition.tags,
    })
}

/// The task that a commit stored, or found stored.
///
/// # Errors
/// [`Refusal::RequestTaskDeleted`], [`Refusal::Store`].
pub(super) async fn stored(
    app: &App,
    owner: &Owner<'_>,
    prepared: Prepared,
    created: Created,
) -> Result<StoredTask, Refusal> {
    let Prepared {
        creation,
        labels,
        tags,
    } = prepared;
    let id = creation.task.id;
    let is_by_request = creation.request.is_some();
    Ok(match created {
        Created::New(placement) => StoredTask {
            id,
            task: new_record(owner, creation.task, labels, tags, placement),
            is_new: true,
        },
        Created::Earlier(earlier) => StoredTask {
            id: earlier,
            // our own id: an earlier try of ours was stored without our knowing
            is_new: earlier == id,
            task: read_earlier(app, earlier, is_by_request).await?,
        },
    })
}

/// That a task is not found which this call, or an earlier one like it, has stored means that it was deleted since.
fn or_deleted(task: TaskId, refusal: Refusal) -> Refusal {
    match refusal {
        Refusal::NotFound { .. } => Refusal::RequestTaskDeleted {
            task: task.to_string(),
        },
        refusal => refusal,
    }
}

/// The record of a task that was created earlier: by this very request, or under the same key. A key whose task is gone is
/// free again, so that the creation is made anew, in the session that has the id by then.
async fn read_earlier(app: &App, id: TaskId, is_by_request: bool) -> Result<SessionTask, Refusal> {
    match get_task::read_task(app, id).await {
        Err(Refusal::NotFound { .. }) if !is_by_request => {
            Err(Refusal::Store(StoreError::SessionDeleted))
        }
        read => Ok(read.map_err(|refusal| or_deleted(id, refusal))?.task),
    }
}

/// Why a creation was refused, in the words of its caller.
pub(super) fn refused(creation: &Creation, error: CommitError) -> Refusal {
    match error {
        CommitError::NameTaken => Refusal::NameTaken {
            name: creation.task.name.clone().unwrap_or_default(),
        },
        CommitError::KeyConflict => Refusal::KeyConflict {
            key: creation.task.key.clone().unwrap_or_default(),
        },
        CommitError::RequestIdConflict => Refusal::RequestIdConflict {
            request_id: creation
                .request
                .as_ref()
                .map(|(key, _)| key.request_id.clone())
                .unwrap_or_default(),
        },
        error => error.into(),
    }
}

/// Where a child of `parent` is in its tree: an id, an ordinal or a name, as for every other task.
async fn find_parent(app: &App, owner: &Owner<'_>, parent: &str) -> Result<Ancestry, Refusal> {
    let id = match parent.parse() {
        Ok(id) => id,
        Err(_) => {
            let field = "task.parent_task_id";
            resolve::resolve_field(app, owner.namespace, &owner.session_id, field, parent)
                .await?
                .id
        }
    };
    match creates::find_ancestry(app.store.pool(), id).await? {
        Some((session, ancestry)) if session == owner.session => Ok(ancestry),
        Some(_) | None => Err(Refusal::NotFound {
            resource: Resource::Task,
            name: parent.to_owned(),
        }),
    }
}

/// The record of a task that was stored a moment ago, without reading it back.
fn new_record(
    owner: &Owner<'_>,
    task: NewTask,
    labels: BTreeMap<String, String>,
    tags: Vec<String>,
    placement: Placement,
) -> SessionTask {
    let created_at = times::to_proto(placement.created_at);
    let ms = |duration: Duration| {
        duration_from_ms(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX))
    };
    SessionTask {
        id: task.id.to_string(),
        namespace: owner.namespace.to_owned(),
        session_id: owner.session_id.clone(),
        ordinal: placement.ordinal,
        name: task.name.unwrap_or_default(),
        key: task.key.unwrap_or_default(),
        kind: task.kind,
        display_name: task.display_name,
        spec: Some(task.spec),
        state: TaskState::Queued.into(),
        links: task.retry_of.map(|id| Links {
            retry_of: id.to_string(),
            ..Links::default()
        }),
        wake_policy: i32::from(task.wake_policy),
        group_wake: i32::from(task.group_wake),
        created_at: Some(created_at),
        updated_at: Some(created_at),
        parent_task_id: task
            .parent
            .map(|above| above.parent.to_string())
            .unwrap_or_default(),
        root_task_id: task.parent.map_or(task.id, |above| above.root).to_string(),
        group: task.group.unwrap_or_default(),
        labels,
        tags,
        queue: task.queue,
        executor: task.executor,
        priority: i32::from(task.priority),
        not_before: task.policy.not_before.map(times::core_to_proto),
        start_deadline: task.policy.start_deadline.map(times::core_to_proto),
        timeout: task.timeout.map(ms),
        retry: Some(RetryPolicy {
            max_runs: i32::try_from(task.policy.retry.max_runs).unwrap_or(1),
            initial_backoff: Some(ms(task.policy.retry.initial_backoff)),
            max_backoff: Some(ms(task.policy.retry.max_backoff)),
            multiplier: task.policy.retry.multiplier,
        }),
        hold: matches!(task.gate, Gate::Held { .. }),
        generation: 1,
        secrets: task.secrets.references,
        ..SessionTask::default()
    }
}

fn json(value: &impl serde::Serialize) -> String {
    // maps and lists of strings always serialise
    serde_json::to_string(value).unwrap_or_default()
}
