//! Turns at what a server has few of, of which each caller has so many at once, so that whatever one of them asks for at
//! a time, the next call of another finds the way free.
//!
//! Who calls is known at the door and nowhere behind it: [`Turns::scope`] puts the caller's turns around a call, and
//! whoever uses what is scarce takes one. What no caller asked for, and what workers report, takes none. What a call leaves
//! running behind it is begun by [`spawn`].
//!
//! A call with one answer needs a turn of its own before its message is read ([`Turns::begin`]): so the messages and the
//! half-made answers of those that wait take no memory, and a call that was begun comes to its end before others are
//! begun. It keeps that turn until its answer is there, or until it waits for something that others do ([`rest`]).

use std::{
    array,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    task::Poll,
    time::Duration,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinHandle,
    time::timeout,
};

/// Longest wait for a connection, or for the group commit, behind other calls of one's own.
const PATIENCE: Duration = Duration::from_secs(10);

tokio::task_local! {
    static CURRENT: Current;
}

/// Whose call is under way.
#[derive(Clone)]
struct Current {
    turns: Turns,
    /// The call's own turn, until it is given back.
    begun: Arc<Mutex<Turn>>,
}

/// What a server has few of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scarce {
    /// Reads that were begun.
    Read,
    /// Calls that change something, and were begun.
    Write,
    /// Connections of the pool.
    Connection,
    /// Changes that wait for the group commit.
    Change,
    /// Reads of a session as a whole, for a watch.
    Snapshot,
    /// Views of output.
    OutputView,
    /// Searches for a place in output.
    OutputSearch,
    /// Searches in files.
    FileSearch,
    /// Files on their way in, in memory.
    IncomingFile,
    /// Files on their way to the object store.
    Upload,
    /// KiB of streams that wait to be read, beyond the next message of each.
    Unread,
}

/// The turns of one caller. A cheap clone.
#[derive(Clone, Debug)]
pub struct Turns(Arc<[Arc<Semaphore>; Scarce::ALL.len()]>);

/// A turn that was taken. Dropped, it is given back.
#[derive(Debug, Default)]
#[must_use = "a turn that is dropped is given back"]
pub struct Turn {
    _permit: Option<OwnedSemaphorePermit>,
}

/// Others were before this one for too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many {what} are waiting; try again in a moment")]
pub struct NoTurn {
    /// What there is too much of.
    pub what: &'static str,
}

impl Scarce {
    const ALL: [Self; 11] = [
        Self::Read,
        Self::Write,
        Self::Connection,
        Self::Change,
        Self::Snapshot,
        Self::OutputView,
        Self::OutputSearch,
        Self::FileSearch,
        Self::IncomingFile,
        Self::Upload,
        Self::Unread,
    ];

    /// How many turns a caller has: less than the server has, so that something is left; and of changes more than a batch
    /// of the group commit takes, so that the batches grow as they would without.
    #[must_use]
    pub const fn share(self) -> u32 {
        match self {
            Self::Read => 32,
            // a commit takes as many along as there are
            Self::Write => 128,
            Self::Connection => 8,
            Self::Change => 512,
            Self::Snapshot | Self::OutputView | Self::OutputSearch | Self::FileSearch => 2,
            Self::IncomingFile => 4,
            Self::Upload => 6,
            Self::Unread => 64 << 10,
        }
    }

    const fn what(self) -> &'static str {
        match self {
            Self::Read | Self::Write | Self::Connection => "calls of this caller",
            Self::Change => "changes of this caller",
            Self::Snapshot => "watches that begin",
            Self::OutputView | Self::OutputSearch => "views of output",
            Self::FileSearch => "searches in files",
            Self::IncomingFile | Self::Upload => "files to be written",
            Self::Unread => "messages",
        }
    }

    pub(super) const fn refusal(self) -> NoTurn {
        NoTurn { what: self.what() }
    }
}

impl Default for Turns {
    fn default() -> Self {
        let turns = |place: usize| Semaphore::new(Scarce::ALL[place].share() as usize);
        Self(Arc::new(array::from_fn(|place| Arc::new(turns(place)))))
    }
}

impl Turns {
    /// Runs a call whose turns these are.
    pub async fn scope<F: Future>(&self, call: F) -> F::Output {
        self.scope_begun(Turn::default(), call).await
    }

    /// As [`Turns::scope`], for a call that has a turn of its own.
    pub async fn scope_begun<F: Future>(&self, begun: Turn, call: F) -> F::Output {
        CURRENT.scope(self.with(begun), call).await
    }

    /// The turn of a call with one answer, before anything of it is read.
    ///
    /// # Errors
    /// [`NoTurn`] after ten seconds.
    pub async fn begin(&self, call: Scarce) -> Result<Turn, NoTurn> {
        let taken = timeout(PATIENCE, self.take(call, 1)).await;
        taken.map_err(|_| call.refusal())
    }

    /// As [`Turns::scope`], for one look at what is under way.
    pub fn poll<T>(&self, poll: impl FnOnce() -> Poll<T>) -> Poll<T> {
        CURRENT.sync_scope(self.with(Turn::default()), poll)
    }

