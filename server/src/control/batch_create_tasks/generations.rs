//! A batch of which each task stands for itself: parents first, then their children, so that a child knows what became of
//! its parent.

use super::{BatchOutcome, BatchTask, Item, at, family, find_owner};
use crate::{
    app::App,
    commit::{CommitError, Created},
    control::{
        create_task::{self, Owner, Prepared},
        refusal::{Refusal, Resource},
    },
    store::{creates, new_tasks::Ancestry},
};
use tokio::sync::oneshot;

/// The tasks of a batch on their way into the store.
pub(super) struct Generations<'a> {
    app: &'a App,
    owner: Owner<'a>,
    waiting: Vec<(usize, Item)>,
    outcomes: Vec<Option<BatchOutcome>>,
}

/// A task that was queued, and what will become of it.
struct Queued {
    position: usize,
    item: Item,
    prepared: Prepared,
    answer: oneshot::Receiver<Result<Created, CommitError>>,
}

impl<'a> Generations<'a> {
    /// The tasks as they were read.
    pub(super) fn new(app: &'a App, owner: Owner<'a>, items: Vec<Result<Item, Refusal>>) -> Self {
        let mut waiting = Vec::with_capacity(items.len());
        let mut outcomes = Vec::with_capacity(items.len());
        for (position, item) in items.into_iter().enumerate() {
            match item {
                Ok(item) => {
                    waiting.push((position, item));
                    outcomes.push(None);
                }
                Err(refusal) => outcomes.push(Some(Err(refusal))),
            }
        }
        Self {
            app,
            owner,
            waiting,
            outcomes,
        }
    }

    /// Stores one generation after the other; those that meet the deletion of their session, in the new one. Each round
    /// settles a task or is one of the tries to find the session, so it ends.
    pub(super) async fn store_each(mut self) -> Result<Vec<BatchOutcome>, Refusal> {
        let mut tries = 1;
        while !self.waiting.is_empty() {
            let queued = self.queue_ready().await;
            let mut is_session_gone = false;
            for queued in queued {
                let Queued {
                    position,
                    item,
                    prepared,
                    answer,
                } = queued;
                let answer = answer.await.unwrap_or(Err(CommitError::ShuttingDown));
                if tries < create_task::SESSION_TRIES
                    && matches!(answer, Err(CommitError::SessionDeleted))
                {
                    is_session_gone = true;
                    self.waiting.push((position, item));
                    continue;
                }
                let outcome = match answer {
                    Ok(created) => create_task::stored(self.app, &self.owner, prepared, created)
                        .await
                        .map(BatchTask::from),
                    Err(error) => {
                        let refusal = create_task::refused(&prepared.creation, error);
                        Err(at(position, item.parent.is_some(), refusal))
                    }
                };
                self.settle(position, outcome);
            }
            if is_session_gone {
                tries += 1;
                self.waiting.sort_by_key(|(position, _)| *position);
                let (namespace, session_id) = (self.owner.namespace, &self.owner.session_id);
                create_task::forget_session(self.app, namespace, session_id).await?;
                self.owner = find_owner(self.app, namespace, session_id).await?;
            }
        }
        Ok(self.outcomes.into_iter().flatten().collect())
    }

    /// Queues all whose parent is settled, before the first is waited for, so that they are numbered in their order.
    async fn queue_ready(&mut self) -> Vec<Queued> {
        let (ready, later): (Vec<_>, Vec<_>) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition(|(_, item)| match item.parent {
                Some(parent) => self.outcomes.get(parent).is_none_or(Option::is_some),
                None => true,
            });
        self.waiting = later;
        let mut prepared = Vec::with_capacity(ready.len());
        for (position, item) in ready {
            match self.prepare(&item).await {
                Ok(task) => prepared.push((position, item, task)),
                Err(refusal) => {
                    let refusal = at(position, item.parent.is_some(), refusal);
                    self.settle(position, Err(refusal));
                }
            }
        }
        let mut queued = Vec::with_capacity(prepared.len());
        for (position, item, prepared) in prepared {
            match self.app.commits.create_later(prepared.creation.clone()) {
                Ok(answer) => queued.push(Queued {
                    position,
                    item,
                    prepared,
                    answer,
                }),
                Err(error) => self.settle(position, Err(error.into())),
            }
        }
        queued
    }

    async fn prepare(&self, item: &Item) -> Result<Prepared, Refusal> {
        let below = match item.parent {
            Some(parent) => Some(self.below(parent).await?),
            None => None,
        };
        family::prepare(self.app, &self.owner, item, below).await
    }

    /// Where a child of the task at a position is in its tree.
    async fn below(&self, parent: usize) -> Result<Ancestry, Refusal> {
        let Some(Some(Ok(above))) = self.outcomes.get(parent) else {
            return Err(Refusal::ParentRefused { item: parent });
        };
        let gone = || Refusal::NotFound {
            resource: Resource::Task,
            name: above.task.id.clone(),
        };
        let id = above.task.id.parse().map_err(|_| gone())?;
        match creates::find_ancestry(self.app.store.pool(), id).await? {
            Some((session, ancestry)) if session == self.owner.session => Ok(ancestry),
            // it went with its session, which was deleted since
            Some(_) | None => Err(gone()),
        }
    }

    fn settle(&mut self, position: usize, outcome: BatchOutcome) {
        if let Some(slot) = self.outcomes.get_mut(position) {
            *slot = Some(outcome);
        }
    }
}
