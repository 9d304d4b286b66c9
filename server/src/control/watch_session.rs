//! One session in a watch: where it starts, its snapshot, its events, and starting afresh.

use super::{
    cursor::Cursor,
    outage::{Outage, retry},
    outbox::{Outbox, StreamEnd},
    refusal::Refusal,
};
use crate::{
    app::App,
    events::{FeedItem, SessionFeed},
    store::{
        StoreError,
        log_read::{self, LogBounds, Moment, SessionPage},
        records::TaskRecord,
    },
};
use std::{collections::BTreeSet, convert::Infallible};
use taskyard_core::id::{SessionUid, TaskId};
use taskyard_proto::v1::{
    Resync, SessionEventType, SnapshotComplete, WatchResponse, watch_response::Item,
};
use tokio::sync::{Semaphore, watch};

/// Tasks of a snapshot that are read at once.
const TASKS_PER_READ: i64 = 100;
/// Pages of the log, and about so many changed tasks, that are read at once to bring a snapshot up to date.
const CHANGE_PAGES_PER_READ: i64 = 64;
const CHANGED_TASKS_PER_READ: usize = 200;

/// Snapshots read at the same time, so that they leave connections to everybody else.
static SNAPSHOT_READS: Semaphore = Semaphore::const_new(4);

/// One watched session of one stream.
pub struct SessionWatch<'a> {
    app: &'a App,
    outbox: &'a Outbox<WatchResponse>,
    namespace_id: i32,
    session_id: String,
    identity: watch::Receiver<String>,
}

/// What becomes of following a log.
enum Break {
    /// The next events are no longer kept.
    Trimmed,
    /// The store is another one.
    OtherStore,
    /// The session was deleted, and the watcher was told.
    Deleted,
}

/// A snapshot that is being made.
#[derive(Default)]
struct Snapshot {
    tasks: i64,
    last_ordinal: i64,
    /// Number of the last event before the first read, once there was one.
    begun_at: Option<i64>,
}

impl<'a> SessionWatch<'a> {
    /// A session of a stream.
    #[must_use]
    pub fn new(
        app: &'a App,
        outbox: &'a Outbox<WatchResponse>,
        namespace_id: i32,
        session_id: String,
    ) -> Self {
        Self {
            app,
            outbox,
            namespace_id,
            session_id,
            identity: app.events.identity(),
        }
    }

    /// Follows the session; `found` is its number, if it exists.
    ///
    /// # Errors
    /// [`StreamEnd`]; it ends no other way.
    pub async fn run(
        mut self,
        found: Option<SessionUid>,
        cursor: Option<Cursor>,
    ) -> Result<Infallible, StreamEnd> {
        let (mut session, mut seq) = match cursor {
            None => self.start(found).await?,
            Some(cursor) => match self.resume(found, cursor).await? {
                Ok(place) => place,
                Err(reason) => self.start_afresh(found, reason).await?,
            },
        };
        loop {
            let reason = match self.follow(session, seq).await? {
                Break::Deleted => {
                    let found = self.find().await?;
                    (session, seq) = self.start(found).await?;
                    continue;
                }
                Break::Trimmed => "events that were still to be sent are no longer kept",
                Break::OtherStore => "the store is another one since a restore or failover",
            };
            let found = self.find().await?;
            (session, seq) = self.start_afresh(found, reason).await?;
        }
    }

