//! The play: each step is taken by the task and by its model, and their verdicts are compared.

use crate::reference::{Asked, Follows, Model, Outcome, Said};
use crate::steps::{Act, How, Item, Step};
use proptest::prelude::*;
use std::time::Duration;
use taskyard_core::{
    Timestamp,
    id::{Epoch, LeaseId, QuestionId, TaskId, WorkerSessionId},
    task::{
        Effect, ErrorKind, Event, Fence, Gate, Lease, Loss, Order, Policy, Question, ReportedError,
        ResultCheck, RetryPolicy, RunFacts, State, StopCause, Task, TerminalState, apply,
    },
};

pub const TASK: TaskId = TaskId(0x0190_0000_0000_7000_8000_0000_0000_0001);

pub fn retry_policy(max_runs: u32) -> RetryPolicy {
    RetryPolicy {
        max_runs,
        ..RetryPolicy::NEVER
    }
}

/// The task beside its model, and what the cast remembers.
pub struct Play {
    now: i64,
    pub task: Task,
    pub model: Model,
    /// Every lease that was ever offered, with the number of the newest report under it. Two workers take turns.
    leases: Vec<(Lease, i64)>,
    pub questions: Vec<u128>,
    pub ends: u32,
    starts: u32,
    reattached: u32,
}

impl Play {
    pub fn new(max_runs: u32, not_before: Option<i64>, start_deadline: Option<i64>) -> Self {
        let gate = not_before.map_or(Gate::Open, |due| Gate::Until(Timestamp(due)));
        Self {
            now: 0,
            task: Task {
                id: TASK,
                policy: Policy {
                    retry: retry_policy(max_runs),
                    not_before: not_before.map(Timestamp),
                    start_deadline: start_deadline.map(Timestamp),
                    success_exit_codes: vec![0],
                    is_monitor: false,
                },
                state: State::Queued { gate, offer: None },
                cancel: None,
                run: 0,
                forgiven: 0,
                attempt: 0,
                generation: 1,
                started_at: None,
                settled: None,
            },
            model: Model::new(max_runs, not_before, start_deadline),
            leases: Vec::new(),
            questions: Vec::new(),
            ends: 0,
            starts: 0,
            reattached: 0,
        }
    }

    pub fn play(&mut self, step: &Step) -> Result<(), TestCaseError> {
        let now = self.now;
        match step {
            Step::Wait(micros) => self.now += micros,
            Step::Offer => self.offer(),
            Step::Report { pick, item, act } => self.report(*pick, *item, *act)?,
            Step::Reap {
                pick,
                has_surely_not_run,
            } => {
                let Some((lease, _)) = nth_newest(&self.leases, *pick) else {
                    return Ok(());
                };
                let loss = if *has_surely_not_run {
                    Loss::NotStarted
                } else {
                    Loss::Gone
                };
                let event = Event::Lost {
                    epoch: lease.epoch,
                    lease_id: lease.id,
                    loss,
                };
                let said = self
                    .model
                    .reap(lease.epoch.0, lease.id.0, *has_surely_not_run, now);
                self.compare(event, said)?;
            }
            Step::Reattach { pick, again } => self.reattach(*pick, *again)?,
            Step::Cancel(grace) => {
                let event = Event::Cancel {
                    grace: grace.map(Duration::from_secs),
                    signal: None,
                };
                let said = self.model.cancel(*grace, now);
                self.compare(event, said)?;
            }
            Step::Answer { pick } => {
                let id = nth_newest(&self.questions, *pick).unwrap_or_default();
                let said = self.model.answer(id, self.now);
                self.compare(Event::Answer(QuestionId(id)), said)?;
            }
            Step::Lapse { pick } => {
                let id = nth_newest(&self.questions, *pick).unwrap_or_default();
                let said = self.model.lapse(id, now);
                self.compare(Event::QuestionExpired(QuestionId(id)), said)?;
            }
            Step::Hold(hold) => {
                let said = self.model.hold(*hold, now);
                self.compare(Event::SetHold(*hold), said)?;
            }
            Step::Due => {
                let said = self.model.due(now);
                self.compare(Event::Due, said)?;
            }
            Step::Deadline => {
                let said = self.model.deadline(now);
                self.compare(Event::StartDeadline, said)?;
            }
            Step::Enrich => {
                let said = Ok(self.model.change());
                self.compare(Event::Enrich, said)?;
            }
            Step::Note => {
                let said = self.model.note();
                self.compare(Event::Note, said)?;
            }
        }
        self.model.check(&self.task)
    }

