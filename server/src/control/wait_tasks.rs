//! WaitTasks: until tasks are where the caller wants them, or the time is up.

use super::{
    get_task,
    refusal::{Refusal, Resource},
    resolve, wire_time,
};
use crate::{
    app::App,
    events::SessionTouches,
    store::{
        records::{self, TaskRecord},
        resolve::FoundTask,
        standings::{self, Standing},
    },
};
use futures::{FutureExt, future::select_all};
use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};
use taskyard_core::id::{SessionUid, TaskId};
use taskyard_proto::v1::{
    SessionTask, TaskState, WaitMode, WaitTasksRequest, WaitTasksResponse, WaitUntil,
};
use tokio::time::Instant;

/// Most tasks in one wait.
const MAX_TASKS: usize = 1_000;
/// Longest wait, and the one where nothing is said.
const MAX_WAIT: Duration = Duration::from_secs(10 * 60);
const DEFAULT_WAIT: Duration = Duration::from_secs(30);
/// The tasks are read again after this time even if nothing was heard of them.
const POLL_INTERVAL: Duration = Duration::from_secs(2);
/// A busy session's tasks are read at most this often.
const MIN_INTERVAL: Duration = Duration::from_millis(10);
/// Wait before the next try where the store does not answer.
const OUTAGE_INTERVAL: Duration = Duration::from_millis(250);
/// Records that are read at once.
const RECORDS_PER_READ: usize = 50;

/// What a wait is for.
struct Condition {
    mode: WaitMode,
    until: WaitUntil,
    /// The tasks, each with the generation that was seen of it.
    tasks: Vec<(TaskId, i64)>,
}

/// Waits. `deadline` is the time that the call has left: a sooner end of it ends the wait a tenth early, so that the
/// answer still arrives.
///
/// # Errors
/// [`Refusal::InvalidField`], what [`resolve::resolve_all`] refuses, [`Refusal::ShuttingDown`], [`Refusal::Store`]
/// if the store is away when the time is up.
pub async fn wait_tasks(
    app: &App,
    request: WaitTasksRequest,
    deadline: Option<Duration>,
) -> Result<WaitTasksResponse, Refusal> {
    let began = Instant::now();
    let wait = wire_time::duration_field(
        "timeout",
        request.timeout.as_ref(),
        Duration::ZERO,
        MAX_WAIT,
    )?
    .unwrap_or(DEFAULT_WAIT);
    let ends_at = began + deadline.map_or(wait, |deadline| wait.min(deadline.mul_f64(0.9)));
    let (mode, until) = read_kind(&request)?;
    if request.tasks.is_empty() || request.tasks.len() > MAX_TASKS {
        return Err(Refusal::invalid(
            "tasks",
            format!("must name 1 to {MAX_TASKS} tasks"),
        ));
    }
    let names: Vec<&str> = request
        .tasks
        .iter()
        .map(|waited| waited.task.as_str())
        .collect();
    let found = resolve::resolve_all(
        app,
        &request.namespace,
        &request.session_id,
        "tasks.task",
        &names,
    )
    .await?;
    let condition = Condition {
        mode,
        until,
        tasks: found
            .iter()
            .zip(&request.tasks)
            .map(|(found, waited)| (found.id, waited.seen_generation))
            .collect(),
    };
    // Heard before the first look, so that nothing falls between.
    let mut touches = subscribe(app, &found);
    let timed_out = tokio::select! {
        timed_out = condition.wait(app, &mut touches, ends_at) => timed_out?,
        () = app.shutdown.cancelled() => return Err(Refusal::ShuttingDown),
    };
    Ok(WaitTasksResponse {
        tasks: read_tasks(app, &condition.tasks).await?,
        timed_out,
    })
}

/// Waits until a task has ended, but no longer than `wait`, and reads it as it then stands.
///
/// # Errors
/// [`Refusal::NotFound`] if the task is gone, [`Refusal::Store`] if the store is away when the time is up.
pub async fn wait_for_end(
    app: &App,
    task: TaskId,
    session: SessionUid,
    wait: Duration,
) -> Result<TaskRecord, Refusal> {
    let condition = Condition {
        mode: WaitMode::All,
        until: WaitUntil::Terminal,
        tasks: vec![(task, 0)],
    };
    let mut touches = [app.events.subscribe_session(session)];
    let ended = tokio::select! {
        ended = condition.wait(app, &mut touches, Instant::now() + wait) => Some(ended),
        () = app.shutdown.cancelled() => None,
    };
    // Where the server shuts down, the task as it stands is the answer.
    if let Some(ended) = ended {
        ended?;
    }
    get_task::read_task(app, task).await
}