    fn with(&self, begun: Turn) -> Current {
        Current {
            turns: self.clone(),
            begun: Arc::new(Mutex::new(begun)),
        }
    }

    async fn take(&self, what: Scarce, count: u32) -> Turn {
        let turns = Arc::clone(&self.0[what as usize]);
        Turn {
            // closed by nobody
            _permit: turns.acquire_many_owned(count).await.ok(),
        }
    }

    fn current() -> Option<Self> {
        CURRENT.try_with(|current| current.turns.clone()).ok()
    }
}

/// Runs work that a call leaves behind it, with the turns of that call.
pub fn spawn<F>(work: F) -> JoinHandle<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    match Turns::current() {
        Some(turns) => tokio::spawn(CURRENT.scope(turns.with(Turn::default()), work)),
        None => tokio::spawn(work),
    }
}

/// Gives the call's own turn back, since it now waits for what others do, or for a place of another kind.
pub fn rest() {
    // of nobody's call
    let _ = CURRENT.try_with(|current| {
        let mut begun = current.begun.lock().unwrap_or_else(PoisonError::into_inner);
        *begun = Turn::default();
    });
}

/// A turn for a connection to the database. Whoever holds one must not ask for another: with all of them held so, nobody
/// would go on.
///
/// # Errors
/// [`NoTurn`] after ten seconds.
pub async fn connection() -> Result<Turn, NoTurn> {
    let taken = timeout(PATIENCE, take(Scarce::Connection, 1)).await;
    taken.map_err(|_| Scarce::Connection.refusal())
}

/// Turns for so many changes in the group commit; all that a caller has, where there are more.
///
/// # Errors
/// [`NoTurn`] after ten seconds.
pub async fn changes(count: usize) -> Result<Turn, NoTurn> {
    let most = Scarce::Change.share();
    let count = u32::try_from(count).unwrap_or(most).min(most);
    let taken = timeout(PATIENCE, take(Scarce::Change, count)).await;
    taken.map_err(|_| Scarce::Change.refusal())
}

/// Room for so many bytes that wait to be read; all that a caller has, where that is less.
pub async fn unread(bytes: usize) -> Turn {
    let most = Scarce::Unread.share();
    let count = u32::try_from(bytes.div_ceil(1 << 10)).unwrap_or(most);
    take(Scarce::Unread, count.min(most)).await
}

/// Waits for turns of the caller, if there is one.
pub(super) async fn take(what: Scarce, count: u32) -> Turn {
    match Turns::current() {
        Some(turns) => turns.take(what, count).await,
        None => Turn::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[tokio::test(start_paused = true)]
    async fn one_caller_waits_for_itself_and_another_for_nobody() {
        let (busy, other) = (Turns::default(), Turns::default());
        let mut held = Vec::new();
        for _ in 0..Scarce::Connection.share() {
            held.push(busy.scope(connection()).await.expect("a turn"));
        }
        assert!(busy.scope(connection()).await.is_err());
        assert!(other.scope(connection()).now_or_never().is_some());
        assert!(connection().now_or_never().is_some(), "nobody's call");
        // changes have turns of their own
        assert!(busy.scope(changes(1)).now_or_never().is_some());
        held.pop();
        assert!(busy.scope(connection()).now_or_never().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_takes_as_many_turns_as_it_has_changes_and_never_more_than_there_are() {
        let turns = Turns::default();
        let most = turns.scope(changes(usize::MAX)).await.expect("all turns");
        assert!(turns.scope(changes(1)).await.is_err());
        drop(most);
        let half = Scarce::Change.share() as usize / 2;
        let _batches = [
            turns.scope(changes(half)).await.expect("half"),
            turns.scope(changes(half)).await.expect("the other half"),
        ];
        assert!(turns.scope(changes(1)).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_call_leaves_running_keeps_its_turns() {
        let turns = Turns::default();
        let all = turns.scope(changes(usize::MAX)).await.expect("all turns");
        let left = turns.scope(async { spawn(changes(1)).await }).await;
        assert!(left.expect("no panic").is_err());
        drop(all);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_rests_lets_the_next_one_begin() {
        let turns = Turns::default();
        let mut begun = Vec::new();
        for _ in 0..Scarce::Read.share() {
            begun.push(turns.begin(Scarce::Read).await.expect("a turn"));
        }
        assert!(turns.begin(Scarce::Read).await.is_err());
        assert!(turns.begin(Scarce::Write).now_or_never().is_some());
        let last = begun.pop().expect("one");
        turns
            .scope_begun(last, async {
                assert!(turns.begin(Scarce::Read).await.is_err());
                rest();
                assert!(turns.begin(Scarce::Read).await.is_ok());
            })
            .await;
    }

    #[test]
    fn the_turns_are_in_the_order_of_what_they_are_for() {
        for (place, what) in Scarce::ALL.into_iter().enumerate() {
            assert_eq!(what as usize, place);
        }
    }
}
