//! The loops that run the batches, and the door to them.

use super::{
    batch::{self, Aftermath, Answer, CreationLimits, Item},
    intent::{Change, Changed, CommitError, Created, Creation, RefusedCreation},
    measure,
};
use crate::{
    error_chain::chain,
    events::Events,
    limits::turns::{self, Turn},
    store::{Connection, Store, StoreError},
};
use rand::Rng;
use std::time::{Duration, Instant};
use taskyard_core::id::SessionUid;
use taskyard_telemetry::metrics::table;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
};
use tracing::warn;

/// Committers, each with a connection of its own. More than the cores that Postgres has bring nothing.
const COMMITTERS: usize = 4;
/// Most intents of one batch: beyond some hundreds a larger batch is no faster, but holds its locks longer.
const MAX_BATCH: usize = 400;
/// Most intents that wait for one committer; beyond that callers are told to come back.
const MAX_WAITING: usize = 8_192;
/// How long a batch is tried while the database cannot be reached or others get in its way.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often a batch that others get in the way of is tried as a whole before it is taken apart.
const CONFLICT_TRIES: u32 = 3;
/// Longest pause between two tries.
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// The door to the committers; a cheap clone.
#[derive(Clone, Debug)]
pub struct Commits {
    queues: Vec<mpsc::Sender<Intent>>,
}

/// An intent with the caller who waits for it.
#[derive(Debug)]
enum Intent {
    Create(Box<Creation>, oneshot::Sender<Result<Created, CommitError>>),
    CreateAll(
        Vec<Creation>,
        oneshot::Sender<Result<Vec<Created>, RefusedCreation>>,
    ),
    Change(Box<Change>, oneshot::Sender<Result<Changed, CommitError>>),
}

impl Commits {
    /// Starts the committers. They end when the last door is dropped; `tasks` then joins them.
    ///
    /// # Errors
    /// Any [`StoreError`] of opening their connections.
    pub async fn start(
        store: &Store,
        events: &Events,
        limits: CreationLimits,
        tasks: &mut JoinSet<()>,
    ) -> Result<Self, StoreError> {
        let mut queues = Vec::with_capacity(COMMITTERS);
        for _ in 0..COMMITTERS {
            let (sender, intents) = mpsc::channel(MAX_WAITING);
            let committer = Committer {
                store: store.clone(),
                events: events.clone(),
                limits,
                connection: Some(store.open().await?),
            };
            tasks.spawn(committer.run(intents));
            queues.push(sender);
        }
        Ok(Self { queues })
    }

    /// Creates a task.
    ///
    /// # Errors
    /// Any [`CommitError`].
    pub async fn create(&self, creation: Creation) -> Result<Created, CommitError> {
        let _turn = take_turns(1).await?;
        self.create_later(creation)?
            .await
            .map_err(|_| CommitError::ShuttingDown)?
    }

    /// Queues a creation and returns at once, for whoever has taken the turns of all that it queues; those of one session that are queued in order are numbered in order.
    ///
    /// # Errors
    /// [`CommitError::Overloaded`] or [`CommitError::ShuttingDown`].
    pub fn create_later(
        &self,
        creation: Creation,
    ) -> Result<oneshot::Receiver<Result<Created, CommitError>>, CommitError> {
        let (reply, answer) = oneshot::channel();
        let session = creation.task.session;
        self.queue(session, Intent::Create(Box::new(creation), reply))?;
        Ok(answer)
    }

    /// Creates tasks of one session in one transaction, all of them or none; their answers in order.
    ///
    /// # Errors
    /// [`RefusedCreation`] with any [`CommitError`].
    pub async fn create_all(
        &self,
        session: SessionUid,
        creations: Vec<Creation>,
    ) -> Result<Vec<Created>, RefusedCreation> {
        let refused = |error| RefusedCreation {
            position: None,
            error,
        };
        let _turns = take_turns(creations.len()).await.map_err(refused)?;
        let (reply, answer) = oneshot::channel();
        self.queue(session, Intent::CreateAll(creations, reply))
            .map_err(refused)?;
        answer
            .await
            .map_err(|_| refused(CommitError::ShuttingDown))?
    }

