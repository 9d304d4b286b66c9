//! Which creations of a batch are new, and which repeat an earlier one.

use super::intent::{CommitError, Created, Creation};
use crate::store::{
    StoreError,
    creates::{self, Earlier, RequestKey, TaskKey},
};
use std::collections::{HashMap, HashSet};
use taskyard_core::id::{SessionUid, TaskId};

/// What is known of a creation before anything is written.
pub(super) enum Sorted {
    /// It is to be stored.
    New,
    /// It is answered without a write.
    Answered(Result<Created, CommitError>),
}

/// Sorts the creations of a batch, in order: by request id, by key, by name. `may_be_stored`: an earlier try of this very
/// batch may have been committed without our knowing.
pub(super) async fn sort(
    db: &mut crate::store::Connection,
    creations: &[&Creation],
    may_be_stored: bool,
) -> Result<Vec<Sorted>, StoreError> {
    let mut requests = Lookup::default();
    let mut keys = Lookup::default();
    let request_keys: Vec<&RequestKey> = creations
        .iter()
        .filter_map(|creation| creation.request.as_ref().map(|(key, _)| key))
        .collect();
    if !request_keys.is_empty() {
        requests.fill(
            &request_keys,
            creates::find_requests(db, &request_keys).await?,
        );
    }
    let task_keys: Vec<TaskKey> = creations
        .iter()
        .filter_map(|creation| task_key(creation))
        .collect();
    if !task_keys.is_empty() {
        let wanted: Vec<&TaskKey> = task_keys.iter().collect();
        keys.fill(&wanted, creates::find_keys(db, &wanted).await?);
    }
    let names: Vec<(SessionUid, String)> = creations
        .iter()
        .filter_map(|creation| name(creation))
        .collect();
    let mut taken: HashSet<(SessionUid, String)> = HashSet::new();
    if !names.is_empty() {
        taken.extend(creates::find_taken_names(db, &names).await?);
    }
    let mut stored: HashSet<TaskId> = HashSet::new();
    if may_be_stored {
        let ids: Vec<TaskId> = creations.iter().map(|creation| creation.task.id).collect();
        stored.extend(creates::find_existing(db, &ids).await?);
    }
    let mut sorted = Vec::with_capacity(creations.len());
    for creation in creations {
        if stored.contains(&creation.task.id) {
            sorted.push(Sorted::Answered(Ok(Created::Earlier(creation.task.id))));
            continue;
        }
        let repeated = check_request(creation, &requests).or_else(|| check_key(creation, &keys));
        if let Some(answer) = repeated {
            sorted.push(Sorted::Answered(answer));
            continue;
        }
        if let Some(name) = name(creation)
            && !taken.insert(name)
        {
            sorted.push(Sorted::Answered(Err(CommitError::NameTaken)));
            continue;
        }
        if let Some((key, fingerprint)) = &creation.request {
            requests.note(key, creation.task.id, *fingerprint);
        }
        if let Some(key) = task_key(creation) {
            keys.note(&key, creation.task.id, creation.task.fingerprint);
        }
        sorted.push(Sorted::New);
    }
    Ok(sorted)
}

fn check_request(
    creation: &Creation,
    requests: &Lookup<RequestKey>,
) -> Option<Result<Created, CommitError>> {
    let (key, fingerprint) = creation.request.as_ref()?;
    let earlier = requests.get(key)?;
    Some(if earlier.fingerprint == *fingerprint {
        Ok(Created::Earlier(earlier.task))
    } else {
        Err(CommitError::RequestIdConflict)
    })
}

fn check_key(creation: &Creation, keys: &Lookup<TaskKey>) -> Option<Result<Created, CommitError>> {
    let earlier = keys.get(&task_key(creation)?)?;
    Some(if earlier.fingerprint == creation.task.fingerprint {
        Ok(Created::Earlier(earlier.task))
    } else {
        Err(CommitError::KeyConflict)
    })
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

/// Earlier creations by one sort of key: those in the store, then those of this batch.
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

    fn note(&mut self, key: &K, task: TaskId, fingerprint: [u8; 32]) {
        self.found
            .insert(key.clone(), Earlier { task, fingerprint });
    }

    fn get(&self, key: &K) -> Option<Earlier> {
        self.found.get(key).copied()
    }
}
