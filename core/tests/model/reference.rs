//! The reference: what becomes of a task, told as a handful of facts.

use crate::play::{TASK, retry_policy};
use crate::steps::{Act, How};
use proptest::prelude::*;
use std::time::Duration;
use taskyard_core::{
    Timestamp,
    task::{ErrorKind, Fence, Gate, Rejected, State, Task},
};

/// Facts about a task. Its state follows from them.
#[derive(Clone, Debug)]
pub struct Model {
    pub max_runs: u32,
    not_before: Option<i64>,
    start_deadline: Option<i64>,
    pub outcome: Option<Outcome>,
    cancel_requested: Option<i64>,
    /// Shortest grace that was asked for.
    grace: Option<u64>,
    is_held_back: bool,
    waits_until: Option<i64>,
    pub question: Option<Asked>,
    holder: Option<Holder>,
    last_holder: Option<Holder>,
    runs: u32,
    /// Those of them that the shutdown of a worker cut short.
    forgiven: u32,
    attempts: u32,
    changes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outcome {
    Succeeded,
    Canceled,
    Failed(ErrorKind),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Asked {
    pub id: u128,
    pub expires_at: Option<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Holder {
    epoch: i64,
    id: u128,
    last_item: i64,
    has_started: bool,
}

/// What the model says of one step.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct Follows {
    pub is_announced: bool,
    pub has_ended: bool,
    /// An attempt ended alone; whether its run had failed.
    pub closes_attempt: Option<bool>,
    /// The run of that attempt goes on.
    pub goes_on: bool,
    pub tells_cancel: bool,
    pub tells_drop: bool,
}

const QUIET: Follows = Follows {
    is_announced: false,
    has_ended: false,
    closes_attempt: None,
    goes_on: false,
    tells_cancel: false,
    tells_drop: false,
};
const ANNOUNCED: Follows = Follows {
    is_announced: true,
    ..QUIET
};

pub type Said = Result<Follows, Rejected>;

impl Model {
    /// A task that was just created.
    pub fn new(max_runs: u32, not_before: Option<i64>, start_deadline: Option<i64>) -> Self {
        Self {
            max_runs,
            not_before,
            start_deadline,
            outcome: None,
            cancel_requested: None,
            grace: None,
            is_held_back: false,
            waits_until: not_before,
            question: None,
            holder: None,
            last_holder: None,
            runs: 0,
            forgiven: 0,
            attempts: 0,
            changes: 1,
        }
    }

    pub fn offer(&mut self, epoch: i64, id: u128) {
        self.holder = Some(Holder {
            epoch,
            id,
            last_item: 0,
            has_started: false,
        });
    }

    pub fn is_claimable(&self) -> bool {
        self.is_queued()
            && !self.is_held_back
            && self.waits_until.is_none()
            && self.holder.is_none()
    }

    fn is_queued(&self) -> bool {
        let has_process = self.holder.is_some_and(|holder| holder.has_started);
        self.outcome.is_none() && self.question.is_none() && !has_process
    }

    /// Runs a worker's report past the fence.
    pub fn report(&mut self, fence: Fence, act: &Act, now: i64) -> Said {
        let names =
            |holder: &Holder| (holder.epoch, holder.id) == (fence.epoch.0, fence.lease_id.0);
        let number = fence.item_no.unwrap_or_default();
        let is_old = |holder: &Holder| number <= holder.last_item;
        let Some(holder) = self.holder.filter(names) else {
            let is_repeat = self
                .last_holder
                .filter(names)
                .is_some_and(|last| is_old(&last));
            return Err(if is_repeat && *act != Act::Start {
                Rejected::AlreadyApplied
            } else if self.outcome.is_some() {
                Rejected::Terminal
            } else {
                Rejected::LeaseLost
            });
        };
        if is_old(&holder) {
            return Err(Rejected::AlreadyApplied);
        }
        let before = self.clone();
        if let Some(holder) = &mut self.holder {
            holder.last_item = number;
        }
        let said = self.act(act, holder.has_started, now);
        if said.is_err() {
            *self = before;
        }
        said
    }

    fn act(&mut self, act: &Act, has_started: bool, now: i64) -> Said {
        match (act, has_started, self.question) {
            (Act::Start, false, _) if self.is_too_late_to_start(now) => {
                let mut follows = self.end(Outcome::Failed(ErrorKind::StartDeadlineExceeded));
                follows.tells_drop = true;
                Ok(follows)
            }
            (Act::Start, false, _) => {
                self.runs += 1;
                self.attempts += 1;
                if let Some(holder) = &mut self.holder {
                    holder.has_started = true;
                }
                self.waits_until = None;
                Ok(self.change())
            }
            (Act::Release, false, _) => {
                self.drop_holder();
                Ok(QUIET)
            }
            (Act::Start, true, _) | (_, false, _) => Err(Rejected::WrongState),
            (Act::Progress, true, _) => Ok(QUIET),
            (Act::Artifact, true, _) => Ok(self.change()),
            (Act::Ask(asked), true, None) => {
                self.question = Some(*asked);
                Ok(self.change())
            }
            (Act::Release, true, None) => Ok(self.give_back()),
            (Act::Ask(_) | Act::Release, true, Some(_)) => Err(Rejected::WrongState),
            (Act::Finish(how), true, _) => Ok(self.finish(*how, now)),
        }
    }

    fn finish(&mut self, how: How, now: i64) -> Follows {
        let is_canceled = self.cancel_requested.is_some();
        let (kind, may_help) = match how {
            How::Well => return self.end(Outcome::Succeeded),
            How::Expired => return self.lose(now),
            How::Ending if !is_canceled && self.max_runs > 1 => return self.cut_short(),
            How::Ending => return self.end(Outcome::Failed(ErrorKind::WorkerError)),
            How::Canceled if is_canceled => return self.end(Outcome::Canceled),
            How::Canceled => (ErrorKind::WorkerError, true),
            How::Exit => (ErrorKind::Exit, true),
            How::Timeout => (ErrorKind::Timeout, true),
            How::BadOutput => (ErrorKind::BadOutput, false),
        };
        if may_help && !is_canceled && self.runs - self.forgiven < self.max_runs {
            self.back_off(now, true)
        } else {
            self.end(Outcome::Failed(kind))
        }
    }

    fn lose(&mut self, now: i64) -> Follows {
        if self.cancel_requested.is_some() || self.max_runs == 1 {
            self.end(Outcome::Failed(ErrorKind::OutcomeUnknown))
        } else if self.runs - self.forgiven == self.max_runs {
            self.end(Outcome::Failed(ErrorKind::Orphaned))
        } else if self.question.is_some() {
            self.drop_holder();
            self.close_attempt(false)
        } else {
            self.back_off(now, false)
        }
    }

    /// The run is over and costs nothing; what it asked stays.
    fn cut_short(&mut self) -> Follows {
        self.forgiven += 1;
        self.drop_holder();
        self.close_attempt(true)
    }

    pub fn reattach(&mut self, old: (i64, u128), next: (i64, u128)) -> Said {
        let Some(holder) = self.holder.filter(|holder| holder.has_started) else {
            return Err(Rejected::Moot);
        };
        if (holder.epoch, holder.id) == next {
            return Err(Rejected::AlreadyApplied);
        }
        if (holder.epoch, holder.id) != old {
            return Err(Rejected::Moot);
        }
        self.drop_holder();
        self.holder = Some(Holder {
            epoch: next.0,
            id: next.1,
            last_item: 0,
            has_started: true,
        });
        self.attempts += 1;
        Ok(Follows {
            goes_on: true,
            tells_cancel: self.cancel_requested.is_some(),
            ..self.close_attempt(false)
        })
    }

    fn back_off(&mut self, now: i64, has_failed: bool) -> Follows {
        self.drop_holder();
        self.question = None;
        let wait = retry_policy(self.max_runs).backoff(TASK, self.runs - self.forgiven);
        self.waits_until = Some(Timestamp(now).plus(wait).0);
        self.close_attempt(has_failed)
    }

    fn give_back(&mut self) -> Follows {
        self.runs -= 1;
        if self.cancel_requested.is_some() {
            return self.end(Outcome::Canceled);
        }
        self.drop_holder();
        self.close_attempt(false)
    }

    pub fn reap(&mut self, epoch: i64, id: u128, has_surely_not_run: bool, now: i64) -> Said {
        let Some(holder) = self
            .holder
            .filter(|holder| (holder.epoch, holder.id) == (epoch, id))
        else {
            return Err(Rejected::Moot);
        };
        if !holder.has_started {
            self.drop_holder();
            Ok(QUIET)
        } else if has_surely_not_run && self.question.is_none() {
            Ok(self.give_back())
        } else {
            Ok(self.lose(now))
        }
    }

    pub fn cancel(&mut self, grace: Option<u64>, now: i64) -> Said {
        if self.outcome.is_some() {
            return Err(Rejected::Terminal);
        }
        let earlier = (self.cancel_requested, self.grace);
        self.cancel_requested.get_or_insert(now);
        self.grace = self.grace.into_iter().chain(grace).min();
        let is_news = earlier != (self.cancel_requested, self.grace);
        match self.holder {
            Some(holder) if holder.has_started => {
                let change = if earlier.0.is_none() {
                    self.change()
                } else {
                    QUIET
                };
                Ok(Follows {
                    tells_cancel: is_news,
                    ..change
                })
            }
            offered => {
                let end = self.end(Outcome::Canceled);
                Ok(Follows {
                    tells_drop: offered.is_some(),
                    ..end
                })
            }
        }
    }

    pub fn answer(&mut self, id: u128, now: i64) -> Said {
        match self.question.filter(|asked| asked.id == id) {
            None => Err(Rejected::NotPending),
            Some(_) if self.cancel_requested.is_some() => Err(Rejected::CancelRequested),
            Some(asked) if asked.expires_at.is_some_and(|expiry| expiry <= now) => {
                Err(Rejected::Expired)
            }
            Some(_) => Ok(self.withdraw_question()),
        }
    }

    fn withdraw_question(&mut self) -> Follows {
        self.question = None;
        self.change()
    }

    pub fn lapse(&mut self, id: u128, now: i64) -> Said {
        match self.question.filter(|asked| asked.id == id) {
            None => Err(Rejected::NotPending),
            Some(asked) if asked.expires_at.is_none_or(|expiry| expiry > now) => {
                Err(Rejected::Moot)
            }
            Some(_) if self.holder.is_none() => {
                Ok(self.end(Outcome::Failed(ErrorKind::QuestionExpired)))
            }
            Some(_) => Ok(self.withdraw_question()),
        }
    }

    pub fn hold(&mut self, hold: bool, now: i64) -> Said {
        if self.outcome.is_some() {
            return Err(Rejected::Terminal);
        }
        if !self.is_queued() {
            return Err(Rejected::WrongState);
        }
        if self.is_held_back == hold {
            return Err(Rejected::Moot);
        }
        self.is_held_back = hold;
        if !hold {
            self.waits_until = self
                .waits_until
                .max(self.not_before)
                .filter(|due| *due > now);
        }
        let tells_drop = self.drop_holder();
        Ok(Follows {
            tells_drop,
            ..self.change()
        })
    }

    pub fn due(&mut self, now: i64) -> Said {
        match self.waits_until {
            Some(due) if self.is_queued() && !self.is_held_back && due <= now => {
                self.waits_until = None;
                Ok(QUIET)
            }
            _ => Err(Rejected::Moot),
        }
    }

    pub fn deadline(&mut self, now: i64) -> Said {
        if !self.is_queued() || !self.is_too_late_to_start(now) {
            return Err(Rejected::Moot);
        }
        let tells_drop = self.holder.is_some();
        let end = self.end(Outcome::Failed(ErrorKind::StartDeadlineExceeded));
        Ok(Follows { tells_drop, ..end })
    }

    fn is_too_late_to_start(&self, now: i64) -> bool {
        self.runs == 0 && self.start_deadline.is_some_and(|deadline| deadline < now)
    }

    pub fn note(&self) -> Said {
        match self.outcome {
            Some(_) => Err(Rejected::Terminal),
            None => Ok(QUIET),
        }
    }

    pub fn change(&mut self) -> Follows {
        self.changes += 1;
        ANNOUNCED
    }

    fn close_attempt(&mut self, has_failed: bool) -> Follows {
        Follows {
            closes_attempt: Some(has_failed),
            ..self.change()
        }
    }

    fn end(&mut self, outcome: Outcome) -> Follows {
        self.drop_holder();
        self.outcome = Some(outcome);
        self.question = None;
        Follows {
            has_ended: true,
            ..self.change()
        }
    }

    fn drop_holder(&mut self) -> bool {
        let holder = self.holder.take();
        self.last_holder = holder.or(self.last_holder);
        holder.is_some()
    }

    /// Whether the task shows just these facts.
    pub fn check(&self, task: &Task) -> Result<(), TestCaseError> {
        let state = match (self.outcome, self.question, self.holder) {
            (Some(Outcome::Succeeded), ..) => "succeeded",
            (Some(Outcome::Canceled), ..) => "canceled",
            (Some(Outcome::Failed(_)), ..) => "failed",
            (None, Some(_), _) => "awaiting_input",
            (None, None, Some(holder)) if holder.has_started => "running",
            (None, None, _) => "queued",
        };
        prop_assert_eq!(task.state.as_str(), state);
        if let State::Queued { gate, .. } = &task.state {
            let expected = match (self.is_held_back, self.waits_until) {
                (true, due) => Gate::Held {
                    until: due.map(Timestamp),
                },
                (false, Some(due)) => Gate::Until(Timestamp(due)),
                (false, None) => Gate::Open,
            };
            prop_assert_eq!(*gate, expected);
        }
        if let State::AwaitingInput { question, .. } = &task.state {
            let shown = Asked {
                id: question.id.0,
                expires_at: question.expires_at.map(|expiry| expiry.0),
            };
            prop_assert_eq!(Some(shown), self.question);
        }
        let identity = |holder: Holder| (holder.epoch, holder.id, holder.last_item);
        prop_assert_eq!(
            task.lease()
                .map(|lease| (lease.epoch.0, lease.id.0, lease.item_no)),
            self.holder.map(identity)
        );
        prop_assert_eq!(
            task.settled
                .map(|settled| (settled.epoch.0, settled.id.0, settled.item_no)),
            self.last_holder.map(identity)
        );
        prop_assert_eq!(
            (task.run, task.forgiven, task.attempt),
            (self.runs, self.forgiven, self.attempts)
        );
        prop_assert_eq!(task.started_at.is_some(), self.runs > 0);
        prop_assert_eq!(task.generation, self.changes);
        let cancel = task
            .cancel
            .map(|cancel| (cancel.requested_at.0, cancel.grace));
        let grace = self.grace.map(Duration::from_secs);
        prop_assert_eq!(cancel, self.cancel_requested.map(|at| (at, grace)));
        Ok(())
    }
}
