//! The loops that store output, and the door to them. Like the committers, each takes all that is waiting.

use super::append::{Appended, Push, PushResult, append};
use crate::{
    events::Events,
    store::{Connection, Store, StoreError},
};
use rand::Rng;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use taskyard_telemetry::metrics::table;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    task::JoinSet,
};
use tracing::warn;

/// Writers, each with a connection of its own.
const WRITERS: usize = 2;
/// Most pushes of one transaction.
const MAX_BATCH: usize = 64;
/// Most bytes that wait or are being written, all writers together. Beyond that the workers' streams are not read, and
/// their flow control holds them.
const MAX_WAITING_BYTES: usize = 24 << 20;
/// Longest time for which a batch is tried while the database cannot be reached.
const PATIENCE: Duration = Duration::from_secs(30);

/// The door to the writers; a cheap clone.
#[derive(Clone, Debug)]
pub struct OutputWriters {
    queues: Vec<mpsc::Sender<Job>>,
    room: Arc<Semaphore>,
}

#[derive(Debug)]
struct Job {
    push: Push,
    reply: oneshot::Sender<Option<PushResult>>,
    /// Given back when the job is done.
    _room: OwnedSemaphorePermit,
}

impl OutputWriters {
    /// Starts the writers. They end when the last door is dropped; `tasks` then joins them.
    ///
    /// # Errors
    /// Any [`StoreError`] of opening their connections.
    pub async fn start(
        store: &Store,
        events: &Events,
        tasks: &mut JoinSet<()>,
    ) -> Result<Self, StoreError> {
        let mut queues = Vec::with_capacity(WRITERS);
        for _ in 0..WRITERS {
            let (sender, jobs) = mpsc::channel(MAX_BATCH * 4);
            let writer = Writer {
                store: store.clone(),
                events: events.clone(),
                connection: Some(store.open().await?),
            };
            tasks.spawn(writer.run(jobs));
            queues.push(sender);
        }
        Ok(Self {
            queues,
            room: Arc::new(Semaphore::new(MAX_WAITING_BYTES)),
        })
    }

    /// Queues a push, once there is room for it; pushes of one task that are queued in order are stored in order. The
    /// receiver gets none if the store could not be reached.
    pub async fn push(&self, push: Push) -> Option<oneshot::Receiver<Option<PushResult>>> {
        let bytes: usize = push.chunks.iter().map(|chunk| chunk.data.len() + 128).sum();
        let permits = u32::try_from(bytes.clamp(1, MAX_WAITING_BYTES)).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room)
            .acquire_many_owned(permits)
            .await
            .ok()?;
        let index = (push.appender.task.0 as u64) % self.queues.len() as u64;
        let (reply, answer) = oneshot::channel();
        let job = Job {
            push,
            reply,
            _room: room,
        };
        self.queues[index as usize].send(job).await.ok()?;
        Some(answer)
    }
}

struct Writer {
    store: Store,
    events: Events,
    connection: Option<Connection>,
}

impl Writer {
    async fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        let mut waiting = Vec::with_capacity(MAX_BATCH);
        while jobs.recv_many(&mut waiting, MAX_BATCH).await > 0 {
            self.write(std::mem::take(&mut waiting)).await;
            waiting.reserve(MAX_BATCH);
        }
    }

    /// Stores a batch. Trying again is safe whatever became of the try before: what is durable is trimmed away.
    async fn write(&mut self, jobs: Vec<Job>) {
        let started = Instant::now();
        let (pushes, replies): (Vec<Push>, Vec<_>) = jobs
            .into_iter()
            .map(|job| (job.push, (job.reply, job._room)))
            .unzip();
        let results = loop {
            match self.attempt(&pushes).await {
                Ok((results, appended)) => {
                    let bytes: usize = appended.iter().map(|new| new.chunk.data.len()).sum();
                    table::OUTPUT_STORED.add(bytes as u64, &[]);
                    self.announce(appended);
                    break results.into_iter().map(Some).collect();
                }
                Err(error) if error.is_transient() && started.elapsed() < PATIENCE => {
                    let pause = rand::rng().random_range(50..500);
                    tokio::time::sleep(Duration::from_millis(pause)).await;
                }
                Err(error) => {
                    warn!(
                        error = &error as &dyn std::error::Error,
                        "output could not be stored"
                    );
                    break vec![None; pushes.len()];
                }
            }
        };
        for ((reply, room), result) in replies.into_iter().zip(results) {
            // a stream that has ended asks again after its reconnect
            let _ = reply.send(result);
            drop(room);
        }
    }

    async fn attempt(
        &mut self,
        pushes: &[Push],
    ) -> Result<(Vec<PushResult>, Vec<Appended>), StoreError> {
        let transaction = async |db: &mut Connection| append(db, pushes).await;
        self.store.run(&mut self.connection, transaction).await
    }

    fn announce(&self, appended: Vec<Appended>) {
        for Appended { task, run, chunk } in appended {
            self.events.output_appended(
                task,
                run,
                chunk.stream,
                chunk.offset.cast_signed(),
                chunk.data,
                chunk.at,
                chunk.order,
            );
        }
    }
}
