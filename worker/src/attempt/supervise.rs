//! Watching one process to its end, and ending it when that is asked for.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::live_input::InputEnd;
use super::orders::Orders;
use super::run_clock::RunClock;
use super::surviving::SurvivingAttempts;
use crate::boot_time::BootTime;
use crate::lease::{SignalOrder, StopCause, TerminalSize};
use crate::output::upload::Totals;
use crate::process::{CommandError, Kept, Process, ProcessEnd, ProcessError, ProcessEvent, Signal};

/// Longest time between TERM and KILL when the worker is shut down.
pub const ENDING_GRACE: Duration = Duration::from_secs(5);
/// A shim that did not end its tree so long after it should have is killed itself.
const SHIM_BOUND: Duration = Duration::from_secs(10);
/// A signal that waited for its process for longer is not sent any more.
const SIGNAL_AGE_MAX: Duration = Duration::from_secs(8);
/// Signals whose outcome is remembered.
const SIGNALS_REMEMBERED_MAX: usize = 256;
/// Room between the shim's deadline and the end of the lease.
const LEASE_MARGIN_MAX: Duration = Duration::from_secs(1);

/// What decides how long a process may run.
pub struct Bounds {
    /// Between TERM and KILL.
    pub grace: Duration,
    pub timeout: Option<Duration>,
    pub lease_duration: Duration,
    /// Of work that outlives the worker: where it is counted as such while it runs.
    pub survives: Option<SurvivingAttempts>,
    /// Of a run that outlived the boot before.
    pub resumed: Option<Resumed>,
}

/// What is known of a run that outlived the boot before.
pub struct Resumed {
    pub kept: Kept,
    /// When the root was over, if it is.
    pub exited_at: Option<BootTime>,
}

/// What an attempt listens to while its process runs.
pub struct Ears<'a> {
    pub orders: &'a mut watch::Receiver<Orders>,
    pub renewed: &'a mut watch::Receiver<Option<BootTime>>,
    /// While it is true the timeout stands still.
    pub waiting: &'a mut watch::Receiver<bool>,
    pub input: InputEnd,
    /// The newest size of the terminal, where there is one.
    pub terminal: watch::Receiver<Option<TerminalSize>>,
    pub signals: SignalEar<'a>,
    pub lost: &'a CancellationToken,
}

/// Signals that clients send, and where it is told what became of each.
pub struct SignalEar<'a> {
    pub orders: &'a mut mpsc::Receiver<SignalOrder>,
    pub confirm: &'a (dyn Fn(SignalOutcome) + Send + Sync),
}

/// What became of a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignalOutcome {
    pub number: i64,
    pub was_delivered: bool,
}

/// How a process came to its end.
#[derive(Debug)]
pub struct Supervised {
    pub end: Result<ProcessEnd, ProcessError>,
    /// Why the worker ended it, if it did; the first reason counts.
    pub stop: Option<Stop>,
    /// From launch to the exit of the root.
    pub duration: Duration,
}

/// Why the worker ended a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    Canceled,
    TimedOut,
    /// The lease is lost: nobody wants to know.
    Lost,
    /// The worker ends.
    Ending,
}

/// When the tree of a lease must be gone, a little before the lease itself is.
pub fn shim_deadline(renewed_at: BootTime, lease_duration: Duration) -> BootTime {
    let margin = (lease_duration / 20).min(LEASE_MARGIN_MAX);
    renewed_at.plus(lease_duration.saturating_sub(margin))
}

