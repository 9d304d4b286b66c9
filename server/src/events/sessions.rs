//! Who waits for changes of which session, and who follows which log.

use super::hub::lock;
use crate::store::log_read::SessionPage;
use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
};
use taskyard_core::id::{SessionUid, TaskId};
use taskyard_proto::v1::{Progress, TaskProgress};
use tokio::sync::{Notify, mpsc, watch};

/// Items of one session that a follower may be behind with before it reads the log by itself.
const MAX_LAG: usize = 32;
/// Progress is dropped where a follower is further behind than this; pages are not.
const MAX_PROGRESS_LAG: usize = MAX_LAG / 2;

/// What followers of a log are sent.
#[derive(Clone)]
pub(super) enum Fanned {
    /// The next page of the log.
    Page(Arc<SessionPage>),
    /// Progress of a task.
    Progress(Arc<TaskProgress>),
}

/// Waiters and followers by session.
#[derive(Default)]
pub(super) struct SessionRegistry {
    waiters: Waiters,
    logs: Mutex<HashMap<SessionUid, FollowedLog>>,
    work: Mutex<ReaderWork>,
    work_ready: Notify,
    /// Something was committed in some session.
    pub(super) any: Notify,
}

type Waiters = Arc<Mutex<HashMap<SessionUid, watch::Sender<()>>>>;

/// A log that is being followed.
struct FollowedLog {
    /// Number of the last event that followers were sent.
    position: i64,
    followers: Vec<mpsc::Sender<Fanned>>,
}

/// What the reader of the logs is to look at.
#[derive(Debug, Default)]
pub(super) struct ReaderWork {
    /// Logs that have grown.
    pub(super) logs: HashSet<SessionUid>,
    /// Sessions in which another server stored progress.
    pub(super) progress: HashSet<SessionUid>,
    /// Every log, and progress everywhere.
    pub(super) everything: bool,
}

/// Tells that a session has changed.
pub struct SessionTouches {
    session: SessionUid,
    receiver: Option<watch::Receiver<()>>,
    waiters: Waiters,
}

impl SessionRegistry {
    pub(super) fn touched(&self, session: SessionUid) {
        if let Some(waiter) = lock(&self.waiters).get(&session) {
            waiter.send_replace(());
        }
        if lock(&self.logs).contains_key(&session) {
            lock(&self.work).logs.insert(session);
            self.work_ready.notify_one();
        }
        self.any.notify_one();
    }

    pub(super) fn all_touched(&self) {
        for waiter in lock(&self.waiters).values() {
            waiter.send_replace(());
        }
        lock(&self.work).everything = true;
        self.work_ready.notify_one();
        self.any.notify_one();
    }

    /// Progress that this server stored.
    pub(super) fn progress(&self, session: SessionUid, task: TaskId, progress: Progress) {
        if let Some(log) = lock(&self.logs).get(&session) {
            let progress = Arc::new(TaskProgress {
                task_id: task.to_string(),
                progress: Some(progress),
            });
            for follower in &log.followers {
                if follower.max_capacity() - follower.capacity() <= MAX_PROGRESS_LAG {
                    // Progress may be missed.
                    let _ = follower.try_send(Fanned::Progress(Arc::clone(&progress)));
                }
            }
        }
    }

    /// Another server stored progress.
    pub(super) fn progress_elsewhere(&self, session: SessionUid) {
        if lock(&self.logs).contains_key(&session) {
            lock(&self.work).progress.insert(session);
        }
    }

    pub(super) fn subscribe(&self, session: SessionUid) -> SessionTouches {
        let receiver = lock(&self.waiters)
            .entry(session)
            .or_insert_with(|| watch::Sender::new(()))
            .subscribe();
        SessionTouches {
            session,
            receiver: Some(receiver),
            waiters: Arc::clone(&self.waiters),
        }
    }

    /// Sends what follows event `position` of the log, or, where the log is already followed, what follows a later one.
    pub(super) fn follow(&self, session: SessionUid, position: i64) -> mpsc::Receiver<Fanned> {
        let (sender, receiver) = mpsc::channel(MAX_LAG);
        let mut logs = lock(&self.logs);
        let log = logs.entry(session).or_insert(FollowedLog {
            position,
            followers: Vec::new(),
        });
        log.followers.retain(|follower| !follower.is_closed());
        if log.followers.is_empty() {
            log.position = position;
        }
        log.followers.push(sender);
        receiver
    }

    /// The followed logs with their positions; those that nobody follows any more are forgotten.
    pub(super) fn followed(&self) -> Vec<(SessionUid, i64)> {
        let mut logs = lock(&self.logs);
        logs.retain(|_, log| {
            log.followers.retain(|follower| !follower.is_closed());
            !log.followers.is_empty()
        });
        logs.iter()
            .map(|(session, log)| (*session, log.position))
            .collect()
    }

