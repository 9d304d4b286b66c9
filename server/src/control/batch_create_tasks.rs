//! BatchCreateTasks: many tasks of one session, all of them or each for itself.

use super::{
    create_task::{self, Origin, Owner, Prepared, fingerprint},
    definition::{self, Definition},
    namespace,
    refusal::{Refusal, Resource},
};
use crate::{
    app::App,
    commit::Creation,
    store::creates::{self, RequestKey, RequestMethod},
};
use prost::Message;
use sha2::{Digest, Sha256};
use taskyard_proto::v1::{BatchCreateTasksRequest, CreateTaskRequest, SessionTask, TaskDefinition};

/// Most tasks of one batch.
const MAX_TASKS: usize = 200;

/// A task of a batch that was stored, now or before.
pub struct BatchTask {
    /// The task as it stands.
    pub task: SessionTask,
    /// Whether this call stored it.
    pub is_new: bool,
}

/// What became of one task of a batch.
pub type BatchOutcome = Result<BatchTask, Refusal>;

/// A task of a batch that was read.
struct Item {
    definition: Definition,
    fingerprint: [u8; 32],
    request: Option<(RequestKey, [u8; 32])>,
}

/// Stores the tasks; what became of each, in the order of the request.
///
/// # Errors
/// [`Refusal::InvalidField`] and [`Refusal::RequestIdConflict`] for the batch as a whole, or what the store says. For an
/// atomic batch also [`Refusal::InBatch`], or [`Refusal::InvalidField`] within `tasks[n]`: nothing was stored then.
pub async fn batch_create_tasks(
    app: &App,
    request: BatchCreateTasksRequest,
) -> Result<Vec<BatchOutcome>, Refusal> {
    if request.tasks.is_empty() || request.tasks.len() > MAX_TASKS {
        return Err(Refusal::invalid(
            "tasks",
            format!("must hold 1 to {MAX_TASKS} tasks"),
        ));
    }
    definition::check_text(
        "request_id",
        &request.request_id,
        create_task::MAX_REQUEST_ID,
    )?;
    let mut meant = BatchCreateTasksRequest {
        request_id: String::new(),
        ..request.clone()
    };
    for task in &mut meant.tasks {
        task.secrets.clear();
    }
    let whole: [u8; 32] = Sha256::digest(meant.encode_to_vec()).into();
    let BatchCreateTasksRequest {
        namespace,
        session_id,
        tasks,
        atomic,
        request_id,
    } = request;
    let (namespace_id, session) = namespace::ensure_session(app, &namespace, &session_id).await?;
    let owner = Owner {
        namespace: namespace::name_or_default(&namespace),
        namespace_id,
        session_id: session_id.clone(),
        session,
    };
    let keys = request_keys(namespace_id, &request_id, tasks.len());
    refuse_other_batch(app, &keys, whole, &request_id).await?;
    let mut keys = keys.into_iter();
    let mut prepared = Vec::with_capacity(tasks.len());
    for (position, task) in tasks.into_iter().enumerate() {
        let request = keys.next().map(|key| (key, whole));
        let outcome = match read(&namespace, &session_id, task, request) {
            Ok(item) => prepare(app, &owner, item).await,
            Err(refusal) => Err(refusal),
        };
        let outcome = outcome.map_err(|refusal| at(position, refusal));
        if atomic {
            prepared.push(Ok(outcome?));
        } else {
            prepared.push(outcome);
        }
    }
    if atomic {
        let prepared = prepared.into_iter().flatten().collect();
        return store_all(app, &owner, prepared, &request_id).await;
    }
    store_each(app, &owner, prepared).await
}

fn read(
    namespace: &str,
    session_id: &str,
    task: TaskDefinition,
    request: Option<(RequestKey, [u8; 32])>,
) -> Result<Item, Refusal> {
    // so that the same key and definition mean the same task, whether it comes alone or in a batch
    let alone = CreateTaskRequest {
        namespace: namespace.to_owned(),
        session_id: session_id.to_owned(),
        task: Some(task.clone()),
        ..CreateTaskRequest::default()
    };
    Ok(Item {
        fingerprint: fingerprint(&alone),
        definition: definition::parse(task)?,
        request,
    })
}

async fn prepare(app: &App, owner: &Owner<'_>, item: Item) -> Result<Prepared, Refusal> {
    create_task::prepare(
        app,
        owner,
        item.definition,
        Origin::default(),
        item.request,
        item.fingerprint,
    )
    .await
}

