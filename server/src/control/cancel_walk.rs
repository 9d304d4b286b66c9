//! Cancelling many tasks from the top down, so that nothing escapes below them.
//!
//! A task gets no child once its cancel was asked for, or once it has ended; both are checked under its lock. So when all
//! tasks of one level are flagged, the level below cannot grow any more, and is complete in the next listing: after at
//! most as many rounds as a tree has levels nothing is left, however fast the work spawns.

use super::refusal::Refusal;
use crate::{
    app::App,
    commit::{Change, CommitError, Content},
    store::trees,
};
use futures::future::join_all;
use std::time::Duration;
use taskyard_core::{
    id::{SessionUid, TaskId},
    task::{Event, Rejected},
};

/// Tasks that are told at once.
const PAGE: i64 = 200;
/// Most pages of one call. Whoever meets more is told to come back; the next call goes on where this one was.
const MAX_PAGES: usize = 5_000;

/// Which tasks.
pub(super) enum Reach<'a> {
    /// All below a task, but not itself.
    Below(TaskId),
    /// All whose roots have ordinals up to this.
    Session {
        /// See above.
        up_to: i64,
    },
    /// Those of a group with ordinals up to this, and all below them.
    Group {
        /// The group.
        group: &'a str,
        /// See above.
        up_to: i64,
    },
}

/// What became of the tasks that were reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// No process held them: they are canceled now.
    pub(super) canceled: i32,
    /// Their running work is being told.
    pub(super) requested: i32,
}

/// Asks for the cancel of all that `reach` covers in a session, until a listing finds none that was not asked before.
///
/// # Errors
/// [`Refusal::Overloaded`] after very many tasks, or what the store says. What was asked for by then stays so.
pub(super) async fn cancel_all(
    app: &App,
    session: SessionUid,
    reach: &Reach<'_>,
    grace: Option<Duration>,
    signal: Option<i16>,
) -> Result<Tally, Refusal> {
    let mut tally = Tally::default();
    for _ in 0..MAX_PAGES {
        let page = list(app, session, reach).await?;
        if page.is_empty() {
            return Ok(tally);
        }
        tell(app, session, page, (grace, signal), &mut tally).await?;
    }
    Err(Refusal::Overloaded {
        what: "tasks to cancel",
    })
}

async fn list(app: &App, session: SessionUid, reach: &Reach<'_>) -> Result<Vec<TaskId>, Refusal> {
    let db = app.store.pool();
    Ok(match reach {
        Reach::Below(ancestor) => trees::list_below(db, *ancestor, PAGE).await?,
        Reach::Session { up_to } => trees::list_of_session(db, session, *up_to, PAGE).await?,
        Reach::Group { group, up_to } => {
            trees::list_of_group(db, session, group, *up_to, PAGE).await?
        }
    })
}

async fn tell(
    app: &App,
    session: SessionUid,
    tasks: Vec<TaskId>,
    (grace, signal): (Option<Duration>, Option<i16>),
    tally: &mut Tally,
) -> Result<(), Refusal> {
    let changes = tasks.into_iter().map(|task| {
        let change = Change::new(task, Event::Cancel { grace, signal }, Content::None);
        app.commits.change(session, change)
    });
    for outcome in join_all(changes).await {
        match outcome {
            Ok(changed) if changed.after.task.is_terminal() => tally.canceled += 1,
            Ok(changed) if changed.before.cancel.is_none() => tally.requested += 1,
            // somebody else asked, or it ended meanwhile
            Ok(_)
            | Err(
                CommitError::NotFound
                | CommitError::Rejected {
                    rejected: Rejected::Terminal,
                    ..
                },
            ) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
