//! How live monitors stand, for those who read of them.

use super::columns::{definition, task_id, uuid};
use crate::store::{StoreError, records};
use chrono::{DateTime, Utc};
use sqlx::PgExecutor;
use taskyard_core::id::{SessionUid, TaskId};
use taskyard_proto::v1::{TaskDefinition, TaskState};
use uuid::Uuid;

/// How a live monitor stands.
#[derive(Clone, Debug)]
pub struct MonitorStanding {
    /// Its task.
    pub task: TaskId,
    /// The definition of its firings, with the schedule.
    pub definition: TaskDefinition,
    /// When it fires next.
    pub next_at: Option<DateTime<Utc>>,
    /// Firings so far.
    pub firings: i64,
    /// Times that were left out.
    pub skipped: i64,
    /// Firings that have not ended.
    pub open: i64,
    /// The firing that was judged last, how it ended, and its summary.
    pub last: Option<(TaskId, TaskState, String)>,
}

/// Live monitors of a namespace, or of one session of it, newest first, those before `before`.
///
/// # Errors
/// Any [`StoreError`].
pub async fn list_standings(
    db: impl PgExecutor<'_>,
    namespace_id: i32,
    session: Option<SessionUid>,
    before: Option<TaskId>,
    limit: i64,
) -> Result<Vec<MonitorStanding>, StoreError> {
    let rows = sqlx::query_as!(
        StandingRow,
        r#"select m.task_id, m.definition, m.next_at, m.firings, m.skipped, m.last_task, m.last_state, m.last_summary,
             (select count(*) from monitor_firing f join task_live fl on fl.id = f.firing_id
               where f.task_id = m.task_id) as "open!"
           from monitor m join task_live l on l.id = m.task_id
           where m.namespace_id = $1 and ($2::bigint is null or m.session_uid = $2) and ($3::uuid is null or m.task_id < $3)
           order by m.task_id desc limit $4"#,
        namespace_id,
        session.map(|session| session.0),
        before.map(uuid),
        limit
    )
    .fetch_all(db)
    .await?;
    rows.into_iter().map(StandingRow::into_standing).collect()
}

/// How one monitor stands; none: the task is no monitor, or has ended.
///
/// # Errors
/// Any [`StoreError`].
pub async fn find_standing(
    db: impl PgExecutor<'_>,
    monitor: TaskId,
) -> Result<Option<MonitorStanding>, StoreError> {
    let row = sqlx::query_as!(
        StandingRow,
        r#"select m.task_id, m.definition, m.next_at, m.firings, m.skipped, m.last_task, m.last_state, m.last_summary,
             (select count(*) from monitor_firing f join task_live fl on fl.id = f.firing_id
               where f.task_id = m.task_id) as "open!"
           from monitor m join task_live l on l.id = m.task_id
           where m.task_id = $1"#,
        uuid(monitor)
    )
    .fetch_optional(db)
    .await?;
    row.map(StandingRow::into_standing).transpose()
}

struct StandingRow {
    task_id: Uuid,
    definition: Vec<u8>,
    next_at: Option<DateTime<Utc>>,
    firings: i64,
    skipped: i64,
    last_task: Option<Uuid>,
    last_state: Option<i16>,
    last_summary: String,
    open: i64,
}

impl StandingRow {
    fn into_standing(self) -> Result<MonitorStanding, StoreError> {
        let last = match (self.last_task, self.last_state) {
            (Some(task), Some(state)) => Some((
                task_id(task),
                records::task_state(state)?,
                self.last_summary,
            )),
            (None, _) | (_, None) => None,
        };
        Ok(MonitorStanding {
            task: task_id(self.task_id),
            definition: definition(&self.definition)?,
            next_at: self.next_at,
            firings: self.firings,
            skipped: self.skipped,
            open: self.open,
            last,
        })
    }
}
