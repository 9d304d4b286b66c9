//! The sending side of a long stream: a bounded buffer, an end that cannot be lost, and a limit to how long a reader
//! may take nothing.

use super::refusal::Refusal;
use crate::store::StoreError;
use futures::Stream;
use std::{
    convert::Infallible,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};
use tokio::{sync::mpsc, time::Instant};

/// A reader that takes nothing for this long is dropped.
const MAX_STALL: Duration = Duration::from_secs(60);

/// Where a stream's items are put.
pub struct Outbox<T> {
    sender: mpsc::Sender<T>,
    end: Arc<Mutex<Option<Refusal>>>,
    last_sent: Mutex<Instant>,
}

/// What a caller reads.
pub struct Outgoing<T> {
    receiver: mpsc::Receiver<T>,
    end: Arc<Mutex<Option<Refusal>>>,
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
    /// An outbox that holds up to `capacity` items for its reader.
    #[must_use]
    pub fn open(capacity: usize) -> (Self, Outgoing<T>) {
        let (sender, receiver) = mpsc::channel(capacity);
        let end = Arc::new(Mutex::new(None));
        let outbox = Self {
            sender,
            end: Arc::clone(&end),
            last_sent: Mutex::new(Instant::now()),
        };
        (outbox, Outgoing { receiver, end })
    }

    /// Puts an item, waiting for room.
    ///
    /// # Errors
    /// [`StreamEnd`] if the reader has gone or takes nothing for a minute.
    pub async fn send(&self, item: T) -> Result<(), StreamEnd> {
        match self.sender.send_timeout(item, MAX_STALL).await {
            Ok(()) => {
                *lock(&self.last_sent) = Instant::now();
                Ok(())
            }
            Err(mpsc::error::SendTimeoutError::Closed(_)) => Err(StreamEnd::Gone),
            Err(mpsc::error::SendTimeoutError::Timeout(_)) => {
                Err(StreamEnd::Refused(Refusal::ReaderStalled))
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
        match self.receiver.poll_recv(context) {
            Poll::Ready(Some(item)) => Poll::Ready(Some(Ok(item))),
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
    use futures::StreamExt;

    #[tokio::test]
    async fn the_end_comes_after_what_was_sent() {
        let (outbox, mut outgoing) = Outbox::open(2);
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

    #[tokio::test]
    async fn a_reader_that_leaves_ends_the_sending() {
        let (outbox, outgoing) = Outbox::open(1);
        drop(outgoing);
        outbox.closed().await;
        assert!(matches!(outbox.send(1).await, Err(StreamEnd::Gone)));
    }
}
