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
