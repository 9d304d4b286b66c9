//! Which tasks a listing shows. A listing walks along one index, so far in a call, and looks at each task on its way;
//! what it costs is what it walks over, never the whole table.

use super::{SharedPool, StoreError};
use chrono::{DateTime, Utc};
use taskyard_core::id::{SessionUid, TaskId};
use uuid::Uuid;

/// Most tasks that one statement looks at, whatever it is asked for: a number that the planner knows, so that it walks
/// along an index.
pub const MAX_EXAMINED: i64 = 1_000;

/// Which tasks to list. Every part that is set must fit.
#[derive(Clone, Debug, Default)]
pub struct TaskFilter {
    /// Namespace.
    pub namespace_id: i32,
    /// Only this session.
    pub session: Option<SessionUid>,
    /// Only these states, as stored; empty: all.
    pub states: Vec<i16>,
    /// Only these kinds; empty: all.
    pub kinds: Vec<String>,
    /// Only tasks with all these tags.
    pub tags: Vec<String>,
    /// Only tasks with, for each of these, a tag that starts so.
    pub tag_prefixes: Vec<String>,
    /// Only children of this task.
    pub parent: Option<TaskId>,
    /// Only what is below this root.
    pub root: Option<TaskId>,
    /// Only this group.
    pub group: Option<String>,
    /// Only tasks with these labels, a JSON object.
    pub labels: String,
    /// Only what a worker of this name holds, or held at the end.
    pub worker: Option<String>,
    /// Only this key.
    pub key: Option<String>,
    /// Created at or after.
    pub created_after: Option<DateTime<Utc>>,
    /// Created before.
    pub created_before: Option<DateTime<Utc>>,
}

/// The way that a listing takes through the tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Walk {
    /// All tasks of the session, by ordinal.
    Session,
    /// Those of them that have not ended, by ordinal. All of these are sorted, so let there be few.
    SessionOpen,
    /// The session's tasks of the group, by ordinal.
    SessionGroup,
    /// The session's tasks of the key, by ordinal.
    SessionKey,
    /// All tasks of the namespace, by id.
    Namespace,
    /// The namespace's tasks of the group, by id.
    Group,
    /// Children of the parent, by id.
    Parent,
    /// What is below the root, by id.
    Root,
    /// What the worker holds or held, by id.
    Worker,
    /// All tasks of the store that have not ended, by id.
    Open,
    /// Those that run or ask, by id.
    Busy,
    /// All tasks of the store that failed or were canceled, by id.
    Unsuccessful,
}

/// Where a walk goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The ordinal of the last task that was looked at, for walks by ordinal.
    pub ordinal: i64,
    /// Its id, for walks by id.
    pub id: TaskId,
}

/// A task that was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Examined {
    /// Where the walk goes on after it.
    pub place: Place,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// Whether it fits the filter.
    pub fits: bool,
}

struct ExaminedRow {
    id: Uuid,
    ordinal: i64,
    created_at: DateTime<Utc>,
    fits: bool,
}

impl Walk {
    /// Whether it goes by ordinals instead of ids.
    #[must_use]
    pub fn is_by_ordinal(self) -> bool {
        match self {
            Self::Session | Self::SessionOpen | Self::SessionGroup | Self::SessionKey => true,
            Self::Namespace
            | Self::Group
            | Self::Parent
            | Self::Root
            | Self::Worker
            | Self::Open
            | Self::Busy
            | Self::Unsuccessful => false,
        }
    }
}

