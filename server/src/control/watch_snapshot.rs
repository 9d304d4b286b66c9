//! The snapshot of one session in a watch: every task, and the place in the log at which all of them stand so.

use super::{outage::retry, outbox::StreamEnd, watch_session::SessionWatch};
use crate::{
    limits::{places::Places, turns::Scarce},
    store::{
        StoreError,
        log_read::{LogBounds, Moment, SessionPage},
        records::TaskRecord,
    },
};
use std::{collections::BTreeSet, time::Duration};
use taskyard_core::id::{SessionUid, TaskId};
use taskyard_proto::v1::{SnapshotComplete, watch_response::Item};

/// Tasks of a snapshot that are read at once.
const TASKS_PER_READ: i64 = 100;
/// Pages of the log, and about so many changed tasks, that are read at once to bring a snapshot up to date.
const CHANGE_PAGES_PER_READ: i64 = 64;
const CHANGED_TASKS_PER_READ: usize = 200;

/// Snapshots read at the same time, so that they leave connections to everybody else.
static SNAPSHOT_READS: Places = Places::new(Scarce::Snapshot);
/// Longest wait for a place among them.
const PATIENCE: Duration = Duration::from_secs(30);

/// A snapshot that is being made.
#[derive(Default)]
struct Snapshot {
    tasks: i64,
    last_ordinal: i64,
    /// Number of the last event before the first read, once there was one.
    begun_at: Option<i64>,
}

impl SessionWatch<'_> {
    /// Sends every task and the end of the snapshot; answers the number of the last event that it covers, or none if
    /// the log was trimmed meanwhile.
    ///
    /// Tasks are read in pages, each at a moment of its own, so that a slow reader holds no transaction. What changed
    /// in the meantime is found in the log and sent again, until one moment sees the last of the changes together with
    /// the end of the log: the snapshot then stands exactly there.
    pub(super) async fn send_snapshot(
        &self,
        session: SessionUid,
    ) -> Result<Option<i64>, StreamEnd> {
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
        let _slot = SNAPSHOT_READS.take(PATIENCE).await?;
        let mut moment = Moment::begin(&self.app.store).await?;
        let bounds = moment.log_bounds(session).await?.unwrap_or(NO_LOG);
        let tasks = moment
            .tasks_by_ordinal(
                session,
                self.filter.selection(),
                after_ordinal,
                TASKS_PER_READ,
            )
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
        let _slot = SNAPSHOT_READS.take(PATIENCE).await?;
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
            if !self.filter.passes_task(&task) {
                continue;
            }
            if task.ordinal > snapshot.last_ordinal {
                snapshot.last_ordinal = task.ordinal;
                snapshot.tasks += 1;
            }
            task.spec = None;
            self.send(String::new(), Item::Snapshot(task)).await?;
        }
        Ok(())
    }

    pub(super) async fn complete_snapshot(
        &self,
        session: SessionUid,
        seq: i64,
        tasks: i64,
    ) -> Result<(), StreamEnd> {
        let cursor = self.cursor(session, seq);
        self.send(cursor, Item::SnapshotComplete(SnapshotComplete { tasks }))
            .await
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
