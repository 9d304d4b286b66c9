//! The one function that decides what an event makes of a task.
//!
//! ```text
//! queued ──Start──▶ running ──Finish──▶ succeeded | failed | canceled
//!   ▲ │               │ ▲ │
//!   │ └─Cancel──▶     │ │ └─Ask──▶ awaiting_input ──Answer──▶ running (attended) or queued (unattended)
//!   └──retry, loss────┘ └────────────────┘
//! ```

use super::{
    Cancel, ErrorKind, Event, Failure, Fence, Gate, Lease, Loss, Question, SettledLease, State,
    Task, TerminalState, Verdict, outcome::judge,
};
use crate::{
    Timestamp,
    id::{Epoch, LeaseId, QuestionId},
};
use std::{error::Error, fmt, time::Duration};

/// What an event made of a task.
#[derive(Clone, Debug, PartialEq)]
pub struct Transition {
    /// The task after it.
    pub task: Task,
    /// What must be done in the same transaction, or right after it.
    pub effects: Vec<Effect>,
}

/// Something that follows from a transition.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// The generation grew: append an event to the session's log.
    Announce,
    /// An attempt ended without ending the task: store its row.
    EndAttempt(AttemptEnd),
    /// The task is terminal: replace its live row by its end row.
    End {
        /// How it ended.
        state: TerminalState,
        /// Why, if it failed.
        failure: Option<Failure>,
    },
    /// Tell the worker that holds (or held) this lease, as soon as can be.
    Tell(Lease, Order),
}

/// An attempt that ended without ending its task.
#[derive(Clone, Debug, PartialEq)]
pub struct AttemptEnd {
    /// The lease it had.
    pub lease: Lease,
    /// Its number.
    pub attempt: u32,
    /// The run it worked on.
    pub run: u32,
    /// Why it ended; none: the worker was lost or gave the work back.
    pub failure: Option<Failure>,
}

/// What a worker must be told about a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Stop the work: TERM, then KILL after the grace (none: the spec's).
    Cancel {
        /// See above.
        grace: Option<Duration>,
    },
    /// The lease is lost.
    Drop,
}

/// Why an event changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejected {
    /// This very report was applied before.
    AlreadyApplied,
    /// The lease is not the one that is held.
    LeaseLost,
    /// The task has ended.
    Terminal,
    /// No such question is pending.
    NotPending,
    /// The event makes no sense in this state.
    WrongState,
    /// Nothing to do: the matter was settled meanwhile.
    Moot,
}

impl fmt::Display for Rejected {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::AlreadyApplied => "this report was applied before",
            Self::LeaseLost => "the lease is lost",
            Self::Terminal => "the task has ended",
            Self::NotPending => "no such question is pending",
            Self::WrongState => "the task is not in a state for this",
            Self::Moot => "the matter was settled meanwhile",
        })
    }
}

impl Error for Rejected {}

