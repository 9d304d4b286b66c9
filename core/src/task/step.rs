//! The moves that the arms of [`apply`](super::apply) choose among: what each does to the task and what follows from it.

use super::{
    AttemptEnd, Cancel, Effect, ErrorKind, Failure, Gate, Lease, Loss, Order, Question, Rejected,
    State, Task, TerminalState, Transition, Verdict,
};
use crate::{Timestamp, id::QuestionId};
use std::time::Duration;

/// A transition in the making.
pub(super) struct Step {
    pub(super) task: Task,
    now: Timestamp,
    effects: Vec<Effect>,
}

impl Step {
    /// Nothing has changed yet.
    pub(super) fn new(task: Task, now: Timestamp) -> Self {
        Self {
            task,
            now,
            effects: Vec::new(),
        }
    }

    pub(super) fn start(mut self) -> Transition {
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

    pub(super) fn ask(mut self, question: Question) -> Transition {
        let lease = self.task.lease().copied();
        self.task.state = State::AwaitingInput { question, lease };
        self.announce()
    }

    /// The answer decides nothing once the question's time is up, even if nobody has noticed yet, or a cancel is on its
    /// way to the process.
    pub(super) fn answer(self, question: &Question) -> Result<Transition, Rejected> {
        if self.task.cancel.is_some() {
            return Err(Rejected::CancelRequested);
        }
        if question.expires_at.is_some_and(|expiry| self.now >= expiry) {
            return Err(Rejected::Expired);
        }
        Ok(self.resume())
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

    pub(super) fn expire_question(
        self,
        question: &Question,
        id: QuestionId,
    ) -> Result<Transition, Rejected> {
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
    pub(super) fn finish(self, verdict: Verdict) -> Transition {
        match verdict {
            Verdict::Succeeded => self.end(TerminalState::Succeeded, None),
            Verdict::Canceled => self.end(TerminalState::Canceled, None),
            Verdict::CutShort => self.cut_short(),
            Verdict::Lost => self.lose(Loss::Gone),
            Verdict::Failed(failure) if failure.retryable && self.may_run_again() => {
                self.back_off(Some(failure))
            }
            Verdict::Failed(failure) => self.fail(failure),
        }
    }

    /// The worker was shut down and ended the run. Work that may run again does so at once and loses nothing by it; its
    /// question stays, and the answer queues the next run.
    fn cut_short(mut self) -> Transition {
        let failure = Failure::retryable(ErrorKind::WorkerError);
        if self.task.cancel.is_some() || !self.task.policy.retry.may_retry() {
            return self.fail(failure);
        }
        self.end_attempt(Some(failure), false);
        self.task.forgiven += 1;
        self.task.state = match self.task.state {
            State::AwaitingInput { question, .. } => State::AwaitingInput {
                question,
                lease: None,
            },
            State::Queued { .. } | State::Running { .. } | State::Terminal(_) => State::Queued {
                gate: Gate::Open,
                offer: None,
            },
        };
        self.announce()
    }

    /// The worker's next boot holds the process: the same run under another lease. What the boot before was told of a
    /// cancel went with it.
    pub(super) fn reattach(mut self, next: Lease) -> Transition {
        self.end_attempt(None, true);
        self.task.attempt += 1;
        self.task.state = match self.task.state {
            State::AwaitingInput { question, .. } => State::AwaitingInput {
                question,
                lease: Some(next),
            },
            State::Queued { .. } | State::Running { .. } | State::Terminal(_) => {
                State::Running { lease: next }
            }
        };
        if let Some(cancel) = self.task.cancel {
            let order = Order::Cancel {
                grace: cancel.grace,
            };
            self.effects.push(Effect::Tell(next, order));
        }
        self.announce()
    }

    /// The worker of a started attempt is gone. Work that asked a question has run, whatever is said of it.
    pub(super) fn lose(mut self, loss: Loss) -> Transition {
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
                self.end_attempt(None, false);
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
    pub(super) fn give_back(mut self) -> Transition {
        let is_canceled = self.task.cancel.is_some();
        if !is_canceled {
            self.end_attempt(None, false);
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

    pub(super) fn withdraw_offer(mut self) -> Transition {
        self.settle_lease();
        if let State::Queued { offer, .. } = &mut self.task.state {
            *offer = None;
        }
        self.quietly()
    }

    pub(super) fn hold(mut self) -> Transition {
        self.drop_offer();
        let until = self.waits_until();
        self.task.state = State::Queued {
            gate: Gate::Held { until },
            offer: None,
        };
        self.announce()
    }

    /// What still lies ahead of the times that the task waits for goes on: a backoff is not cut short by a hold.
    pub(super) fn release_hold(mut self) -> Transition {
        self.drop_offer();
        let due = self.waits_until().max(self.task.policy.not_before);
        let gate = match due {
            _ if self.task.policy.is_monitor => Gate::Monitor,
            Some(due) if due > self.now => Gate::Until(due),
            Some(_) | None => Gate::Open,
        };
        self.task.state = State::Queued { gate, offer: None };
        self.announce()
    }

    /// The time before which the gate does not open, held or not.
    fn waits_until(&self) -> Option<Timestamp> {
        match self.task.state {
            State::Queued {
                gate: Gate::Until(due),
                ..
            } => Some(due),
            State::Queued {
                gate: Gate::Held { until },
                ..
            } => until,
            State::Queued {
                gate: Gate::Open | Gate::Monitor,
                ..
            }
            | State::Running { .. }
            | State::AwaitingInput { .. }
            | State::Terminal(_) => None,
        }
    }

    pub(super) fn open_gate(mut self) -> Transition {
        if let State::Queued { gate, .. } = &mut self.task.state {
            *gate = Gate::Open;
        }
        self.quietly()
    }

    /// Notes a cancel request: the first one's time, the shortest grace, the first signal that is named.
    pub(super) fn flag_cancel(mut self, grace: Option<Duration>, signal: Option<i16>) -> Self {
        self.task.cancel = Some(match self.task.cancel {
            None => Cancel {
                requested_at: self.now,
                grace,
                signal,
            },
            Some(earlier) => Cancel {
                requested_at: earlier.requested_at,
                grace: shorter(earlier.grace, grace),
                signal: earlier.signal.or(signal),
            },
        });
        self
    }

    /// A worker holds the task: it is told, and how the task ends is its to report.
    pub(super) fn tell_cancel(self, grace: Option<Duration>, signal: Option<i16>) -> Transition {
        let before = self.task.cancel;
        let mut step = self.flag_cancel(grace, signal);
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
    pub(super) fn settle_canceled(mut self) -> Transition {
        self.drop_offer();
        self.end(TerminalState::Canceled, None)
    }

    /// A monitor has done all that it was made for, however its firings ended.
    pub(super) fn complete(self) -> Transition {
        self.end(TerminalState::Succeeded, None)
    }

    pub(super) fn fail(mut self, failure: Failure) -> Transition {
        self.drop_offer();
        self.end(TerminalState::Failed, Some(failure))
    }

    pub(super) fn announce(mut self) -> Transition {
        self.task.generation += 1;
        self.effects.insert(0, Effect::Announce);
        self.quietly()
    }

    pub(super) fn quietly(self) -> Transition {
        Transition {
            task: self.task,
            effects: self.effects,
        }
    }

    /// The start deadline bounds the first run only and is inclusive; a monitor never runs.
    pub(super) fn start_deadline_passed(&self) -> bool {
        self.task.run == 0
            && !self.task.policy.is_monitor
            && self
                .task
                .policy
                .start_deadline
                .is_some_and(|deadline| self.now > deadline)
    }

    fn back_off(mut self, failure: Option<Failure>) -> Transition {
        self.end_attempt(failure, false);
        let wait = self
            .task
            .policy
            .retry
            .backoff(self.task.id, self.task.counted_runs());
        self.task.state = State::Queued {
            gate: Gate::Until(self.now.plus(wait)),
            offer: None,
        };
        self.announce()
    }

    fn end(mut self, state: TerminalState, failure: Option<Failure>) -> Transition {
        self.settle_lease();
        self.task.state = State::Terminal(state);
        self.effects.push(Effect::End { state, failure });
        self.announce()
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

    fn end_attempt(&mut self, failure: Option<Failure>, goes_on: bool) {
        if let Some(lease) = self.task.lease().copied() {
            self.effects.push(Effect::EndAttempt(AttemptEnd {
                lease,
                attempt: self.task.attempt,
                run: self.task.run,
                failure,
                goes_on,
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
        self.task.cancel.is_none()
            && self
                .task
                .policy
                .retry
                .has_run_left(self.task.counted_runs())
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
