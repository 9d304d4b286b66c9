//! Monitors: fires what is due, judges what has ended, ends what is done, and clears up behind it.
//!
//! Every server does all of it. A firing is created in the transaction that moves the monitor on to the next one, under
//! the lock of the monitor's task, and only if the monitor still stands as it was read: so two servers that see the same
//! due monitor make one firing, and a server that dies has made it whole or not at all. Judgements go the same way.

use crate::{
    app::App,
    commit::{Change, CommitError, Content, Judged, Patch},
    control::{
        create_task::{self, Origin, Owner},
        definition, fingerprint,
        monitors::{evidence, plan, schedule::Schedule, verdict, verdict::WakeOn},
        refusal::Refusal,
    },
    store::{
        StoreError,
        monitors::{self, DueMonitor, EndedFiring, Firing, Judgement, NextFiring},
        purge,
    },
};
use futures::{StreamExt, stream};
use std::{collections::HashMap, time::Duration};
use taskyard_core::{
    id::{SessionUid, TaskId},
    task::{Event, NoSpawn},
};
use taskyard_proto::v1::{MonitorOverlap, TaskState};
use tokio::time::Instant;
use tracing::warn;

/// Bounds of the pause between two looks; drawn, so that servers do not keep step.
const PAUSE_MS: std::ops::Range<u64> = 150..250;
/// Monitors or firings of one page.
const PAGE: i64 = 200;
/// Firings that are created at once.
const AT_ONCE: usize = 16;
/// Most firings of one monitor that may overlap.
const MAX_OVERLAP: i64 = 100;
/// How often what is no longer needed is looked for, and how much of it is deleted at once.
const TIDY_EVERY: Duration = Duration::from_secs(2);
const TIDY_PAGE: i64 = 100;