/// Decides what `event` makes of `task` at `now`, the time of the lock that the caller holds on it.
///
/// # Errors
/// [`Rejected`] if the event changes nothing; the reason is for the caller to be told.
pub fn apply(task: &Task, event: Event, now: Timestamp) -> Result<Transition, Rejected> {
    let mut next = task.clone();
    if let Some(fence) = event.fence() {
        pass_fence(&mut next, fence, matches!(event, Event::Start(_)))?;
    }
    let step = Step {
        task: next,
        now,
        effects: Vec::new(),
    };
    match (&task.state, event) {
        (State::Terminal(_), Event::Enrich) => Ok(step.announce()),
        (State::Terminal(_), Event::Due | Event::StartDeadline | Event::Lost { .. }) => {
            Err(Rejected::Moot)
        }
        (State::Terminal(_), Event::Answer(_) | Event::QuestionExpired(_)) => {
            Err(Rejected::NotPending)
        }
        (State::Terminal(_), _) => Err(Rejected::Terminal),

        (State::Queued { .. }, Event::Start(_)) => Ok(step.start()),
        (State::Queued { .. }, Event::Release(_)) => Ok(step.withdraw_offer()),
        (
            State::Queued {
                offer: Some(offer), ..
            },
            Event::Lost {
                epoch, lease_id, ..
            },
        ) if is_lease(offer, epoch, lease_id) => Ok(step.withdraw_offer()),
        (State::Queued { .. }, Event::Lost { .. }) => Err(Rejected::Moot),
        (State::Queued { .. }, Event::Cancel { grace }) => {
            Ok(step.flag_cancel(grace).settle_canceled())
        }
        (State::Queued { gate, .. }, Event::SetHold(hold)) if hold == (*gate == Gate::Held) => {
            Err(Rejected::Moot)
        }
        (State::Queued { .. }, Event::SetHold(true)) => Ok(step.hold()),
        (State::Queued { .. }, Event::SetHold(false)) => Ok(step.release_hold()),
        (
            State::Queued {
                gate: Gate::Until(due),
                ..
            },
            Event::Due,
        ) if *due <= now => Ok(step.open_gate()),
        (State::Queued { .. }, Event::Due) => Err(Rejected::Moot),
        (State::Queued { .. }, Event::StartDeadline) if step.start_deadline_passed() => {
            Ok(step.fail(Failure::lasting(ErrorKind::StartDeadlineExceeded)))
        }
        (State::Queued { .. }, Event::StartDeadline) => Err(Rejected::Moot),
        (
            State::Queued { .. },
            Event::Progress(_) | Event::Artifact(_) | Event::Ask(..) | Event::Finish(..),
        ) => Err(Rejected::WrongState),

        (State::Running { .. }, Event::Ask(_, question)) => Ok(step.ask(question)),
        (State::AwaitingInput { .. }, Event::Ask(..)) => Err(Rejected::WrongState),
        (State::AwaitingInput { question, .. }, Event::Answer(id)) if question.id == id => {
            Ok(step.resume())
        }
        (State::AwaitingInput { question, .. }, Event::QuestionExpired(id)) => {
            step.expire_question(question, id)
        }

        (
            State::Running { .. } | State::AwaitingInput { lease: Some(_), .. },
            Event::Progress(_),
        ) => Ok(step.quietly()),
        (
            State::Running { .. } | State::AwaitingInput { lease: Some(_), .. },
            Event::Artifact(_),
        ) => Ok(step.announce()),
        (
            State::Running { .. } | State::AwaitingInput { lease: Some(_), .. },
            Event::Finish(_, facts),
        ) => {
            let verdict = judge(&step.task, &facts);
            Ok(step.finish(verdict))
        }
        (State::Running { .. }, Event::Release(_)) => Ok(step.give_back()),
        (
            State::Running { lease }
            | State::AwaitingInput {
                lease: Some(lease), ..
            },
            Event::Lost {
                epoch,
                lease_id,
                loss,
            },
        ) if is_lease(lease, epoch, lease_id) => Ok(step.lose(loss)),
        (
            State::Running { .. } | State::AwaitingInput { lease: Some(_), .. },
            Event::Cancel { grace },
        ) => Ok(step.tell_cancel(grace)),
        (State::AwaitingInput { lease: None, .. }, Event::Cancel { grace }) => {
            Ok(step.flag_cancel(grace).settle_canceled())
        }
        (
            State::Queued { .. } | State::Running { .. } | State::AwaitingInput { .. },
            Event::Enrich,
        ) => Ok(step.announce()),
        (
            State::Running { .. } | State::AwaitingInput { .. },
            Event::Lost { .. } | Event::Due | Event::StartDeadline,
        ) => Err(Rejected::Moot),
        (
            State::Queued { .. } | State::Running { .. } | State::AwaitingInput { .. },
            Event::Answer(_) | Event::QuestionExpired(_),
        ) => Err(Rejected::NotPending),
        (
            State::Running { .. } | State::AwaitingInput { .. },
            Event::Start(_) | Event::SetHold(_),
        ) => Err(Rejected::WrongState),
        (State::AwaitingInput { .. }, Event::Release(_)) => Err(Rejected::WrongState),
        // A fence has passed only if a lease is held, so an unattended question never comes this far.
        (
            State::AwaitingInput { lease: None, .. },
            Event::Progress(_) | Event::Artifact(_) | Event::Finish(..),
        ) => Err(Rejected::LeaseLost),
    }
}

/// Lets a worker's report through if it names the held lease and is newer than the last one applied; notes its number.
///
/// A repeated start of a lease that ended is refused like a new one: to a worker that missed the first verdict
/// [`Rejected::AlreadyApplied`] means that it may launch the work, which only the holder may.
fn pass_fence(task: &mut Task, fence: Fence, is_start: bool) -> Result<(), Rejected> {
    if let Some(lease) = task.lease_mut()
        && is_lease(lease, fence.epoch, fence.lease_id)
    {
        if fence.item_no <= lease.item_no {
            return Err(Rejected::AlreadyApplied);
        }
        lease.item_no = fence.item_no;
        return Ok(());
    }
    match task.settled {
        Some(settled) if is_repeat(settled, fence) && !is_start => Err(Rejected::AlreadyApplied),
        _ if task.is_terminal() => Err(Rejected::Terminal),
        _ => Err(Rejected::LeaseLost),
    }
}

