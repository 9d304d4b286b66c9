//! One group commit: lock, decide in memory, write set by set, number and log, commit.
//!
//! Lock order: tasks by id, then sessions by number. Each lock is taken by one statement for the whole batch.

use super::{
    content,
    creation::{self, Sorted},
    ending::{self, Streams},
    event, flush,
    intent::{Change, Changed, CommitError, Content, Created, Creation},
    monitors::Monitors,
    thread::Threads,
    wakes::Wakes,
};
use crate::store::{
    Connection, StoreError, batch, creates, monitors::MonitorPart, new_tasks::NewTask, task_lock,
    task_row::TaskRow, times,
};
use std::collections::{BTreeMap, HashMap};
use taskyard_core::{
    Timestamp,
    id::{SessionUid, TaskId, WorkerSessionId},
    task::{
        AttemptEnd, Effect, Event, Gate, Loss, Place, Rejected, State, TreeLimits, apply, may_spawn,
    },
};
use taskyard_proto::{
    storage::v1::LoggedEvent,
    v1::{Exit, Progress},
};

/// One intent of a batch.
pub(super) enum Item<'a> {
    /// A task to create.
    Create(&'a Creation),
    /// A change of a task.
    Change(&'a Change),
}

/// What its caller is told.
pub(super) enum Answer {
    /// Of a creation.
    Created(Result<Created, CommitError>),
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
}

/// Runs a batch as one transaction and answers its items in order.
pub(super) async fn run(
    db: &mut Connection,
    items: &[Item<'_>],
    may_be_stored: bool,
) -> Result<(Vec<Answer>, Aftermath), StoreError> {
    let mut transaction = batch::begin(db).await?;
    let db = &mut *transaction;
    let mut work = Work::load(db, items, may_be_stored).await?;
    let creations: Vec<&Creation> = items
        .iter()
        .filter_map(|item| match item {
            Item::Create(creation) => Some(*creation),
            Item::Change(_) => None,
        })
        .collect();
    let sorted = if creations.is_empty() {
        Vec::new()
    } else {
        creation::sort(db, &creations, may_be_stored).await?
    };
    let mut sorted = sorted.into_iter();
    let mut answers = Vec::with_capacity(items.len());
    for item in items {
        answers.push(match item {
            Item::Create(creation) => Answer::Created(match sorted.next() {
                Some(Sorted::Answered(answer)) => answer,
                // its place is filled in when its session has numbered it
                Some(Sorted::New) | None => work
                    .create(creation)
                    .map(|()| Created::Earlier(creation.task.id)),
            }),
            Item::Change(change) => Answer::Changed(Box::new(work.change(db, change).await?)),
        });
    }
    let placements = flush::write(&mut work, db, &creations).await?;
    batch::commit(transaction).await?;
    for (item, answer) in items.iter().zip(&mut answers) {
        if let (Item::Create(creation), Answer::Created(Ok(created))) = (item, answer)
            && let Some(placement) = placements.get(&creation.task.id)
        {
            *created = Created::New(*placement);
        }
    }
    Ok((answers, work.aftermath))
}

/// A batch in the making.
pub(super) struct Work<'a> {
    pub(super) now: Timestamp,
    pub(super) rows: HashMap<TaskId, Working>,
    streams: Streams,
    /// Children of the parents below which the batch creates.
    children: HashMap<TaskId, u64>,
    pub(super) threads: Threads,
    pub(super) monitors: Monitors,
    pub(super) wakes: Wakes,
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
    pub(super) virtual_time: f64,
}

impl<'a> Work<'a> {
    async fn load(
        db: &mut Connection,
        items: &[Item<'_>],
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
                Item::Create(creation) => {
                    parents.extend(creation.task.parent.map(|above| above.parent));
                }
            }
        }
        ids.extend(&parents);
        ids.sort_unstable();
        ids.dedup();
        let (rows, now) = if ids.is_empty() {
            (Vec::new(), creates::now(&mut *db).await?)
        } else {
            let locked = task_lock::lock_tasks(db, &ids).await?;
            (locked.rows, locked.now)
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
            Item::Create(_) => None,
        });
        let threads = Threads::load(db, changes.clone(), may_be_stored).await?;
        let creations = items.iter().filter_map(|item| match item {
            Item::Create(creation) => Some(*creation),
            Item::Change(_) => None,
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
            children,
            threads,
            monitors,
            wakes: Wakes::default(),
            sessions: BTreeMap::new(),
            attempts: Vec::new(),
            aftermath: Aftermath::default(),
        })
    }

    fn create(&mut self, creation: &'a Creation) -> Result<(), CommitError> {
        let task = &creation.task;
        if let Some(above) = task.parent {
            let parent = self.rows.get(&above.parent).ok_or(CommitError::NoParent)?;
            if let Some(fence) = creation.spawner {
                let held = parent.row.task.lease();
                if held.is_none_or(|held| held.epoch != fence.epoch || held.id != fence.lease_id) {
                    return Err(CommitError::SpawnerLost);
                }
            }
            let firing = match task.monitor {
                Some(MonitorPart::Firing(firing)) => Some(firing),
                Some(MonitorPart::Monitor(_)) | None => None,
            };
            let siblings = self.children.entry(above.parent).or_default();
            let place = Place {
                depth: u32::from(above.depth.unsigned_abs()),
                siblings: *siblings,
                is_firing: firing.is_some(),
            };
            may_spawn(&parent.row.task, place, TreeLimits::DEFAULT)
                .map_err(CommitError::NoSpawn)?;
            if let Some(firing) = firing {
                self.monitors.fire(&parent.row.task, task.id, firing)?;
            }
            *siblings += 1;
        }
        let session = self.sessions.entry(task.session).or_default();
        session.events.push(event::created(task));
        session.creates.push(task);
        session.open_delta += 1;
        session.virtual_time = session.virtual_time.max(task.virtual_time);
        self.aftermath.is_queue_touched |= task.gate == Gate::Open;
        Ok(())
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
        if let Some(message) = self.threads.find_repeated(change) {
            return Ok(Ok(Changed {
                before,
                after: working.row.clone(),
                message: Some(message),
                is_repeated: true,
            }));
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
                    self.sessions
                        .entry(working.row.session)
                        .or_default()
                        .open_delta -= 1;
                }
            }
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
        | Event::Due
        | Event::StartDeadline
        | Event::Complete => false,
    }
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
