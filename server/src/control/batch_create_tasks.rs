//! BatchCreateTasks: many tasks of one session, all of them or each for itself.

mod family;
mod generations;

use self::generations::Generations;
use super::{
    create_task::{self, Owner, Prepared, StoredTask},
    definition::{self, Definition},
    fingerprint, namespace,
    refusal::{Refusal, Resource, StoreError},
};
use crate::{
    app::App,
    commit::{CommitError, Creation},
    limits::turns,
    store::creates::{self, RequestKey, RequestMethod},
};
use taskyard_proto::v1::{BatchCreateTasksRequest, CreateTaskRequest, SessionTask, TaskDefinition};

/// Most tasks of one batch.
const MAX_TASKS: usize = 200;
/// How often an atomic batch is placed in its tree, where others store a parent under the same key meanwhile.
const FAMILY_TRIES: u32 = 3;

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
    /// Position of its parent in the batch, which is before its own; none: its definition says.
    parent: Option<usize>,
}

/// Stores the tasks; what became of each, in the order of the request.
///
/// # Errors
/// [`Refusal::InvalidField`] and [`Refusal::RequestIdConflict`] for the batch as a whole, or what the store says. For an
/// atomic batch also [`Refusal::Within`], or [`Refusal::InvalidField`] within `tasks[n]`: nothing was stored then.
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
    let whole = fingerprint::of_batch(&request);
    let BatchCreateTasksRequest {
        namespace,
        session_id,
        tasks,
        atomic,
        request_id,
    } = request;
    let mut owner = find_owner(app, &namespace, &session_id).await?;
    let keys = request_keys(owner.namespace_id, &request_id, tasks.len());
    refuse_other_batch(app, &keys, whole, &request_id).await?;
    let mut keys = keys.into_iter();
    let read = tasks.into_iter().enumerate().map(|(position, task)| {
        let request = keys.next().map(|key| (key, whole));
        read(&namespace, &session_id, position, task, request)
            .map_err(|refusal| at(position, false, refusal))
    });
    if !atomic {
        let _turns = turns::changes(read.len()).await?;
        return Generations::new(app, owner, read.collect())
            .store_each()
            .await;
    }
    let mut sound = Vec::new();
    let mut unsound = None;
    for item in read {
        match item {
            Ok(item) => sound.push(item),
            Err(refusal) => {
                unsound = Some(refusal);
                break;
            }
        }
    }
    let mut tries = 1;
    loop {
        match store_all(app, &owner, &sound, unsound.take(), &request_id).await {
            // the session was deleted a moment ago; its id now stands for a new one
            Err(Refusal::Store(StoreError::SessionDeleted))
                if tries < create_task::SESSION_TRIES =>
            {
                tries += 1;
                create_task::forget_session(app, &namespace, &session_id).await?;
                owner = find_owner(app, &namespace, &session_id).await?;
            }
            outcome => return outcome,
        }
    }
}

/// The session that is to own the tasks, made on first use.
pub(super) async fn find_owner<'a>(
    app: &App,
    namespace: &'a str,
    session_id: &str,
) -> Result<Owner<'a>, Refusal> {
    let (namespace_id, session) = namespace::ensure_session(app, namespace, session_id).await?;
    Ok(Owner {
        namespace: namespace::name_or_default(namespace),
        namespace_id,
        session_id: session_id.to_owned(),
        session,
    })
}

fn read(
    namespace: &str,
    session_id: &str,
    position: usize,
    mut task: TaskDefinition,
    request: Option<(RequestKey, [u8; 32])>,
) -> Result<Item, Refusal> {
    let parent = match task.parent_item.take() {
        None => None,
        Some(_) if !task.parent_task_id.is_empty() => {
            return Err(Refusal::invalid(
                "task.parent_item",
                "a task has one parent; leave either this or `parent_task_id` away",
            ));
        }
        Some(item) => Some(
            usize::try_from(item)
                .ok()
                .filter(|parent| *parent < position)
                .ok_or_else(|| {
                    Refusal::invalid(
                        "task.parent_item",
                        "must be the position of an earlier task of the batch, from 0",
                    )
                })?,
        ),
    };
    // so that the same key and definition mean the same task, whether it comes alone or in a batch
    let alone = CreateTaskRequest {
        namespace: namespace.to_owned(),
        session_id: session_id.to_owned(),
        task: Some(task.clone()),
        ..CreateTaskRequest::default()
    };
    Ok(Item {
        fingerprint: fingerprint::of_create(&alone),
        definition: definition::parse(task)?,
        request,
        parent,
    })
}

