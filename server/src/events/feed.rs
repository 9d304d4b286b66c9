//! One watcher's place in one session's log.
//!
//! A feed first reads the log by itself, then joins the shared reader. When it is too slow for that one it is let go,
//! and reads by itself again from where it stands: it slows nobody and misses nothing.

use super::{hub::Shared, sessions::Fanned};
use crate::store::{
    StoreError,
    log_read::{self, SessionPage},
};
use std::{collections::VecDeque, sync::Arc};
use taskyard_core::id::SessionUid;
use taskyard_proto::v1::{SessionEvent, TaskProgress};
use tokio::sync::mpsc;

/// Pages read at once.
const PAGES_PER_READ: i64 = 32;

/// Gives the events of one session in order, each once.
pub struct SessionFeed {
    shared: Arc<Shared>,
    session: SessionUid,
    /// Number of the next event to give.
    next_seq: i64,
    read: VecDeque<Arc<SessionPage>>,
    live: Option<mpsc::Receiver<Fanned>>,
    /// Everything up to what `live` brings was read.
    is_caught_up: bool,
}

/// What a feed gives.
#[derive(Clone, Debug)]
pub enum FeedItem {
    /// The next events: those of the page from this index on.
    Events(Arc<SessionPage>, usize),
    /// Progress of a task, which has no number.
    Progress(Arc<TaskProgress>),
    /// The next events are no longer kept. Nothing more comes from this feed.
    Trimmed,
}

impl FeedItem {
    /// The events in it.
    #[must_use]
    pub fn events(&self) -> &[SessionEvent] {
        match self {
            Self::Events(page, from) => page.events.get(*from..).unwrap_or_default(),
            Self::Progress(_) | Self::Trimmed => &[],
        }
    }
}

impl SessionFeed {
    pub(super) fn new(shared: Arc<Shared>, session: SessionUid, seq: i64) -> Self {
        Self {
            shared,
            session,
            next_seq: seq + 1,
            read: VecDeque::new(),
            live: None,
            is_caught_up: false,
        }
    }

    /// Waits for the next item. Safe to drop and call again; also after an error, where it goes on from the same place.
    ///
    /// # Errors
    /// Any [`StoreError`].
    pub async fn next(&mut self) -> Result<FeedItem, StoreError> {
        loop {
            if let Some(page) = self.read.pop_front() {
                match self.place(&page) {
                    Place::Next(from) => return Ok(self.give(page, from)),
                    Place::Seen => {}
                    Place::Beyond => return Ok(FeedItem::Trimmed),
                }
            } else if !self.is_caught_up {
                self.read_log().await?;
            } else if let Some(live) = &mut self.live {
                match live.recv().await {
                    Some(Fanned::Progress(progress)) => return Ok(FeedItem::Progress(progress)),
                    Some(Fanned::Page(page)) => match self.place(&page) {
                        Place::Next(from) => return Ok(self.give(page, from)),
                        Place::Seen => {}
                        Place::Beyond => self.is_caught_up = false,
                    },
                    None => {
                        self.live = None;
                        self.is_caught_up = false;
                    }
                }
            } else {
                self.is_caught_up = false;
            }
        }
    }

    /// Reads on. Where there is nothing left it joins the shared reader and reads once more, for what came between.
    async fn read_log(&mut self) -> Result<(), StoreError> {
        let after = self.next_seq - 1;
        let pages = log_read::read_pages(
            self.shared.store.pool(),
            &[(self.session, after)],
            PAGES_PER_READ,
        )
        .await?;
        let is_last = i64::try_from(pages.len()).is_ok_and(|count| count < PAGES_PER_READ);
        self.read.extend(pages.into_iter().map(Arc::new));
        if self.live.is_some() {
            self.is_caught_up = is_last;
        } else if self.read.is_empty() {
            self.live = Some(self.shared.sessions.follow(self.session, after));
        }
        Ok(())
    }

    fn place(&self, page: &SessionPage) -> Place {
        if page.last_seq < self.next_seq {
            Place::Seen
        } else if page.first_seq > self.next_seq {
            Place::Beyond
        } else {
            usize::try_from(self.next_seq - page.first_seq).map_or(Place::Beyond, Place::Next)
        }
    }

    fn give(&mut self, page: Arc<SessionPage>, from: usize) -> FeedItem {
        self.next_seq = page.last_seq + 1;
        FeedItem::Events(page, from)
    }
}

/// Where a page lies for a feed.
enum Place {
    /// It was given before.
    Seen,
    /// It holds the next event, at this index.
    Next(usize),
    /// There is something missing before it.
    Beyond,
}
