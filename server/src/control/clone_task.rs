//! CloneTask: a new task like an existing one, with some fields changed.

use super::{
    copied_task::{self, Copy},
    create_task::{self, Origin, Owner},
    definition, definition_mask, fingerprint, get_task,
    monitors::{list_monitors, plan},
    namespace,
    refusal::Refusal,
    resolve, task_secrets,
};
use crate::{
    app::App,
    store::creates::{RequestKey, RequestMethod},
};
use taskyard_core::id::TaskId;
use taskyard_proto::v1::{CloneTaskRequest, CloneTaskResponse, MonitorSchedule, TaskDefinition};

/// Most paths of a mask.
const MAX_PATHS: usize = 100;

/// Creates a task like another, in whatever state that is. Name, key, times and hold are not copied; the schedule of a
/// monitor is, while it lives. Where the parent gets no children any more, or is a monitor, and the mask names none, the new
/// task is a root of its own.
///
/// # Errors
/// [`Refusal::InvalidField`], within `changes` where a changed field is not valid; [`Refusal::NameTaken`],
/// [`Refusal::KeyConflict`], [`Refusal::RequestIdConflict`], or what resolving and storing say.
pub async fn clone_task(
    app: &App,
    request: CloneTaskRequest,
) -> Result<CloneTaskResponse, Refusal> {
    definition::check_text(
        "request_id",
        &request.request_id,
        create_task::MAX_REQUEST_ID,
    )?;
    let paths = request.change_mask.clone().unwrap_or_default().paths;
    if paths.len() > MAX_PATHS {
        return Err(Refusal::invalid(
            "change_mask",
            format!("must name at most {MAX_PATHS} fields"),
        ));
    }
    let changes = request.changes.clone().unwrap_or_default();
    if paths.is_empty() && changes != TaskDefinition::default() {
        return Err(Refusal::invalid(
            "change_mask",
            "must name the fields of `changes` to take",
        ));
    }
    let found =
        resolve::resolve(app, &request.namespace, &request.session_id, &request.task).await?;
    let old = get_task::read_task(app, found.id).await?.task;
    let namespace_id = namespace::find_namespace(app, &request.namespace).await?;
    let fingerprint = fingerprint::of_clone(&request, &old.id);
    let owner = Owner {
        namespace: namespace::name_or_default(&request.namespace),
        namespace_id,
        session_id: old.session_id.clone(),
        session: found.session,
    };
    let has_ended = copied_task::is_terminal(&old);
    let schedule = if old.kind == plan::MONITOR {
        schedule_of(app, found.id, &paths).await?
    } else {
        None
    };
    let secrets = if paths.iter().any(|path| path == "secrets") {
        Vec::new()
    } else {
        task_secrets::copied(&old, Vec::new())?
    };
    let mut copied = TaskDefinition {
        name: String::new(),
        schedule,
        secrets,
        ..copied_task::definition_of(old)
    };
    definition_mask::take_over("change_mask", &paths, &changes, &mut copied)?;
    let definition =
        definition::parse(copied).map_err(|refusal| refusal.moved("task", "changes"))?;
    let copy = Copy {
        origin: Origin {
            retry_of: has_ended.then_some(found.id),
            spawner: None,
            firing: None,
            below: None,
        },
        request: (!request.request_id.is_empty()).then_some(RequestKey {
            namespace_id,
            method: RequestMethod::Clone,
            request_id: request.request_id,
        }),
        fingerprint,
        needs_parent: paths.iter().any(|path| path == "parent_task_id"),
    };
    let stored = copied_task::store_copy(app, &owner, definition, copy).await;
    let stored = stored.map_err(|refusal| refusal.moved("task", "changes"))?;
    Ok(CloneTaskResponse {
        task: Some(stored.task),
        created: stored.is_new,
    })
}

/// The schedule of a monitor. One that has ended has none any more, so that another one must be given.
async fn schedule_of(
    app: &App,
    monitor: TaskId,
    paths: &[String],
) -> Result<Option<MonitorSchedule>, Refusal> {
    let standing = list_monitors::find_monitor(app, monitor).await?;
    let schedule = standing.and_then(|monitor| monitor.schedule);
    if schedule.is_none() && !paths.iter().any(|path| path == "schedule") {
        return Err(Refusal::invalid(
            "task",
            "is a monitor that has ended, and its schedule with it; give a new `schedule`, or create a new monitor",
        ));
    }
    Ok(schedule)
}
