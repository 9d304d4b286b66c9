//! One group commit: lock, decide in memory, write set by set, number and log, commit.
//!
//! Lock order: tasks by id, then sessions by number. Each lock is taken by one statement for the whole batch.

use super::{
    content,
    creation::{self, Known},
    ending::{self, Streams},
    event, flush,
    intent::{Change, Changed, CommitError, Content, Created, Creation, RefusedCreation},
    monitors::Monitors,
    thread::Threads,
    usage::RunUsages,
    wakes::Wakes,
    webhooks::Webhooks,
};
use crate::store::{
    Connection, StoreError,
    batch::{self, EndedTasks},
    creates,
    new_tasks::NewTask,
    task_lock,
    task_row::TaskRow,
    times,
};
use std::collections::{BTreeMap, HashMap};
use taskyard_core::{
    Timestamp,
    id::{SessionUid, TaskId, WorkerSessionId},
    task::{AttemptEnd, Effect, Event, Gate, Loss, Rejected, State, TreeLimits, apply},
};
use taskyard_proto::{
    storage::v1::LoggedEvent,
    v1::{Exit, Progress},
};

/// How much may be created.
#[derive(Clone, Copy, Debug)]
pub struct CreationLimits {
    /// How large a tree may grow.
    pub tree: TreeLimits,
    /// How many live tasks a session may have; none: any number.
    pub session_tasks: Option<u64>,
}

/// One intent of a batch.
pub(super) enum Item<'a> {
    /// A task to create.
    Create(&'a Creation),
    /// Tasks to create, all of them or none.
    CreateAll(&'a [Creation]),
    /// A change of a task.
    Change(&'a Change),
}

impl<'a> Item<'a> {
    pub(super) fn creations(&self) -> &'a [Creation] {
        match self {
            Self::Create(creation) => std::slice::from_ref(*creation),
            Self::CreateAll(creations) => creations,
            Self::Change(_) => &[],
        }
    }
}

/// What its caller is told.
pub(super) enum Answer {
    /// Of a creation.
    Created(Result<Created, CommitError>),
    /// Of several creations together.
    CreatedAll(Result<Vec<Created>, RefusedCreation>),
    /// Of a change.
    Changed(Box<Result<Changed, CommitError>>),
}

/// What a committed batch means to others.
#[derive(Default)]
pub(super) struct Aftermath {
    /// Sessions with new events.
    pub(super) sessions: Vec<SessionUid>,
    /// Progress that was reported.
    pub(super) progress: Vec<(SessionUid, TaskId, Progress)>,
    /// Workers that must be told something about a lease of theirs.
    pub(super) workers: Vec<WorkerSessionId>,
    /// Whether a task may have become claimable.
    pub(super) is_queue_touched: bool,
    /// Whether there are new wakes.
    pub(super) has_wakes: bool,
    /// Whether webhooks are to be called.
    pub(super) has_deliveries: bool,
}

/// Runs a batch as one transaction and answers its items in order.
pub(super) async fn run(
    db: &mut Connection,
    items: &[Item<'_>],
    limits: CreationLimits,
    may_be_stored: bool,
) -> Result<(Vec<Answer>, Aftermath), StoreError> {
    let mut transaction = batch::begin(db).await?;
    let db = &mut *transaction;
    let mut work = Work::load(db, items, limits, may_be_stored).await?;
    let creations: Vec<&Creation> = items.iter().flat_map(Item::creations).collect();
    let mut known = Known::load(db, &creations, may_be_stored).await?;
    let mut answers = Vec::with_capacity(items.len());
    for item in items {
        answers.push(match item {
            Item::Create(creation) => {
                Answer::Created(creation::create(&mut work, &mut known, creation))
            }
            Item::CreateAll(creations) => {
                Answer::CreatedAll(creation::create_all(&mut work, &mut known, creations))
            }
            Item::Change(change) => Answer::Changed(Box::new(work.change(db, change).await?)),
        });
    }
    let placements = flush::write(&mut work, db, &creations).await?;
    batch::commit(transaction).await?;
    for (item, answer) in items.iter().zip(&mut answers) {
        let created: &mut [Created] = match answer {
            Answer::Created(Ok(created)) => std::slice::from_mut(created),
            Answer::CreatedAll(Ok(created)) => created,
            Answer::Created(Err(_)) | Answer::CreatedAll(Err(_)) | Answer::Changed(_) => continue,
        };
        for (creation, created) in item.creations().iter().zip(created) {
            if let Some(placement) = placements.get(&creation.task.id) {
                *created = Created::New(*placement);
            }
        }
    }
    Ok((answers, work.aftermath))
}

/// A batch in the making.
pub(super) struct Work<'a> {
    pub(super) now: Timestamp,
    pub(super) rows: HashMap<TaskId, Working>,
    streams: Streams,
    pub(super) limits: CreationLimits,
    /// Live tasks of the sessions in which the batch creates, before it.
    pub(super) open_tasks: HashMap<SessionUid, u64>,
    /// Children of the parents below which the batch creates.
    pub(super) children: HashMap<TaskId, u64>,
    pub(super) threads: Threads,
    pub(super) monitors: Monitors,
    pub(super) wakes: Wakes,
    pub(super) usages: RunUsages,
    pub(super) webhooks: Webhooks,
    pub(super) sessions: BTreeMap<SessionUid, SessionWork<'a>>,
    pub(super) attempts: Vec<(TaskId, AttemptEnd, Option<Exit>)>,
    pub(super) aftermath: Aftermath,
}

/// A locked task and what must be written of it.
pub(super) struct Working {
    pub(super) row: TaskRow,
    pub(super) was_live: bool,
    pub(super) is_changed: bool,
}

/// What a batch does in one session.
#[derive(Default)]
pub(super) struct SessionWork<'a> {
    pub(super) events: Vec<LoggedEvent>,
    pub(super) creates: Vec<&'a NewTask>,
    pub(super) open_delta: i64,
    pub(super) ended: EndedTasks,
    pub(super) awaiting_delta: i64,
    pub(super) virtual_time: f64,
}