/// Follows the process until nothing of it is left. Totals are told as they grow; their end is for the caller to tell.
pub async fn supervise(
    mut process: Process,
    bounds: &Bounds,
    mut ears: Ears<'_>,
    totals: &watch::Sender<Totals>,
) -> Supervised {
    let (launched_at, mut clock, mut state) = begin(bounds);
    let (mut told, mut surviving) = (None, None);
    state.obey(&process, bounds, &ears);
    // Something may have been renewed between the launch and now.
    let mut orders_open = true;
    let mut renewals_open = true;
    let mut waits_open = true;
    let mut input_open = true;
    let mut terminal_open = true;
    let mut signals_open = true;
    let mut signals = SentSignals::default();
    renew(&process, bounds, &ears, &mut state);
    let end = loop {
        let now = Instant::now();
        clock.wait_or_go_on(*ears.waiting.borrow_and_update(), now);
        let timeout_at = clock.runs_out_at();
        if let Some(attempts) = &bounds.survives
            && told != Some((clock, state.stop))
        {
            told = Some((clock, state.stop));
            state.keep(&process, bounds, launched_at, &clock);
            // Only from here on can the worker leave it.
            surviving.get_or_insert_with(|| attempts.enter());
        }
        tokio::select! {
            event = process.next_event() => match event {
                Ok(ProcessEvent::Started { .. }) => {}
                Ok(ProcessEvent::Output { stdout_total, stderr_total }) => {
                    totals.send_replace(Totals { bytes: [stdout_total, stderr_total], ended: false });
                }
                Ok(ProcessEvent::Exited(_)) => {
                    state.exited_at.get_or_insert_with(BootTime::now);
                }
                Ok(ProcessEvent::InputTaken { total }) => {
                    ears.input.taken.send_replace(total);
                }
                Ok(ProcessEvent::Ended(end)) => break Ok(end),
                Err(error) => break Err(error),
            },
            changed = ears.orders.changed(), if orders_open => {
                orders_open = changed.is_ok();
                state.obey(&process, bounds, &ears);
            }
            () = ears.lost.cancelled(), if state.stop != Some(Stop::Lost) => {
                state.stop = Some(Stop::Lost);
                state.kill(&process);
            }
            changed = ears.renewed.changed(), if renewals_open => {
                renewals_open = changed.is_ok();
                renew(&process, bounds, &ears, &mut state);
            }
            changed = ears.waiting.changed(), if waits_open => waits_open = changed.is_ok(),
            piece = ears.input.pieces.recv(), if input_open => match piece {
                // A process that is gone takes no more; its end is on its way.
                Some(piece) => drop(process.write_input(&piece.data, piece.ends)),
                None => input_open = false,
            },
            changed = ears.terminal.changed(), if terminal_open => {
                terminal_open = changed.is_ok();
                let newest = *ears.terminal.borrow_and_update();
                // As with input.
                newest.into_iter().for_each(|size| drop(process.resize(size)));
            }
            order = ears.signals.orders.recv(), if signals_open => match order {
                Some(order) => {
                    let is_running = state.exited_at.is_none();
                    let was_delivered = signals.send(&order, || is_running && send(&process, &order));
                    (ears.signals.confirm)(SignalOutcome { number: order.number, was_delivered });
                }
                None => signals_open = false,
            },
            () = tokio::time::sleep_until(timeout_at.unwrap_or(now)),
                if timeout_at.is_some() && state.stop.is_none() && state.exited_at.is_none() =>
            {
                state.stop = Some(Stop::TimedOut);
                state.terminate(&process, Signal::Term, now + bounds.grace);
            }
            () = tokio::time::sleep_until(state.force_at.unwrap_or(now)), if state.force_at.is_some() && !state.forced => {
                tracing::error!(pid = process.pid(), "the exec shim does not end its tree; killing it");
                state.forced = true;
                process.force_end();
            }
        }
    };
    drop(surviving);
    let duration = state
        .exited_at
        .unwrap_or_else(BootTime::now)
        .saturating_since(launched_at);
    Supervised {
        end,
        stop: state.stop,
        duration,
    }
}

struct State {
    stop: Option<Stop>,
    /// When the grace of the earliest termination ends.
    kill_at: Option<Instant>,
    /// When patience with the shim ends.
    force_at: Option<Instant>,
    exited_at: Option<BootTime>,
    forced: bool,
}

/// When the program was launched, and where its time and its end stand: at their beginning, or as the boot before left
/// them.
fn begin(bounds: &Bounds) -> (BootTime, RunClock, State) {
    let now = Instant::now();
    let mut state = State {
        stop: None,
        kill_at: None,
        force_at: None,
        exited_at: None,
        forced: false,
    };
    let Some(Resumed { kept, exited_at }) = &bounds.resumed else {
        let clock = RunClock::start(bounds.timeout, now);
        return (BootTime::now(), clock, state);
    };
    state.exited_at = *exited_at;
    state.stop = match kept.stop {
        Some(StopCause::Canceled) => Some(Stop::Canceled),
        Some(StopCause::TimedOut) => Some(Stop::TimedOut),
        Some(StopCause::WorkerShutdown) => Some(Stop::Ending),
        Some(StopCause::LeaseExpired) | None => None,
    };
    if state.stop.is_some() {
        // The shim keeps the grace itself.
        state.be_patient_until(now + kept.grace + SHIM_BOUND);
    }
    let clock = RunClock::resume(kept.runs_out_at, kept.left, now);
    (kept.launched_at, clock, state)
}

impl State {
    /// Tells the shim what the next boot is to know.
    fn keep(&self, process: &Process, bounds: &Bounds, launched_at: BootTime, clock: &RunClock) {
        let (runs_out_at, left) = clock.keep(Instant::now());
        let stop = match self.stop {
            Some(Stop::Canceled) => Some(StopCause::Canceled),
            Some(Stop::TimedOut) => Some(StopCause::TimedOut),
            Some(Stop::Ending) => Some(StopCause::WorkerShutdown),
            Some(Stop::Lost) | None => None,
        };
        // A shim that does not take it is dealt with where it takes no extension either.
        let _ = process.keep(Kept {
            launched_at,
            runs_out_at,
            left,
            grace: bounds.grace,
            stop,
        });
    }

