//! The sending side of a long stream: a bounded buffer, an end that cannot be lost, and a limit to how long a reader
//! may take nothing. What waits in all streams of one caller is bounded together; a stream for which there is no room beside
//! the others holds its next item only, so whoever reads goes on.

use super::refusal::Refusal;
use crate::{
    limits::turns::{self, Turn},
    store::StoreError,
};
use futures::Stream;
use std::{
    convert::Infallible,
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    sync::{
        Notify,
        mpsc::{self, error::SendError},
    },
    time::{Instant, timeout},
};

/// A reader that takes nothing for this long is dropped.
const MAX_STALL: Duration = Duration::from_secs(60);

/// Where a stream's items are put.
pub struct Outbox<T> {
    sender: mpsc::Sender<Box<Waiting<T>>>,
    weigh: fn(&T) -> usize,
    taken: Arc<Notify>,
    end: Arc<Mutex<Option<Refusal>>>,
    last_sent: Mutex<Instant>,
}

/// What a caller reads.
pub struct Outgoing<T> {
    receiver: mpsc::Receiver<Box<Waiting<T>>>,
    /// What was taken last, which the transport has not sent before it asks for more.
    sending: Option<Turn>,
    taken: Arc<Notify>,
    end: Arc<Mutex<Option<Refusal>>>,
}

/// An item with the room that it takes. Always boxed: a channel keeps places for some dozens at any time, and what sends is
/// as large as its largest item.
struct Waiting<T> {
    item: T,
    room: Option<Turn>,
}

/// Why a stream ends before its time.
#[derive(Debug)]
pub enum StreamEnd {
    /// Its reader has gone.
    Gone,
    /// It cannot go on.
    Refused(Refusal),
}

impl<T> Outbox<T> {
    /// An outbox that holds up to `capacity` items for its reader, each of as many bytes as `weigh` says.
    #[must_use]
    pub fn open(capacity: usize, weigh: fn(&T) -> usize) -> (Self, Outgoing<T>) {
        let (sender, receiver) = mpsc::channel(capacity);
        let end = Arc::new(Mutex::new(None));
        let taken = Arc::new(Notify::new());
        let outbox = Self {
            sender,
            weigh,
            taken: Arc::clone(&taken),
            end: Arc::clone(&end),
            last_sent: Mutex::new(Instant::now()),
        };
        let outgoing = Outgoing {
            receiver,
            sending: None,
            taken,
            end,
        };
        (outbox, outgoing)
    }

    /// Puts an item, waiting for room.
    ///
    /// # Errors
    /// [`StreamEnd`] if the reader has gone or takes nothing for a minute.
    pub fn send(&self, item: T) -> impl Future<Output = Result<(), StreamEnd>> {
        self.send_boxed(Box::new(Waiting { item, room: None }))
    }

    async fn send_boxed(&self, waiting: Box<Waiting<T>>) -> Result<(), StreamEnd> {
        match timeout(MAX_STALL, self.put(waiting)).await {
            Ok(Ok(())) => {
                *lock(&self.last_sent) = Instant::now();
                Ok(())
            }
            Ok(Err(_)) => Err(StreamEnd::Gone),
            Err(_) => Err(StreamEnd::Refused(Refusal::ReaderStalled)),
        }
    }

    async fn put(&self, mut waiting: Box<Waiting<T>>) -> Result<(), SendError<()>> {
        waiting.room = self.room((self.weigh)(&waiting.item)).await;
        self.sender.reserve().await?.send(waiting);
        Ok(())
    }

    /// Room for so many bytes; none, once nothing else waits.
    async fn room(&self, bytes: usize) -> Option<Turn> {
        let mut room = pin!(turns::unread(bytes));
        loop {
            let taken = self.taken.notified();
            if self.sender.capacity() == self.sender.max_capacity() {
                return None;
            }
            tokio::select! {
                room = &mut room => return Some(room),
                () = taken => {}
            }
        }
    }

