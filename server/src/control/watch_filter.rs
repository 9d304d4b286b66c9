//! What a watch lets through. Pure: an event, and what is known of its task, go in; whether it is sent comes out.

use super::refusal::Refusal;
use crate::store::log_read::{TaskSelection, TaskTraits};
use std::collections::HashSet;
use taskyard_core::id::TaskId;
use taskyard_proto::v1::{SessionEvent, SessionEventType, SessionTask, WatchRequest};

/// Most tasks in a filter, and most values of another one.
const MAX_TASKS: usize = 1_000;
const MAX_VALUES: usize = 32;
/// Longest kind or group, in bytes.
const MAX_VALUE_BYTES: usize = 128;

/// A filter; the default lets everything through.
#[derive(Clone, Debug, Default)]
pub struct WatchFilter {
    /// Which tasks snapshots are read of.
    selection: TaskSelection,
    /// The ids, as events have them.
    task_ids: HashSet<String>,
    /// Numbers of the types; empty: all.
    event_types: Vec<i32>,
}

impl WatchFilter {
    /// The filter of a request.
    ///
    /// # Errors
    /// [`Refusal::InvalidField`].
    pub fn from_request(request: &WatchRequest) -> Result<Self, Refusal> {
        for (field, count, most) in [
            ("task_ids", request.task_ids.len(), MAX_TASKS),
            ("kinds", request.kinds.len(), MAX_VALUES),
            ("event_types", request.event_types.len(), MAX_VALUES),
            ("groups", request.groups.len(), MAX_VALUES),
        ] {
            if count > most {
                let problem = format!("must hold at most {most} values");
                return Err(Refusal::invalid(field, problem));
            }
        }
        for (field, values) in [("kinds", &request.kinds), ("groups", &request.groups)] {
            let is_bad = |value: &String| {
                value.is_empty() || value.len() > MAX_VALUE_BYTES || value.contains('\0')
            };
            if values.iter().any(is_bad) {
                let problem =
                    format!("each must have 1 to {MAX_VALUE_BYTES} bytes and no NUL characters");
                return Err(Refusal::invalid(field, problem));
            }
        }
        for number in &request.event_types {
            match SessionEventType::try_from(*number) {
                Ok(SessionEventType::Unspecified) | Err(_) => {
                    let problem = format!("{number} is no type of events");
                    return Err(Refusal::invalid("event_types", problem));
                }
                // every other type, whichever there are
                Ok(_) => {}
            }
        }
        let ids = request
            .task_ids
            .iter()
            .map(|id| {
                let problem = "each must be a whole id: `task_` and 32 hexadecimal digits";
                id.parse()
                    .map_err(|_| Refusal::invalid("task_ids", problem))
            })
            .collect::<Result<Vec<TaskId>, Refusal>>()?;
        Ok(Self {
            task_ids: ids.iter().map(TaskId::to_string).collect(),
            event_types: request.event_types.clone(),
            selection: TaskSelection {
                ids,
                kinds: request.kinds.clone(),
                groups: request.groups.clone(),
            },
        })
    }

    /// What to read for a snapshot.
    #[must_use]
    pub fn selection(&self) -> &TaskSelection {
        &self.selection
    }

    /// Whether kind or group of an event's task must be known to tell whether the event passes.
    #[must_use]
    pub fn asks_for_traits(&self, event: &SessionEvent) -> bool {
        let asks = !self.selection.kinds.is_empty() || !self.selection.groups.is_empty();
        asks && !event.task_id.is_empty() && self.is_of_type(event) && self.has_id(&event.task_id)
    }

    /// Whether an event is sent; `traits` are those of its task, if they are known.
    #[must_use]
    pub fn passes(&self, event: &SessionEvent, traits: Option<&TaskTraits>) -> bool {
        let is_about_a_task = !event.task_id.is_empty();
        self.is_of_type(event)
            && (!is_about_a_task
                || (self.has_id(&event.task_id)
                    && traits.is_none_or(|traits| self.has_traits(&traits.kind, &traits.group))))
    }

    /// Whether a task is sent in a snapshot.
    #[must_use]
    pub fn passes_task(&self, task: &SessionTask) -> bool {
        self.has_id(&task.id) && self.has_traits(&task.kind, &task.group)
    }

    /// Whether progress of a task is sent; `traits` are its own, if they are known.
    #[must_use]
    pub fn passes_progress(&self, task_id: &str, traits: Option<&TaskTraits>) -> bool {
        self.event_types.is_empty()
            && self.has_id(task_id)
            && traits.is_none_or(|traits| self.has_traits(&traits.kind, &traits.group))
    }

