//! Random histories of one task, played against a small model of it that is written another way: not as states with
//! data, but as a handful of facts.
//!
//! Two workers act on every lease that they ever had, in time, late and again; a claim, a reaper, a canceller and an
//! owner act between them, and the clock moves on.

use proptest::prelude::*;
use std::time::Duration;
use taskyard_core::{
    Timestamp,
    id::{Epoch, LeaseId, QuestionId, TaskId, WorkerSessionId},
    task::{
        Effect, ErrorKind, Event, Fence, Gate, Lease, Loss, Order, Policy, Question, Rejected,
        ReportedError, RetryPolicy, RunFacts, State, StopCause, Task, TerminalState, apply,
    },
};

// ---- the model ----------------------------------------------------------------------------------------------------

/// Facts about a task. Its state follows from them.
#[derive(Clone, Debug)]
struct Model {
    max_runs: u32,
    not_before: Option<i64>,
    start_deadline: Option<i64>,
    outcome: Option<Outcome>,
    cancel_requested: Option<i64>,
    /// Shortest grace that was asked for.
    grace: Option<u64>,
    is_held_back: bool,
    waits_until: Option<i64>,
    question: Option<Asked>,
    holder: Option<Holder>,
    last_holder: Option<Holder>,
    runs: u32,
    attempts: u32,
    changes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Outcome {
    Succeeded,
    Canceled,
    Failed(ErrorKind),
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Asked {
    id: u128,
    expires_at: Option<i64>,
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
struct Follows {
    is_announced: bool,
    has_ended: bool,
    /// An attempt ended alone; whether its run had failed.
    closes_attempt: Option<bool>,
    tells_cancel: bool,
    tells_drop: bool,
}

const QUIET: Follows = Follows {
    is_announced: false,
    has_ended: false,
    closes_attempt: None,
    tells_cancel: false,
    tells_drop: false,
};
const ANNOUNCED: Follows = Follows {
    is_announced: true,
    ..QUIET
};

type Said = Result<Follows, Rejected>;

impl Model {
    fn offer(&mut self, epoch: i64, id: u128) {
        self.holder = Some(Holder {
            epoch,
            id,
            last_item: 0,
            has_started: false,
        });
    }

    fn is_claimable(&self) -> bool {
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
    fn report(&mut self, fence: Fence, act: &Act, now: i64) -> Said {
        let names =
            |holder: &Holder| (holder.epoch, holder.id) == (fence.epoch.0, fence.lease_id.0);
        let is_old = |holder: &Holder| fence.item_no <= holder.last_item;
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
            holder.last_item = fence.item_no;
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
            How::Canceled if is_canceled => return self.end(Outcome::Canceled),
            How::Canceled => (ErrorKind::WorkerError, true),
            How::Exit => (ErrorKind::Exit, true),
            How::Timeout => (ErrorKind::Timeout, true),
            How::BadOutput => (ErrorKind::BadOutput, false),
        };
        if may_help && !is_canceled && self.runs < self.max_runs {
            self.back_off(now, true)
        } else {
            self.end(Outcome::Failed(kind))
        }
    }

    fn lose(&mut self, now: i64) -> Follows {
        if self.cancel_requested.is_some() || self.max_runs == 1 {
            self.end(Outcome::Failed(ErrorKind::OutcomeUnknown))
        } else if self.runs == self.max_runs {
            self.end(Outcome::Failed(ErrorKind::Orphaned))
        } else if self.question.is_some() {
            self.drop_holder();
            self.close_attempt(false)
        } else {
            self.back_off(now, false)
        }
    }

    fn back_off(&mut self, now: i64, has_failed: bool) -> Follows {
        self.drop_holder();
        self.question = None;
        let wait = retry_policy(self.max_runs).backoff(TASK, self.runs);
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

    fn reap(&mut self, epoch: i64, id: u128, has_surely_not_run: bool, now: i64) -> Said {
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

    fn cancel(&mut self, grace: Option<u64>, now: i64) -> Said {
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

    fn answer(&mut self, id: u128) -> Said {
        if self.question.is_none_or(|asked| asked.id != id) {
            return Err(Rejected::NotPending);
        }
        self.question = None;
        Ok(self.change())
    }

    fn lapse(&mut self, id: u128, now: i64) -> Said {
        match self.question.filter(|asked| asked.id == id) {
            None => Err(Rejected::NotPending),
            Some(asked) if asked.expires_at.is_none_or(|expiry| expiry > now) => {
                Err(Rejected::Moot)
            }
            Some(_) if self.holder.is_none() => {
                Ok(self.end(Outcome::Failed(ErrorKind::QuestionExpired)))
            }
            Some(_) => self.answer(id),
        }
    }

    fn hold(&mut self, hold: bool, now: i64) -> Said {
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
        self.waits_until = self.not_before.filter(|due| !hold && *due > now);
        let tells_drop = self.drop_holder();
        Ok(Follows {
            tells_drop,
            ..self.change()
        })
    }

    fn due(&mut self, now: i64) -> Said {
        match self.waits_until {
            Some(due) if self.is_queued() && due <= now => {
                self.waits_until = None;
                Ok(QUIET)
            }
            _ => Err(Rejected::Moot),
        }
    }

    fn deadline(&mut self, now: i64) -> Said {
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

    fn change(&mut self) -> Follows {
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
    fn check(&self, task: &Task) -> Result<(), TestCaseError> {
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
                (true, _) => Gate::Held,
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
        prop_assert_eq!((task.run, task.attempt), (self.runs, self.attempts));
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

// ---- what happens -------------------------------------------------------------------------------------------------

/// What somebody does. `pick` chooses among all leases that were ever offered or questions that were ever asked, counted
/// from the newest.
#[derive(Clone, Debug)]
enum Step {
    Wait(i64),
    Offer,
    Report {
        pick: usize,
        item: Item,
        act: Act,
    },
    Reap {
        pick: usize,
        has_surely_not_run: bool,
    },
    Cancel(Option<u64>),
    Answer {
        pick: usize,
    },
    Lapse {
        pick: usize,
    },
    Hold(bool),
    Due,
    Deadline,
    Enrich,
}

/// Which number a report bears; or, with the next one, which half of the lease's identity it has wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Item {
    Next,
    Repeated,
    WrongEpoch,
    WrongId,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Act {
    Start,
    Progress,
    Artifact,
    /// The id is given when it is played.
    Ask(Asked),
    Release,
    Finish(How),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum How {
    Well,
    Exit,
    Timeout,
    BadOutput,
    Canceled,
    Expired,
}

/// Times are multiples of half a second, so that what is due is often due to the microsecond.
const HALF: i64 = 500_000;

fn how() -> impl Strategy<Value = How> {
    prop_oneof![
        1 => Just(How::Well),
        3 => Just(How::Exit),
        1 => Just(How::Timeout),
        1 => Just(How::BadOutput),
        1 => Just(How::Canceled),
        2 => Just(How::Expired),
    ]
}

fn act() -> impl Strategy<Value = Act> {
    let asked = prop::option::of((0..6i64).prop_map(|halves| halves * HALF))
        .prop_map(|expires_at| Asked { id: 0, expires_at });
    prop_oneof![
        6 => Just(Act::Start),
        1 => Just(Act::Progress),
        1 => Just(Act::Artifact),
        4 => asked.prop_map(Act::Ask),
        2 => Just(Act::Release),
        4 => how().prop_map(Act::Finish),
    ]
}

/// Mostly the newest one, else an older one.
fn pick() -> impl Strategy<Value = usize> {
    prop_oneof![5 => Just(0usize), 1 => 1..4usize]
}

fn step() -> impl Strategy<Value = Step> {
    let item = prop_oneof![
        20 => Just(Item::Next),
        4 => Just(Item::Repeated),
        1 => Just(Item::WrongEpoch),
        1 => Just(Item::WrongId),
    ];
    let report =
        (pick(), item, act()).prop_map(|(pick, item, act)| Step::Report { pick, item, act });
    let reap =
        (pick(), prop::bool::weighted(0.3)).prop_map(|(pick, has_surely_not_run)| Step::Reap {
            pick,
            has_surely_not_run,
        });
    prop_oneof![
        4 => (0..4i64).prop_map(|halves| Step::Wait(halves * HALF)),
        8 => Just(Step::Offer),
        20 => report,
        3 => reap,
        2 => prop::option::of(1..60u64).prop_map(Step::Cancel),
        3 => pick().prop_map(|pick| Step::Answer { pick }),
        2 => pick().prop_map(|pick| Step::Lapse { pick }),
        2 => any::<bool>().prop_map(Step::Hold),
        6 => Just(Step::Due),
        1 => Just(Step::Deadline),
        1 => Just(Step::Enrich),
    ]
}

// ---- the play -----------------------------------------------------------------------------------------------------

const TASK: TaskId = TaskId(0x0190_0000_0000_7000_8000_0000_0000_0001);

fn retry_policy(max_runs: u32) -> RetryPolicy {
    RetryPolicy {
        max_runs,
        ..RetryPolicy::NEVER
    }
}

/// The task beside its model, and what the cast remembers.
struct Play {
    now: i64,
    task: Task,
    model: Model,
    /// Every lease that was ever offered, with the number of the newest report under it. Two workers take turns.
    leases: Vec<(Lease, i64)>,
    questions: Vec<u128>,
    ends: u32,
    starts: u32,
}

impl Play {
    fn new(max_runs: u32, not_before: Option<i64>, start_deadline: Option<i64>) -> Self {
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
                },
                state: State::Queued { gate, offer: None },
                cancel: None,
                run: 0,
                attempt: 0,
                generation: 1,
                started_at: None,
                settled: None,
            },
            model: Model {
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
                attempts: 0,
                changes: 1,
            },
            leases: Vec::new(),
            questions: Vec::new(),
            ends: 0,
            starts: 0,
        }
    }

    fn play(&mut self, step: &Step) -> Result<(), TestCaseError> {
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
            Step::Cancel(grace) => {
                let event = Event::Cancel {
                    grace: grace.map(Duration::from_secs),
                };
                let said = self.model.cancel(*grace, now);
                self.compare(event, said)?;
            }
            Step::Answer { pick } => {
                let id = nth_newest(&self.questions, *pick).unwrap_or_default();
                let said = self.model.answer(id);
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
        }
        self.model.check(&self.task)
    }

    /// The claim's write, the only one that does not go through `apply`.
    fn offer(&mut self) {
        if !self.model.is_claimable() {
            return;
        }
        let number = self.leases.len() as i64 + 1;
        let lease = Lease {
            worker: WorkerSessionId(number % 2),
            epoch: Epoch(number),
            id: LeaseId(1_000 + number as u128),
            item_no: 0,
        };
        self.leases.push((lease, 0));
        self.model.offer(lease.epoch.0, lease.id.0);
        if let State::Queued { offer, .. } = &mut self.task.state {
            *offer = Some(lease);
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
            item_no: (*last_item).max(1),
        };
        let fence = match item {
            Item::Next | Item::Repeated => right,
            Item::WrongEpoch => Fence {
                epoch: Epoch(right.epoch.0 - 1),
                item_no: right.item_no + 1,
                ..right
            },
            Item::WrongId => Fence {
                lease_id: LeaseId(right.lease_id.0 - 1),
                item_no: right.item_no + 1,
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
                            follows.closes_attempt = Some(end.failure.is_some())
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
        // A lease comes from an offer only, and none comes back.
        if let Some(lease) = after.lease() {
            prop_assert_eq!(
                before
                    .lease()
                    .map(|held| (held.worker, held.epoch, held.id)),
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
        prop_assert!(after.run <= self.model.max_runs);
        self.starts += u32::from(after.run > before.run);
        self.ends += u32::from(
            transition
                .effects
                .iter()
                .any(|effect| matches!(effect, Effect::End { .. })),
        );
        prop_assert_eq!(self.ends, u32::from(after.is_terminal()));
        prop_assert_eq!(self.starts, after.attempt);
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
    }
}

/// From wherever a history led: a cancel, and the loss of the worker that then still holds the task, end it.
fn check_it_can_end(play: &mut Play) -> Result<(), TestCaseError> {
    if play.task.is_terminal() {
        return Ok(());
    }
    play.play(&Step::Cancel(None))?;
    play.play(&Step::Reap {
        pick: 0,
        has_surely_not_run: false,
    })?;
    prop_assert!(play.task.is_terminal(), "{:?}", play.task);
    Ok(())
}

/// From wherever a history led, without a cancel: work that is let run and does well succeeds, unless it came too late.
fn check_it_can_succeed(play: &mut Play) -> Result<(), TestCaseError> {
    let newest = |act| Step::Report {
        pick: 0,
        item: Item::Next,
        act,
    };
    for _ in 0..2 {
        if let Some(id) = play.model.question.map(|asked| asked.id) {
            prop_assert_eq!(
                play.questions.last(),
                Some(&id),
                "questions come one at a time"
            );
        }
        for step in [
            Step::Answer { pick: 0 },
            Step::Hold(false),
            Step::Wait(100_000_000),
            Step::Due,
            Step::Offer,
            newest(Act::Start),
            newest(Act::Finish(How::Well)),
        ] {
            play.play(&step)?;
        }
    }
    prop_assert!(play.task.is_terminal(), "{:?}", play.task);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_history_goes_as_the_model_says(
        max_runs in 1..4u32,
        not_before in prop::option::weighted(0.3, (0..8i64).prop_map(|halves| halves * HALF)),
        start_deadline in prop::option::weighted(0.3, (0..12i64).prop_map(|halves| halves * HALF)),
        steps in prop::collection::vec(step(), 1..80),
        ends_by_cancel in any::<bool>(),
    ) {
        let mut play = Play::new(max_runs, not_before, start_deadline);
        for step in &steps {
            play.play(step)?;
        }
        if ends_by_cancel {
            check_it_can_end(&mut play)?;
        } else {
            check_it_can_succeed(&mut play)?;
        }
        prop_assert_eq!(play.ends, 1);
        // What comes after the end changes nothing but the generation.
        let ended = play.task.state.clone();
        for step in &steps {
            play.play(step)?;
        }
        prop_assert_eq!(play.task.state, ended);
        prop_assert_eq!(play.ends, 1);
    }
}