    /// Changes a task of a session.
    ///
    /// # Errors
    /// Any [`CommitError`].
    pub async fn change(
        &self,
        session: SessionUid,
        change: Change,
    ) -> Result<Changed, CommitError> {
        let _turn = take_turns(1).await?;
        self.change_later(session, change)?
            .await
            .map_err(|_| CommitError::ShuttingDown)?
    }

    /// Queues a change and returns at once, for whoever has taken the turns of all that it queues; changes of one session that are queued in order are made in order.
    ///
    /// # Errors
    /// [`CommitError::Overloaded`] or [`CommitError::ShuttingDown`].
    pub fn change_later(
        &self,
        session: SessionUid,
        change: Change,
    ) -> Result<oneshot::Receiver<Result<Changed, CommitError>>, CommitError> {
        let (reply, answer) = oneshot::channel();
        self.queue(session, Intent::Change(Box::new(change), reply))?;
        Ok(answer)
    }

    /// How many intents wait to be committed.
    #[must_use]
    pub fn waiting(&self) -> usize {
        let taken = |queue: &mpsc::Sender<Intent>| queue.max_capacity() - queue.capacity();
        self.queues.iter().map(taken).sum()
    }

    fn queue(&self, session: SessionUid, intent: Intent) -> Result<(), CommitError> {
        let index = session.0.unsigned_abs() % self.queues.len() as u64;
        self.queues[index as usize]
            .try_send(intent)
            .map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => CommitError::Overloaded,
                mpsc::error::TrySendError::Closed(_) => CommitError::ShuttingDown,
            })
    }
}

/// Turns of the caller for so many changes.
async fn take_turns(changes: usize) -> Result<Turn, CommitError> {
    turns::changes(changes)
        .await
        .map_err(|error| CommitError::Store(error.into()))
}

struct Committer {
    store: Store,
    events: Events,
    limits: CreationLimits,
    connection: Option<Connection>,
}

impl Committer {
    async fn run(mut self, mut intents: mpsc::Receiver<Intent>) {
        let mut waiting = Vec::with_capacity(MAX_BATCH);
        while intents.recv_many(&mut waiting, MAX_BATCH).await > 0 {
            for batch in portions(std::mem::take(&mut waiting)) {
                let until = Instant::now() + PATIENCE;
                self.commit(batch, until, false).await;
            }
            waiting.reserve(MAX_BATCH);
        }
    }

    /// Commits a batch, whole if that is possible, else one by one, and answers every caller. What cannot be committed is
    /// tried again `until` then. `may_be_stored`: an earlier try may have been committed without our knowing.
    async fn commit(&mut self, batch: Vec<Intent>, until: Instant, mut may_be_stored: bool) {
        let mut tries = 0;
        let began_at = Instant::now();
        let error = loop {
            tries += 1;
            match self.attempt(&batch, may_be_stored).await {
                Ok((answers, aftermath)) => {
                    let weight: usize = batch.iter().map(Intent::weight).sum();
                    table::COMMIT_BATCH.record(weight as f64, &[]);
                    table::COMMIT_DURATION.record_time(began_at.elapsed(), &[]);
                    self.announce(aftermath);
                    for (intent, answer) in batch.into_iter().zip(answers) {
                        intent.answer(answer);
                    }
                    return;
                }
                Err(error @ StoreError::Unavailable(_)) => {
                    may_be_stored = true;
                    if Instant::now() > until {
                        break error;
                    }
                    warn!(error = %chain(&error), "the database is not reachable; the batch is tried again");
                }
                // another server's create got there first; the next try finds it
                Err(StoreError::Duplicate { .. }) if tries < CONFLICT_TRIES => {}
                Err(error @ StoreError::Conflict(_))
                    if tries < CONFLICT_TRIES || batch.len() == 1 =>
                {
                    if Instant::now() > until {
                        break error;
                    }
                }
                Err(error) => break error,
            }
            tokio::time::sleep(pause(tries)).await;
        };
        if batch.len() > 1 && !matches!(error, StoreError::Unavailable(_)) {
            // one intent must not spoil the others'
            for intent in batch {
                Box::pin(self.commit(vec![intent], until, may_be_stored)).await;
            }
            return;
        }
        // of a session that was deleted meanwhile the caller is told, which is no trouble of ours
        if !matches!(error, StoreError::SessionDeleted) {
            table::COMMIT_FAILURES.add(1, &[]);
            warn!(error = %chain(&error), intents = batch.len(), "changes could not be stored");
        }
        let mut first = Some(error);
        for intent in batch {
            intent.refuse(first.take().map_or(CommitError::Unreachable, translate));
        }
    }