    /// Positions of those of the logs that are followed.
    pub(super) fn positions(
        &self,
        sessions: impl Iterator<Item = SessionUid>,
    ) -> Vec<(SessionUid, i64)> {
        let logs = lock(&self.logs);
        sessions
            .filter_map(|session| logs.get(&session).map(|log| (session, log.position)))
            .collect()
    }

    /// Hands a page to the followers of its log. One that has no room is let go; it reads the log by itself.
    pub(super) fn fan_out(&self, page: SessionPage) {
        let mut logs = lock(&self.logs);
        let Some(log) = logs.get_mut(&page.session) else {
            return;
        };
        if page.last_seq <= log.position {
            return;
        }
        log.position = page.last_seq;
        let page = Arc::new(page);
        log.followers
            .retain(|follower| follower.try_send(Fanned::Page(Arc::clone(&page))).is_ok());
    }

    /// Waits for something to read.
    pub(super) async fn work_ready(&self) {
        self.work_ready.notified().await;
    }

    /// Takes what is to be read.
    pub(super) fn take_work(&self) -> ReaderWork {
        std::mem::take(&mut *lock(&self.work))
    }

    /// The log has more to read than was read.
    pub(super) fn read_on(&self, session: SessionUid) {
        lock(&self.work).logs.insert(session);
        self.work_ready.notify_one();
    }
}

impl SessionTouches {
    /// Waits until the session may have changed since the last call. Safe to drop and call again.
    pub async fn touched(&mut self) {
        if let Some(receiver) = &mut self.receiver
            && receiver.changed().await.is_ok()
        {
            return;
        }
        // The hub is gone, and with it the server: nothing will come.
        std::future::pending().await
    }
}

impl Drop for SessionTouches {
    fn drop(&mut self) {
        let mut waiters = lock(&self.waiters);
        self.receiver = None;
        if waiters
            .get(&self.session)
            .is_some_and(|sender| sender.receiver_count() == 0)
        {
            waiters.remove(&self.session);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: SessionUid = SessionUid(1);

    fn page(seq: i64) -> SessionPage {
        SessionPage {
            session: SESSION,
            first_seq: seq,
            last_seq: seq,
            events: Vec::new(),
        }
    }

    #[tokio::test]
    async fn a_touch_before_the_wait_is_not_lost_and_others_are_not_told() {
        let registry = SessionRegistry::default();
        let mut mine = registry.subscribe(SESSION);
        let mut other = registry.subscribe(SessionUid(2));
        registry.touched(SESSION);
        mine.touched().await;
        assert!(futures::FutureExt::now_or_never(other.touched()).is_none());
        registry.all_touched();
        other.touched().await;
    }

    #[test]
    fn a_session_that_nobody_waits_for_is_forgotten() {
        let registry = SessionRegistry::default();
        let first = registry.subscribe(SESSION);
        let second = registry.subscribe(SESSION);
        drop(first);
        assert_eq!(lock(&registry.waiters).len(), 1);
        drop(second);
        assert_eq!(lock(&registry.waiters).len(), 0);
        drop(registry.follow(SESSION, 0));
        assert_eq!(registry.followed(), vec![]);
    }

    #[test]
    fn a_follower_that_lags_is_let_go_and_the_others_go_on() {
        let registry = SessionRegistry::default();
        let mut slow = registry.follow(SESSION, 0);
        let mut quick = registry.follow(SESSION, 0);
        let count = i64::try_from(MAX_LAG).unwrap_or(i64::MAX) + 5;
        for seq in 1..=count {
            registry.fan_out(page(seq));
            assert!(matches!(quick.try_recv(), Ok(Fanned::Page(page)) if page.first_seq == seq));
        }
        let kept = std::iter::from_fn(|| slow.try_recv().ok()).count();
        assert_eq!(kept, MAX_LAG);
        assert!(slow.is_closed() && !quick.is_closed());
        assert_eq!(registry.followed(), vec![(SESSION, count)]);
    }

    #[test]
    fn progress_never_takes_the_room_of_pages() {
        let registry = SessionRegistry::default();
        let mut follower = registry.follow(SESSION, 0);
        for _ in 0..MAX_LAG * 2 {
            registry.progress(SESSION, TaskId(1), Progress::default());
        }
        registry.fan_out(page(1));
        let last = std::iter::from_fn(|| follower.try_recv().ok()).last();
        assert!(matches!(last, Some(Fanned::Page(_))));
    }
}
