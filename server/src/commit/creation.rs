//! Creations within a batch: which are new, which repeat an earlier one, and what may be created below whom.

use super::{
    batch::Work,
    event,
    intent::{CommitError, Created, Creation, RefusedCreation},
};
use crate::store::{
    Connection, StoreError,
    creates::{self, Earlier, RequestKey, TaskKey},
    monitors::MonitorPart,
    new_tasks::NewTask,
};
use std::collections::{HashMap, HashSet};
use taskyard_core::{
    id::{SessionUid, TaskId},
    task::{Gate, Place, State, Task, may_spawn},
};

/// What was created before: what the store has of it, and what this batch has created so far.
#[derive(Default)]
pub(super) struct Known {
    requests: Lookup<RequestKey>,
    keys: Lookup<TaskKey>,
    names: HashSet<(SessionUid, String)>,
    /// Tasks of this very batch that an earlier try of it has stored.
    stored: HashSet<TaskId>,
}

impl Known {
    /// Looks up all that the creations of a batch could repeat. `may_be_stored`: an earlier try of this very batch may
    /// have been committed without our knowing.
    pub(super) async fn load(
        db: &mut Connection,
        creations: &[&Creation],
        may_be_stored: bool,
    ) -> Result<Self, StoreError> {
        let mut known = Self::default();
        if creations.is_empty() {
            return Ok(known);
        }
        let requests: Vec<&RequestKey> = creations
            .iter()
            .filter_map(|creation| creation.request.as_ref().map(|(key, _)| key))
            .collect();
        if !requests.is_empty() {
            let found = creates::find_requests(&mut *db, &requests).await?;
            known.requests.fill(&requests, found);
        }
        let keys: Vec<TaskKey> = creations
            .iter()
            .filter_map(|creation| task_key(creation))
            .collect();
        if !keys.is_empty() {
            let wanted: Vec<&TaskKey> = keys.iter().collect();
            let found = creates::find_keys(&mut *db, &wanted).await?;
            known.keys.fill(&wanted, found);
        }
        let names: Vec<(SessionUid, String)> = creations
            .iter()
            .filter_map(|creation| name(creation))
            .collect();
        if !names.is_empty() {
            let taken = creates::find_taken_names(db, &names).await?;
            known.names.extend(taken);
        }
        if may_be_stored {
            let ids: Vec<TaskId> = creations.iter().map(|creation| creation.task.id).collect();
            known.stored.extend(creates::find_existing(db, &ids).await?);
        }
        Ok(known)
    }

    /// What a creation is answered without a write, by request id, by key, by name; none: it is new.
    fn answer(&self, creation: &Creation) -> Option<Result<Created, CommitError>> {
        if self.stored.contains(&creation.task.id) {
            return Some(Ok(Created::Earlier(creation.task.id)));
        }
        if let Some((key, fingerprint)) = &creation.request
            && let Some(earlier) = self.requests.get(key)
        {
            return Some(if earlier.fingerprint == *fingerprint {
                Ok(Created::Earlier(earlier.task))
            } else {
                Err(CommitError::RequestIdConflict)
            });
        }
        if let Some(earlier) = task_key(creation).and_then(|key| self.keys.get(&key)) {
            return Some(if earlier.fingerprint == creation.task.fingerprint {
                Ok(Created::Earlier(earlier.task))
            } else {
                Err(CommitError::KeyConflict)
            });
        }
        name(creation)
            .is_some_and(|name| self.names.contains(&name))
            .then_some(Err(CommitError::NameTaken))
    }

    /// Notes what the batch will store, so that what follows in it repeats that.
    fn note(&mut self, creation: &Creation) {
        let task = &creation.task;
        if let Some((key, fingerprint)) = &creation.request {
            self.requests.note(key.clone(), task.id, *fingerprint);
        }
        if let Some(key) = task_key(creation) {
            self.keys.note(key, task.id, task.fingerprint);
        }
        self.names.extend(name(creation));
    }

    /// Takes back a note.
    fn forget(&mut self, creation: &Creation) {
        if let Some((key, _)) = &creation.request {
            self.requests.forget(key);
        }
        if let Some(key) = task_key(creation) {
            self.keys.forget(&key);
        }
        if let Some(name) = name(creation) {
            self.names.remove(&name);
        }
    }
}

/// Creates a task, unless it repeats an earlier one or may not be.
pub(super) fn create<'a>(
    work: &mut Work<'a>,
    known: &mut Known,
    creation: &'a Creation,
) -> Result<Created, CommitError> {
    let (created, is_new) = decide(work, known, &HashMap::new(), creation)?;
    if is_new {
        add(work, creation);
    }
    Ok(created)
}

/// Creates tasks, all of them or none; where one is refused, nothing of the others is left behind.
pub(super) fn create_all<'a>(
    work: &mut Work<'a>,
    known: &mut Known,
    creations: &'a [Creation],
) -> Result<Vec<Created>, RefusedCreation> {
    let mut answers = Vec::with_capacity(creations.len());
    let mut new: Vec<&Creation> = Vec::with_capacity(creations.len());
    let mut born = HashMap::new();
    for (position, creation) in creations.iter().enumerate() {
        match decide(work, known, &born, creation) {
            Ok((created, is_new)) => {
                answers.push(created);
                if is_new {
                    new.push(creation);
                    born.insert(creation.task.id, newborn(&creation.task));
                }
            }
            Err(error) => {
                for creation in new {
                    known.forget(creation);
                    take_back(work, creation);
                }
                return Err(RefusedCreation {
                    position: Some(position),
                    error,
                });
            }
        }
    }
    for creation in new {
        add(work, creation);
    }
    Ok(answers)
}

