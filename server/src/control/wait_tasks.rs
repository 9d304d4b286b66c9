//! WaitTasks: until tasks are where the caller wants them, or the time is up.

use super::{
    get_task, list_tasks,
    look_pace::LookPace,
    namespace,
    refusal::Refusal,
    resolve,
    wait_output::OutputSearch,
    wait_set::{Choice, WaitSet, is_terminal},
    wire_time,
};
use crate::{
    app::App,
    events::SessionTouches,
    store::{
        records::{self, TaskRecord},
        standings::Standing,
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
use taskyard_telemetry::metrics::table;
use tokio::time::Instant;

/// Most tasks in one wait.
const MAX_TASKS: usize = 1_000;
/// Most tasks whose output one wait looks at.
const MAX_SEARCHED_TASKS: usize = 64;
/// Most labels that choose tasks, and the longest text among what chooses them, in bytes.
const MAX_LABELS: usize = 32;
const MAX_CHOICE_BYTES: usize = 256;
/// Longest wait, and the one where nothing is said.
const MAX_WAIT: Duration = Duration::from_secs(10 * 60);
const DEFAULT_WAIT: Duration = Duration::from_secs(30);
/// The tasks are read again after this time even if nothing was heard of them.
const POLL_INTERVAL: Duration = Duration::from_secs(2);
/// Output that another server stores is told by nobody, so it is looked at more often.
const OUTPUT_POLL_INTERVAL: Duration = Duration::from_millis(250);
/// Wait before the next try where the store does not answer, or the session does not exist yet.
const OUTAGE_INTERVAL: Duration = Duration::from_millis(250);
/// Records that are read at once.
const RECORDS_PER_READ: usize = 50;

/// What a wait is for.
struct Condition {
    mode: WaitMode,
    until: WaitUntil,
    set: WaitSet,
    /// What to look for in the output; set exactly where the wait is for that.
    output: Option<OutputSearch>,
}

/// Waits. `deadline` is the time that the call has left: a sooner end of it ends the wait a tenth early, so that the
/// answer still arrives.
///
/// # Errors
/// [`Refusal::InvalidField`], what [`resolve::resolve_all`] refuses, [`Refusal::TooManyTasks`] that are chosen,
/// [`Refusal::ShuttingDown`], [`Refusal::Store`] if the store is away when the time is up.
pub async fn wait_tasks(
    app: &App,
    request: WaitTasksRequest,
    deadline: Option<Duration>,
) -> Result<WaitTasksResponse, Refusal> {
    let _open = table::STREAMS.hold(&["wait"]);
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
    let output = read_output_condition(&request, until)?;
    let (set, sessions) = read_set(app, &request, output.is_some()).await?;
    let mut condition = Condition {
        mode,
        until,
        set,
        output,
    };
    // Heard before the first look, so that nothing falls between.
    let mut touches: Vec<SessionTouches> = sessions
        .into_iter()
        .map(|session| app.events.subscribe_session(session))
        .collect();
    let timed_out = tokio::select! {
        timed_out = condition.wait(app, &mut touches, ends_at) => timed_out?,
        () = app.shutdown.cancelled() => return Err(Refusal::ShuttingDown),
    };
    let set = condition.set;
    let ids = set.ids();
    let matches = condition
        .output
        .map_or_else(Vec::new, |output| output.matches(&ids));
    let mut tasks = Vec::with_capacity(ids.len());
    let mut deleted = Vec::new();
    for (id, task) in ids.iter().zip(read_tasks(app, &ids).await?) {
        match task {
            Some(task) => tasks.push(task),
            None => deleted.push(set.deleted(*id)),
        }
    }
    Ok(WaitTasksResponse {
        tasks,
        timed_out,
        matches,
        deleted,
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
    let mut condition = Condition {
        mode: WaitMode::All,
        until: WaitUntil::Terminal,
        set: WaitSet::named([(task, 0)]),
        output: None,
    };
    let mut touches = vec![app.events.subscribe_session(session)];
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
            "must be WAIT_UNTIL_TERMINAL, WAIT_UNTIL_ATTENTION, WAIT_UNTIL_CHANGED or WAIT_UNTIL_OUTPUT_MATCH",
        )
    })?;
    Ok((mode, until))
}

/// What to look for in the output, where that is what is waited for.
fn read_output_condition(
    request: &WaitTasksRequest,
    until: WaitUntil,
) -> Result<Option<OutputSearch>, Refusal> {
    match (until, &request.output) {
        (WaitUntil::OutputMatch, Some(condition)) => OutputSearch::new(condition).map(Some),
        (WaitUntil::OutputMatch, None) => {
            let problem = "is required with WAIT_UNTIL_OUTPUT_MATCH";
            Err(Refusal::invalid("output", problem))
        }
        (
            WaitUntil::Unspecified
            | WaitUntil::Terminal
            | WaitUntil::Attention
            | WaitUntil::Changed,
            Some(_),
        ) => {
            let problem = "is for WAIT_UNTIL_OUTPUT_MATCH only";
            Err(Refusal::invalid("output", problem))
        }
        (
            WaitUntil::Unspecified
            | WaitUntil::Terminal
            | WaitUntil::Attention
            | WaitUntil::Changed,
            None,
        ) => Ok(None),
    }
}

/// The tasks that are waited for, and their sessions.
async fn read_set(
    app: &App,
    request: &WaitTasksRequest,
    is_for_output: bool,
) -> Result<(WaitSet, BTreeSet<SessionUid>), Refusal> {
    let most = if is_for_output {
        MAX_SEARCHED_TASKS
    } else {
        MAX_TASKS
    };
    if !request.group.is_empty() || !request.labels.is_empty() {
        return read_choice(app, request, most).await;
    }
    if request.tasks.is_empty() || request.tasks.len() > most {
        let problem =
            format!("must name 1 to {most} tasks, or be left empty beside group or labels");
        return Err(Refusal::invalid("tasks", problem));
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
    let seen = request.tasks.iter().map(|waited| waited.seen_generation);
    let set = WaitSet::named(found.iter().map(|found| found.id).zip(seen));
    Ok((set, found.iter().map(|found| found.session).collect()))
}

async fn read_choice(
    app: &App,
    request: &WaitTasksRequest,
    most: usize,
) -> Result<(WaitSet, BTreeSet<SessionUid>), Refusal> {
    if !request.tasks.is_empty() {
        let problem = "must be empty where tasks are chosen by group or labels";
        return Err(Refusal::invalid("tasks", problem));
    }
    let is_bad = |text: &String| text.len() > MAX_CHOICE_BYTES || text.contains('\0');
    if is_bad(&request.group) {
        let problem = format!("must have at most {MAX_CHOICE_BYTES} bytes and no NUL characters");
        return Err(Refusal::invalid("group", problem));
    }
    if request.labels.len() > MAX_LABELS
        || request
            .labels
            .iter()
            .any(|(name, value)| is_bad(name) || is_bad(value))
    {
        let problem = format!(
            "must be at most {MAX_LABELS}, of at most {MAX_CHOICE_BYTES} bytes each without NUL characters"
        );
        return Err(Refusal::invalid("labels", problem));
    }
    // Where the session comes to be with the tasks that are waited for, the wait looks for it again.
    namespace::find_namespace(app, &request.namespace).await?;
    let session = namespace::look_up_session(app, &request.namespace, &request.session_id).await?;
    let set = WaitSet::chosen(Choice {
        session,
        namespace: request.namespace.clone(),
        session_id: request.session_id.clone(),
        group: (!request.group.is_empty()).then(|| request.group.clone()),
        labels: list_tasks::labels_json(&request.labels),
        // Whoever waits for changes means those after the call.
        is_seen_at_first: request.until == i32::from(WaitUntil::Changed),
        most,
        looked_to: None,
    });
    Ok((set, session.into_iter().collect()))
}

impl Condition {
    /// Whether the time was up first.
    async fn wait(
        &mut self,
        app: &App,
        touches: &mut Vec<SessionTouches>,
        ends_at: Instant,
    ) -> Result<bool, Refusal> {
        let poll_interval = if self.output.is_some() {
            OUTPUT_POLL_INTERVAL
        } else {
            POLL_INTERVAL
        };
        let mut pace = LookPace::new(Instant::now());
        loop {
            let read_at = Instant::now();
            let next_at = pace.look(read_at);
            let is_time_up = read_at >= ends_at;
            match self.look(app, touches, ends_at).await {
                Ok(true) => return Ok(false),
                Ok(false) if is_time_up => return Ok(true),
                Ok(false) => {}
                Err(Refusal::Store(error)) if error.is_transient() && !is_time_up => {
                    tokio::time::sleep_until(ends_at.min(read_at + OUTAGE_INTERVAL)).await;
                    continue;
                }
                Err(refusal) => return Err(refusal),
            }
            let touched = async {
                if touches.is_empty() {
                    // A session that does not exist yet is looked for.
                    return tokio::time::sleep_until(read_at + OUTAGE_INTERVAL).await;
                }
                select_all(touches.iter_mut().map(|touch| touch.touched().boxed())).await;
            };
            let output = &mut self.output;
            let hint = async {
                match output {
                    Some(output) => output.hint().await,
                    None => std::future::pending().await,
                }
            };
            // One more look is due when the time is up, so that what came in the last moment still counts.
            tokio::select! {
                () = touched => {}
                () = hint => {}
                () = tokio::time::sleep_until(ends_at.min(read_at + poll_interval)) => {}
            }
            tokio::time::sleep_until(ends_at.min(next_at)).await;
        }
    }

    /// Reads the tasks that may have changed; whether the wait is over.
    async fn look(
        &mut self,
        app: &App,
        touches: &mut Vec<SessionTouches>,
        ends_at: Instant,
    ) -> Result<bool, Refusal> {
        if let Some(session) = self.set.find_session(app).await? {
            touches.push(app.events.subscribe_session(session));
        }
        self.set.look(app).await?;
        let ids = self.set.ids();
        if ids.is_empty() {
            // Nobody has joined yet.
            return Ok(false);
        }
        if let Some(output) = &mut self.output {
            output.look(app, &ids, ends_at).await?;
            let is_over = ids.iter().all(|id| output.is_done(*id));
            return Ok(match self.mode {
                WaitMode::Unspecified | WaitMode::All => is_over,
                WaitMode::Any => is_over || ids.iter().any(|id| output.has_found(*id)),
            });
        }
        let until = self.until;
        let mut are_there = self.set.standings().map(|(standing, seen)| {
            standing.is_some_and(|standing| is_there(until, &standing, seen))
        });
        Ok(match self.mode {
            WaitMode::Unspecified | WaitMode::All => are_there.all(|is_there| is_there),
            WaitMode::Any => self.set.has_gone() || are_there.any(|is_there| is_there),
        })
    }
}

fn is_there(until: WaitUntil, standing: &Standing, seen_generation: i64) -> bool {
    match until {
        WaitUntil::Unspecified | WaitUntil::Terminal => is_terminal(standing.state),
        WaitUntil::Attention => {
            is_terminal(standing.state) || standing.state == TaskState::AwaitingInput
        }
        WaitUntil::Changed => standing.generation > seen_generation,
        // That is for the search in the output to say.
        WaitUntil::OutputMatch => false,
    }
}

/// The tasks as they stand, in order, without their specs; none for one that was deleted.
async fn read_tasks(app: &App, tasks: &[TaskId]) -> Result<Vec<Option<SessionTask>>, Refusal> {
    let mut by_id: HashMap<TaskId, SessionTask> = HashMap::new();
    let ids: BTreeSet<TaskId> = tasks.iter().copied().collect();
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
    Ok(tasks.iter().map(|id| by_id.get(id).cloned()).collect())
}