/// Looks at up to `limit` tasks of a walk, and never more than [`MAX_EXAMINED`], in order, after `place`.
///
/// # Errors
/// Any [`StoreError`].
pub async fn examine(
    db: &SharedPool,
    walk: Walk,
    filter: &TaskFilter,
    is_oldest_first: bool,
    place: Place,
    limit: i64,
) -> Result<Vec<Examined>, StoreError> {
    let uuid = |id: TaskId| Uuid::from_u128(id.0);
    let after_id = uuid(place.id);
    // What is asked of each task is the same in all statements; where the tasks come from is not. State, kind and
    // worker are looked up one by one, so that no plan joins whole tables.
    macro_rules! examined {
        ($after:expr, $($from:literal)+) => {
            sqlx::query_as!(
                ExaminedRow,
                r#"/* listing */ select c.id as "id!", c.ordinal as "ordinal!", c.created_at as "created_at!",
                     coalesce(c.namespace_id = $1 and ($2::bigint is null or c.session_uid = $2)
                       and (cardinality($3::smallint[]) = 0 or coalesce((select l.state from task_live l where l.id = c.id),
                            (select e.state from task_end e where e.id = c.id)) = any($3))
                       and (cardinality($4::text[]) = 0 or (select r.kind from route r where r.id = c.route_id) = any($4))
                       and c.tags @> $5::text[]
                       and not exists (select 1 from unnest($6::text[]) wanted(prefix)
                             where not exists (select 1 from unnest(c.tags) has(tag) where starts_with(has.tag, wanted.prefix)))
                       and ($7::uuid is null or c.parent_id = $7)
                       and ($8::uuid is null or (c.root_id = $8 and c.parent_id is not null))
                       and ($9::text is null or c.group_name = $9) and c.labels @> ($10::text)::jsonb
                       and ($11::text is null or coalesce(
                            (select l.worker_name from task_live l where l.id = c.id and l.worker_session is not null),
                            (select e.worker_name from task_end e where e.id = c.id)) = $11)
                       and ($12::text is null or c.key = $12)
                       and ($13::timestamptz is null or c.created_at >= $13)
                       and ($14::timestamptz is null or c.created_at < $14), false) as "fits!"
                   from (select t.id, t.ordinal, t.created_at, t.namespace_id, t.session_uid, t.route_id, t.tags, t.parent_id,
                           t.root_id, t.group_name, t.labels, t.key from "#
                    + $($from +)+ r#" limit 1000) c limit $16"#,
                filter.namespace_id,
                filter.session.map(|uid| uid.0),
                &filter.states,
                &filter.kinds,
                &filter.tags,
                &filter.tag_prefixes,
                filter.parent.map(uuid),
                filter.root.map(uuid),
                filter.group.as_deref(),
                filter.labels,
                filter.worker.as_deref(),
                filter.key.as_deref(),
                filter.created_after,
                filter.created_before,
                $after,
                limit
            )
            .fetch_all(db)
            .await
        };
    }
    macro_rules! walk {
        ($compare:literal, $direction:literal) => {
            match walk {
                Walk::Session => examined!(
                    place.ordinal,
                    "task t where t.session_uid = $2 and t.ordinal" $compare "$15 order by t.ordinal" $direction
                ),
                Walk::SessionOpen => examined!(
                    place.ordinal,
                    "task_live l cross join lateral (select * from task where id = l.id offset 0) t
                     where l.session_uid = $2 and t.ordinal" $compare "$15 order by t.ordinal" $direction
                ),
                Walk::SessionGroup => examined!(
                    place.ordinal,
                    "task t where t.session_uid = $2 and t.group_name = $9 and t.ordinal" $compare
                    "$15 order by t.ordinal" $direction
                ),
                Walk::SessionKey => examined!(
                    place.ordinal,
                    "task t where t.session_uid = $2 and t.key = $12 and t.ordinal" $compare
                    "$15 order by t.ordinal" $direction
                ),
                Walk::Namespace => examined!(
                    after_id,
                    "task t where t.namespace_id = $1 and t.id" $compare "$15 order by t.id" $direction
                ),
                Walk::Group => examined!(
                    after_id,
                    "task t where t.namespace_id = $1 and t.group_name = $9 and t.id" $compare
                    "$15 order by t.id" $direction
                ),
                Walk::Parent => examined!(
                    after_id,
                    "task t where t.parent_id = $7 and t.id" $compare "$15 order by t.id" $direction
                ),
                Walk::Root => examined!(
                    after_id,
                    "task t where t.root_id = $8 and t.parent_id is not null and t.id" $compare
                    "$15 order by t.id" $direction
                ),
                // Of each of the two at most so many can be in the page.
                Walk::Worker => examined!(
                    after_id,
                    "((select e.id from task_end e where e.worker_name = $11 and e.id" $compare
                    "$15 order by e.id" $direction
                    " limit 1000) union all (select l.id from worker_session w join task_live l on l.worker_session = w.id
                        where w.name = $11 and l.id" $compare "$15 order by l.id" $direction
                    " limit 1000)) found cross join lateral (select * from task where id = found.id offset 0) t
                      order by found.id" $direction
                ),
                Walk::Open => examined!(
                    after_id,
                    "(select id from task_live where id" $compare "$15 order by id" $direction
                    " limit 1000) found cross join lateral (select * from task where id = found.id offset 0) t
                      order by found.id" $direction
                ),
                Walk::Busy => examined!(
                    after_id,
                    "(select id from task_live where state > 0 and id" $compare "$15 order by id" $direction
                    " limit 1000) found cross join lateral (select * from task where id = found.id offset 0) t
                      order by found.id" $direction
                ),
                Walk::Unsuccessful => examined!(
                    after_id,
                    "(select id from task_end where state > 3 and id" $compare "$15 order by id" $direction
                    " limit 1000) found cross join lateral (select * from task where id = found.id offset 0) t
                      order by found.id" $direction
                ),
            }
        };
    }
    let rows = if is_oldest_first {
        walk!(" > ", " asc")
    } else {
        walk!(" < ", " desc")
    }?;
    Ok(rows
        .into_iter()
        .map(|row| Examined {
            place: Place {
                ordinal: row.ordinal,
                id: TaskId(row.id.as_u128()),
            },
            created_at: row.created_at,
            fits: row.fits,
        })
        .collect())
}

/// The first id that a server whose clock is right can give at this time.
#[must_use]
pub fn first_id_at(at: DateTime<Utc>) -> TaskId {
    let milliseconds = u128::try_from(at.timestamp_millis()).unwrap_or(0);
    TaskId((milliseconds & 0xffff_ffff_ffff) << 80)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_grow_with_the_time_at_which_they_were_given() {
        let at = |millis| DateTime::from_timestamp_millis(millis).unwrap_or_default();
        let first = first_id_at(at(1_790_000_000_123));
        assert_eq!(first.0 >> 80, 1_790_000_000_123);
        assert!(first_id_at(at(1_790_000_000_124)) > first);
        assert_eq!(first_id_at(at(-5)), TaskId(0));
    }
}