fn read_kind(request: &WaitTasksRequest) -> Result<(WaitMode, WaitUntil), Refusal> {
    let mode = WaitMode::try_from(request.mode)
        .map_err(|_| Refusal::invalid("mode", "must be WAIT_MODE_ALL or WAIT_MODE_ANY"))?;
    let until = WaitUntil::try_from(request.until).map_err(|_| {
        Refusal::invalid(
            "until",
            "must be WAIT_UNTIL_TERMINAL, WAIT_UNTIL_ATTENTION or WAIT_UNTIL_CHANGED",
        )
    })?;
    Ok((mode, until))
}

fn subscribe(app: &App, found: &[FoundTask]) -> Vec<SessionTouches> {
    let sessions: BTreeSet<_> = found.iter().map(|found| found.session).collect();
    sessions
        .into_iter()
        .map(|session| app.events.subscribe_session(session))
        .collect()
}

impl Condition {
    /// Whether the time was up first.
    async fn wait(
        &self,
        app: &App,
        touches: &mut [SessionTouches],
        ends_at: Instant,
    ) -> Result<bool, Refusal> {
        let mut standings: HashMap<TaskId, Standing> = HashMap::new();
        loop {
            let read_at = Instant::now();
            let is_time_up = read_at >= ends_at;
            match self.look(app, &mut standings).await {
                Ok(true) => return Ok(false),
                Ok(false) if is_time_up => return Ok(true),
                Ok(false) => {}
                Err(Refusal::Store(error)) if error.is_transient() && !is_time_up => {
                    tokio::time::sleep_until(ends_at.min(read_at + OUTAGE_INTERVAL)).await;
                    continue;
                }
                Err(refusal) => return Err(refusal),
            }
            let touched = select_all(touches.iter_mut().map(|touch| touch.touched().boxed()));
            // One more look is due when the time is up, so that what came in the last moment still counts.
            let _ = tokio::time::timeout_at(ends_at.min(read_at + POLL_INTERVAL), touched).await;
            tokio::time::sleep_until(ends_at.min(read_at + MIN_INTERVAL)).await;
        }
    }

    /// Reads the tasks that may have changed; whether the wait is over.
    async fn look(
        &self,
        app: &App,
        standings: &mut HashMap<TaskId, Standing>,
    ) -> Result<bool, Refusal> {
        let open: BTreeSet<TaskId> = self
            .tasks
            .iter()
            .filter(|(id, seen)| {
                // what has ended stays where it is
                let is_settled = |standing: &Standing| {
                    is_terminal(standing.state) && self.is_there(standing, *seen)
                };
                !standings.get(id).is_some_and(is_settled)
            })
            .map(|(id, _)| *id)
            .collect();
        let open: Vec<TaskId> = open.into_iter().collect();
        let found = standings::read_standings(app.store.pool(), &open).await?;
        standings.extend(found.into_iter().map(|standing| (standing.id, standing)));
        if let Some(gone) = open.iter().find(|id| !standings.contains_key(*id)) {
            return Err(not_found(*gone));
        }
        let mut are_there = self.tasks.iter().map(|(id, seen)| {
            standings
                .get(id)
                .is_some_and(|standing| self.is_there(standing, *seen))
        });
        Ok(match self.mode {
            WaitMode::Unspecified | WaitMode::All => are_there.all(|is_there| is_there),
            WaitMode::Any => are_there.any(|is_there| is_there),
        })
    }

    fn is_there(&self, standing: &Standing, seen_generation: i64) -> bool {
        match self.until {
            WaitUntil::Unspecified | WaitUntil::Terminal => is_terminal(standing.state),
            WaitUntil::Attention => {
                is_terminal(standing.state) || standing.state == TaskState::AwaitingInput
            }
            WaitUntil::Changed => standing.generation > seen_generation,
        }
    }
}

/// The tasks as they stand, in order, without their specs.
async fn read_tasks(app: &App, tasks: &[(TaskId, i64)]) -> Result<Vec<SessionTask>, Refusal> {
    let mut by_id: HashMap<TaskId, SessionTask> = HashMap::new();
    let ids: BTreeSet<TaskId> = tasks.iter().map(|(id, _)| *id).collect();
    let ids: Vec<TaskId> = ids.into_iter().collect();
    for some in ids.chunks(RECORDS_PER_READ) {
        let found = records::read_records(app.store.pool(), some).await?;
        by_id.extend(found.into_iter().map(|record| {
            let task = SessionTask {
                spec: None,
                ..record.task
            };
            (record.id, task)
        }));
    }
    tasks
        .iter()
        .map(|(id, _)| by_id.get(id).cloned().ok_or_else(|| not_found(*id)))
        .collect()
}

fn is_terminal(state: TaskState) -> bool {
    match state {
        TaskState::Succeeded | TaskState::Failed | TaskState::Canceled => true,
        TaskState::Unspecified
        | TaskState::Queued
        | TaskState::Running
        | TaskState::AwaitingInput => false,
    }
}

fn not_found(id: TaskId) -> Refusal {
    Refusal::NotFound {
        resource: Resource::Task,
        name: id.to_string(),
    }
}
