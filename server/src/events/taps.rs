//! Live output of tasks, for those who follow it on the server that stores it.

use super::hub::lock;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};
use taskyard_core::id::TaskId;
use tokio::sync::broadcast;

/// Chunks of a task that a follower may be behind with before it reads them from the store.
const MAX_LAG: usize = 64;

/// Bytes that were stored.
#[derive(Clone, Debug)]
pub struct Appended {
    /// The run.
    pub run: i32,
    /// 1 stdout, 2 stderr.
    pub stream: i16,
    /// Offset of the first byte.
    pub start: i64,
    /// The bytes.
    pub data: Bytes,
    /// When the worker read them.
    pub at: DateTime<Utc>,
    /// Order among the chunks of both streams.
    pub order: i64,
}

type Taps = Arc<Mutex<HashMap<TaskId, broadcast::Sender<Appended>>>>;

/// Who follows what.
#[derive(Default)]
pub(super) struct TapRegistry {
    taps: Taps,
}

/// One follower of one task.
pub struct OutputTap {
    task: TaskId,
    receiver: Option<broadcast::Receiver<Appended>>,
    taps: Taps,
}

impl TapRegistry {
    pub(super) fn appended(&self, task: TaskId, appended: &Appended) {
        if let Some(sender) = lock(&self.taps).get(&task) {
            // An error says that the last follower is leaving.
            let _ = sender.send(appended.clone());
        }
    }

    pub(super) fn subscribe(&self, task: TaskId) -> OutputTap {
        let receiver = lock(&self.taps)
            .entry(task)
            .or_insert_with(|| broadcast::Sender::new(MAX_LAG))
            .subscribe();
        OutputTap {
            task,
            receiver: Some(receiver),
            taps: Arc::clone(&self.taps),
        }
    }
}

impl OutputTap {
    /// Waits for the next bytes; none: some were missed, read the store. Safe to drop and call again.
    pub async fn next(&mut self) -> Option<Appended> {
        match &mut self.receiver {
            Some(receiver) => receiver.recv().await.ok(),
            None => std::future::pending().await,
        }
    }
}

impl Drop for OutputTap {
    fn drop(&mut self) {
        let mut taps = lock(&self.taps);
        self.receiver = None;
        if taps
            .get(&self.task)
            .is_some_and(|sender| sender.receiver_count() == 0)
        {
            taps.remove(&self.task);
        }
    }
}
