//! The search behind a listing: which way through the tasks it takes, and how far it goes in one call.

use super::refusal::Refusal;
use crate::{
    app::App,
    store::{
        records::FIRST_TERMINAL_STATE,
        sessions,
        task_listing::{self, MAX_EXAMINED, Place, TaskFilter, Walk},
    },
};
use chrono::{DateTime, TimeDelta, Utc};
use taskyard_core::id::TaskId;

/// Tasks that one call looks at; beyond them it answers with what it found, and the caller goes on.
const MAX_EXAMINED_PER_CALL: i64 = 20_000;
/// The open tasks of a session are sorted for each page where there are at most so many of them.
const MAX_SORTED: i64 = 2_000;
/// How far the clock of a server that gives ids may be from that of the database, which gives creation times.
const CLOCK_SLACK: TimeDelta = TimeDelta::days(1);

/// What a search found in one call.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Tasks that fit, in order, each with where the search goes on after it; at most as many as were wanted.
    pub places: Vec<Place>,
    /// Where the search goes on after all of them; none if there is nothing more.
    pub next: Option<Place>,
}

/// Looks for up to `wanted` tasks that fit, after `place` if that is given.
///
/// # Errors
/// [`Refusal::Store`].
pub async fn search(
    app: &App,
    filter: &TaskFilter,
    is_oldest_first: bool,
    place: Option<Place>,
    wanted: usize,
) -> Result<Found, Refusal> {
    let open_tasks = match filter.session {
        Some(session) => sessions::count_open_tasks(app.store.pool(), session).await?,
        None => 0,
    };
    let walk = choose_walk(filter, open_tasks);
    let mut place = place.unwrap_or_else(|| first_place(walk, filter, is_oldest_first));
    let mut found = Found::default();
    let mut examined = 0;
    let mut limit = i64::try_from(wanted).unwrap_or(MAX_EXAMINED) + 1;
    loop {
        limit = limit.clamp(1, MAX_EXAMINED);
        let seen = task_listing::examine(
            app.store.pool(),
            walk,
            filter,
            is_oldest_first,
            place,
            limit,
        )
        .await?;
        let count = i64::try_from(seen.len()).unwrap_or(MAX_EXAMINED);
        for task in &seen {
            if task.fits {
                if found.places.len() == wanted {
                    found.next = Some(place);
                    return Ok(found);
                }
                found.places.push(task.place);
            } else if is_past_the_range(filter, is_oldest_first, task.created_at) {
                return Ok(found);
            }
            place = task.place;
        }
        examined += count;
        if count < limit {
            return Ok(found);
        }
        if examined >= MAX_EXAMINED_PER_CALL {
            found.next = Some(place);
            return Ok(found);
        }
        // Whoever finds little looks further at once.
        limit *= 4;
    }
}

/// The way that looks at the fewest tasks, as far as the filter tells.
fn choose_walk(filter: &TaskFilter, open_tasks: i64) -> Walk {
    let states = &filter.states;
    let only =
        |fits: fn(i16) -> bool| !states.is_empty() && states.iter().all(|state| fits(*state));
    let is_open = only(|state| state < FIRST_TERMINAL_STATE);
    if filter.parent.is_some() {
        return Walk::Parent;
    }
    if filter.session.is_some() {
        return if filter.key.is_some() {
            Walk::SessionKey
        } else if filter.group.is_some() {
            Walk::SessionGroup
        } else if filter.root.is_some() {
            Walk::Root
        } else if is_open && open_tasks <= MAX_SORTED {
            Walk::SessionOpen
        } else {
            Walk::Session
        };
    }
    if filter.group.is_some() {
        Walk::Group
    } else if filter.root.is_some() {
        Walk::Root
    } else if only(|state| state == 1 || state == 2) {
        Walk::Busy
    } else if is_open {
        Walk::Open
    } else if filter.worker.is_some() {
        Walk::Worker
    } else if only(|state| state > FIRST_TERMINAL_STATE) {
        Walk::Unsuccessful
    } else {
        Walk::Namespace
    }
}

