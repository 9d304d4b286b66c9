//! One group commit: lock, decide in memory, write set by set, number and log, commit.
//!
//! Lock order: tasks by id, then sessions by number. Each lock is taken by one statement for the whole batch.

use super::{
    content,
    creation::{self, Sorted},
    ending::{self, Streams},
    event,
    intent::{Change, Changed, CommitError, Content, Created, Creation},
};
use crate::store::{
    Connection, StoreError,
    batch::{self, EndedTasks, LogRow, SessionChange},
    creates,
    new_tasks::{self, NewTask, Placement},
    task_lock,
    task_row::TaskRow,
    task_update, times,
};
use prost::Message;
use std::collections::{BTreeMap, HashMap};
use taskyard_core::{
    Timestamp,
    id::{SessionUid, TaskId, WorkerSessionId},
    task::{AttemptEnd, Effect, Event, Gate, Loss, Rejected, State, apply},
};
use taskyard_proto::{
    storage::v1::{LogPage, LoggedEvent},
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
}

/// Runs a batch as one transaction and answers its items in order.
pub(super) async fn run(
    db: &mut Connection,
    items: &[Item<'_>],
    may_be_stored: bool,
) -> Result<(Vec<Answer>, Aftermath), StoreError> {
    let mut transaction = batch::begin(db).await?;
    let db = &mut *transaction;
    let mut work = Work::load(db, items).await?;
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
                Some(Sorted::New) | None => {
                    work.create(&creation.task);
                    // its place is filled in when its session has numbered it
                    Ok(Created::Earlier(creation.task.id))
                }
            }),
            Item::Change(change) => Answer::Changed(Box::new(work.change(db, change).await?)),
        });
    }
    let placements = work.write(db, &creations).await?;
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
struct Work<'a> {
    now: Timestamp,
    rows: HashMap<TaskId, Working>,
    streams: Streams,
    sessions: BTreeMap<SessionUid, SessionWork<'a>>,
    attempts: Vec<(TaskId, AttemptEnd, Option<Exit>)>,
    aftermath: Aftermath,
}

/// A locked task and what must be written of it.
struct Working {
    row: TaskRow,
    was_live: bool,
    is_changed: bool,
}

/// What a batch does in one session.
#[derive(Default)]
struct SessionWork<'a> {
    events: Vec<LoggedEvent>,
    creates: Vec<&'a NewTask>,
    open_delta: i64,
    ended: EndedTasks,
    awaiting_delta: i64,
    virtual_time: f64,
}

