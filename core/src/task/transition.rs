//! The one function that decides what an event makes of a task.
//!
//! ```text
//! queued ──Start──▶ running ──Finish──▶ succeeded | failed | canceled
//!   ▲ │               │ ▲ │
//!   │ └─Cancel──▶     │ │ └─Ask──▶ awaiting_input ──Answer──▶ running (attended) or queued (unattended)
//!   └──retry, loss────┘ └────────────────┘
//! ```

use super::{
    ErrorKind, Event, Failure, Fence, Gate, Lease, SettledLease, State, Task, TerminalState,
    outcome::judge, step::Step,
};
use crate::{
    Timestamp,
    id::{Epoch, LeaseId},
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
    /// Tell the worker that holds (or held) this lease: a cancel at once, a loss with its next heartbeat.
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
    /// Why it ended; none: the worker was lost, gave the work back, or was restarted.
    pub failure: Option<Failure>,
    /// The run goes on: the worker's next boot has taken it over.
    pub goes_on: bool,
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
    /// The question's time is up.
    Expired,
    /// A cancel was asked for, so the answer would go nowhere.
    CancelRequested,
    /// The event makes no sense in this state.
    WrongState,
    /// Nothing to do: the matter was settled meanwhile.
    Moot,
    /// A monitor never runs itself, so nobody would take the message.
    NeverRuns,
}

