//! Worker sessions: their boots, streams and heartbeats.

use super::{StoreError, claim::HeldLease, times};
use sqlx::{PgConnection, PgExecutor};
use std::time::Duration;
use taskyard_core::{
    Timestamp,
    id::{Epoch, LeaseId, SessionUid, TaskId, WorkerSessionId},
};
use uuid::Uuid;

/// What a worker says of itself.
#[derive(Clone, Debug)]
pub struct WorkerBoot {
    /// Its name.
    pub name: String,
    /// This boot.
    pub instance: Uuid,
    /// Its state directory.
    pub state: Uuid,
    /// Tasks that it can run at once.
    pub slots: i32,
    /// Queues that it serves.
    pub queues: Vec<String>,
    /// Kinds that it takes; empty: all.
    pub kinds: Vec<String>,
    /// Executors that it offers.
    pub executors: Vec<String>,
    /// Its labels, as a JSON object.
    pub labels_json: String,
    /// Version of its software.
    pub version: String,
    /// Protocol that was agreed on.
    pub protocol: i32,
    /// Who attaches it; none: nobody had to say.
    pub holder: Option<String>,
}

/// A stream of a worker session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// The worker session.
    pub worker: WorkerSessionId,
    /// Which of its streams, from 1.
    pub attach_no: i64,
}

/// A lease that is over, as far as one can see without its lock.
#[derive(Clone, Copy, Debug)]
pub struct ExpiredLease {
    /// The lease.
    pub lease: HeldLease,
    /// When its worker must not have been heard for it to be over.
    pub renewed_before: Timestamp,
}

/// Registers a stream: the next one of this boot's session, or the first of a new one. None: the boot is another
/// holder's.
///
/// # Errors
/// Any [`StoreError`].
pub async fn attach(
    db: &mut PgConnection,
    boot: &WorkerBoot,
) -> Result<Option<Attachment>, StoreError> {
    let row = sqlx::query!(
        r#"insert into worker_session as w (name, instance_id, state_id, status, attach_no, slots, queues, kinds, executors, labels,
             version, protocol, holder, attached_at, renewed_at)
           values ($1, $2, $3, 1, 1, $4, $5, $6, $7, $8::text::jsonb, $9, $10, $11, clock_timestamp(), clock_timestamp())
           on conflict (instance_id) where status <= 2 do update
             set attach_no = w.attach_no + 1, status = 1, name = excluded.name, slots = excluded.slots, queues = excluded.queues,
               kinds = excluded.kinds, executors = excluded.executors, labels = excluded.labels, version = excluded.version,
               protocol = excluded.protocol, holder = excluded.holder, renewed_at = clock_timestamp()
             where w.holder is null or excluded.holder is null or w.holder = excluded.holder
           returning id, attach_no"#,
        boot.name,
        boot.instance,
        boot.state,
        boot.slots,
        &boot.queues,
        &boot.kinds,
        &boot.executors,
        boot.labels_json,
        boot.version,
        boot.protocol,
        boot.holder
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| Attachment {
        worker: WorkerSessionId(row.id),
        attach_no: row.attach_no,
    }))
}

/// Who holds these leases, of those that are held: the task of each, and the holder of its worker session.
///
/// # Errors
/// Any [`StoreError`].
pub async fn find_lease_holders(
    db: impl PgExecutor<'_>,
    leases: &[(TaskId, Epoch, LeaseId)],
) -> Result<Vec<(TaskId, Option<String>)>, StoreError> {
    let rows = sqlx::query!(
        r#"select l.id, w.holder from unnest($1::uuid[], $2::bigint[], $3::uuid[]) v(id, epoch, lease_id)
           join task_live l on l.id = v.id and l.epoch = v.epoch and l.lease_id = v.lease_id
           join worker_session w on w.id = l.worker_session"#,
        &leases.iter().map(|lease| Uuid::from_u128(lease.0.0)).collect::<Vec<_>>(),
        &leases.iter().map(|lease| lease.1.0).collect::<Vec<_>>(),
        &leases.iter().map(|lease| Uuid::from_u128(lease.2.0)).collect::<Vec<_>>()
    )
    .fetch_all(db)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| (TaskId(row.id.as_u128()), row.holder))
        .collect())
}

/// Whether another boot on the same state directory, that nobody has ended yet, is of another holder.
///
/// # Errors
/// Any [`StoreError`].
pub async fn is_state_of_another(
    db: impl PgExecutor<'_>,
    boot: &WorkerBoot,
) -> Result<bool, StoreError> {
    let is_foreign = sqlx::query_scalar!(
        r#"select exists (select 1 from worker_session
             where state_id = $1 and instance_id <> $2 and status <= 2 and holder <> $3::text) as "is_foreign!""#,
        boot.state,
        boot.instance,
        boot.holder as _
    )
    .fetch_one(db)
    .await?;
    Ok(is_foreign)
}