    fn obey(&mut self, process: &Process, bounds: &Bounds, ears: &Ears<'_>) {
        let orders = *ears.orders.borrow();
        if orders.ending && bounds.survives.is_none() && self.stop != Some(Stop::Lost) {
            self.stop_because(Stop::Ending);
            let kill_at = Instant::now() + bounds.grace.min(ENDING_GRACE);
            self.terminate(process, Signal::Term, kill_at);
        } else if let Some(kill_at) = orders.kill_at(bounds.grace) {
            self.stop_because(Stop::Canceled);
            let signal = orders.cancel_signal.and_then(Signal::from_number);
            self.terminate(process, signal.unwrap_or(Signal::Term), kill_at);
        }
    }

    /// A root that is over ended by itself; only what it left is stopped.
    fn stop_because(&mut self, stop: Stop) {
        if self.exited_at.is_none() {
            self.stop.get_or_insert(stop);
        }
    }

    fn terminate(&mut self, process: &Process, signal: Signal, kill_at: Instant) {
        if self.kill_at.is_some_and(|before| before <= kill_at) {
            return;
        }
        self.kill_at = Some(kill_at);
        let grace = kill_at.saturating_duration_since(Instant::now());
        if grace.is_zero() {
            self.kill(process);
        } else {
            self.was_told(process.terminate(signal, grace), kill_at);
        }
    }

    fn kill(&mut self, process: &Process) {
        let now = Instant::now();
        self.kill_at = Some(now);
        self.was_told(process.kill(), now);
    }

    fn was_told(&mut self, told: Result<(), CommandError>, gone_at: Instant) {
        let patience_ends = match told {
            // Gone: its last event is on its way.
            Ok(()) | Err(CommandError::Gone) => gone_at + SHIM_BOUND,
            Err(CommandError::ShimFrozen) => Instant::now(),
        };
        self.be_patient_until(patience_ends);
    }

    fn be_patient_until(&mut self, at: Instant) {
        self.force_at = Some(self.force_at.map_or(at, |before| before.min(at)));
    }
}

/// Signals that were sent, or not: one that comes again, because its outcome was not heard, is not sent again.
#[derive(Default)]
struct SentSignals {
    outcomes: BTreeMap<i64, bool>,
}

impl SentSignals {
    fn send(&mut self, order: &SignalOrder, send: impl FnOnce() -> bool) -> bool {
        if let Some(was_delivered) = self.outcomes.get(&order.number) {
            return *was_delivered;
        }
        // Whoever sent an older one has been told that it was withdrawn.
        let was_delivered = order.received_at.elapsed() < SIGNAL_AGE_MAX && send();
        self.outcomes.insert(order.number, was_delivered);
        if self.outcomes.len() > SIGNALS_REMEMBERED_MAX {
            self.outcomes.pop_first();
        }
        was_delivered
    }
}

fn send(process: &Process, order: &SignalOrder) -> bool {
    Signal::from_number(order.signal)
        .is_some_and(|signal| process.signal(signal, order.root_only).is_ok())
}

/// Hands the newest deadline to the shim. Once the process is being ended, patience only shrinks.
fn renew(process: &Process, bounds: &Bounds, ears: &Ears<'_>, state: &mut State) {
    let Some(renewed_at) = *ears.renewed.borrow() else {
        return;
    };
    let deadline = shim_deadline(renewed_at, bounds.lease_duration);
    let told = process.extend(deadline);
    if state.stop.is_none() {
        state.force_at = None;
        let left = deadline.saturating_since(BootTime::now());
        state.was_told(told, Instant::now() + left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(number: i64, received_at: Instant) -> SignalOrder {
        SignalOrder {
            number,
            signal: libc::SIGHUP,
            received_at,
            root_only: false,
        }
    }

    #[test]
    fn a_signal_that_comes_again_is_not_sent_again() {
        let mut signals = SentSignals::default();
        let now = Instant::now();
        assert!(signals.send(&order(2, now), || true));
        assert!(
            !signals.send(&order(1, now), || false),
            "out of order, but new"
        );
        assert!(signals.send(&order(2, now), || panic!("it was sent before")));
        assert!(!signals.send(&order(1, now), || panic!("it was tried before")));
    }

    #[test]
    fn a_signal_that_was_withdrawn_is_not_sent() {
        let mut signals = SentSignals::default();
        if let Some(long_ago) = Instant::now().checked_sub(SIGNAL_AGE_MAX) {
            assert!(!signals.send(&order(1, long_ago), || panic!("it is too old")));
        }
    }
}