impl fmt::Display for Rejected {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::AlreadyApplied => "this report was applied before",
            Self::LeaseLost => "the lease is lost",
            Self::Terminal => "the task has ended",
            Self::NotPending => "no such question is pending",
            Self::Expired => "the question's time is up",
            Self::CancelRequested => "a cancel of the task was asked for",
            Self::WrongState => "the task is not in a state for this",
            Self::Moot => "the matter was settled meanwhile",
            Self::NeverRuns => "a monitor never runs itself",
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
    let step = Step::new(next, now);
    match (&task.state, event) {
        (State::Terminal(_), Event::Enrich) => Ok(step.announce()),
        (
            State::Terminal(_),
            Event::Due | Event::StartDeadline | Event::Lost { .. } | Event::Reattach { .. },
        ) => Err(Rejected::Moot),
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
        (State::Queued { .. }, Event::Lost { .. } | Event::Reattach { .. }) => Err(Rejected::Moot),
        (State::Queued { .. }, Event::Cancel { grace, signal }) => {
            Ok(step.flag_cancel(grace, signal).settle_canceled())
        }
        (State::Queued { gate, .. }, Event::SetHold(hold))
            if hold == matches!(gate, Gate::Held { .. }) =>
        {
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
        (State::Queued { .. }, Event::Complete) if step.task.policy.is_monitor => {
            Ok(step.complete())
        }
        (State::Queued { .. }, Event::Complete) => Err(Rejected::WrongState),
        (
            State::Queued { .. },
            Event::Progress(_)
            | Event::Artifact(_)
            | Event::Ask(..)
            | Event::Post(_)
            | Event::Receive(_)
            | Event::Record(_)
            | Event::Finish(..),
        ) => Err(Rejected::WrongState),

        (State::Running { .. }, Event::Ask(_, question)) => Ok(step.ask(question)),
        (State::AwaitingInput { .. }, Event::Ask(..)) => Err(Rejected::WrongState),
        (State::AwaitingInput { question, .. }, Event::Answer(id)) if question.id == id => {
            step.answer(question)
        }
        (State::AwaitingInput { question, .. }, Event::QuestionExpired(id)) => {
            step.expire_question(question, id)
        }

        (
            State::Running { .. } | State::AwaitingInput { lease: Some(_), .. },
            Event::Progress(_) | Event::Post(_) | Event::Receive(_) | Event::Record(_),
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
            Event::Cancel { grace, signal },
        ) => Ok(step.tell_cancel(grace, signal)),
        (State::AwaitingInput { lease: None, .. }, Event::Cancel { grace, signal }) => {
            Ok(step.flag_cancel(grace, signal).settle_canceled())
        }
        (
            State::Queued { .. } | State::Running { .. } | State::AwaitingInput { .. },
            Event::Enrich,
        ) => Ok(step.announce()),
        (State::Queued { .. }, Event::Deliver) if step.task.policy.is_monitor => {
            Err(Rejected::NeverRuns)
        }
        (
            State::Queued { .. } | State::Running { .. } | State::AwaitingInput { .. },
            Event::Note | Event::Deliver,
        ) => Ok(step.quietly()),
        // the answer to the first time was lost
        (
            State::Running { lease }
            | State::AwaitingInput {
                lease: Some(lease), ..
            },
            Event::Reattach { next, .. },
        ) if is_lease(lease, next.epoch, next.id) => Err(Rejected::AlreadyApplied),
        (
            State::Running { lease }
            | State::AwaitingInput {
                lease: Some(lease), ..
            },
            Event::Reattach {
                epoch,
                lease_id,
                next,
            },
        ) if is_lease(lease, epoch, lease_id) && next.epoch > epoch => Ok(step.reattach(next)),
        (
            State::Running { .. } | State::AwaitingInput { .. },
            Event::Lost { .. } | Event::Reattach { .. } | Event::Due | Event::StartDeadline,
        ) => Err(Rejected::Moot),
        (
            State::Queued { .. } | State::Running { .. } | State::AwaitingInput { .. },
            Event::Answer(_) | Event::QuestionExpired(_),
        ) => Err(Rejected::NotPending),
        (
            State::Running { .. } | State::AwaitingInput { .. },
            Event::Start(_) | Event::SetHold(_) | Event::Complete,
        ) => Err(Rejected::WrongState),
        (State::AwaitingInput { .. }, Event::Release(_)) => Err(Rejected::WrongState),
        // A fence has passed only if a lease is held, so an unattended question never comes this far.
        (
            State::AwaitingInput { lease: None, .. },
            Event::Progress(_)
            | Event::Artifact(_)
            | Event::Post(_)
            | Event::Receive(_)
            | Event::Record(_)
            | Event::Finish(..),
        ) => Err(Rejected::LeaseLost),
    }
}

/// Lets a report through if it names the held lease and, where it is numbered, is newer than the last one applied; notes
/// its number.
///
/// A repeated start of a lease that ended is refused like a new one: to a worker that missed the first verdict
/// [`Rejected::AlreadyApplied`] means that it may launch the work, which only the holder may.
fn pass_fence(task: &mut Task, fence: Fence, is_start: bool) -> Result<(), Rejected> {
    if let Some(lease) = task.lease_mut()
        && is_lease(lease, fence.epoch, fence.lease_id)
    {
        if let Some(item_no) = fence.item_no {
            if item_no <= lease.item_no {
                return Err(Rejected::AlreadyApplied);
            }
            lease.item_no = item_no;
        }
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
    settled.epoch == fence.epoch
        && settled.id == fence.lease_id
        && fence
            .item_no
            .is_some_and(|item_no| item_no <= settled.item_no)
}

impl Event {
    /// The fence of a worker's report.
    fn fence(&self) -> Option<Fence> {
        match self {
            Self::Start(fence)
            | Self::Progress(fence)
            | Self::Artifact(fence)
            | Self::Ask(fence, _)
            | Self::Post(fence)
            | Self::Receive(fence)
            | Self::Record(fence)
            | Self::Finish(fence, _)
            | Self::Release(fence) => Some(*fence),
            Self::Answer(_)
            | Self::Deliver
            | Self::QuestionExpired(_)
            | Self::Cancel { .. }
            | Self::Enrich
            | Self::Note
            | Self::SetHold(_)
            | Self::Lost { .. }
            | Self::Reattach { .. }
            | Self::Due
            | Self::StartDeadline
            | Self::Complete => None,
        }
    }
}
