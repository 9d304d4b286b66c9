//! `SignalTask`: a signal to the process of a running task, relayed to the worker that holds it, wherever that is attached.

use super::{heartbeat::SIGNAL_AGE, refusal::Refusal, resolve, signal_name::Signal};
use crate::{
    app::App,
    limits::turns,
    store::{
        task_input,
        task_signals::{self, Outcome, StoredSignal},
    },
};
use std::time::Duration;
use taskyard_core::id::TaskId;
use taskyard_proto::v1::{SignalTarget, SignalTaskRequest, SignalTaskResponse};
use tokio::time::{Instant, timeout};

/// How often is looked for the outcome where nothing was heard.
const POLL: Duration = Duration::from_millis(250);
/// A task that has ended may still tell of a signal that ended it.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Sends a signal, and answers when the worker has.
///
/// # Errors
/// What resolving says; [`Refusal::InvalidField`]; [`Refusal::TaskTerminal`]; [`Refusal::WrongState`] for a task without a
/// process; [`Refusal::SignalNotDelivered`]; [`Refusal::ShuttingDown`]; [`Refusal::Store`].
pub async fn signal_task(
    app: &App,
    request: SignalTaskRequest,
) -> Result<SignalTaskResponse, Refusal> {
    let signal = Signal::parse("signal", &request.signal)?;
    let root_only = match SignalTarget::try_from(request.target) {
        Ok(SignalTarget::Root) => true,
        Ok(SignalTarget::Group | SignalTarget::Unspecified) => false,
        Err(_) => return Err(Refusal::invalid("target", "is no known target")),
    };
    let found =
        resolve::resolve(app, &request.namespace, &request.session_id, &request.task).await?;
    let number = signal.number();
    let stored = task_signals::store_signal(app.store.pool(), found.id, number, root_only).await?;
    let Some(stored) = stored else {
        return Err(not_running(app, found.id).await?);
    };
    let outcome = wait_for_outcome(app, found.id, stored).await;
    // Withdrawn, if nothing is known of it: what is not sent yet is not sent any more, a moment apart.
    task_signals::remove_signal(app.store.pool(), stored.number).await?;
    match outcome? {
        Some(Outcome::Delivered) => Ok(SignalTaskResponse {
            run: stored.run,
            signal: i32::from(number),
            signal_name: signal.name().to_owned(),
        }),
        Some(Outcome::NotRunning) => Err(not_running(app, found.id).await?),
        None => Err(Refusal::SignalNotDelivered),
    }
}

/// None: it did not come in time.
async fn wait_for_outcome(
    app: &App,
    task: TaskId,
    stored: StoredSignal,
) -> Result<Option<Outcome>, Refusal> {
    let mut until = Instant::now() + SIGNAL_AGE;
    let mut touches = app.events.subscribe_workers();
    app.events.worker_touched(stored.worker);
    let mut has_ended = false;
    turns::rest();
    loop {
        if let Some(outcome) = task_signals::find_outcome(app.store.pool(), stored.number).await? {
            return Ok(Some(outcome));
        }
        if Instant::now() >= until {
            return Ok(has_ended.then_some(Outcome::NotRunning));
        }
        if !has_ended && !is_held(app, task, stored).await? {
            has_ended = true;
            until = until.min(Instant::now() + LAST_WORDS);
        }
        tokio::select! {
            () = app.shutdown.cancelled() => return Err(Refusal::ShuttingDown),
            // Touched or not, it is looked again.
            _ = timeout(POLL, touches.touched()) => {}
        }
    }
}

async fn is_held(app: &App, task: TaskId, stored: StoredSignal) -> Result<bool, Refusal> {
    let live = task_input::find_live(app.store.pool(), task).await?;
    Ok(live.is_some_and(|live| !live.is_queued && live.run == stored.run))
}

async fn not_running(app: &App, task: TaskId) -> Result<Refusal, Refusal> {
    Ok(match task_input::find_live(app.store.pool(), task).await? {
        None => Refusal::TaskTerminal,
        Some(live) => Refusal::WrongState {
            state: if live.is_queued { "queued" } else { "running" },
            problem: "it has no process that could be sent a signal; wait until it runs",
        },
    })
}