/// One intent: no other name or key can come between, and one refusal leaves nothing behind. `unsound` is why the item
/// after these could not be read.
async fn store_all(
    app: &App,
    owner: &Owner<'_>,
    items: &[Item],
    unsound: Option<Refusal>,
    request_id: &str,
) -> Result<Vec<BatchOutcome>, Refusal> {
    let mut tries = 1;
    let (prepared, created) = loop {
        let prepared = family::prepare_all(app, owner, items).await?;
        if let Some(unsound) = unsound {
            return Err(unsound);
        }
        let creations: Vec<Creation> = prepared
            .iter()
            .map(|prepared| prepared.creation.clone())
            .collect();
        let refused = match app.commits.create_all(owner.session, creations).await {
            Ok(created) => break (prepared, created),
            Err(refused) => refused,
        };
        let Some((position, item, culprit)) = refused
            .position
            .and_then(|position| Some((position, items.get(position)?, prepared.get(position)?)))
        else {
            return Err(refused.error.into());
        };
        let is_child = item.parent.is_some();
        // another call stored the parent, by its key, after we had looked: the children belong below that one
        if is_child && matches!(refused.error, CommitError::NoParent) && tries < FAMILY_TRIES {
            tries += 1;
            continue;
        }
        let refusal = match create_task::refused(&culprit.creation, refused.error) {
            // nothing of the batch is stored, so it is no live task that has the name
            Refusal::NameTaken { name } if has_name(&prepared[..position], &name) => {
                Refusal::NameTwice { name }
            }
            refusal => refusal,
        };
        return Err(match at(position, is_child, refusal) {
            Refusal::RequestIdConflict { .. } => Refusal::RequestIdConflict {
                request_id: request_id.to_owned(),
            },
            refusal => refusal,
        });
    };
    let mut outcomes = Vec::with_capacity(prepared.len());
    for (prepared, created) in prepared.into_iter().zip(created) {
        let outcome = match create_task::stored(app, owner, prepared, created).await {
            Ok(stored) => Ok(stored.into()),
            // of a repeated batch; the others are there still
            Err(refusal @ Refusal::RequestTaskDeleted { .. }) => Err(refusal),
            Err(refusal) => return Err(refusal),
        };
        outcomes.push(outcome);
    }
    Ok(outcomes)
}

fn has_name(prepared: &[Prepared], name: &str) -> bool {
    prepared
        .iter()
        .any(|prepared| prepared.creation.task.name.as_deref() == Some(name))
}

impl From<StoredTask> for BatchTask {
    fn from(stored: StoredTask) -> Self {
        Self {
            task: stored.task,
            is_new: stored.is_new,
        }
    }
}

/// One for each task, so that each is recognised by itself; none without a `request_id`.
pub(crate) fn request_keys(namespace_id: i32, request_id: &str, count: usize) -> Vec<RequestKey> {
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

/// Names the task of the batch that was refused; what is not about one task is left as it is. `is_child`: its parent is
/// a task of the batch.
fn at(position: usize, is_child: bool, refusal: Refusal) -> Refusal {
    let parent = if is_child {
        "parent_item"
    } else {
        "parent_task_id"
    };
    let field = match &refusal {
        Refusal::InvalidField { .. } => {
            return refusal.moved("task", &format!("tasks[{position}]"));
        }
        Refusal::NameTaken { .. } | Refusal::NameTwice { .. } => "name",
        Refusal::KeyConflict { .. } => "key",
        Refusal::ParentRefused { .. }
        | Refusal::NoSpawn(_)
        | Refusal::AmbiguousTask { .. }
        | Refusal::NotFound {
            resource: Resource::Task,
            ..
        } => parent,
        _ => return refusal,
    };
    Refusal::Within {
        field: format!("tasks[{position}].{field}"),
        refusal: Box::new(refusal),
    }
}
