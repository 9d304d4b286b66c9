//! The events of one session, as they come.

use taskyard_proto::v1::watch_response::Item;
use taskyard_proto::v1::{SessionEvent, WatchRequest, WatchResponse, WatchedSession};
use tonic::{Status, Streaming};

use crate::client::{Client, milliseconds};
use crate::wait::{SOON, within};

/// An open watch of one session.
#[derive(Debug)]
pub struct Watcher {
    stream: Streaming<WatchResponse>,
    cursor: String,
}

impl Watcher {
    /// Follows a session from a cursor on; from a snapshot where it is empty.
    pub async fn start(client: &mut Client, session: &str, cursor: &str) -> Watcher {
        let opened = Watcher::try_start(client, session, cursor).await;
        opened.unwrap_or_else(|status| panic!("the watch was refused: {status:?}"))
    }

    /// Follows a session from a cursor on.
    pub async fn try_start(
        client: &mut Client,
        session: &str,
        cursor: &str,
    ) -> Result<Watcher, Status> {
        Watcher::try_start_with(client, session, cursor, WatchRequest::default()).await
    }

    /// As [`Watcher::start`], with the filters of a request.
    pub async fn start_with(
        client: &mut Client,
        session: &str,
        cursor: &str,
        filters: WatchRequest,
    ) -> Watcher {
        let opened = Watcher::try_start_with(client, session, cursor, filters).await;
        opened.unwrap_or_else(|status| panic!("the watch was refused: {status:?}"))
    }

    /// As [`Watcher::try_start`], with the filters of a request.
    pub async fn try_start_with(
        client: &mut Client,
        session: &str,
        cursor: &str,
        filters: WatchRequest,
    ) -> Result<Watcher, Status> {
        let request = WatchRequest {
            sessions: vec![WatchedSession {
                session_id: session.to_owned(),
                cursor: cursor.to_owned(),
            }],
            keepalive: Some(milliseconds(1000)),
            ..filters
        };
        let answer = within("a watch to open", SOON, client.tasks.watch(request)).await?;
        Ok(Watcher {
            stream: answer.into_inner(),
            cursor: cursor.to_owned(),
        })
    }

    /// Where to resume after the last item that was taken.
    pub fn cursor(&self) -> &str {
        &self.cursor
    }

    /// The next item, keepalives included.
    pub async fn next(&mut self) -> Item {
        let message = within("an item of a watch", SOON, self.stream.message()).await;
        let message = message.unwrap_or_else(|status| panic!("the watch broke: {status:?}"));
        let message = message.unwrap_or_else(|| panic!("the watch ended"));
        if !message.cursor.is_empty() {
            self.cursor = message.cursor;
        }
        message
            .item
            .unwrap_or_else(|| panic!("an item without anything"))
    }

    /// The next event; what is no event is passed over.
    pub async fn next_event(&mut self) -> SessionEvent {
        within("an event", SOON, async {
            loop {
                if let Item::Event(event) = self.next().await {
                    return event;
                }
            }
        })
        .await
    }

    /// Events up to and with the first that `is_last` accepts.
    pub async fn events_until(
        &mut self,
        is_last: impl Fn(&SessionEvent) -> bool,
    ) -> Vec<SessionEvent> {
        let mut events = Vec::new();
        loop {
            let event = self.next_event().await;
            let ends = is_last(&event);
            events.push(event);
            if ends {
                return events;
            }
        }
    }
}
