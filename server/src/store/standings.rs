//! How tasks stand, and nothing more; for waits.

use super::{StoreError, records, resolve::FoundTask};
use sqlx::PgExecutor;
use taskyard_core::id::{SessionUid, TaskId};
use taskyard_proto::v1::TaskState;
use uuid::Uuid;

/// How one task stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The task.
    pub id: TaskId,
    /// Its state.
    pub state: TaskState,
    /// Its generation.
    pub generation: i64,
}

/// How the tasks stand, in no particular order; unknown ids are left out.
///
/// # Errors
/// Any [`StoreError`].
pub async fn read_standings(
    db: impl PgExecutor<'_>,
    ids: &[TaskId],
) -> Result<Vec<Standing>, StoreError> {
    let ids: Vec<Uuid> = ids.iter().map(|id| Uuid::from_u128(id.0)).collect();
    let rows = sqlx::query!(
        r#"select w.id as "id!", coalesce(l.state, e.state) as "state!", coalesce(l.generation, e.generation) as "generation!"
           from unnest($1::uuid[]) w(id)
           left join task_live l on l.id = w.id
           left join task_end e on e.id = w.id
           where l.id is not null or e.id is not null"#,
        &ids
    )
    .fetch_all(db)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(Standing {
                id: TaskId(row.id.as_u128()),
                state: records::task_state(row.state)?,
                generation: row.generation,
            })
        })
        .collect()
}

/// Those of the tasks that exist in a namespace, in no particular order.
///
/// # Errors
/// Any [`StoreError`].
pub async fn find_by_ids(
    db: impl PgExecutor<'_>,
    namespace_id: i32,
    ids: &[TaskId],
) -> Result<Vec<FoundTask>, StoreError> {
    let ids: Vec<Uuid> = ids.iter().map(|id| Uuid::from_u128(id.0)).collect();
    let rows = sqlx::query!(
        "select t.id, t.session_uid from task t join session s on s.uid = t.session_uid and s.deleted_at is null
         where t.id = any($1) and t.namespace_id = $2",
        &ids,
        namespace_id
    )
    .fetch_all(db)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| FoundTask {
            id: TaskId(row.id.as_u128()),
            session: SessionUid(row.session_uid),
        })
        .collect())
}

/// What the tasks of a session that were chosen are, and up to where they were looked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChosenTasks {
    /// Ids, by ordinal.
    pub ids: Vec<TaskId>,
    /// Ordinal of the newest task of the session; everything up to it was looked at, where the limit was not reached.
    pub newest_ordinal: i64,
}

/// Tasks of a session with ordinals above `after` that are of the group and have all the labels, a JSON object; at most
/// `limit`. None if the session is gone.
///
/// # Errors
/// Any [`StoreError`].
pub async fn choose_tasks(
    db: impl PgExecutor<'_>,
    session: SessionUid,
    group: Option<&str>,
    labels: &str,
    after: i64,
    limit: i64,
) -> Result<Option<ChosenTasks>, StoreError> {
    // Ordinals are given and become visible in order, so nothing below the newest one can still come.
    let rows: Vec<(i64, Option<Uuid>)> = match group {
        Some(group) => sqlx::query!(
            r#"select s.next_ordinal - 1 as "newest!", t.id as "id?" from session s
               left join lateral (
                   select id from task where session_uid = s.uid and group_name = $2 and ordinal > $4
                     and labels @> ($3::text)::jsonb
                   order by ordinal limit $5) t on true
               where s.uid = $1"#,
            session.0,
            group,
            labels,
            after,
            limit
        )
        .fetch_all(db)
        .await?
        .into_iter()
        .map(|row| (row.newest, row.id))
        .collect(),
        None => sqlx::query!(
            r#"select s.next_ordinal - 1 as "newest!", t.id as "id?" from session s
               left join lateral (
                   select id from task where session_uid = s.uid and ordinal > $3 and labels @> ($2::text)::jsonb
                   order by ordinal limit $4) t on true
               where s.uid = $1"#,
            session.0,
            labels,
            after,
            limit
        )
        .fetch_all(db)
        .await?
        .into_iter()
        .map(|row| (row.newest, row.id))
        .collect(),
    };
    Ok(rows.first().map(|(newest, _)| ChosenTasks {
        ids: rows
            .iter()
            .filter_map(|(_, id)| id.map(|id| TaskId(id.as_u128())))
            .collect(),
        newest_ordinal: *newest,
    }))
}