    /// The claim's write, the only one that does not go through `apply`.
    fn offer(&mut self) {
        if !self.model.is_claimable() {
            return;
        }
        let lease = self.new_lease();
        self.leases.push((lease, 0));
        self.model.offer(lease.epoch.0, lease.id.0);
        if let State::Queued { offer, .. } = &mut self.task.state {
            *offer = Some(lease);
        }
    }

    /// The next lease is new, or, of an answer that was lost, one that is there already.
    fn reattach(&mut self, pick: usize, again: bool) -> Result<(), TestCaseError> {
        let (Some((old, _)), Some((newest, _))) = (
            nth_newest(&self.leases, pick + usize::from(again)),
            nth_newest(&self.leases, pick),
        ) else {
            return Ok(());
        };
        let next = if again {
            Lease {
                item_no: 0,
                ..newest
            }
        } else {
            self.new_lease()
        };
        let said = self
            .model
            .reattach((old.epoch.0, old.id.0), (next.epoch.0, next.id.0));
        if said.is_ok() && !again {
            self.leases.push((next, 0));
        }
        self.reattached += u32::from(said.is_ok());
        let event = Event::Reattach {
            epoch: old.epoch,
            lease_id: old.id,
            next,
        };
        self.compare(event, said)
    }

    /// Two workers take turns.
    fn new_lease(&self) -> Lease {
        let number = self.leases.len() as i64 + 1;
        Lease {
            worker: WorkerSessionId(number % 2),
            epoch: Epoch(number),
            id: LeaseId(1_000 + number as u128),
            item_no: 0,
        }
    }

    fn report(&mut self, pick: usize, item: Item, act: Act) -> Result<(), TestCaseError> {
        let Some(newest) = self.leases.len().checked_sub(1) else {
            return Ok(());
        };
        let (lease, last_item) = &mut self.leases[newest.saturating_sub(pick)];
        if item == Item::Next {
            *last_item += 1;
        }
        let right = Fence {
            epoch: lease.epoch,
            lease_id: lease.id,
            item_no: Some((*last_item).max(1)),
        };
        let fence = match item {
            Item::Next | Item::Repeated => right,
            Item::WrongEpoch => Fence {
                epoch: Epoch(right.epoch.0 - 1),
                item_no: Some(*last_item + 1),
                ..right
            },
            Item::WrongId => Fence {
                lease_id: LeaseId(right.lease_id.0 - 1),
                item_no: Some(*last_item + 1),
                ..right
            },
        };
        let act = match act {
            Act::Ask(asked) => Act::Ask(Asked {
                id: self.questions.len() as u128 + 1,
                expires_at: asked.expires_at.map(|after| self.now + after),
            }),
            Act::Start | Act::Progress | Act::Artifact | Act::Release | Act::Finish(_) => act,
        };
        let said = self.model.report(fence, &act, self.now);
        let event = match act {
            Act::Start => Event::Start(fence),
            Act::Progress => Event::Progress(fence),
            Act::Artifact => Event::Artifact(fence),
            Act::Ask(asked) => {
                if said.is_ok() {
                    self.questions.push(asked.id);
                }
                let question = Question {
                    id: QuestionId(asked.id),
                    expires_at: asked.expires_at.map(Timestamp),
                };
                Event::Ask(fence, question)
            }
            Act::Release => Event::Release(fence),
            Act::Finish(how) => Event::Finish(fence, facts(how)),
        };
        self.compare(event, said)
    }