/// Runs until the server shuts down.
pub(super) async fn run(app: &App) {
    let mut tidy_at = Instant::now() + TIDY_EVERY;
    loop {
        let pause = Duration::from_millis(rand::random_range(PAUSE_MS));
        tokio::select! {
            () = app.shutdown.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        if let Err(refusal) = look(app).await {
            warn!(
                error = &refusal as &dyn std::error::Error,
                "monitors could not be looked after"
            );
        }
        if Instant::now() >= tidy_at {
            tidy_at = Instant::now() + TIDY_EVERY;
            if let Err(refusal) = tidy(app).await {
                warn!(
                    error = &refusal as &dyn std::error::Error,
                    "old firings could not be deleted"
                );
            }
        }
    }
}

async fn look(app: &App) -> Result<(), Refusal> {
    judge(app).await?;
    complete(app).await?;
    cancel_left_behind(app).await?;
    let due = monitors::list_due(app.store.pool(), PAGE).await?;
    let mut outcomes = stream::iter(due)
        .map(|due| fire(app, due))
        .buffer_unordered(AT_ONCE);
    let mut first_failure = Ok(());
    while let Some(outcome) = outcomes.next().await {
        first_failure = first_failure.and(outcome);
    }
    first_failure
}

/// Makes one firing, or leaves it out.
async fn fire(app: &App, due: DueMonitor) -> Result<(), Refusal> {
    let (monitor, number) = (due.task, due.firings + 1);
    let schedule = Schedule::parse(&due.definition.schedule.clone().unwrap_or_default())?;
    let is_left_out = match MonitorOverlap::try_from(i32::from(due.overlap)) {
        Ok(MonitorOverlap::Allow) => due.open >= MAX_OVERLAP,
        Ok(MonitorOverlap::Skip | MonitorOverlap::QueueOne | MonitorOverlap::Unspecified)
        | Err(_) => due.open > 0,
    };
    if is_left_out {
        let next = schedule.next(monitor, number, due.next.slot_at, due.now);
        return leave_out(app, &due, next).await;
    }
    let firing = Firing {
        number,
        due_at: due.next.at,
        next: schedule.next(monitor, number + 1, due.next.slot_at, due.now),
    };
    let refusal = match create(app, &due, firing).await {
        Ok(()) => return Ok(()),
        Err(refusal) => refusal,
    };
    match refusal {
        // somebody else was there first: another server, a hold, a cancel, or who deleted the session
        Refusal::WrongState { .. }
        | Refusal::NotFound { .. }
        | Refusal::NoSpawn(NoSpawn::ParentEnded | NoSpawn::ParentCanceled)
        | Refusal::Store(StoreError::SessionDeleted) => Ok(()),
        // the next look tries again
        Refusal::Unreachable
        | Refusal::ShuttingDown
        | Refusal::ConnectionAged
        | Refusal::Overloaded { .. }
        | Refusal::Store(_) => Err(refusal),
        refused => {
            warn!(
                %monitor,
                number,
                error = &refused as &dyn std::error::Error,
                "a firing was refused and is left out"
            );
            let next = schedule.next(monitor, number, due.next.slot_at, due.now);
            leave_out(app, &due, next).await
        }
    }
}

async fn create(app: &App, due: &DueMonitor, firing: Firing) -> Result<(), Refusal> {
    let stored = plan::firing_definition(due.definition.clone(), due.task, firing.number);
    let definition = definition::parse(stored)?;
    let owner = Owner {
        namespace: &due.namespace,
        namespace_id: due.namespace_id,
        session_id: due.session_id.clone(),
        session: due.session,
    };
    let origin = Origin {
        firing: Some(firing),
        below: None,
        ..Origin::default()
    };
    let fingerprint = fingerprint::of_firing(due.task, firing.number);
    create_task::store_task(app, &owner, definition, origin, None, fingerprint).await?;
    Ok(())
}

async fn leave_out(app: &App, due: &DueMonitor, next: Option<NextFiring>) -> Result<(), Refusal> {
    Ok(monitors::skip(app.store.pool(), due.task, due.next.at, next).await?)
}

/// Judges the firings that have ended, each against the one that was judged before it.
async fn judge(app: &App) -> Result<(), Refusal> {
    let ended = monitors::list_ended_firings(app.store.pool(), PAGE).await?;
    let mut before: HashMap<TaskId, (i64, Option<[u8; 32]>)> = HashMap::new();
    let mut answers = Vec::with_capacity(ended.len());
    for firing in &ended {
        let (after, last) = *before
            .entry(firing.monitor)
            .or_insert((firing.judged, firing.last_digest));
        let wake_on = wake_condition(firing);
        let evidence = evidence::read(app, firing, &wake_on).await?;
        let digest = verdict::digest(firing, &evidence);
        before.insert(firing.monitor, (firing.number, digest.or(last)));
        let judged = Judged {
            wake: wake_on.judge(firing, &evidence, digest, last),
            judgement: Judgement {
                monitor: firing.monitor,
                number: firing.number,
                after,
                firing: firing.firing,
                state: firing.state,
                summary: firing.summary.clone(),
                digest,
            },
        };
        // all are queued before any is waited for; those of one session keep their order
        let change = Change::new(
            firing.monitor,
            Event::Note,
            Content::Judged(Box::new(judged)),
        );
        answers.push(app.commits.change_later(firing.session, change)?);
    }
    for answer in answers {
        settle(answer.await.unwrap_or(Err(CommitError::ShuttingDown)))?;
    }
    Ok(())
}

/// When the ends of a monitor's firings wake its owner.
fn wake_condition(firing: &EndedFiring) -> WakeOn {
    let schedule = firing.definition.schedule.clone().unwrap_or_default();
    // it was checked when the monitor was created; another release may read it otherwise, and then says all
    WakeOn::parse(&schedule).unwrap_or(WakeOn::Always)
}

/// Ends the monitors that will not fire again.
async fn complete(app: &App) -> Result<(), Refusal> {
    for (monitor, session, firings, last) in monitors::list_complete(app.store.pool(), PAGE).await?
    {
        let times = if firings == 1 { "once" } else { "times" };
        let fired = match firings {
            1 => times.to_owned(),
            _ => format!("{firings} {times}"),
        };
        let last = match last {
            TaskState::Succeeded => "succeeded",
            TaskState::Canceled => "was canceled",
            TaskState::Failed
            | TaskState::Unspecified
            | TaskState::Queued
            | TaskState::Running
            | TaskState::AwaitingInput => "failed",
        };
        let patch = Patch {
            summary: Some(format!("fired {fired}; the last firing {last}")),
            ..Patch::default()
        };
        let change = Change::new(monitor, Event::Complete, Content::Patch(Box::new(patch)));
        settle(app.commits.change(session, change).await)?;
    }
    Ok(())
}

/// Cancels the firings of monitors that have ended, and what is below them.
async fn cancel_left_behind(app: &App) -> Result<(), Refusal> {
    for (task, session) in monitors::list_left_behind(app.store.pool(), PAGE).await? {
        let change = Change::new(
            task,
            Event::Cancel {
                grace: None,
                signal: None,
            },
            Content::None,
        );
        settle(app.commits.change(session, change).await)?;
    }
    Ok(())
}

/// What somebody else has settled meanwhile is no failure.
fn settle<T>(answer: Result<T, CommitError>) -> Result<(), Refusal> {
    match answer {
        Ok(_) | Err(CommitError::Rejected { .. } | CommitError::NotFound) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

async fn tidy(app: &App) -> Result<(), Refusal> {
    monitors::forget_ended(app.store.pool(), TIDY_PAGE).await?;
    let mut surplus: HashMap<SessionUid, Vec<TaskId>> = HashMap::new();
    for (session, task) in monitors::list_surplus(app.store.pool(), TIDY_PAGE).await? {
        surplus.entry(session).or_default().push(task);
    }
    let mut connection = None;
    for (session, tasks) in surplus {
        app.store
            .run(&mut connection, async |db| {
                purge::delete_ended(db, session, &tasks).await
            })
            .await?;
    }
    Ok(())
}
