//! One session in a watch: where it starts, its events, and starting afresh. Its snapshot is in `watch_snapshot`.

use super::{
    cursor::Cursor,
    outage::{Outage, retry},
    outbox::{Outbox, StreamEnd},
    refusal::Refusal,
    task_traits,
    watch_filter::WatchFilter,
};
use crate::{
    app::App,
    events::{FeedItem, SessionFeed},
    store::log_read,
};
use std::{convert::Infallible, time::Duration};
use taskyard_core::id::{SessionUid, TaskId};
use taskyard_proto::v1::{
    Keepalive, Resync, SessionEvent, SessionEventType, TaskProgress, WatchResponse,
    watch_response::Item,
};
use tokio::{sync::watch, time::Instant};

/// After so many events that a filter keeps back the cursor is sent without waiting.
const MAX_KEPT_BACK: usize = 1_000;

/// What the sessions of one stream share.
#[derive(Clone, Copy)]
pub struct WatchedStream<'a> {
    /// The server.
    pub app: &'a App,
    /// Where items are put.
    pub outbox: &'a Outbox<WatchResponse>,
    /// Which of them.
    pub filter: &'a WatchFilter,
    /// How long a cursor may stay behind what the filter keeps back.
    pub keepalive: Duration,
}

/// One watched session of one stream.
pub struct SessionWatch<'a> {
    pub(super) app: &'a App,
    pub(super) outbox: &'a Outbox<WatchResponse>,
    pub(super) filter: &'a WatchFilter,
    keepalive: Duration,
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

/// Events that the filter kept back since the last item with a cursor.
struct KeptBack {
    /// Number of the last one.
    seq: i64,
    count: usize,
    /// When the cursor is sent at the latest.
    due: Instant,
}

impl<'a> SessionWatch<'a> {
    /// A session of a stream.
    #[must_use]
    pub fn new(stream: WatchedStream<'a>, namespace_id: i32, session_id: String) -> Self {
        Self {
            app: stream.app,
            outbox: stream.outbox,
            filter: stream.filter,
            keepalive: stream.keepalive,
            namespace_id,
            session_id,
            identity: stream.app.events.identity(),
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
        // in boxes: these are over soon, and following, which is not, needs much less
        let (mut session, mut seq) = match cursor {
            None => Box::pin(self.start(found)).await?,
            Some(cursor) => match Box::pin(self.resume(found, cursor)).await? {
                Ok(place) => place,
                Err(reason) => Box::pin(self.start_afresh(found, reason)).await?,
            },
        };
        loop {
            let reason = match self.follow(session, seq).await? {
                Break::Deleted => {
                    let found = self.find().await?;
                    (session, seq) = Box::pin(self.start(found)).await?;
                    continue;
                }
                Break::Trimmed => "events that were still to be sent are no longer kept",
                Break::OtherStore => "the store is another one since a restore or failover",
            };
            let found = self.find().await?;
            (session, seq) = Box::pin(self.start_afresh(found, reason)).await?;
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

    /// Sends the events after `seq` until that cannot go on.
    async fn follow(&mut self, session: SessionUid, seq: i64) -> Result<Break, StreamEnd> {
        let mut feed = self.app.events.follow(session, seq);
        let mut kept_back: Option<KeptBack> = None;
        loop {
            let due = kept_back.as_ref().map(|kept_back| kept_back.due);
            let item = tokio::select! {
                changed = self.identity.changed() => match changed {
                    Ok(()) => return Ok(Break::OtherStore),
                    Err(_) => return Err(Refusal::ShuttingDown.into()),
                },
                item = next_item(&mut feed) => item?,
                () = at(due) => {
                    self.send_cursor(session, kept_back.take()).await?;
                    continue;
                }
            };
            match &item {
                FeedItem::Events(..) => {
                    let is_deleted = self
                        .send_events(session, item.events(), &mut kept_back)
                        .await?;
                    if is_deleted {
                        return Ok(Break::Deleted);
                    }
                }
                FeedItem::Progress(progress) => self.send_progress(progress).await?,
                FeedItem::Trimmed => return Ok(Break::Trimmed),
            }
        }
    }

    /// Sends those that the filter lets through; whether the last one says that the session was deleted, which every
    /// filter does.
    async fn send_events(
        &self,
        session: SessionUid,
        events: &[SessionEvent],
        kept_back: &mut Option<KeptBack>,
    ) -> Result<bool, StreamEnd> {
        let asked: Vec<TaskId> = events
            .iter()
            .filter(|event| self.filter.asks_for_traits(event))
            .filter_map(|event| event.task_id.parse().ok())
            .collect();
        let traits = retry(|| task_traits::find(self.app, &asked)).await?;
        for event in events {
            if event.r#type() == SessionEventType::SessionDeleted {
                let cursor = self.cursor(session, event.seq);
                self.send(cursor, Item::Event(event.clone())).await?;
                return Ok(true);
            }
            let own = event
                .task_id
                .parse()
                .ok()
                .and_then(|id: TaskId| traits.get(&id));
            if self.filter.passes(event, own.map(|own| &**own)) {
                let cursor = self.cursor(session, event.seq);
                self.send(cursor, Item::Event(event.clone())).await?;
                *kept_back = None;
                continue;
            }
            let kept = kept_back.get_or_insert_with(|| KeptBack {
                seq: event.seq,
                count: 0,
                due: Instant::now() + self.keepalive,
            });
            kept.seq = event.seq;
            kept.count += 1;
            if kept.count >= MAX_KEPT_BACK {
                self.send_cursor(session, kept_back.take()).await?;
            }
        }
        Ok(false)
    }

    /// Tells where to resume after events that were kept back.
    async fn send_cursor(
        &self,
        session: SessionUid,
        kept_back: Option<KeptBack>,
    ) -> Result<(), StreamEnd> {
        let Some(kept_back) = kept_back else {
            return Ok(());
        };
        let cursor = self.cursor(session, kept_back.seq);
        self.send(cursor, Item::Keepalive(Keepalive {})).await
    }

    async fn send_progress(&self, progress: &TaskProgress) -> Result<(), StreamEnd> {
        let task_id = &progress.task_id;
        let asked: Vec<TaskId> = if self.filter.asks_for_traits_of_progress(task_id) {
            task_id.parse().ok().into_iter().collect()
        } else {
            Vec::new()
        };
        let traits = retry(|| task_traits::find(self.app, &asked)).await?;
        let own = traits.values().next().map(|own| &**own);
        if self.filter.passes_progress(task_id, own) {
            self.send(String::new(), Item::Progress(progress.clone()))
                .await?;
        }
        Ok(())
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

    pub(super) fn cursor(&self, session: SessionUid, seq: i64) -> String {
        Cursor::new(&self.identity.borrow(), session, seq).encode()
    }

    pub(super) fn send(
        &self,
        cursor: String,
        item: Item,
    ) -> impl Future<Output = Result<(), StreamEnd>> {
        let response = WatchResponse {
            session_id: self.session_id.clone(),
            cursor,
            item: Some(item),
        };
        self.outbox.send(response)
    }
}

/// Waits until then; for ever where there is no such time.
async fn at(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
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