    /// Applies the event, and checks the verdict against the model's and against what must hold in any case.
    fn compare(&mut self, event: Event, said: Said) -> Result<(), TestCaseError> {
        let before = self.task.clone();
        let verdict = apply(&before, event.clone(), Timestamp(self.now));
        let follows = verdict
            .as_ref()
            .map_err(|rejected| *rejected)
            .map(|transition| {
                let mut follows = Follows::default();
                for effect in &transition.effects {
                    match effect {
                        Effect::Announce => follows.is_announced = true,
                        Effect::EndAttempt(end) => {
                            follows.closes_attempt = Some(end.failure.is_some());
                            follows.goes_on = end.goes_on;
                        }
                        Effect::End { .. } => follows.has_ended = true,
                        Effect::Tell(_, Order::Cancel { .. }) => follows.tells_cancel = true,
                        Effect::Tell(_, Order::Drop) => follows.tells_drop = true,
                    }
                }
                follows
            });
        prop_assert_eq!(follows, said, "{:?}", event);
        let Ok(transition) = verdict else {
            return Ok(());
        };

        let after = transition.task;
        let announced = count(&transition.effects, |effect| *effect == Effect::Announce);
        prop_assert!(announced <= 1);
        prop_assert_eq!(after.generation, before.generation + announced);
        if before.is_terminal() {
            prop_assert_eq!(&after.state, &before.state);
        }
        if let Some(cancel) = before.cancel {
            prop_assert_eq!(
                after.cancel.map(|after| after.requested_at),
                Some(cancel.requested_at)
            );
            prop_assert!(after.run <= before.run, "a run started after the cancel");
        }
        if !matches!(event, Event::Cancel { .. }) {
            prop_assert_eq!(after.cancel, before.cancel);
        }
        // A lease comes from an offer or from the one before, and none comes back.
        if let Some(lease) = after.lease() {
            let held = match &event {
                Event::Reattach { next, .. } => Some(*next),
                _ => before.lease().copied(),
            };
            prop_assert_eq!(
                held.map(|held| (held.worker, held.epoch, held.id)),
                Some((lease.worker, lease.epoch, lease.id))
            );
        }
        prop_assert!(
            after.settled.map(|settled| settled.epoch)
                >= before.settled.map(|settled| settled.epoch)
        );
        for effect in &transition.effects {
            if let Effect::End { state, failure } = effect {
                prop_assert_eq!(&after.state, &State::Terminal(*state));
                prop_assert_eq!(
                    outcome(*state, failure.map(|failure| failure.kind)),
                    self.model.outcome
                );
            }
        }
        prop_assert!(after.counted_runs() <= self.model.max_runs);
        self.starts += u32::from(after.run > before.run);
        self.ends += u32::from(
            transition
                .effects
                .iter()
                .any(|effect| matches!(effect, Effect::End { .. })),
        );
        prop_assert_eq!(self.ends, u32::from(after.is_terminal()));
        prop_assert_eq!(self.starts + self.reattached, after.attempt);
        self.task = after;
        Ok(())
    }
}

fn nth_newest<T: Copy>(all: &[T], pick: usize) -> Option<T> {
    let newest = all.len().checked_sub(1)?;
    Some(all[newest.saturating_sub(pick)])
}

fn count(effects: &[Effect], is_meant: impl Fn(&Effect) -> bool) -> u64 {
    effects.iter().filter(|effect| is_meant(effect)).count() as u64
}

fn outcome(state: TerminalState, kind: Option<ErrorKind>) -> Option<Outcome> {
    match (state, kind) {
        (TerminalState::Succeeded, None) => Some(Outcome::Succeeded),
        (TerminalState::Canceled, None) => Some(Outcome::Canceled),
        (TerminalState::Failed, Some(kind)) => Some(Outcome::Failed(kind)),
        (TerminalState::Succeeded | TerminalState::Canceled, Some(_))
        | (TerminalState::Failed, None) => None,
    }
}

fn facts(how: How) -> RunFacts {
    let (exit_code, stop_cause) = match how {
        How::Well | How::BadOutput => (Some(0), None),
        How::Exit => (Some(1), None),
        How::Timeout => (None, Some(StopCause::TimedOut)),
        How::Canceled => (None, Some(StopCause::Canceled)),
        How::Expired => (None, Some(StopCause::LeaseExpired)),
        How::Ending => (None, Some(StopCause::WorkerShutdown)),
    };
    RunFacts {
        exit_code,
        signal: exit_code.is_none().then_some(9),
        oom_killed: false,
        stop_cause,
        error: (how == How::BadOutput).then_some(ReportedError {
            kind: ErrorKind::BadOutput,
            retryable: false,
        }),
        result: ResultCheck::Good,
    }
}