/// Whether a creation is new, which is noted then; or what it repeats. `born` are the tasks before it that are created
/// together with it.
fn decide(
    work: &mut Work<'_>,
    known: &mut Known,
    born: &HashMap<TaskId, Task>,
    creation: &Creation,
) -> Result<(Created, bool), CommitError> {
    if let Some(answer) = known.answer(creation) {
        return answer.map(|created| (created, false));
    }
    ensure_room(work, creation)?;
    admit(work, born, creation)?;
    *work.open_tasks.entry(creation.task.session).or_default() += 1;
    known.note(creation);
    // its place is filled in when its session has numbered it
    Ok((Created::Earlier(creation.task.id), true))
}

/// Makes sure that namespace and session may have one more live task. What ends in the same batch, before it, makes room.
fn ensure_room(work: &Work<'_>, creation: &Creation) -> Result<(), CommitError> {
    let full = |scope, limit| Err(CommitError::TooManyLiveTasks { scope, limit });
    if let Some(limit) = creation.full_namespace {
        return full("namespace", limit);
    }
    let Some(limit) = work.limits.session_tasks else {
        return Ok(());
    };
    let session = creation.task.session;
    let open = work.open_tasks.get(&session).copied().unwrap_or(0);
    let ended = work.sessions.get(&session).map_or(0, |session| {
        let ended = session.ended;
        (ended.succeeded + ended.failed + ended.canceled).unsigned_abs()
    });
    if open.saturating_sub(ended) >= limit {
        return full("session", limit);
    }
    Ok(())
}

/// Counts a new child of its parent, if that may get one.
fn admit(
    work: &mut Work<'_>,
    born: &HashMap<TaskId, Task>,
    creation: &Creation,
) -> Result<(), CommitError> {
    let Some(above) = creation.task.parent else {
        return Ok(());
    };
    let stored = work.rows.get(&above.parent);
    let parent = stored
        .map(|stored| &stored.row.task)
        .or_else(|| born.get(&above.parent))
        .ok_or(CommitError::NoParent)?;
    if let Some(fence) = creation.spawner {
        let held = parent.lease();
        if held.is_none_or(|held| held.epoch != fence.epoch || held.id != fence.lease_id) {
            return Err(CommitError::SpawnerLost);
        }
    }
    let firing = match creation.task.monitor {
        Some(MonitorPart::Firing(firing)) => Some(firing),
        Some(MonitorPart::Monitor(_)) | None => None,
    };
    let siblings = work.children.entry(above.parent).or_default();
    let place = Place {
        depth: u32::from(above.depth.unsigned_abs()),
        siblings: *siblings,
        is_firing: firing.is_some(),
    };
    may_spawn(parent, place, work.limits.tree).map_err(CommitError::NoSpawn)?;
    if let Some(firing) = firing {
        work.monitors.fire(parent, creation.task.id, firing)?;
    }
    *siblings += 1;
    Ok(())
}

/// A new task as the state machine will know it.
fn newborn(task: &NewTask) -> Task {
    Task {
        id: task.id,
        policy: task.policy.clone(),
        state: State::Queued {
            gate: task.gate,
            offer: None,
        },
        cancel: None,
        run: 0,
        attempt: 0,
        forgiven: 0,
        generation: 1,
        started_at: None,
        settled: None,
    }
}

/// Takes back what [`decide`] counted.
fn take_back(work: &mut Work<'_>, creation: &Creation) {
    if let Some(open) = work.open_tasks.get_mut(&creation.task.session) {
        *open -= 1;
    }
    let siblings = creation
        .task
        .parent
        .and_then(|above| work.children.get_mut(&above.parent));
    if let Some(siblings) = siblings {
        *siblings -= 1;
    }
}

/// Puts a new task among what is to be written.
fn add<'a>(work: &mut Work<'a>, creation: &'a Creation) {
    let task = &creation.task;
    let session = work.sessions.entry(task.session).or_default();
    session.events.push(event::created(task));
    session.creates.push(task);
    session.open_delta += 1;
    session.virtual_time = session.virtual_time.max(task.virtual_time);
    work.aftermath.is_queue_touched |= task.gate == Gate::Open;
}

fn task_key(creation: &Creation) -> Option<TaskKey> {
    Some(TaskKey {
        session: creation.task.session,
        parent: creation.task.parent.map(|above| above.parent),
        key: creation.task.key.clone()?,
    })
}

fn name(creation: &Creation) -> Option<(SessionUid, String)> {
    Some((creation.task.session, creation.task.name.clone()?))
}

/// Earlier creations by one sort of key.
struct Lookup<K> {
    found: HashMap<K, Earlier>,
}

impl<K> Default for Lookup<K> {
    fn default() -> Self {
        Self {
            found: HashMap::new(),
        }
    }
}

impl<K: Clone + Eq + std::hash::Hash> Lookup<K> {
    fn fill(&mut self, keys: &[&K], earlier: Vec<Option<Earlier>>) {
        for (key, earlier) in keys.iter().zip(earlier) {
            if let Some(earlier) = earlier {
                self.found.insert((*key).clone(), earlier);
            }
        }
    }

    fn note(&mut self, key: K, task: TaskId, fingerprint: [u8; 32]) {
        self.found.insert(key, Earlier { task, fingerprint });
    }

    fn forget(&mut self, key: &K) {
        self.found.remove(key);
    }

    fn get(&self, key: &K) -> Option<Earlier> {
        self.found.get(key).copied()
    }
}
