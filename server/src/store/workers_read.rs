//! Reading the workers, for operators.

use super::{StoreError, times};
use sqlx::PgExecutor;
use std::collections::BTreeMap;

/// One boot of a worker.
#[derive(Clone, Debug)]
pub struct WorkerRow {
    /// Number of its worker session.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// 1 active, 2 draining, 3 lost, 4 gone.
    pub status: i16,
    /// Tasks that it can run at once.
    pub slots: i32,
    /// Tasks that it holds, offered ones included.
    pub held: i64,
    /// Queues that it serves.
    pub queues: Vec<String>,
    /// Kinds that it takes; empty: all.
    pub kinds: Vec<String>,
    /// Executors that it offers.
    pub executors: Vec<String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its Taskyard version.
    pub version: String,
    /// When it attached first.
    pub attached_at: prost_types::Timestamp,
    /// When it was last heard.
    pub renewed_at: prost_types::Timestamp,
}

/// Workers that are attached or ended within the last hour, by name and then newest boot first, after the boot with
/// this name and number.
///
/// # Errors
/// Any [`StoreError`].
pub async fn list_workers(
    db: impl PgExecutor<'_>,
    after: Option<(&str, i64)>,
    limit: i64,
) -> Result<Vec<WorkerRow>, StoreError> {
    let (name, id) = after.unzip();
    let rows = sqlx::query!(
        r#"with page as (
             select * from worker_session
             where (status <= 2 or ended_at > clock_timestamp() - interval '1 hour')
               and ($1::text is null or name > $1 or (name = $1 and id < $2))
             order by name, id desc limit $3),
           holding as (
             select worker_session, count(*) as held from task_live
             where worker_session in (select id from page) group by worker_session)
           select p.id, p.name, p.status, p.slots, coalesce(h.held, 0) as "held!", p.queues, p.kinds, p.executors,
             p.labels::text as "labels!", p.version, p.attached_at, p.renewed_at
           from page p left join holding h on h.worker_session = p.id
           order by p.name, p.id desc"#,
        name,
        id,
        limit
    )
    .fetch_all(db)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(WorkerRow {
                id: row.id,
                name: row.name,
                status: row.status,
                slots: row.slots,
                held: row.held,
                queues: row.queues,
                kinds: row.kinds,
                executors: row.executors,
                labels: serde_json::from_str(&row.labels)
                    .map_err(|error| StoreError::corrupt("label set", error))?,
                version: row.version,
                attached_at: times::to_proto(row.attached_at),
                renewed_at: times::to_proto(row.renewed_at),
            })
        })
        .collect()
}
