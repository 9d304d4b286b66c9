//! Places for work that takes much of a server: so many at once, and for one caller at most a part of them.

use super::turns::{self, NoTurn, Scarce, Turn};
use std::time::Duration;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::timeout,
};

/// The places of a server for one sort of work.
#[derive(Debug)]
pub struct Places {
    all: Semaphore,
    work: Scarce,
}

/// A place that was taken. Dropped, it is free again.
#[derive(Debug)]
#[must_use = "a place that is dropped is free again"]
pub struct Place<'a> {
    _place: Option<SemaphorePermit<'a>>,
    _turn: Turn,
}

impl Places {
    /// So many places; twice a caller's share, so that two of them are needed to take them all.
    #[must_use]
    pub const fn new(work: Scarce) -> Self {
        Self {
            all: Semaphore::const_new(2 * work.share() as usize),
            work,
        }
    }

    /// Waits for a turn of the caller, and then for a place; the call gives its own turn back for that.
    ///
    /// # Errors
    /// [`NoTurn`] after that time.
    pub async fn take(&self, patience: Duration) -> Result<Place<'_>, NoTurn> {
        turns::rest();
        let taking = async {
            let turn = turns::take(self.work, 1).await;
            Place {
                // closed by nobody
                _place: self.all.acquire().await.ok(),
                _turn: turn,
            }
        };
        let taken = timeout(patience, taking).await;
        taken.map_err(|_| self.work.refusal())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::turns::Turns;

    const MOMENT: Duration = Duration::from_millis(1);

    #[tokio::test(start_paused = true)]
    async fn one_caller_leaves_places_to_another_and_all_of_them_are_taken_by_two() {
        let places = Places::new(Scarce::FileSearch);
        let [first, second, third] = [(); 3].map(|()| Turns::default());
        let mut taken = Vec::new();
        for _ in 0..Scarce::FileSearch.share() {
            taken.push(first.scope(places.take(MOMENT)).await.expect("a place"));
        }
        let refused = first.scope(places.take(MOMENT)).await;
        let what = "searches in files";
        assert_eq!(refused.err(), Some(NoTurn { what }));
        for _ in 0..Scarce::FileSearch.share() {
            taken.push(second.scope(places.take(MOMENT)).await.expect("a place"));
        }
        assert!(third.scope(places.take(MOMENT)).await.is_err());
        taken.clear();
        assert!(third.scope(places.take(MOMENT)).await.is_ok());
    }
}
