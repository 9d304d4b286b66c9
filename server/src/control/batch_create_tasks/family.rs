//! Where the tasks of an atomic batch are in their tree, before any of them is stored.

use super::{
    super::create_task::{self, Origin, Owner, Prepared},
    Item, at,
};
use crate::{
    app::App,
    control::refusal::Refusal,
    store::{
        StoreError,
        creates::{self, TaskKey},
        new_tasks::Ancestry,
    },
};
use std::collections::{HashMap, HashSet};

/// Places all tasks. One that repeats an earlier task by its key stands for that one, and so do its children's places;
/// the commit finds out where another call came first meanwhile.
pub(super) async fn prepare_all(
    app: &App,
    owner: &Owner<'_>,
    items: &[Item],
) -> Result<Vec<Prepared>, Refusal> {
    let parents: HashSet<usize> = items.iter().filter_map(|item| item.parent).collect();
    let mut family = Family::default();
    let mut prepared = Vec::with_capacity(items.len());
    for (position, item) in items.iter().enumerate() {
        let below = item.parent.and_then(|parent| family.below.get(&parent));
        let task = prepare(app, owner, item, below.copied())
            .await
            .map_err(|refusal| at(position, item.parent.is_some(), refusal))?;
        if !parents.is_empty() {
            let is_parent = parents.contains(&position);
            family.note(app, position, &task, is_parent).await?;
        }
        prepared.push(task);
    }
    Ok(prepared)
}

/// Places one task, `below` a task of the batch where that is its parent.
pub(super) async fn prepare(
    app: &App,
    owner: &Owner<'_>,
    item: &Item,
    below: Option<Ancestry>,
) -> Result<Prepared, Refusal> {
    let origin = Origin {
        below,
        ..Origin::default()
    };
    create_task::prepare(
        app,
        owner,
        item.definition.clone(),
        origin,
        item.request.clone(),
        item.fingerprint,
    )
    .await
}

/// The tasks of a batch as parents.
#[derive(Default)]
struct Family {
    /// Where the children of the task at a position are.
    below: HashMap<usize, Ancestry>,
    /// The first task of the batch with a key, and where its children are; those that repeat it stand for it.
    keys: HashMap<TaskKey, Ancestry>,
}

impl Family {
    async fn note(
        &mut self,
        app: &App,
        position: usize,
        prepared: &Prepared,
        is_parent: bool,
    ) -> Result<(), StoreError> {
        let mut below = below_new(prepared);
        let task = &prepared.creation.task;
        if let Some(key) = &task.key {
            let key = TaskKey {
                session: task.session,
                parent: task.parent.map(|above| above.parent),
                key: key.clone(),
            };
            if is_parent {
                let earlier = creates::find_keys(app.store.pool(), &[&key]).await?;
                if let Some(earlier) = earlier.into_iter().flatten().next()
                    && let Some((_, found)) =
                        creates::find_ancestry(app.store.pool(), earlier.task).await?
                {
                    below = found;
                    self.keys.insert(key.clone(), found);
                }
            }
            below = *self.keys.entry(key).or_insert(below);
        }
        if is_parent {
            self.below.insert(position, below);
        }
        Ok(())
    }
}

/// Where a child of a task that is stored as prepared is in its tree.
fn below_new(prepared: &Prepared) -> Ancestry {
    let task = &prepared.creation.task;
    Ancestry {
        parent: task.id,
        root: task.parent.map_or(task.id, |above| above.root),
        depth: task.parent.map_or(1, |above| above.depth.saturating_add(1)),
    }
}