fn is_lease(lease: &Lease, epoch: Epoch, id: LeaseId) -> bool {
    lease.epoch == epoch && lease.id == id
}

fn is_repeat(settled: SettledLease, fence: Fence) -> bool {
    settled.epoch == fence.epoch && settled.id == fence.lease_id && fence.item_no <= settled.item_no
}

impl Event {
    /// The fence of a worker's report.
    fn fence(&self) -> Option<Fence> {
        match self {
            Self::Start(fence)
            | Self::Progress(fence)
            | Self::Artifact(fence)
            | Self::Ask(fence, _)
            | Self::Finish(fence, _)
            | Self::Release(fence) => Some(*fence),
            Self::Answer(_)
            | Self::QuestionExpired(_)
            | Self::Cancel { .. }
            | Self::Enrich
            | Self::SetHold(_)
            | Self::Lost { .. }
            | Self::Due
            | Self::StartDeadline => None,
        }
    }
}

/// A transition in the making.
struct Step {
    task: Task,
    now: Timestamp,
    effects: Vec<Effect>,
}

impl Step {
    fn start(mut self) -> Transition {
        if self.start_deadline_passed() {
            return self.fail(Failure::lasting(ErrorKind::StartDeadlineExceeded));
        }
        if let State::Queued {
            offer: Some(lease), ..
        } = self.task.state
        {
            self.task.run += 1;
            self.task.attempt += 1;
            self.task.started_at.get_or_insert(self.now);
            self.task.state = State::Running { lease };
        }
        self.announce()
    }

    fn ask(mut self, question: Question) -> Transition {
        let lease = self.task.lease().copied();
        self.task.state = State::AwaitingInput { question, lease };
        self.announce()
    }

    fn resume(mut self) -> Transition {
        self.task.state = match self.task.lease() {
            Some(lease) => State::Running { lease: *lease },
            None => State::Queued {
                gate: Gate::Open,
                offer: None,
            },
        };
        self.announce()
    }

    fn expire_question(self, question: &Question, id: QuestionId) -> Result<Transition, Rejected> {
        if question.id != id {
            return Err(Rejected::NotPending);
        }
        if question.expires_at.is_none_or(|expiry| self.now < expiry) {
            return Err(Rejected::Moot);
        }
        Ok(match self.task.lease() {
            // The process learns that its question lapsed and decides for itself.
            Some(_) => self.resume(),
            None => self.fail(Failure::lasting(ErrorKind::QuestionExpired)),
        })
    }

    /// The run ended; another follows if the task's policy allows it and nobody asked for a cancel.
    fn finish(self, verdict: Verdict) -> Transition {
        match verdict {
            Verdict::Succeeded => self.end(TerminalState::Succeeded, None),
            Verdict::Canceled => self.end(TerminalState::Canceled, None),
            Verdict::Lost => self.lose(Loss::Gone),
            Verdict::Failed(failure) if failure.retryable && self.may_run_again() => {
                self.back_off(Some(failure))
            }
            Verdict::Failed(failure) => self.fail(failure),
        }
    }

    /// The worker of a started attempt is gone. Work that asked a question has run, whatever is said of it.
    fn lose(mut self, loss: Loss) -> Transition {
        if loss == Loss::NotStarted && matches!(self.task.state, State::Running { .. }) {
            return self.give_back();
        }
        if self.task.cancel.is_some() || !self.task.policy.retry.may_retry() {
            return self.fail(Failure::lasting(ErrorKind::OutcomeUnknown));
        }
        if !self.may_run_again() {
            return self.fail(Failure::lasting(ErrorKind::Orphaned));
        }
        match self.task.state {
            State::AwaitingInput { question, .. } => {
                self.end_attempt(None);
                self.task.state = State::AwaitingInput {
                    question,
                    lease: None,
                };
                self.announce()
            }
            State::Queued { .. } | State::Running { .. } | State::Terminal(_) => {
                self.back_off(None)
            }
        }
    }

    /// A started attempt whose work surely never ran: it costs no run.
    fn give_back(mut self) -> Transition {
        let is_canceled = self.task.cancel.is_some();
        if !is_canceled {
            self.end_attempt(None);
        }
        self.task.run = self.task.run.saturating_sub(1);
        if self.task.run == 0 {
            self.task.started_at = None;
        }
        if is_canceled {
            return self.end(TerminalState::Canceled, None);
        }
        self.task.state = State::Queued {
            gate: Gate::Open,
            offer: None,
        };
        self.announce()
    }