impl<'a> Work<'a> {
    async fn load(
        db: &mut Connection,
        items: &[Item<'_>],
        limits: CreationLimits,
        may_be_stored: bool,
    ) -> Result<Self, StoreError> {
        let mut ids: Vec<TaskId> = Vec::new();
        let mut parents: Vec<TaskId> = Vec::new();
        let mut runs_may_end = false;
        for item in items {
            match item {
                Item::Change(change) => {
                    ids.push(change.task);
                    runs_may_end |= matches!(change.event, Event::Finish(..) | Event::Lost { .. });
                }
                Item::Create(_) | Item::CreateAll(_) => {
                    let above = item.creations().iter().filter_map(|new| new.task.parent);
                    parents.extend(above.map(|above| above.parent));
                }
            }
        }
        ids.extend(&parents);
        ids.sort_unstable();
        ids.dedup();
        let (open_tasks, read_at) = match limits.session_tasks {
            Some(_) => read_open_tasks(db, items).await?,
            None => (HashMap::new(), None),
        };
        let (rows, now, has_webhooks) = match read_at {
            Some(now) if ids.is_empty() => (Vec::new(), now, false),
            None if ids.is_empty() => (Vec::new(), creates::now(&mut *db).await?, false),
            Some(_) | None => {
                let locked = task_lock::lock_tasks(db, &ids).await?;
                (locked.rows, locked.now, locked.has_webhooks)
            }
        };
        let streams = if runs_may_end {
            let runs: Vec<(TaskId, u32)> = rows
                .iter()
                .filter(|row| row.end.is_none())
                .flat_map(|row| [row.task.run, row.task.run + 1].map(|run| (row.task.id, run)))
                .filter(|(_, run)| *run > 0)
                .collect();
            Streams::new(batch::read_streams(db, &runs).await?)
        } else {
            Streams::default()
        };
        let children = if parents.is_empty() {
            HashMap::new()
        } else {
            creates::count_children(&mut *db, &parents).await?
        };
        let changes = items.iter().filter_map(|item| match item {
            Item::Change(change) => Some(*change),
            Item::Create(_) | Item::CreateAll(_) => None,
        });
        let threads = Threads::load(db, changes.clone(), may_be_stored).await?;
        let creations = items.iter().filter_map(|item| match item {
            Item::Create(creation) => Some(*creation),
            // a firing is created by itself
            Item::CreateAll(_) | Item::Change(_) => None,
        });
        let monitors = Monitors::load(db, creations, changes).await?;
        let working = |row: TaskRow| Working {
            was_live: row.end.is_none(),
            is_changed: false,
            row,
        };
        Ok(Self {
            now,
            rows: rows
                .into_iter()
                .map(|row| (row.task.id, working(row)))
                .collect(),
            streams,
            limits,
            open_tasks,
            children,
            threads,
            monitors,
            wakes: Wakes::default(),
            usages: RunUsages::default(),
            webhooks: Webhooks::new(has_webhooks),
            sessions: BTreeMap::new(),
            attempts: Vec::new(),
            aftermath: Aftermath::default(),
        })
    }

    /// Applies one change. The outer error ends the batch, the inner one is the caller's.
    async fn change(
        &mut self,
        db: &mut Connection,
        change: &Change,
    ) -> Result<Result<Changed, CommitError>, StoreError> {
        let Some(working) = self.rows.get_mut(&change.task) else {
            return Ok(Err(CommitError::NotFound));
        };
        let before = working.row.task.clone();
        match self.threads.find_repeated(change) {
            Ok(None) => {}
            Ok(Some(message)) => {
                return Ok(Ok(Changed {
                    before,
                    after: working.row.clone(),
                    message: Some(message),
                    is_repeated: true,
                }));
            }
            Err(error) => return Ok(Err(error)),
        }
        if let (Some(limit), Some(renewed_at)) =
            (change.if_renewed_before, working.row.holder_renewed_at)
            && times::to_core(renewed_at) >= limit
        {
            return Ok(Err(CommitError::Rejected {
                rejected: Rejected::Moot,
                state: before.state.as_str(),
            }));
        }
        if let Some(expected) = change.if_generation
            && expected != before.generation
        {
            return Ok(Err(CommitError::GenerationMismatch {
                expected,
                found: before.generation,
            }));
        }
        let progress = change.content.progress();
        let is_from_client = matches!(change.content, Content::Patch(_));
        if progress.is_some() && is_from_client && before.is_terminal() {
            return Ok(Err(CommitError::Rejected {
                rejected: Rejected::Terminal,
                state: before.state.as_str(),
            }));
        }
        if let Content::Patch(patch) = &change.content
            && content::is_moot(&working.row, patch, self.now)
        {
            return Ok(Ok(Changed {
                before,
                after: working.row.clone(),
                message: None,
                is_repeated: true,
            }));
        }
        let transition = match apply(&before, change.event.clone(), self.now) {
            Ok(transition) => transition,
            Err(rejected) => {
                return Ok(Err(CommitError::Rejected {
                    rejected,
                    state: before.state.as_str(),
                }));
            }
        };
        let finish = match (&change.event, &change.content) {
            (Event::Finish(_, facts), Content::Finish(content)) => Some((&**content, facts)),
            _ => None,
        };
        if let Some((content, _)) = finish
            && !content.accept_incomplete
            && !self.streams.cover(&working.row, content)
        {
            return Ok(Err(CommitError::OutputPending));
        }
        if let Err(error) = content::carry(&mut working.row, change, self.now) {
            return Ok(Err(error));
        }
        if let Err(error) = self.monitors.judge(&before, change) {
            return Ok(Err(error));
        }
        let message = match self.threads.carry(&mut working.row, change, self.now) {
            Ok(message) => message,
            Err(error) => return Ok(Err(error)),
        };
        working.row.task = transition.task;
        working.is_changed = true;
        if !matches!(working.row.task.state, State::AwaitingInput { .. }) {
            working.row.body.question = None;
        }
        if let Some(progress) = progress {
            self.aftermath
                .progress
                .push((working.row.session, change.task, progress));
        }
        let is_announced = transition.effects.contains(&Effect::Announce);
        if is_announced {
            working.row.body.updated_at = times::to_database(self.now);
        }
        for effect in transition.effects {
            match effect {
                Effect::Announce => {}
                Effect::Tell(lease, _) => self.aftermath.workers.push(lease.worker),
                Effect::EndAttempt(end) => {
                    let exit = finish.and_then(|(content, _)| content.exit.clone());
                    working.row.body.error = match end.failure {
                        Some(failure) => Some(ending::stored_error(failure, finish)),
                        None if is_gone(&change.event) => Some(ending::worker_lost()),
                        None => None,
                    };
                    working.row.body.last_exit.clone_from(&exit);
                    self.attempts.push((change.task, end, exit));
                }
                Effect::End { state, failure } => {
                    ending::end(
                        db,
                        &mut working.row,
                        (state, failure),
                        finish,
                        &self.streams,
                        self.now,
                    )
                    .await?;
                    let session = self.sessions.entry(working.row.session).or_default();
                    session.open_delta -= 1;
                    session.ended.add(state);
                }
            }
        }
        self.usages
            .note(&before, &working.row, finish.map(|(content, _)| content));
        let awaiting_delta =
            i64::from(is_awaiting(&working.row.task.state)) - i64::from(is_awaiting(&before.state));
        if awaiting_delta != 0 {
            self.sessions
                .entry(working.row.session)
                .or_default()
                .awaiting_delta += awaiting_delta;
        }
        self.aftermath.is_queue_touched |= is_claimable(&working.row);
        let posted = message
            .as_ref()
            .map(|message| event::posted(&working.row, message));
        let updated = is_announced.then(|| event::updated(&working.row));
        let woken = self
            .wakes
            .note(&before, &working.row, message.as_ref(), self.now)
            .or_else(|| self.wakes.note_firing(&working.row, change, self.now));
        self.webhooks
            .note(&before, &working.row, message.as_ref(), self.now);
        let logged: Vec<LoggedEvent> = [posted, updated, woken].into_iter().flatten().collect();
        if !logged.is_empty() {
            let session = self.sessions.entry(working.row.session).or_default();
            session.events.extend(logged);
        }
        Ok(Ok(Changed {
            before,
            after: working.row.clone(),
            message,
            is_repeated: false,
        }))
    }
}

/// Whether the worker of an attempt is gone, rather than having given the work back.
fn is_gone(event: &Event) -> bool {
    match event {
        Event::Lost { loss, .. } => *loss == Loss::Gone,
        Event::Finish(..) => true,
        Event::Start(_)
        | Event::Progress(_)
        | Event::Artifact(_)
        | Event::Ask(..)
        | Event::Post(_)
        | Event::Receive(_)
        | Event::Record(_)
        | Event::Release(_)
        | Event::Answer(_)
        | Event::Deliver
        | Event::QuestionExpired(_)
        | Event::Cancel { .. }
        | Event::Enrich
        | Event::Note
        | Event::SetHold(_)
        | Event::Reattach { .. }
        | Event::Due
        | Event::StartDeadline
        | Event::Complete => false,
    }
}

fn is_awaiting(state: &State) -> bool {
    matches!(state, State::AwaitingInput { .. })
}

fn is_claimable(row: &TaskRow) -> bool {
    matches!(
        row.task.state,
        State::Queued {
            gate: Gate::Open,
            offer: None
        }
    )
}

/// How many live tasks the sessions have in which the batch creates, and when that was read; none: it creates nothing.
async fn read_open_tasks(
    db: &mut Connection,
    items: &[Item<'_>],
) -> Result<(HashMap<SessionUid, u64>, Option<Timestamp>), StoreError> {
    let creations = items.iter().flat_map(Item::creations);
    let mut sessions: Vec<SessionUid> = creations.map(|new| new.task.session).collect();
    if sessions.is_empty() {
        return Ok((HashMap::new(), None));
    }
    sessions.sort_unstable();
    sessions.dedup();
    let (open, now) = creates::count_open_tasks(db, &sessions).await?;
    Ok((open.into_iter().collect(), Some(now)))
}
