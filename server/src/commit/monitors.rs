//! The monitors of a batch: which firings may be made and which judgements count, under the locks of their tasks.

use super::intent::{Change, CommitError, Content, Creation};
use crate::store::{
    Connection, StoreError,
    monitors::{self, Firing, Judgement, MonitorPart, MonitorState},
    new_tasks::NewTask,
};
use std::collections::HashMap;
use taskyard_core::{
    id::TaskId,
    task::{Gate, Rejected, State, Task},
};

/// What a batch adds to the monitors of its tasks.
#[derive(Default)]
pub(super) struct Monitors {
    states: HashMap<TaskId, MonitorState>,
    fired: Vec<(TaskId, TaskId, Firing)>,
    judged: Vec<Judgement>,
}

impl Monitors {
    /// Reads the monitors of the batch. Their tasks are locked.
    pub(super) async fn load<'a>(
        db: &mut Connection,
        creations: impl Iterator<Item = &'a Creation>,
        changes: impl Iterator<Item = &'a Change>,
    ) -> Result<Self, StoreError> {
        let fired = creations.filter_map(|creation| match creation.task.monitor {
            Some(MonitorPart::Firing(_)) => creation.task.parent.map(|above| above.parent),
            Some(MonitorPart::Monitor(_)) | None => None,
        });
        let judged = changes
            .filter(|change| matches!(change.content, Content::Judged(_)))
            .map(|change| change.task);
        let mut wanted: Vec<TaskId> = fired.chain(judged).collect();
        wanted.sort_unstable();
        wanted.dedup();
        let mut loaded = Self::default();
        if !wanted.is_empty() {
            loaded.states = monitors::read_states(db, &wanted)
                .await?
                .into_iter()
                .collect();
        }
        Ok(loaded)
    }

    /// Notes a firing of `monitor` as `task`. It is moot where the monitor is held, or where somebody else has made this
    /// firing or left it out.
    pub(super) fn fire(
        &mut self,
        monitor: &Task,
        task: TaskId,
        firing: Firing,
    ) -> Result<(), CommitError> {
        let is_open = matches!(
            monitor.state,
            State::Queued {
                gate: Gate::Monitor,
                ..
            }
        );
        let state = self.states.get_mut(&monitor.id).filter(|state| {
            is_open && state.firings + 1 == firing.number && state.next_at == Some(firing.due_at)
        });
        let Some(state) = state else {
            return Err(moot(monitor));
        };
        state.firings = firing.number;
        state.next_at = firing.next.map(|next| next.at);
        state.open.insert(firing.number);
        self.fired.push((monitor.id, task, firing));
        Ok(())
    }

    /// Notes what a change says of a firing's end, if it does. It is moot where this firing was judged before, or where
    /// another one was since the judgement was made.
    pub(super) fn judge(&mut self, monitor: &Task, change: &Change) -> Result<(), CommitError> {
        let Content::Judged(judged) = &change.content else {
            return Ok(());
        };
        let judgement = &judged.judgement;
        let state = self
            .states
            .get_mut(&monitor.id)
            .filter(|state| state.judged == judgement.after);
        let Some(state) = state else {
            return Err(moot(monitor));
        };
        if !state.open.remove(&judgement.number) {
            return Err(moot(monitor));
        }
        state.judged = judgement.number;
        self.judged.push(judgement.clone());
        Ok(())
    }

    /// Writes what was noted.
    pub(super) async fn write(&self, db: &mut Connection) -> Result<(), StoreError> {
        if !self.fired.is_empty() {
            // one of a monitor at most: the number of a second would not be the next
            monitors::note_firings(db, &self.fired).await?;
        }
        if !self.judged.is_empty() {
            monitors::note_judgements(db, &self.judged).await?;
        }
        Ok(())
    }
}

/// Stores the new monitors among new tasks.
pub(super) async fn insert_new(
    db: &mut Connection,
    tasks: impl Iterator<Item = &NewTask>,
) -> Result<(), StoreError> {
    let new: Vec<_> = tasks
        .filter_map(|task| match &task.monitor {
            Some(MonitorPart::Monitor(monitor)) => {
                Some((task.id, task.namespace_id, task.session, &**monitor))
            }
            Some(MonitorPart::Firing(_)) | None => None,
        })
        .collect();
    if new.is_empty() {
        return Ok(());
    }
    monitors::insert_monitors(db, &new).await
}

fn moot(monitor: &Task) -> CommitError {
    CommitError::Rejected {
        rejected: Rejected::Moot,
        state: monitor.state.as_str(),
    }
}