/// Where a search begins: at an end, or, where it goes by ids, at the end of the range of creation.
fn first_place(walk: Walk, filter: &TaskFilter, is_oldest_first: bool) -> Place {
    let range = (filter.created_after, filter.created_before);
    let id = match range {
        (Some(from), _) if is_oldest_first && !walk.is_by_ordinal() => {
            task_listing::first_id_at(shifted(from, -CLOCK_SLACK))
        }
        (_, Some(to)) if !is_oldest_first && !walk.is_by_ordinal() => {
            task_listing::first_id_at(shifted(to, CLOCK_SLACK))
        }
        _ if is_oldest_first => TaskId(0),
        _ => TaskId(u128::MAX),
    };
    Place {
        ordinal: if is_oldest_first { 0 } else { i64::MAX },
        id,
    }
}

/// Whether nothing after a task of this time can lie within the range of creation.
fn is_past_the_range(filter: &TaskFilter, is_oldest_first: bool, at: DateTime<Utc>) -> bool {
    if is_oldest_first {
        filter
            .created_before
            .is_some_and(|to| at > shifted(to, CLOCK_SLACK))
    } else {
        filter
            .created_after
            .is_some_and(|from| at < shifted(from, -CLOCK_SLACK))
    }
}

/// Another time; the same where there is none so far away.
fn shifted(at: DateTime<Utc>, by: TimeDelta) -> DateTime<Utc> {
    at.checked_add_signed(by).unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use taskyard_core::id::SessionUid;

    fn filter(change: impl FnOnce(&mut TaskFilter)) -> TaskFilter {
        let mut filter = TaskFilter::default();
        change(&mut filter);
        filter
    }

    #[test]
    fn the_narrowest_way_is_taken() {
        let walk = |change: fn(&mut TaskFilter)| choose_walk(&filter(change), 10);
        assert_eq!(walk(|_| {}), Walk::Namespace);
        assert_eq!(walk(|filter| filter.states = vec![3]), Walk::Namespace);
        assert_eq!(
            walk(|filter| filter.states = vec![4, 5]),
            Walk::Unsuccessful
        );
        assert_eq!(walk(|filter| filter.states = vec![1, 2]), Walk::Busy);
        assert_eq!(walk(|filter| filter.states = vec![0, 1]), Walk::Open);
        assert_eq!(walk(|filter| filter.states = vec![1, 4]), Walk::Namespace);
        assert_eq!(
            walk(|filter| filter.worker = Some(String::new())),
            Walk::Worker
        );
        assert_eq!(walk(|filter| filter.root = Some(TaskId(1))), Walk::Root);
        assert_eq!(
            walk(|filter| filter.group = Some(String::new())),
            Walk::Group
        );
    }

    #[test]
    fn in_a_session_few_open_tasks_are_sorted_and_many_are_walked_past() {
        let open = filter(|filter| {
            filter.session = Some(SessionUid(1));
            filter.states = vec![0];
        });
        assert_eq!(choose_walk(&open, 2_000), Walk::SessionOpen);
        assert_eq!(choose_walk(&open, 2_001), Walk::Session);
        assert!(Walk::SessionOpen.is_by_ordinal() && Walk::Session.is_by_ordinal());
    }

    #[test]
    fn a_range_of_creation_narrows_the_ids_with_slack_for_clocks() {
        let at = DateTime::from_timestamp_millis(1_790_000_000_000).unwrap_or_default();
        let ranged = filter(|filter| {
            filter.created_after = Some(at);
            filter.created_before = Some(at);
        });
        let first = first_place(Walk::Namespace, &ranged, true).id;
        let last = first_place(Walk::Namespace, &ranged, false).id;
        assert!(first < task_listing::first_id_at(at) && task_listing::first_id_at(at) < last);
        assert_eq!(first_place(Walk::Session, &ranged, true).id, TaskId(0));
        for is_oldest_first in [true, false] {
            assert!(!is_past_the_range(&ranged, is_oldest_first, at));
        }
        assert!(is_past_the_range(&ranged, true, at + TimeDelta::days(2)));
        assert!(is_past_the_range(&ranged, false, at - TimeDelta::days(2)));
    }
}
