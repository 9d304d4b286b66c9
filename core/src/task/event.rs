//! Everything that can happen to a task after its creation, but for the offer, which is the claim's own write.

use super::{Lease, Question, RunFacts};
use crate::id::{Epoch, LeaseId, QuestionId};
use std::time::Duration;

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The worker is about to launch the work.
    Start(Fence),
    /// The work reported progress. Changes no generation.
    Progress(Fence),
    /// The work produced an artifact.
    Artifact(Fence),
    /// The work asked its owner a question.
    Ask(Fence, Question),
    /// The work sent its owner a message. Changes no generation.
    Post(Fence),
    /// The work took messages of its owner. Changes no generation.
    Receive(Fence),
    /// The work reported what its end will be judged by: its result, or what it used. Changes no generation.
    Record(Fence),
    /// The run ended.
    Finish(Fence, RunFacts),
    /// The worker gives the lease back; the work surely never ran.
    Release(Fence),
    /// The owner answered a question.
    Answer(QuestionId),
    /// The owner sent the work a message. Changes no generation.
    Deliver,
    /// A question's time was up.
    QuestionExpired(QuestionId),
    /// Somebody asks for a cancel, with this time between TERM and KILL (none: the spec's).
    Cancel {
        /// See above.
        grace: Option<Duration>,
        /// Number of the signal in place of TERM.
        signal: Option<i16>,
    },
    /// Somebody changes summary, detail, artifacts or links.
    Enrich,
    /// Somebody who holds no lease says how far the work is. Changes no generation.
    Note,
    /// Somebody holds the task back or releases it.
    SetHold(bool),
    /// The lease with this identity ended without a word from its worker.
    Lost {
        /// Epoch of the lease that was seen.
        epoch: Epoch,
        /// Id of the lease that was seen.
        lease_id: LeaseId,
        /// What is known of the work.
        loss: Loss,
    },
    /// A newer boot of the worker has taken over the process that the boot before left running.
    Reattach {
        /// Epoch of the lease under which the process ran.
        epoch: Epoch,
        /// Id of that lease.
        lease_id: LeaseId,
        /// The lease under which it goes on, nothing reported under it yet.
        next: Lease,
    },
    /// The time for which the gate was closed may be over.
    Due,
    /// The latest time for the first run to start may have passed.
    StartDeadline,
    /// A monitor will not fire again, and all of its firings have ended.
    Complete,
}

/// What a report must name: the lease, and for a worker's own reports their number under it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fence {
    /// Epoch of the lease.
    pub epoch: Epoch,
    /// Id of the lease.
    pub lease_id: LeaseId,
    /// Number of the worker's report, from 1; none: what runs inside the task says it, and repeats are recognised by keys.
    pub item_no: Option<i64>,
}

/// What is known of the work whose worker is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// It surely never ran.
    NotStarted,
    /// It may have run, to whatever end.
    Gone,
}
