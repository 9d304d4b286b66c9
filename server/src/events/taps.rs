//! Live output of tasks, for those who follow it: at once where it is stored, and elsewhere as a hint to read it.

use super::hub::lock;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use taskyard_core::id::TaskId;
use tokio::sync::broadcast;

/// Chunks of a task that a follower may be behind with before it reads them from the store.
const MAX_LAG: usize = 64;
/// A task whose output was stored here within this time is stored here: others need not be told who follows it.
const STORED_HERE: Duration = Duration::from_secs(5);
/// For how long another server's word that it follows a task holds. It is repeated every two seconds.
const FOLLOWED_ELSEWHERE: Duration = Duration::from_secs(6);
/// Tasks followed elsewhere that are remembered; who follows more of them looks by itself.
const MAX_FOLLOWED_ELSEWHERE: usize = 20_000;

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

type Taps = Arc<Mutex<HashMap<TaskId, Tap>>>;

/// What those who follow one task hear; none: something was stored at another server.
struct Tap {
    sender: broadcast::Sender<Option<Appended>>,
    stored_here_at: Option<Instant>,
}

/// Who follows what.
#[derive(Default)]
pub(super) struct TapRegistry {
    taps: Taps,
    /// What other servers follow, and when they said so.
    elsewhere: Mutex<HashMap<TaskId, Instant>>,
}

/// One follower of one task.
pub struct OutputTap {
    task: TaskId,
    receiver: Option<broadcast::Receiver<Option<Appended>>>,
    taps: Taps,
}

impl TapRegistry {
    /// Tells those who follow the task here; whether others do, too.
    pub(super) fn appended(&self, task: TaskId, appended: Appended) -> bool {
        if let Some(tap) = lock(&self.taps).get_mut(&task) {
            tap.stored_here_at = Some(Instant::now());
            // An error says that the last follower is leaving.
            let _ = tap.sender.send(Some(appended));
        }
        lock(&self.elsewhere)
            .get(&task)
            .is_some_and(|said_at| said_at.elapsed() < FOLLOWED_ELSEWHERE)
    }

    /// Another server stored output of the task.
    pub(super) fn stored_elsewhere(&self, task: TaskId) {
        if let Some(tap) = lock(&self.taps).get(&task) {
            let _ = tap.sender.send(None);
        }
    }

    /// Another server follows the task.
    pub(super) fn followed_elsewhere(&self, task: TaskId) {
        let mut elsewhere = lock(&self.elsewhere);
        if elsewhere.len() >= MAX_FOLLOWED_ELSEWHERE {
            elsewhere.retain(|_, said_at| said_at.elapsed() < FOLLOWED_ELSEWHERE);
        }
        if elsewhere.len() < MAX_FOLLOWED_ELSEWHERE || elsewhere.contains_key(&task) {
            elsewhere.insert(task, Instant::now());
        }
    }

    /// The tasks that are followed here and not stored here.
    pub(super) fn followed_here(&self) -> Vec<TaskId> {
        let is_stored_here = |tap: &Tap| {
            tap.stored_here_at
                .is_some_and(|at| at.elapsed() < STORED_HERE)
        };
        lock(&self.taps)
            .iter()
            .filter(|(_, tap)| !is_stored_here(tap))
            .map(|(task, _)| *task)
            .collect()
    }

    pub(super) fn subscribe(&self, task: TaskId) -> OutputTap {
        let receiver = lock(&self.taps)
            .entry(task)
            .or_insert_with(|| Tap {
                sender: broadcast::Sender::new(MAX_LAG),
                stored_here_at: None,
            })
            .sender
            .subscribe();
        OutputTap {
            task,
            receiver: Some(receiver),
            taps: Arc::clone(&self.taps),
        }
    }
}

impl OutputTap {
    /// Waits for the next bytes; none: there are some that must be read from the store. Safe to drop and call again.
    pub async fn next(&mut self) -> Option<Appended> {
        match &mut self.receiver {
            Some(receiver) => receiver.recv().await.ok().flatten(),
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
            .is_some_and(|tap| tap.sender.receiver_count() == 0)
        {
            taps.remove(&self.task);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(number: usize) -> TaskId {
        format!("task_{number:032x}").parse().expect("an id")
    }

    fn appended() -> Appended {
        Appended {
            run: 1,
            stream: 1,
            start: 0,
            data: Bytes::from_static(b"x"),
            at: DateTime::UNIX_EPOCH,
            order: 1,
        }
    }

    #[tokio::test]
    async fn a_follower_hears_bytes_from_here_and_a_hint_from_elsewhere() {
        let registry = TapRegistry::default();
        let mut tap = registry.subscribe(task(1));
        assert_eq!(registry.followed_here(), [task(1)]);
        assert!(
            !registry.appended(task(1), appended()),
            "nobody else follows"
        );
        assert!(tap.next().await.is_some());
        assert!(registry.followed_here().is_empty(), "it is stored here");
        registry.stored_elsewhere(task(1));
        assert!(tap.next().await.is_none());
    }

    #[test]
    fn who_follows_elsewhere_is_told() {
        let registry = TapRegistry::default();
        registry.followed_elsewhere(task(1));
        assert!(registry.appended(task(1), appended()));
        assert!(!registry.appended(task(2), appended()));
    }

    #[test]
    fn what_is_remembered_of_others_is_bounded() {
        let registry = TapRegistry::default();
        for number in 0..MAX_FOLLOWED_ELSEWHERE + 5 {
            registry.followed_elsewhere(task(number));
        }
        assert_eq!(lock(&registry.elsewhere).len(), MAX_FOLLOWED_ELSEWHERE);
    }

    #[test]
    fn the_last_follower_takes_the_tap_along() {
        let registry = TapRegistry::default();
        let taps = [registry.subscribe(task(1)), registry.subscribe(task(1))];
        drop(taps);
        assert!(registry.followed_here().is_empty());
    }
}