impl<'a> Work<'a> {
    async fn load(db: &mut Connection, items: &[Item<'_>]) -> Result<Self, StoreError> {
        let mut ids: Vec<TaskId> = Vec::new();
        let mut runs_may_end = false;
        for item in items {
            if let Item::Change(change) = item {
                ids.push(change.task);
                runs_may_end |= matches!(change.event, Event::Finish(..) | Event::Lost { .. });
            }
        }
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
            sessions: BTreeMap::new(),
            attempts: Vec::new(),
            aftermath: Aftermath::default(),
        })
    }

    fn create(&mut self, task: &'a NewTask) {
        let session = self.sessions.entry(task.session).or_default();
        session.events.push(event::created(task));
        session.creates.push(task);
        session.open_delta += 1;
        session.virtual_time = session.virtual_time.max(task.virtual_time);
        self.aftermath.is_queue_touched |= task.gate == Gate::Open;
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
        working.row.task = transition.task;
        working.is_changed = true;
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
        let awaiting_delta =
            i64::from(is_awaiting(&working.row.task.state)) - i64::from(is_awaiting(&before.state));
        if awaiting_delta != 0 {
            self.sessions
                .entry(working.row.session)
                .or_default()
                .awaiting_delta += awaiting_delta;
        }
        self.aftermath.is_queue_touched |= is_claimable(&working.row);
        if is_announced {
            let logged = event::updated(&working.row);
            self.sessions
                .entry(working.row.session)
                .or_default()
                .events
                .push(logged);
        }
        Ok(Ok(Changed {
            before,
            after: working.row.clone(),
        }))
    }

    /// Writes everything, sessions last, and says where the new tasks were placed.
    async fn write(
        &mut self,
        db: &mut Connection,
        creations: &[&Creation],
    ) -> Result<HashMap<TaskId, Placement>, StoreError> {
        let (mut live, mut ended, mut enriched) = (Vec::new(), Vec::new(), Vec::new());
        for working in self.rows.values().filter(|working| working.is_changed) {
            match (working.was_live, &working.row.task.state) {
                (true, State::Terminal(_)) => ended.push(&working.row),
                (true, _) => live.push(&working.row),
                (false, _) => enriched.push(&working.row),
            }
        }
        if !live.is_empty() {
            task_update::update_live(db, &live).await?;
        }
        if !ended.is_empty() {
            batch::end_tasks(db, &ended).await?;
        }
        for row in enriched {
            batch::update_ended(db, row).await?;
        }
        let ended_at = times::to_database(self.now);
        for (task, end, exit) in &self.attempts {
            if let Some(working) = self.rows.get(task) {
                batch::insert_attempt(db, *task, end, &working.row.body, exit.as_ref(), ended_at)
                    .await?;
            }
        }
        self.write_sessions(db, creations).await
    }

    async fn write_sessions(
        &mut self,
        db: &mut Connection,
        creations: &[&Creation],
    ) -> Result<HashMap<TaskId, Placement>, StoreError> {
        let mut placements = HashMap::new();
        let changes: Vec<SessionChange> = self
            .sessions
            .iter()
            .map(|(session, work)| SessionChange {
                session: *session,
                events: count(work.events.len()),
                creates: count(work.creates.len()),
                open_delta: work.open_delta,
                ended: work.ended,
                awaiting_delta: work.awaiting_delta,
                virtual_time: work.virtual_time,
            })
            .filter(|change| change.events > 0 || change.open_delta != 0)
            .collect();
        if changes.is_empty() {
            return Ok(placements);
        }
        let mut pages = Vec::with_capacity(changes.len());
        let mut new_tasks = Vec::new();
        for numbers in batch::number(db, &changes).await? {
            let Some(work) = self.sessions.remove(&numbers.session) else {
                continue;
            };
            for (index, task) in work.creates.iter().enumerate() {
                let placement = Placement {
                    ordinal: numbers.first_ordinal + count(index),
                    fair_key: numbers.fair_base + index as f64 + 1.0,
                    created_at: numbers.at,
                };
                placements.insert(task.id, placement);
                new_tasks.push((*task, placement));
            }
            let last_seq = numbers.first_seq + count(work.events.len()) - 1;
            let page = LogPage {
                events: number_new_tasks(work.events, numbers.first_ordinal),
            };
            pages.push(LogRow {
                session: numbers.session,
                first_seq: numbers.first_seq,
                last_seq,
                at: numbers.at,
                body: page.encode_to_vec(),
            });
            self.aftermath.sessions.push(numbers.session);
        }
        if !new_tasks.is_empty() {
            new_tasks::insert_tasks(db, &new_tasks).await?;
            let requests: Vec<_> = creations
                .iter()
                .filter(|creation| placements.contains_key(&creation.task.id))
                .filter_map(|creation| {
                    let (key, fingerprint) = creation.request.as_ref()?;
                    Some((key, creation.task.id, *fingerprint))
                })
                .collect();
            if !requests.is_empty() {
                creates::insert_requests(db, &requests).await?;
            }
        }
        batch::append_log(db, &pages).await?;
        Ok(placements)
    }
}

/// Gives the created tasks of one session their ordinals, in order.
fn number_new_tasks(mut events: Vec<LoggedEvent>, first_ordinal: i64) -> Vec<LoggedEvent> {
    let new = events.iter_mut().filter(|logged| logged.created.is_some());
    for (ordinal, logged) in (first_ordinal..).zip(new) {
        logged.ordinal = ordinal;
    }
    events
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
        | Event::Release(_)
        | Event::Answer(_)
        | Event::QuestionExpired(_)
        | Event::Cancel { .. }
        | Event::Enrich
        | Event::Note
        | Event::SetHold(_)
        | Event::Due
        | Event::StartDeadline => false,
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

fn count(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}