    async fn attempt(
        &mut self,
        batch: &[Intent],
        may_be_stored: bool,
    ) -> Result<(Vec<Answer>, Aftermath), StoreError> {
        let items: Vec<Item<'_>> = batch.iter().map(Intent::item).collect();
        let limits = self.limits;
        let transaction =
            async |db: &mut Connection| batch::run(db, &items, limits, may_be_stored).await;
        let committed = self.store.run(&mut self.connection, transaction).await?;
        measure::count(&items, &committed.0);
        Ok(committed)
    }

    fn announce(&self, aftermath: Aftermath) {
        for session in aftermath.sessions {
            self.events.session_touched(session);
        }
        for (session, task, progress) in aftermath.progress {
            self.events.progress(session, task, progress);
        }
        for worker in aftermath.workers {
            self.events.worker_touched(worker);
        }
        if aftermath.is_queue_touched {
            self.events.queue_touched();
        }
        if aftermath.has_wakes {
            self.events.wakes_touched();
        }
        if aftermath.has_deliveries {
            self.events.webhooks_touched();
        }
    }
}

impl Intent {
    fn item(&self) -> Item<'_> {
        match self {
            Self::Create(creation, _) => Item::Create(creation),
            Self::CreateAll(creations, _) => Item::CreateAll(creations),
            Self::Change(change, _) => Item::Change(change),
        }
    }

    /// How much of a batch it takes.
    fn weight(&self) -> usize {
        match self {
            Self::Create(..) | Self::Change(..) => 1,
            Self::CreateAll(creations, _) => creations.len(),
        }
    }

    /// A caller that has gone away is no loss: what it asked for is done.
    fn answer(self, answer: Answer) {
        match (self, answer) {
            (Self::Create(_, reply), Answer::Created(answer)) => drop(reply.send(answer)),
            (Self::CreateAll(_, reply), Answer::CreatedAll(answer)) => drop(reply.send(answer)),
            (Self::Change(_, reply), Answer::Changed(answer)) => drop(reply.send(*answer)),
            // the batch answers each item in kind
            (Self::Create(..), Answer::CreatedAll(_) | Answer::Changed(_))
            | (Self::CreateAll(..), Answer::Created(_) | Answer::Changed(_))
            | (Self::Change(..), Answer::Created(_) | Answer::CreatedAll(_)) => {}
        }
    }

    fn refuse(self, error: CommitError) {
        match self {
            Self::Create(_, reply) => drop(reply.send(Err(error))),
            Self::CreateAll(_, reply) => drop(reply.send(Err(RefusedCreation {
                position: None,
                error,
            }))),
            Self::Change(_, reply) => drop(reply.send(Err(error))),
        }
    }
}

/// Cuts what is waiting into batches of at most [`MAX_BATCH`] tasks, or one intent where that alone is larger.
fn portions(intents: Vec<Intent>) -> Vec<Vec<Intent>> {
    let mut portions: Vec<Vec<Intent>> = Vec::with_capacity(1);
    let mut weight = 0;
    for intent in intents {
        weight += intent.weight();
        match portions.last_mut() {
            Some(portion) if weight <= MAX_BATCH => portion.push(intent),
            Some(_) | None => {
                weight = intent.weight();
                portions.push(vec![intent]);
            }
        }
    }
    portions
}

/// What a refusal by the schema means: the index that another server's create got to first.
fn translate(error: StoreError) -> CommitError {
    match error {
        StoreError::Duplicate { constraint } if constraint == "task_live_by_name" => {
            CommitError::NameTaken
        }
        StoreError::Duplicate { constraint } if constraint == "task_by_key" => {
            CommitError::KeyConflict
        }
        StoreError::SessionDeleted => CommitError::SessionDeleted,
        error => CommitError::Store(error),
    }
}

/// Grows from 20 ms to a second, varied over its whole length so that committers do not move in step.
fn pause(tries: u32) -> Duration {
    let longest = Duration::from_millis(20)
        .saturating_mul(1 << tries.min(6))
        .min(MAX_PAUSE);
    longest.mul_f64(rand::rng().random_range(0.5..1.0))
}