    /// Puts what `make` makes after each `silence` without another item.
    ///
    /// # Errors
    /// As [`Outbox::send`]; it ends no other way.
    pub async fn keep_alive(
        &self,
        silence: Duration,
        make: impl Fn() -> T,
    ) -> Result<Infallible, StreamEnd> {
        loop {
            let due = *lock(&self.last_sent) + silence;
            if due <= Instant::now() {
                self.send(make()).await?;
            } else {
                tokio::time::sleep_until(due).await;
            }
        }
    }

    /// Waits until the reader has gone.
    pub async fn closed(&self) {
        self.sender.closed().await;
    }

    /// Ends the stream after what was put; with a refusal if it ends for one.
    pub fn finish(self, end: Result<(), StreamEnd>) {
        if let Err(StreamEnd::Refused(refusal)) = end {
            *lock(&self.end) = Some(refusal);
        }
    }
}

impl<T> Stream for Outgoing<T> {
    type Item = Result<T, Refusal>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.sending = None;
        match self.receiver.poll_recv(context) {
            Poll::Ready(Some(waiting)) => {
                let Waiting { item, room } = *waiting;
                self.sending = room;
                self.taken.notify_waiters();
                Poll::Ready(Some(Ok(item)))
            }
            Poll::Ready(None) => Poll::Ready(lock(&self.end).take().map(Err)),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl From<Refusal> for StreamEnd {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<StoreError> for StreamEnd {
    fn from(error: StoreError) -> Self {
        Self::Refused(Refusal::Store(error))
    }
}

/// What is behind these locks is one value, whole at any time.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::turns::{Scarce, Turns};
    use futures::StreamExt;

    const MOMENT: Duration = Duration::from_millis(1);

    #[tokio::test]
    async fn the_end_comes_after_what_was_sent() {
        let (outbox, mut outgoing) = Outbox::open(2, size_of_val);
        assert!(outbox.send(1).await.is_ok() && outbox.send(2).await.is_ok());
        outbox.finish(Err(Refusal::ShuttingDown.into()));
        assert!(matches!(outgoing.next().await, Some(Ok(1))));
        assert!(matches!(outgoing.next().await, Some(Ok(2))));
        assert!(matches!(
            outgoing.next().await,
            Some(Err(Refusal::ShuttingDown))
        ));
        assert!(outgoing.next().await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_reads_is_bounded_for_a_caller_and_who_reads_goes_on() {
        let share = Scarce::Unread.share() as usize;
        let turns = Turns::default();
        let open = || Outbox::open(2 * share, |_: &i32| 1 << 10);
        let (unread, _reader) = open();
        turns
            .scope(async {
                // one is free
                for item in 0..=share {
                    let item = i32::try_from(item).expect("small");
                    assert!(timeout(MOMENT, unread.send(item)).await.is_ok(), "{item}");
                }
                let (read, mut reader) = open();
                for item in 0..10 {
                    assert!(
                        timeout(MOMENT, read.send(item)).await.is_ok(),
                        "the only one"
                    );
                    assert!(
                        timeout(MOMENT, read.send(item)).await.is_err(),
                        "a second one"
                    );
                    assert!(matches!(reader.next().await, Some(Ok(next)) if next == item));
                }
                let end = unread.send(0).await;
                assert!(matches!(
                    end,
                    Err(StreamEnd::Refused(Refusal::ReaderStalled))
                ));
            })
            .await;
        let (others, _reader) = open();
        Turns::default()
            .scope(async {
                for item in 0..2 {
                    assert!(timeout(MOMENT, others.send(item)).await.is_ok());
                }
            })
            .await;
    }

    #[tokio::test]
    async fn a_reader_that_leaves_ends_the_sending() {
        let (outbox, outgoing) = Outbox::open(1, size_of_val);
        drop(outgoing);
        outbox.closed().await;
        assert!(matches!(outbox.send(1).await, Err(StreamEnd::Gone)));
    }
}