    /// Where to go on for a cursor, or why that is not possible.
    async fn resume(
        &mut self,
        found: Option<SessionUid>,
        cursor: Cursor,
    ) -> Result<Result<(SessionUid, i64), &'static str>, StreamEnd> {
        if !cursor.is_of(&self.identity.borrow_and_update()) {
            return Ok(Err(
                "the cursor is of another store, or of this one before a restore or failover",
            ));
        }
        let session = match (found, cursor.session.0) {
            (Some(session), 0) => session,
            (None, 0) => self.arrival().await,
            (Some(session), uid) if session.0 == uid => session,
            (Some(_) | None, _) => {
                return Ok(Err(
                    "the cursor is of another session, or of one that was deleted",
                ));
            }
        };
        let bounds = retry(|| log_read::log_bounds(self.app.store.pool(), session)).await?;
        Ok(match bounds {
            None => Err("the session was deleted"),
            Some(bounds) if cursor.seq >= bounds.next_seq => {
                Err("the cursor is ahead of the store")
            }
            Some(bounds) if cursor.seq + 1 < bounds.first_seq => {
                Err("the events after the cursor are no longer kept")
            }
            Some(_) => Ok((session, cursor.seq)),
        })
    }

    async fn start_afresh(
        &mut self,
        found: Option<SessionUid>,
        reason: &str,
    ) -> Result<(SessionUid, i64), StreamEnd> {
        let reason = reason.to_owned();
        self.send(String::new(), Item::Resync(Resync { reason }))
            .await?;
        self.start(found).await
    }

    /// Sends a snapshot, waiting for the session to exist if need be, and says where its events go on.
    async fn start(&mut self, found: Option<SessionUid>) -> Result<(SessionUid, i64), StreamEnd> {
        self.identity.mark_unchanged();
        let Some(session) = found else {
            self.complete_snapshot(SessionUid(0), 0, 0).await?;
            return Ok((self.arrival().await, 0));
        };
        loop {
            if let Some(seq) = self.send_snapshot(session).await? {
                return Ok((session, seq));
            }
            let reason = "what changed during the snapshot is no longer kept".to_owned();
            self.send(String::new(), Item::Resync(Resync { reason }))
                .await?;
        }
    }

    /// Sends every task and the end of the snapshot; answers the number of the last event that it covers, or none if
    /// the log was trimmed meanwhile.
    ///
    /// Tasks are read in pages, each at a moment of its own, so that a slow reader holds no transaction. What changed
    /// in the meantime is found in the log and sent again, until one moment sees the last of the changes together with
    /// the end of the log: the snapshot then stands exactly there.
    async fn send_snapshot(&self, session: SessionUid) -> Result<Option<i64>, StreamEnd> {
        let mut snapshot = Snapshot::default();
        let mut seen_to = loop {
            let (bounds, tasks) = retry(|| self.read_tasks(session, snapshot.last_ordinal)).await?;
            let seq = bounds.next_seq - 1;
            let is_last = i64::try_from(tasks.len()).is_ok_and(|count| count < TASKS_PER_READ);
            self.send_tasks(&mut snapshot, tasks).await?;
            match snapshot.begun_at {
                None if is_last => {
                    self.complete_snapshot(session, seq, snapshot.tasks).await?;
                    return Ok(Some(seq));
                }
                None => snapshot.begun_at = Some(seq),
                Some(begun_at) if is_last => break begun_at,
                Some(_) => {}
            }
        };
        loop {
            let Some((bounds, changed_to, tasks)) =
                retry(|| self.read_changes(session, seen_to)).await?
            else {
                return Ok(None);
            };
            self.send_tasks(&mut snapshot, tasks).await?;
            seen_to = changed_to;
            if changed_to + 1 >= bounds.next_seq {
                self.complete_snapshot(session, changed_to, snapshot.tasks)
                    .await?;
                return Ok(Some(changed_to));
            }
        }
    }

    async fn read_tasks(
        &self,
        session: SessionUid,
        after_ordinal: i64,
    ) -> Result<(LogBounds, Vec<TaskRecord>), StoreError> {
        let _slot = SNAPSHOT_READS.acquire().await;
        let mut moment = Moment::begin(&self.app.store).await?;
        let bounds = moment.log_bounds(session).await?.unwrap_or(NO_LOG);
        let tasks = moment
            .tasks_by_ordinal(session, after_ordinal, TASKS_PER_READ)
            .await?;
        Ok((bounds, tasks))
    }

    /// Tasks that the events after `seen_to` are about, as far as they fit, with the number of the last of those
    /// events; none if some of them are no longer kept.
    async fn read_changes(
        &self,
        session: SessionUid,
        seen_to: i64,
    ) -> Result<Option<(LogBounds, i64, Vec<TaskRecord>)>, StoreError> {
        let _slot = SNAPSHOT_READS.acquire().await;
        let mut moment = Moment::begin(&self.app.store).await?;
        let bounds = moment.log_bounds(session).await?.unwrap_or(NO_LOG);
        let pages = moment
            .read_pages(session, seen_to, CHANGE_PAGES_PER_READ)
            .await?;
        let Some((changed_to, ids)) = changed_tasks(&pages, seen_to) else {
            return Ok(None);
        };
        if pages.is_empty() && seen_to + 1 < bounds.next_seq {
            return Ok(None);
        }
        let tasks = moment.tasks(&ids).await?;
        Ok(Some((bounds, changed_to, tasks)))
    }

    async fn send_tasks(
        &self,
        snapshot: &mut Snapshot,
        tasks: Vec<TaskRecord>,
    ) -> Result<(), StreamEnd> {
        for record in tasks {
            let mut task = record.task;
            if task.ordinal > snapshot.last_ordinal {
                snapshot.last_ordinal = task.ordinal;
                snapshot.tasks += 1;
            }
            task.spec = None;
            self.send(String::new(), Item::Snapshot(task)).await?;
        }
        Ok(())
    }

    async fn complete_snapshot(
        &self,
        session: SessionUid,
        seq: i64,
        tasks: i64,
    ) -> Result<(), StreamEnd> {
        let cursor = self.cursor(session, seq);
        self.send(cursor, Item::SnapshotComplete(SnapshotComplete { tasks }))
            .await
    }

    /// Sends the events after `seq` until that cannot go on.
    async fn follow(&mut self, session: SessionUid, seq: i64) -> Result<Break, StreamEnd> {
        let mut feed = self.app.events.follow(session, seq);
        loop {
            let item = tokio::select! {
                changed = self.identity.changed() => match changed {
                    Ok(()) => return Ok(Break::OtherStore),
                    Err(_) => return Err(Refusal::ShuttingDown.into()),
                },
                item = next_item(&mut feed) => item?,
            };
            for event in item.events() {
                let cursor = self.cursor(session, event.seq);
                self.send(cursor, Item::Event(event.clone())).await?;
                if event.r#type() == SessionEventType::SessionDeleted {
                    return Ok(Break::Deleted);
                }
            }
            match item {
                FeedItem::Events(..) => {}
                FeedItem::Progress(progress) => {
                    self.send(String::new(), Item::Progress((*progress).clone()))
                        .await?;
                }
                FeedItem::Trimmed => return Ok(Break::Trimmed),
            }
        }
    }

    async fn find(&self) -> Result<Option<SessionUid>, StreamEnd> {
        let wanted = [(self.namespace_id, self.session_id.clone())];
        let found = retry(|| log_read::find_sessions(self.app.store.pool(), &wanted)).await?;
        Ok(found.first().map(|session| session.uid))
    }

    async fn arrival(&self) -> SessionUid {
        self.app
            .events
            .session_arrives(self.namespace_id, &self.session_id)
            .await
    }

    fn cursor(&self, session: SessionUid, seq: i64) -> String {
        Cursor::new(&self.identity.borrow(), session, seq).encode()
    }

    async fn send(&self, cursor: String, item: Item) -> Result<(), StreamEnd> {
        let response = WatchResponse {
            session_id: self.session_id.clone(),
            cursor,
            item: Some(item),
        };
        self.outbox.send(response).await
    }
}

