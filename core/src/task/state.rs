//! What a task is at one moment: six states, each with exactly the data that it needs.

use super::RetryPolicy;
use crate::{
    Timestamp,
    id::{Epoch, LeaseId, QuestionId, TaskId, WorkerSessionId},
};
use std::time::Duration;

/// A task as the state machine sees it. What it carries beside (spec, summary, artifacts, progress) decides nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    /// Which task.
    pub id: TaskId,
    /// What its definition says about running it.
    pub policy: Policy,
    /// Where it stands.
    pub state: State,
    /// The cancel request, if there was one.
    pub cancel: Option<Cancel>,
    /// Starts of its process so far.
    pub run: u32,
    /// Runs that were cut short by the shutdown of their worker: they do not count against the retry.
    pub forgiven: u32,
    /// Holds of a worker on it so far.
    pub attempt: u32,
    /// Announced changes so far, counting its creation.
    pub generation: u64,
    /// When its first run started.
    pub started_at: Option<Timestamp>,
    /// The newest lease that ended, with the last report that was applied under it.
    pub settled: Option<SettledLease>,
}

/// What a task's definition says about running it.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Whether and when a failed or lost run is followed by another.
    pub retry: RetryPolicy,
    /// Not started before.
    pub not_before: Option<Timestamp>,
    /// Latest time for the first run to start, itself included.
    pub start_deadline: Option<Timestamp>,
    /// Exit codes that count as success.
    pub success_exit_codes: Vec<i32>,
    /// It is a monitor: it never runs itself, its firings are tasks below it.
    pub is_monitor: bool,
}

/// Where a task stands, with what belongs to each state.
#[derive(Clone, Debug, PartialEq)]
pub enum State {
    /// No process holds it.
    Queued {
        /// Whether it may be claimed.
        gate: Gate,
        /// The lease under which it is being offered to a worker.
        offer: Option<Lease>,
    },
    /// A worker holds it.
    Running {
        /// The lease.
        lease: Lease,
    },
    /// The work asked its owner a question.
    AwaitingInput {
        /// The question.
        question: Question,
        /// The lease of the process that waits; none: the question is unattended, its answer queues the next run.
        lease: Option<Lease>,
    },
    /// It ended.
    Terminal(TerminalState),
}

/// How a task ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TerminalState {
    /// Well.
    Succeeded,
    /// Badly; the error says how.
    Failed,
    /// By a cancel that took effect.
    Canceled,
}

/// Whether a queued task may be claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// It may.
    Open,
    /// Not before this time: delayed, or backing off after a run.
    Until(Timestamp),
    /// Not before it is released.
    Held {
        /// Nor before this time: what it waited for when it was held; none: nothing.
        until: Option<Timestamp>,
    },
    /// Never: it is a monitor, whose firings are tasks of their own.
    Monitor,
}

/// The right of one worker session to work on one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Who holds it.
    pub worker: WorkerSessionId,
    /// Grows with each lease of the task.
    pub epoch: Epoch,
    /// Random.
    pub id: LeaseId,
    /// Number of the last report applied under it; 0: none.
    pub item_no: i64,
}

/// A lease that ended, kept so that a repeated report is told from a late one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SettledLease {
    /// Its epoch.
    pub epoch: Epoch,
    /// Its id.
    pub id: LeaseId,
    /// Number of the last report applied under it.
    pub item_no: i64,
}

/// A pending question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// Which question.
    pub id: QuestionId,
    /// When it lapses; none: never.
    pub expires_at: Option<Timestamp>,
}

/// A cancel request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cancel {
    /// When the first one came.
    pub requested_at: Timestamp,
    /// Shortest grace that was asked for; none: the spec's.
    pub grace: Option<Duration>,
    /// Number of the signal to begin with, by the first request that named one; none: TERM.
    pub signal: Option<i16>,
}

impl Task {
    /// The lease that is held, offered ones included.
    #[must_use]
    pub fn lease(&self) -> Option<&Lease> {
        match &self.state {
            State::Queued { offer, .. } => offer.as_ref(),
            State::Running { lease } => Some(lease),
            State::AwaitingInput { lease, .. } => lease.as_ref(),
            State::Terminal(_) => None,
        }
    }

    /// Whether the task has ended.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        matches!(self.state, State::Terminal(_))
    }

    /// Runs that count against the retry.
    #[must_use]
    pub fn counted_runs(&self) -> u32 {
        self.run.saturating_sub(self.forgiven)
    }

    pub(super) fn lease_mut(&mut self) -> Option<&mut Lease> {
        match &mut self.state {
            State::Queued { offer, .. } => offer.as_mut(),
            State::Running { lease } => Some(lease),
            State::AwaitingInput { lease, .. } => lease.as_mut(),
            State::Terminal(_) => None,
        }
    }
}

impl Lease {
    /// What remains of the lease once it has ended.
    #[must_use]
    pub fn settle(&self) -> SettledLease {
        SettledLease {
            epoch: self.epoch,
            id: self.id,
            item_no: self.item_no,
        }
    }
}