    fn back_off(mut self, failure: Option<Failure>) -> Transition {
        self.end_attempt(failure);
        let wait = self.task.policy.retry.backoff(self.task.id, self.task.run);
        self.task.state = State::Queued {
            gate: Gate::Until(self.now.plus(wait)),
            offer: None,
        };
        self.announce()
    }

    fn withdraw_offer(mut self) -> Transition {
        self.settle_lease();
        if let State::Queued { offer, .. } = &mut self.task.state {
            *offer = None;
        }
        self.quietly()
    }

    fn hold(mut self) -> Transition {
        self.drop_offer();
        self.task.state = State::Queued {
            gate: Gate::Held,
            offer: None,
        };
        self.announce()
    }

    fn release_hold(mut self) -> Transition {
        self.drop_offer();
        let gate = match self.task.policy.not_before {
            Some(due) if due > self.now => Gate::Until(due),
            _ => Gate::Open,
        };
        self.task.state = State::Queued { gate, offer: None };
        self.announce()
    }

    fn open_gate(mut self) -> Transition {
        if let State::Queued { gate, .. } = &mut self.task.state {
            *gate = Gate::Open;
        }
        self.quietly()
    }

    /// Notes a cancel request: the first one's time, the shortest grace.
    fn flag_cancel(mut self, grace: Option<Duration>) -> Self {
        self.task.cancel = Some(match self.task.cancel {
            None => Cancel {
                requested_at: self.now,
                grace,
            },
            Some(earlier) => Cancel {
                requested_at: earlier.requested_at,
                grace: shorter(earlier.grace, grace),
            },
        });
        self
    }

    /// A worker holds the task: it is told, and how the task ends is its to report.
    fn tell_cancel(self, grace: Option<Duration>) -> Transition {
        let before = self.task.cancel;
        let mut step = self.flag_cancel(grace);
        let is_first = before.is_none();
        let is_sharper = before.is_some_and(|earlier| Some(earlier) != step.task.cancel);
        if (is_first || is_sharper)
            && let (Some(lease), Some(cancel)) = (step.task.lease().copied(), step.task.cancel)
        {
            let order = Order::Cancel {
                grace: cancel.grace,
            };
            step.effects.push(Effect::Tell(lease, order));
        }
        if is_first {
            step.announce()
        } else {
            step.quietly()
        }
    }

    /// No process holds the task: a cancel settles it at once.
    fn settle_canceled(mut self) -> Transition {
        self.drop_offer();
        self.end(TerminalState::Canceled, None)
    }

    fn fail(mut self, failure: Failure) -> Transition {
        self.drop_offer();
        self.end(TerminalState::Failed, Some(failure))
    }

    fn end(mut self, state: TerminalState, failure: Option<Failure>) -> Transition {
        self.settle_lease();
        self.task.state = State::Terminal(state);
        self.effects.push(Effect::End { state, failure });
        self.announce()
    }

    fn announce(mut self) -> Transition {
        self.task.generation += 1;
        self.effects.insert(0, Effect::Announce);
        self.quietly()
    }

    fn quietly(self) -> Transition {
        Transition {
            task: self.task,
            effects: self.effects,
        }
    }

    /// Tells the worker that an offer no longer stands.
    fn drop_offer(&mut self) {
        if let State::Queued {
            offer: Some(lease), ..
        } = self.task.state
        {
            self.settle_lease();
            self.effects.push(Effect::Tell(lease, Order::Drop));
        }
    }

    fn end_attempt(&mut self, failure: Option<Failure>) {
        if let Some(lease) = self.task.lease().copied() {
            self.effects.push(Effect::EndAttempt(AttemptEnd {
                lease,
                attempt: self.task.attempt,
                run: self.task.run,
                failure,
            }));
        }
        self.settle_lease();
    }

    fn settle_lease(&mut self) {
        if let Some(settled) = self.task.lease().map(Lease::settle) {
            self.task.settled = Some(settled);
        }
    }

    fn may_run_again(&self) -> bool {
        self.task.cancel.is_none() && self.task.policy.retry.has_run_left(self.task.run)
    }

    /// The start deadline bounds the first run only and is inclusive.
    fn start_deadline_passed(&self) -> bool {
        self.task.run == 0
            && self
                .task
                .policy
                .start_deadline
                .is_some_and(|deadline| self.now > deadline)
    }
}

/// The shorter of two graces, where none means the spec's own and yields to any that was asked for.
fn shorter(earlier: Option<Duration>, later: Option<Duration>) -> Option<Duration> {
    match (earlier, later) {
        (Some(earlier), Some(later)) => Some(earlier.min(later)),
        (Some(grace), None) | (None, Some(grace)) => Some(grace),
        (None, None) => None,
    }
}
