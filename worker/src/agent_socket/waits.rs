//! Calls for whose time an attempt gives back its slot and its timeout stands still.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// How many attempts of the worker wait. Clones are the same.
#[derive(Debug, Clone)]
pub struct WaitingAttempts {
    count: watch::Sender<usize>,
}

/// The waits of one attempt. Clones are the same.
#[derive(Debug, Clone)]
pub struct Waits {
    shared: Arc<Shared>,
}

/// One wait; dropped, it is over.
#[derive(Debug)]
pub(super) struct Wait {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    worker: WaitingAttempts,
    is_waiting: watch::Sender<bool>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    under_way: usize,
    /// The attempt is over: what is under way counts no more.
    is_over: bool,
}

impl WaitingAttempts {
    pub fn new() -> WaitingAttempts {
        WaitingAttempts {
            count: watch::Sender::new(0),
        }
    }

    /// The number, and each change of it.
    pub fn subscribe(&self) -> watch::Receiver<usize> {
        self.count.subscribe()
    }

    fn add(&self) {
        self.count.send_modify(|count| *count += 1);
    }

    fn remove(&self) {
        self.count
            .send_modify(|count| *count = count.saturating_sub(1));
    }
}

impl Default for WaitingAttempts {
    fn default() -> WaitingAttempts {
        WaitingAttempts::new()
    }
}

impl Waits {
    pub fn new(worker: WaitingAttempts) -> Waits {
        Waits {
            shared: Arc::new(Shared {
                worker,
                is_waiting: watch::Sender::new(false),
                state: Mutex::default(),
            }),
        }
    }

    /// Whether at least one call waits, and each change of it.
    pub fn subscribe(&self) -> watch::Receiver<bool> {
        self.shared.is_waiting.subscribe()
    }

    /// The attempt is over: whatever is still under way counts no more.
    pub fn close(&self) {
        let mut state = self.shared.lock();
        if !std::mem::replace(&mut state.is_over, true) && state.under_way > 0 {
            self.shared.went_on();
        }
    }

    pub(super) fn begin(&self) -> Wait {
        let mut state = self.shared.lock();
        state.under_way += 1;
        if state.under_way == 1 && !state.is_over {
            self.shared.worker.add();
            self.shared.is_waiting.send_replace(true);
        }
        Wait {
            shared: self.shared.clone(),
        }
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.under_way -= 1;
        if state.under_way == 0 && !state.is_over {
            self.shared.went_on();
        }
    }
}

impl Shared {
    fn went_on(&self) {
        self.worker.remove();
        self.is_waiting.send_replace(false);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_counts_once_whatever_the_number_of_its_waits() {
        let worker = WaitingAttempts::new();
        let (count, waits) = (worker.subscribe(), Waits::new(worker.clone()));
        let is_waiting = waits.subscribe();
        let (one, other) = (waits.begin(), waits.begin());
        assert_eq!((*count.borrow(), *is_waiting.borrow()), (1, true));
        let second_attempt = Waits::new(worker);
        let third = second_attempt.begin();
        assert_eq!(*count.borrow(), 2);
        drop(one);
        assert!(*is_waiting.borrow());
        drop(other);
        assert_eq!((*count.borrow(), *is_waiting.borrow()), (1, false));
        drop(third);
        assert_eq!(*count.borrow(), 0);
    }

    #[test]
    fn what_outlives_its_attempt_counts_no_more() {
        let worker = WaitingAttempts::new();
        let (count, waits) = (worker.subscribe(), Waits::new(worker));
        let left_over = waits.begin();
        waits.close();
        assert_eq!(*count.borrow(), 0);
        let late = waits.begin();
        assert_eq!(*count.borrow(), 0);
        drop((left_over, late));
        assert_eq!(*count.borrow(), 0);
    }
}
