//! What a client that watches a session and never gives up has seen.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use taskyard_proto::v1::watch_response::Item;
use taskyard_proto::v1::{SessionEvent, TaskState, WatchRequest, WatchedSession};
use taskyard_tests::client::Client;
use taskyard_tests::wait::{SOON, until};
use tokio::task::JoinHandle;

/// Watches one session from before its first task on; goes on from its cursor whenever the stream breaks.
pub struct Journal {
    seen: Arc<Mutex<Seen>>,
    watching: JoinHandle<()>,
}

#[derive(Default)]
struct Seen {
    is_begun: bool,
    streams: usize,
    events: Vec<SessionEvent>,
    trouble: Option<String>,
}

impl Journal {
    /// Begins to watch a session without tasks; returns when the watch stands.
    pub async fn begin(endpoint: &str, session: &str) -> Journal {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let watching = tokio::spawn(watch(endpoint.to_owned(), session.to_owned(), seen.clone()));
        let journal = Journal { seen, watching };
        until("the watch to stand", SOON, async || {
            journal.look(|seen| seen.is_begun)
        })
        .await;
        journal
    }

    /// Waits until these tasks have ended, and answers with all events.
    ///
    /// # Panics
    /// When an event is missing, comes twice, or comes after a task's end with another state.
    pub async fn ended(self, tasks: &[String]) -> Vec<SessionEvent> {
        until("the watch to see every end", SOON, async || {
            let ends = self.look(|seen| ends(&seen.events));
            tasks.iter().all(|task| ends.contains_key(task))
        })
        .await;
        self.watching.abort();
        let (events, trouble) = self.look(|seen| (seen.events.clone(), seen.trouble.clone()));
        assert_eq!(trouble, None);
        for (index, event) in events.iter().enumerate() {
            let first = events[0].seq;
            assert_eq!(
                event.seq,
                first + index as i64,
                "the numbers are contiguous"
            );
        }
        for (task, ends) in ends(&events) {
            assert_eq!(ends.len(), 1, "{task} ended once: {ends:?}");
        }
        events
    }

    /// How many streams it took so far.
    pub fn streams(&self) -> usize {
        self.look(|seen| seen.streams)
    }

    fn look<T>(&self, look: impl FnOnce(&Seen) -> T) -> T {
        look(&self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

/// The ends of each task; an end is a change into a terminal state.
fn ends(events: &[SessionEvent]) -> BTreeMap<String, Vec<TaskState>> {
    let mut ends: BTreeMap<String, Vec<TaskState>> = BTreeMap::new();
    for event in events {
        let state = event.change.as_ref().map(|change| change.state());
        if let Some(state @ (TaskState::Succeeded | TaskState::Failed | TaskState::Canceled)) =
            state
        {
            ends.entry(event.task_id.clone()).or_default().push(state);
        }
    }
    ends
}

async fn watch(endpoint: String, session: String, seen: Arc<Mutex<Seen>>) {
    let mut cursor = String::new();
    loop {
        let Ok(mut client) = Client::try_connect(&endpoint).await else {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            continue;
        };
        let request = WatchRequest {
            sessions: vec![WatchedSession {
                session_id: session.clone(),
                cursor: cursor.clone(),
            }],
            ..WatchRequest::default()
        };
        let Ok(answer) = client.tasks.watch(request).await else {
            continue;
        };
        seen.lock().unwrap_or_else(PoisonError::into_inner).streams += 1;
        let mut stream = answer.into_inner();
        while let Ok(Some(response)) = stream.message().await {
            if !response.cursor.is_empty() {
                cursor = response.cursor;
            }
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            match response.item {
                Some(Item::Event(event)) => seen.events.push(event),
                Some(Item::SnapshotComplete(_)) => seen.is_begun = true,
                Some(Item::Snapshot(task)) => {
                    seen.trouble = Some(format!("a snapshot of {}", task.id))
                }
                Some(Item::Resync(resync)) => {
                    seen.trouble = Some(format!("a resync: {}", resync.reason))
                }
                Some(Item::Progress(_) | Item::Keepalive(_)) | None => {}
            }
        }
    }
}