/// The log of a session that is gone.
const NO_LOG: LogBounds = LogBounds {
    first_seq: 1,
    next_seq: 1,
};

/// The tasks that whole pages after `seen_to` are about, and the last event of those pages; none if one is missing.
fn changed_tasks(pages: &[SessionPage], seen_to: i64) -> Option<(i64, Vec<TaskId>)> {
    let mut ids = BTreeSet::new();
    let mut changed_to = seen_to;
    for page in pages {
        if page.first_seq > changed_to + 1 {
            return None;
        }
        if ids.len() >= CHANGED_TASKS_PER_READ {
            break;
        }
        ids.extend(
            page.events
                .iter()
                .filter_map(|event| event.task_id.parse::<TaskId>().ok()),
        );
        changed_to = page.last_seq;
    }
    Some((changed_to, ids.into_iter().collect()))
}

async fn next_item(feed: &mut SessionFeed) -> Result<FeedItem, StreamEnd> {
    let mut outage = Outage::default();
    loop {
        match feed.next().await {
            Ok(item) => return Ok(item),
            Err(error) => outage.wait(error).await?,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use taskyard_proto::v1::SessionEvent;

    fn page(first_seq: i64, tasks: std::ops::Range<u128>) -> SessionPage {
        let events: Vec<SessionEvent> = tasks
            .map(|task| SessionEvent {
                task_id: TaskId(task).to_string(),
                ..SessionEvent::default()
            })
            .collect();
        SessionPage {
            session: SessionUid(1),
            first_seq,
            last_seq: first_seq + i64::try_from(events.len()).unwrap_or(0) - 1,
            events,
        }
    }

    #[test]
    fn changes_are_taken_in_whole_pages_up_to_a_bound() {
        assert_eq!(changed_tasks(&[], 7), Some((7, vec![])));
        let twice = [page(8, 1..3), page(10, 2..3)];
        assert_eq!(
            changed_tasks(&twice, 7),
            Some((10, vec![TaskId(1), TaskId(2)]))
        );
        let many = [page(1, 0..250), page(251, 250..260)];
        let (changed_to, ids) = changed_tasks(&many, 0).unwrap_or_default();
        assert_eq!((changed_to, ids.len()), (250, 250));
    }

    #[test]
    fn a_hole_in_the_log_is_noticed() {
        assert_eq!(changed_tasks(&[page(9, 0..1)], 7), None);
        assert_eq!(changed_tasks(&[page(8, 0..1), page(10, 0..1)], 7), None);
    }
}