    /// Whether kind or group of a task must be known to tell whether its progress passes.
    #[must_use]
    pub fn asks_for_traits_of_progress(&self, task_id: &str) -> bool {
        let asks = !self.selection.kinds.is_empty() || !self.selection.groups.is_empty();
        asks && self.event_types.is_empty() && self.has_id(task_id)
    }

    fn is_of_type(&self, event: &SessionEvent) -> bool {
        self.event_types.is_empty() || self.event_types.contains(&event.r#type)
    }

    fn has_id(&self, task_id: &str) -> bool {
        self.task_ids.is_empty() || self.task_ids.contains(task_id)
    }

    fn has_traits(&self, kind: &str, group: &str) -> bool {
        let has = |wanted: &[String], own: &str| {
            wanted.is_empty() || wanted.iter().any(|wanted| wanted == own)
        };
        has(&self.selection.kinds, kind) && has(&self.selection.groups, group)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "task_00000000000000000000000000000001";

    fn filter(change: impl FnOnce(&mut WatchRequest)) -> WatchFilter {
        let mut request = WatchRequest::default();
        change(&mut request);
        WatchFilter::from_request(&request).unwrap_or_default()
    }

    fn event(task_id: &str, r#type: i32) -> SessionEvent {
        SessionEvent {
            task_id: task_id.to_owned(),
            r#type,
            ..SessionEvent::default()
        }
    }

    fn traits(kind: &str, group: &str) -> TaskTraits {
        TaskTraits {
            kind: kind.to_owned(),
            group: group.to_owned(),
        }
    }

    #[test]
    fn no_filter_lets_everything_through_and_asks_nothing() {
        let all = filter(|_| {});
        for event in [event(ID, 1), event(ID, 999), event("", 7)] {
            assert!(all.passes(&event, None) && !all.asks_for_traits(&event));
        }
        assert!(all.passes_progress(ID, None) && all.passes_task(&SessionTask::default()));
    }

    #[test]
    fn each_part_must_fit() {
        let both = filter(|request| {
            request.kinds = vec!["a".to_owned(), "b".to_owned()];
            request.groups = vec!["g".to_owned()];
        });
        let event = event(ID, 2);
        assert!(both.asks_for_traits(&event));
        for (kind, group, passes) in [
            ("a", "g", true),
            ("b", "g", true),
            ("c", "g", false),
            ("a", "", false),
        ] {
            let traits = traits(kind, group);
            assert_eq!(both.passes(&event, Some(&traits)), passes, "{kind} {group}");
            assert_eq!(both.passes_progress(ID, Some(&traits)), passes);
            let task = SessionTask {
                kind: kind.to_owned(),
                group: group.to_owned(),
                ..SessionTask::default()
            };
            assert_eq!(both.passes_task(&task), passes);
        }
        assert!(both.passes(&event, None), "of a task that is gone");
    }

    #[test]
    fn what_is_about_no_task_passes_filters_of_tasks() {
        let narrow = filter(|request| {
            request.kinds = vec!["a".to_owned()];
            request.task_ids = vec![ID.to_owned()];
        });
        assert!(narrow.passes(&event("", 2), None));
        assert!(!narrow.asks_for_traits(&event("", 2)));
        let another = event("task_00000000000000000000000000000002", 2);
        assert!(!narrow.passes(&another, None) && !narrow.asks_for_traits(&another));
    }

    #[test]
    fn types_hold_for_events_and_leave_out_progress() {
        let typed = filter(|request| request.event_types = vec![1]);
        assert!(typed.passes(&event(ID, 1), None) && !typed.passes(&event(ID, 2), None));
        assert!(!typed.passes_progress(ID, None) && typed.passes_task(&SessionTask::default()));
    }

    #[test]
    fn bad_filters_are_refused() {
        let refuses = |change: fn(&mut WatchRequest)| {
            let mut request = WatchRequest::default();
            change(&mut request);
            WatchFilter::from_request(&request).is_err()
        };
        assert!(refuses(|request| request.task_ids = vec!["t1".to_owned()]));
        assert!(refuses(
            |request| request.task_ids = vec![ID.to_owned(); 1_001]
        ));
        assert!(refuses(|request| request.kinds = vec![String::new()]));
        assert!(refuses(|request| request.groups = vec!["a\0".to_owned()]));
        assert!(refuses(|request| request.groups = vec!["a".to_owned(); 33]));
        assert!(refuses(|request| request.event_types = vec![0]));
        assert!(refuses(|request| request.event_types = vec![12_345]));
        assert!(!refuses(|request| request.event_types = vec![1, 2]));
    }
}
