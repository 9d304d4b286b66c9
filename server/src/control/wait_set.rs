//! The tasks of a wait: named at its beginning, or chosen by group and labels and looked for again and again.

use super::{
    namespace,
    refusal::{Refusal, Resource},
};
use crate::{
    app::App,
    store::standings::{self, Standing},
};
use std::collections::{BTreeSet, HashMap, HashSet};
use taskyard_core::id::{SessionUid, TaskId};
use taskyard_proto::v1::{DeletedTask, TaskState};

/// The tasks, and how they stood when they were last looked at.
pub(super) struct WaitSet {
    tasks: Vec<Waited>,
    choice: Option<Choice>,
    standings: HashMap<TaskId, Standing>,
    /// Those that were deleted before their end was seen.
    gone: HashSet<TaskId>,
}

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Waited {
    /// Which.
    pub(super) id: TaskId,
    /// The generation that was seen of it; none until the first look tells it.
    pub(super) seen: Option<i64>,
}

/// How tasks are chosen.
pub(super) struct Choice {
    /// The session; none: there is no such session yet.
    pub(super) session: Option<SessionUid>,
    /// Its namespace, by name.
    pub(super) namespace: String,
    /// What it is called.
    pub(super) session_id: String,
    /// The group, if it matters.
    pub(super) group: Option<String>,
    /// The labels, a JSON object.
    pub(super) labels: String,
    /// Whether a task that is there at the first look counts as seen as it then stands.
    pub(super) is_seen_at_first: bool,
    /// Most tasks.
    pub(super) most: usize,
    /// Ordinal up to which tasks were looked for; none before the first look.
    pub(super) looked_to: Option<i64>,
}

impl WaitSet {
    /// These tasks, each with the generation that was seen of it.
    pub(super) fn named(tasks: impl IntoIterator<Item = (TaskId, i64)>) -> Self {
        Self {
            tasks: tasks
                .into_iter()
                .map(|(id, seen)| Waited {
                    id,
                    seen: Some(seen),
                })
                .collect(),
            choice: None,
            standings: HashMap::new(),
            gone: HashSet::new(),
        }
    }

    /// Tasks that are chosen.
    pub(super) fn chosen(choice: Choice) -> Self {
        Self {
            tasks: Vec::new(),
            choice: Some(choice),
            standings: HashMap::new(),
            gone: HashSet::new(),
        }
    }

    /// Ids in the order of the answer.
    pub(super) fn ids(&self) -> Vec<TaskId> {
        self.tasks.iter().map(|waited| waited.id).collect()
    }

    /// Each with how it stands, and the generation that was seen of it; those that are gone are left out.
    pub(super) fn standings(&self) -> impl Iterator<Item = (Option<Standing>, i64)> {
        let still_there = self
            .tasks
            .iter()
            .filter(|waited| !self.gone.contains(&waited.id));
        still_there.map(|waited| {
            let standing = self.standings.get(&waited.id).copied();
            (standing, waited.seen.unwrap_or(0))
        })
    }

    /// Whether one of them was deleted before its end was seen: nothing more will come of it.
    pub(super) fn has_gone(&self) -> bool {
        !self.gone.is_empty()
    }

    /// What is told of a task that was deleted.
    pub(super) fn deleted(&self, id: TaskId) -> DeletedTask {
        let state = self.standings.get(&id).map(|standing| standing.state);
        DeletedTask {
            task_id: id.to_string(),
            state: state.unwrap_or(TaskState::Unspecified).into(),
        }
    }

    /// Looks for the session again, where it did not exist yet; what was found.
    ///
    /// # Errors
    /// [`Refusal::Store`].
    pub(super) async fn find_session(&mut self, app: &App) -> Result<Option<SessionUid>, Refusal> {
        match &mut self.choice {
            Some(choice) if choice.session.is_none() => {
                choice.session =
                    namespace::look_up_session(app, &choice.namespace, &choice.session_id).await?;
                Ok(choice.session)
            }
            Some(_) | None => Ok(None),
        }
    }

    /// Looks for tasks that have joined, and reads those that may have changed.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] for a session that is gone, [`Refusal::TooManyTasks`], [`Refusal::Store`].
    pub(super) async fn look(&mut self, app: &App) -> Result<(), Refusal> {
        let are_seen = self.choose(app).await?;
        let open: BTreeSet<TaskId> = self
            .tasks
            .iter()
            .filter(|waited| !self.is_settled(waited))
            .map(|waited| waited.id)
            .collect();
        let open: Vec<TaskId> = open.into_iter().collect();
        let found = standings::read_standings(app.store.pool(), &open).await?;
        let found_ids: HashSet<TaskId> = found.iter().map(|standing| standing.id).collect();
        let gone = open.into_iter().filter(|id| !found_ids.contains(id));
        self.gone.extend(gone);
        self.standings
            .extend(found.into_iter().map(|standing| (standing.id, standing)));
        for waited in &mut self.tasks {
            let now = self.standings.get(&waited.id).map(|found| found.generation);
            waited.seen = waited.seen.or(if are_seen { now } else { Some(0) });
        }
        Ok(())
    }

    /// Adds tasks that have joined; whether they count as seen as they stand.
    async fn choose(&mut self, app: &App) -> Result<bool, Refusal> {
        let Some(choice) = &mut self.choice else {
            return Ok(false);
        };
        let Some(session) = choice.session else {
            // Whoever comes later was not there at the first look.
            choice.looked_to.get_or_insert(0);
            return Ok(false);
        };
        let room = choice.most - self.tasks.len().min(choice.most);
        let found = standings::choose_tasks(
            app.store.pool(),
            session,
            choice.group.as_deref(),
            &choice.labels,
            choice.looked_to.unwrap_or(0),
            i64::try_from(room + 1).unwrap_or(i64::MAX),
        )
        .await?
        .ok_or_else(|| Refusal::NotFound {
            resource: Resource::Session,
            name: choice.session_id.clone(),
        })?;
        if found.ids.len() > room {
            return Err(Refusal::TooManyTasks { limit: choice.most });
        }
        let is_first = choice.looked_to.replace(found.newest_ordinal).is_none();
        let are_seen = is_first && choice.is_seen_at_first;
        let joined = found.ids.into_iter().map(|id| Waited { id, seen: None });
        self.tasks.extend(joined);
        Ok(are_seen)
    }

    /// What has ended stays where it is, but for what enriches it later: that is read again where it was not seen. What is
    /// gone does not come back.
    fn is_settled(&self, waited: &Waited) -> bool {
        if self.gone.contains(&waited.id) {
            return true;
        }
        let seen = waited.seen.unwrap_or(i64::MAX);
        self.standings
            .get(&waited.id)
            .is_some_and(|standing| is_terminal(standing.state) && standing.generation > seen)
    }
}

/// Whether a task in this state has ended.
pub(super) fn is_terminal(state: TaskState) -> bool {
    match state {
        TaskState::Succeeded | TaskState::Failed | TaskState::Canceled => true,
        TaskState::Unspecified
        | TaskState::Queued
        | TaskState::Running
        | TaskState::AwaitingInput => false,
    }
}