/// One intent: no other name or key can come between, and one refusal leaves nothing behind.
async fn store_all(
    app: &App,
    owner: &Owner<'_>,
    prepared: Vec<Prepared>,
    request_id: &str,
) -> Result<Vec<BatchOutcome>, Refusal> {
    let creations: Vec<Creation> = prepared
        .iter()
        .map(|prepared| prepared.creation.clone())
        .collect();
    let created = match app.commits.create_all(owner.session, creations).await {
        Ok(created) => created,
        Err(refused) => {
            let culprit = refused
                .position
                .and_then(|position| Some((position, prepared.get(position)?)));
            return Err(match culprit {
                Some((position, prepared)) => {
                    let refusal = create_task::refused(&prepared.creation, refused.error);
                    match at(position, refusal) {
                        Refusal::RequestIdConflict { .. } => Refusal::RequestIdConflict {
                            request_id: request_id.to_owned(),
                        },
                        refusal => refusal,
                    }
                }
                None => refused.error.into(),
            });
        }
    };
    let mut outcomes = Vec::with_capacity(prepared.len());
    for (prepared, created) in prepared.into_iter().zip(created) {
        let stored = create_task::stored(app, owner, prepared, created).await?;
        outcomes.push(Ok(BatchTask {
            task: stored.task,
            is_new: stored.is_new,
        }));
    }
    Ok(outcomes)
}

/// All are queued before the first is waited for, so that they are numbered in their order.
async fn store_each(
    app: &App,
    owner: &Owner<'_>,
    prepared: Vec<Result<Prepared, Refusal>>,
) -> Result<Vec<BatchOutcome>, Refusal> {
    let queued: Vec<_> = prepared
        .into_iter()
        .map(|prepared| {
            let prepared = prepared?;
            let answer = app.commits.create_later(prepared.creation.clone())?;
            Ok((prepared, answer))
        })
        .collect();
    let mut outcomes = Vec::with_capacity(queued.len());
    for (position, queued) in queued.into_iter().enumerate() {
        let outcome = match queued {
            Ok((prepared, answer)) => match answer.await {
                Ok(Ok(created)) => create_task::stored(app, owner, prepared, created).await,
                Ok(Err(error)) => {
                    let refusal = create_task::refused(&prepared.creation, error);
                    Err(at(position, refusal))
                }
                Err(_) => Err(Refusal::ShuttingDown),
            },
            Err(refusal) => Err(refusal),
        };
        outcomes.push(outcome.map(|stored| BatchTask {
            task: stored.task,
            is_new: stored.is_new,
        }));
    }
    Ok(outcomes)
}

/// One for each task, so that each is recognised by itself; none without a `request_id`.
fn request_keys(namespace_id: i32, request_id: &str, count: usize) -> Vec<RequestKey> {
    if request_id.is_empty() {
        return Vec::new();
    }
    (0..count)
        .map(|position| RequestKey {
            namespace_id,
            method: RequestMethod::BatchCreate,
            request_id: format!("{request_id}/{position}"),
        })
        .collect()
}

/// A batch under the id of another one is refused as a whole, also where only some of that one's tasks were stored.
async fn refuse_other_batch(
    app: &App,
    keys: &[RequestKey],
    fingerprint: [u8; 32],
    request_id: &str,
) -> Result<(), Refusal> {
    if keys.is_empty() {
        return Ok(());
    }
    let keys: Vec<&RequestKey> = keys.iter().collect();
    let earlier = creates::find_requests(app.store.pool(), &keys).await?;
    let is_other = earlier
        .into_iter()
        .flatten()
        .any(|earlier| earlier.fingerprint != fingerprint);
    if is_other {
        return Err(Refusal::RequestIdConflict {
            request_id: request_id.to_owned(),
        });
    }
    Ok(())
}

/// Names the task of the batch that was refused; what is not about one task is left as it is.
fn at(position: usize, refusal: Refusal) -> Refusal {
    let field = match &refusal {
        Refusal::InvalidField { .. } => {
            return refusal.moved("task", &format!("tasks[{position}]"));
        }
        Refusal::NameTaken { .. } => "name",
        Refusal::KeyConflict { .. } => "key",
        Refusal::NoSpawn(_)
        | Refusal::AmbiguousTask { .. }
        | Refusal::NotFound {
            resource: Resource::Task,
            ..
        } => "parent_task_id",
        _ => return refusal,
    };
    Refusal::InBatch {
        field: format!("tasks[{position}].{field}"),
        refusal: Box::new(refusal),
    }
}
