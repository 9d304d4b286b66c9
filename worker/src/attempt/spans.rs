//! What an attempt tells of itself: spans of its trace, and metrics.

use std::path::Path;
use std::time::{Duration, SystemTime};

use taskyard_telemetry::metrics::table;
use taskyard_telemetry::trace::context::{TRACEPARENT, TRACESTATE, TraceContext};
use taskyard_telemetry::trace::span::{Span, SpanKind};
use tokio::time::Instant;

use super::deliver::Abandoned;
use crate::lease::{ExitFacts, Finish, Offer};
use crate::process::Launch;

/// The spans of one attempt: the whole of it, and below it `start`, `spawn`, `process` and `result`, one after the other.
#[derive(Debug, Default)]
pub struct AttemptSpans {
    whole: Option<Span>,
    step: Option<Span>,
    launched_from: Option<Instant>,
}

impl AttemptSpans {
    /// The attempt begins.
    pub(super) fn begin(offer: &Offer) -> AttemptSpans {
        let mut whole = Span::begin("attempt", SpanKind::Consumer, &offer.trace, false);
        whole
            .set("messaging.system", "taskyard")
            .set("messaging.operation.type", "process")
            .set("taskyard.task.id", offer.lease.task_id.clone())
            .set("taskyard.session.id", offer.session_id.clone())
            .set("taskyard.namespace", offer.namespace.clone())
            .set("taskyard.attempt", i64::from(offer.attempt))
            .set("taskyard.run", i64::from(offer.run))
            .set("taskyard.lease.epoch", offer.lease.epoch);
        AttemptSpans {
            whole: Some(whole),
            ..AttemptSpans::default()
        }
    }

    /// Where the attempt's steps belong.
    pub(super) fn context(&self) -> TraceContext {
        let whole = self.whole.as_ref().map(|whole| whole.context().clone());
        whole.unwrap_or_default()
    }

    /// The next step begins; the one before is over.
    pub(super) fn step(&mut self, name: &'static str) {
        self.step = None;
        let context = self.context();
        self.step = Some(Span::begin(name, SpanKind::Internal, &context, false));
    }

    /// The start was applied; all until the process runs is its launch.
    pub(super) fn launching(&mut self) {
        self.step("spawn");
        self.launched_from = Some(Instant::now());
    }

    /// Begins the span of a process, and gives it to what is launched.
    pub(super) fn process(&self, launch: &mut Launch) -> Span {
        let spawning = self.step.as_ref().map(|step| step.context().clone());
        let parent = spawning.unwrap_or_default();
        let mut span = Span::begin("process", SpanKind::Internal, &parent, false);
        let program = launch.argv.first().map(Path::new).and_then(Path::file_name);
        if let Some(program) = program {
            span.set(
                "process.executable.name",
                program.to_string_lossy().into_owned(),
            );
        }
        hand_on(launch, span.context());
        span
    }

    /// The process runs.
    pub(super) fn spawned(&mut self) {
        self.step = None;
        if let Some(from) = self.launched_from.take() {
            table::WORKER_LAUNCH.record_time(from.elapsed(), &[]);
        }
    }

    /// The attempt is over.
    pub(super) fn over<T>(mut self, ended: &Result<T, Abandoned>) {
        self.step = None;
        let outcome = match ended {
            Ok(_) => "finished",
            Err(Abandoned::Lost) => "lost",
            Err(Abandoned::Canceled) => "canceled",
            Err(Abandoned::Released { .. }) => "released",
            Err(Abandoned::Refused { .. }) => "refused",
            Err(Abandoned::Undelivered) => "undelivered",
        };
        table::WORKER_ATTEMPTS_OVER.add(1, &[outcome]);
        if let Some(mut whole) = self.whole.take() {
            whole.set("taskyard.attempt.outcome", outcome);
            if let Err(abandoned) = ended {
                whole.fail(outcome, &abandoned.to_string());
            }
        }
    }

    /// What the run came to, for the whole attempt.
    pub(super) fn finished(&mut self, finish: &Finish) {
        if let Some(whole) = &mut self.whole {
            describe(whole, finish);
        }
    }
}

/// The span of a process is over, since then.
pub(super) fn exited(mut span: Span, finish: &Finish, exited_at: SystemTime) {
    describe(&mut span, finish);
    span.end_at(exited_at);
}

fn describe(span: &mut Span, finish: &Finish) {
    match &finish.exit {
        Some(ExitFacts::Code(code)) => {
            span.set("process.exit.code", i64::from(*code));
            if *code != 0 {
                span.fail("exit", &format!("exit code {code}"));
            }
        }
        Some(ExitFacts::Signal { number, name }) => {
            span.set("taskyard.exit.signal", i64::from(*number));
            span.fail("signal", name);
        }
        None => {}
    }
    // what an error says may quote the work, so it stays in the task
    if finish.error.is_some() && finish.exit.is_none() {
        span.fail("no_process", "see the error of the task");
    }
    if let Some(duration) = finish.duration_ms.map(Duration::from_millis) {
        span.set("taskyard.run.duration", duration.as_secs_f64());
    }
}

/// The work finds its trace in its environment; what its definition says there is not about this attempt.
fn hand_on(launch: &mut Launch, trace: &TraceContext) {
    if trace.is_none() {
        return;
    }
    let [parent, state] = [TRACEPARENT, TRACESTATE].map(str::to_ascii_uppercase);
    launch
        .env
        .retain(|(name, _)| *name != parent && *name != state);
    launch.env.push((parent, trace.traceparent().to_owned()));
    if !trace.tracestate().is_empty() {
        launch.env.push((state, trace.tracestate().to_owned()));
    }
}