/// Earlier boots on the same state directory that nobody has ended yet, but for those of another holder.
///
/// # Errors
/// Any [`StoreError`].
pub async fn list_earlier_boots(
    db: impl PgExecutor<'_>,
    boot: &WorkerBoot,
) -> Result<Vec<WorkerSessionId>, StoreError> {
    let ids = sqlx::query_scalar!(
        "select id from worker_session where state_id = $1 and instance_id <> $2 and status <= 2
           and (holder is null or $3::text is null or holder = $3)",
        boot.state,
        boot.instance,
        boot.holder as _
    )
    .fetch_all(db)
    .await?;
    Ok(ids.into_iter().map(WorkerSessionId).collect())
}

/// How a worker session can end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerEnd {
    /// It was not heard in time.
    Lost = 3,
    /// It said goodbye, or a newer boot took over.
    Gone = 4,
}

/// Ends worker sessions.
///
/// # Errors
/// Any [`StoreError`].
pub async fn end_workers(
    db: impl PgExecutor<'_>,
    workers: &[WorkerSessionId],
    end: WorkerEnd,
) -> Result<(), StoreError> {
    sqlx::query!(
        "update worker_session set status = $2, ended_at = clock_timestamp() where id = any($1) and status <= 2",
        &workers.iter().map(|worker| worker.0).collect::<Vec<_>>(),
        end as i16
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Marks a worker session as draining.
///
/// # Errors
/// Any [`StoreError`].
pub async fn drain_worker(
    db: impl PgExecutor<'_>,
    worker: WorkerSessionId,
) -> Result<(), StoreError> {
    sqlx::query!(
        "update worker_session set status = 2 where id = $1 and status = 1",
        worker.0
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Renews all leases of a worker session: one row, whatever their number. False: the session is over, or a newer stream
/// has taken its place. The commit is not waited for: a heartbeat that is lost in a crash is followed by the next.
///
/// # Errors
/// Any [`StoreError`].
pub async fn renew(db: impl PgExecutor<'_>, stream: Attachment) -> Result<bool, StoreError> {
    let done = sqlx::query!(
        "with quick as (select set_config('synchronous_commit', 'off', true))
         update worker_session set renewed_at = clock_timestamp() from quick where id = $1 and attach_no = $2 and status <= 2",
        stream.worker.0,
        stream.attach_no
    )
    .execute(db)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Leases whose workers were not heard for the whole of them, keyset-paged by task. Nothing counts as overdue before a
/// whole lease has passed since `since`.
///
/// # Errors
/// Any [`StoreError`].
pub async fn list_expired(
    db: impl PgExecutor<'_>,
    since: Timestamp,
    after: TaskId,
    limit: i64,
) -> Result<Vec<ExpiredLease>, StoreError> {
    let rows = sqlx::query_file!(
        "src/store/sql/expired_leases.sql",
        times::to_database(since),
        Uuid::from_u128(after.0),
        limit
    )
    .fetch_all(db)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| ExpiredLease {
            lease: HeldLease {
                task: TaskId(row.id.as_u128()),
                session: SessionUid(row.session_uid),
                epoch: Epoch(row.epoch),
                lease_id: LeaseId(row.lease_id.as_u128()),
                is_offered: row.is_offered,
                cancel: None,
                cancel_signal: None,
            },
            renewed_before: times::to_core(row.renewed_before),
        })
        .collect())
}

/// Gives up worker sessions that hold nothing and were not heard for `silence`, counted from `since` at the earliest;
/// says which.
///
/// # Errors
/// Any [`StoreError`].
pub async fn give_up_workers(
    db: impl PgExecutor<'_>,
    since: Timestamp,
    silence: Duration,
) -> Result<Vec<WorkerSessionId>, StoreError> {
    let ids = sqlx::query_file_scalar!(
        "src/store/sql/give_up_workers.sql",
        times::to_database(since),
        silence.as_secs_f64()
    )
    .fetch_all(db)
    .await?;
    Ok(ids.into_iter().map(WorkerSessionId).collect())
}

/// Forgets worker sessions that ended more than a day ago, at most `limit`.
///
/// # Errors
/// Any [`StoreError`].
pub async fn forget_workers(db: impl PgExecutor<'_>, limit: i64) -> Result<u64, StoreError> {
    let done = sqlx::query!(
        "delete from worker_session where id in (
           select w.id from worker_session w where w.status >= 3 and w.ended_at < clock_timestamp() - interval '1 day'
             and not exists (select 1 from task_live l where l.worker_session = w.id) limit $1)",
        limit
    )
    .execute(db)
    .await?;
    Ok(done.rows_affected())
}
