//! The claim, and what else concerns leases apart from the state machine.

use super::{StoreError, records::decode};
use chrono::{DateTime, Utc};
use sqlx::{Connection, PgConnection, PgExecutor};
use std::time::Duration;
use taskyard_core::id::{Epoch, LeaseId, SessionUid, TaskId, WorkerSessionId};
use taskyard_proto::v1::TaskSpec;
use taskyard_telemetry::trace::context::TraceContext;
use uuid::Uuid;

/// What a worker must be to be offered certain tasks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Its number.
    pub id: i32,
    /// Queue that must be served.
    pub queue: String,
    /// Kind that must be taken.
    pub kind: String,
    /// Executor that must be offered.
    pub executor: String,
    /// Labels that must be carried, as a JSON object.
    pub worker_labels_json: String,
}

/// A free slot of an attached worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// The worker.
    pub worker: WorkerSessionId,
    /// The stream that will carry the offer.
    pub attach_no: i64,
}

/// A task that was claimed for a slot.
#[derive(Clone, Debug)]
pub struct Claimed {
    /// The task.
    pub task: TaskId,
    /// Its session.
    pub session: SessionUid,
    /// The worker.
    pub worker: WorkerSessionId,
    /// Epoch of the lease.
    pub epoch: Epoch,
    /// Id of the lease.
    pub lease_id: LeaseId,
    /// Duration of the lease.
    pub lease: Duration,
    /// Number that the attempt will have.
    pub attempt: i32,
    /// Number that the run will have.
    pub run: i32,
    /// The task's ordinal.
    pub ordinal: i64,
    /// Its kind.
    pub kind: String,
    /// Its executor.
    pub executor: String,
    /// Its session's id.
    pub session_id: String,
    /// Its namespace.
    pub namespace: String,
    /// When it was queued last.
    pub queued_at: DateTime<Utc>,
    /// Its queue.
    pub queue: String,
    /// The trace that asked for it.
    pub trace: TraceContext,
    /// What to run.
    pub spec: TaskSpec,
    /// Whether it has secrets.
    pub has_secrets: bool,
    /// Longest time of the run.
    pub timeout_ms: Option<i64>,
}

/// A lease as the store sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldLease {
    /// The task.
    pub task: TaskId,
    /// Its session.
    pub session: SessionUid,
    /// Epoch of the lease.
    pub epoch: Epoch,
    /// Id of the lease.
    pub lease_id: LeaseId,
    /// Whether the task is only offered.
    pub is_offered: bool,
    /// The grace of a cancel request, in milliseconds; the outer none: no request, the inner: the spec's grace.
    pub cancel: Option<Option<i64>>,
    /// The signal that a cancel begins with; none: TERM.
    pub cancel_signal: Option<i16>,
}

/// All routes, or those made after `after`.
///
/// # Errors
/// Any [`StoreError`].
pub async fn list_routes(db: impl PgExecutor<'_>, after: i32) -> Result<Vec<Route>, StoreError> {
    Ok(sqlx::query_as!(
        Route,
        r#"select id, queue, kind, executor, worker_labels::text as "worker_labels_json!" from route where id > $1 order by id"#,
        after
    )
    .fetch_all(db)
    .await?)
}

/// Virtual times of all queues.
///
/// # Errors
/// Any [`StoreError`].
pub async fn list_clocks(db: impl PgExecutor<'_>) -> Result<Vec<((String, i16), f64)>, StoreError> {
    let rows = sqlx::query!("select queue, priority, virtual_time from queue_clock")
        .fetch_all(db)
        .await?;
    Ok(rows
        .into_iter()
        .map(|row| ((row.queue, row.priority), row.virtual_time))
        .collect())
}

/// Offers the best tasks of these routes to these slots: the only write of a task's row that the state machine does
/// not decide. One statement picks and stamps; rows that another server is claiming are passed over.
///
/// # Errors
/// Any [`StoreError`].
pub async fn claim(
    db: &mut PgConnection,
    routes: &[i32],
    slots: &[Slot],
) -> Result<Vec<Claimed>, StoreError> {
    let mut transaction = db.begin().await?;
    let limit = i64::try_from(slots.len()).unwrap_or(i64::MAX);
    let stamped = sqlx::query_file!(
        "src/store/sql/claim.sql",
        routes,
        &slots.iter().map(|slot| slot.worker.0).collect::<Vec<_>>(),
        &slots.iter().map(|slot| slot.attach_no).collect::<Vec<_>>(),
        limit
    )
    .fetch_all(&mut *transaction)
    .await?;
    if stamped.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<Uuid> = stamped.iter().map(|row| row.id).collect();
    sqlx::query!(
        r#"insert into queue_clock as c (queue, priority, virtual_time)
           select r.queue, l.priority, max(l.fair_key) from task_live l join route r on r.id = l.route_id
           where l.id = any($1) group by r.queue, l.priority order by r.queue, l.priority
           on conflict (queue, priority) do update set virtual_time = excluded.virtual_time
             where c.virtual_time < excluded.virtual_time"#,
        &ids
    )
    .execute(&mut *transaction)
    .await?;
    let details = sqlx::query!(
        r#"select t.id, t.session_uid, t.ordinal, t.spec, t.secrets is not null as "has_secrets!", t.timeout_ms, t.traceparent, t.tracestate, r.queue, r.kind, r.executor,
             s.id as session_id, n.name as namespace
           from task t join route r on r.id = t.route_id join session s on s.uid = t.session_uid
           join namespace n on n.id = t.namespace_id where t.id = any($1)"#,
        &ids
    )
    .fetch_all(&mut *transaction)
    .await?;
    transaction.commit().await?;
    let mut claimed = Vec::with_capacity(details.len());
    for detail in details {
        let Some(lease) = stamped.iter().find(|row| row.id == detail.id) else {
            continue;
        };
        claimed.push(Claimed {
            task: TaskId(detail.id.as_u128()),
            session: SessionUid(detail.session_uid),
            worker: WorkerSessionId(lease.worker),
            epoch: Epoch(lease.epoch),
            lease_id: LeaseId(lease.lease_id.as_u128()),
            lease: Duration::from_millis(lease.lease_ms.cast_unsigned()),
            attempt: lease.attempt,
            run: lease.run,
            ordinal: detail.ordinal,
            kind: detail.kind,
            executor: detail.executor,
            session_id: detail.session_id,
            namespace: detail.namespace,
            spec: decode("spec", Some(&detail.spec))?.unwrap_or_default(),
            has_secrets: detail.has_secrets,
            timeout_ms: detail.timeout_ms,
            queued_at: lease.queued_at,
            queue: detail.queue,
            trace: TraceContext::read(
                detail.traceparent.as_deref().unwrap_or_default(),
                detail.tracestate.as_deref().unwrap_or_default(),
            ),
        });
    }
    Ok(claimed)
}

/// The leases of worker sessions.
///
/// # Errors
/// Any [`StoreError`].
pub async fn list_leases(
    db: impl PgExecutor<'_>,
    workers: &[WorkerSessionId],
) -> Result<Vec<HeldLease>, StoreError> {
    let rows = sqlx::query_file!(
        "src/store/sql/worker_leases.sql",
        &workers.iter().map(|worker| worker.0).collect::<Vec<_>>()
    )
    .fetch_all(db)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| HeldLease {
            task: TaskId(row.id.as_u128()),
            session: SessionUid(row.session_uid),
            epoch: Epoch(row.epoch),
            lease_id: LeaseId(row.lease_id.as_u128()),
            is_offered: row.is_offered,
            cancel: row.is_canceled.then_some(row.cancel_grace_ms),
            cancel_signal: row.cancel_signal,
        })
        .collect())
}

/// Hands leases of an earlier boot to the newer one, which will report their ends. The leases themselves stay.
///
/// # Errors
/// Any [`StoreError`].
pub async fn adopt_leases(
    db: impl PgExecutor<'_>,
    leases: &[(TaskId, LeaseId)],
    worker: WorkerSessionId,
    attach_no: i64,
) -> Result<(), StoreError> {
    sqlx::query!(
        "with locked as materialized (
           select l.id from task_live l join unnest($1::uuid[], $2::uuid[]) v(id, lease_id)
             on l.id = v.id and l.lease_id = v.lease_id
           where l.worker_session is not null order by l.id for no key update of l)
         update task_live l set worker_session = $3, attach_no = $4 from locked where l.id = locked.id",
        &leases
            .iter()
            .map(|(task, _)| Uuid::from_u128(task.0))
            .collect::<Vec<_>>(),
        &leases
            .iter()
            .map(|(_, lease)| Uuid::from_u128(lease.0))
            .collect::<Vec<_>>(),
        worker.0,
        attach_no
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Offers that nobody answered for this long, at most `limit`.
///
/// # Errors
/// Any [`StoreError`].
pub async fn list_stale_offers(
    db: impl PgExecutor<'_>,
    age: Duration,
    limit: i64,
) -> Result<Vec<HeldLease>, StoreError> {
    let rows = sqlx::query_file!("src/store/sql/stale_offers.sql", age.as_secs_f64(), limit)
        .fetch_all(db)
        .await?;
    Ok(rows
        .into_iter()
        .map(|row| HeldLease {
            task: TaskId(row.id.as_u128()),
            session: SessionUid(row.session_uid),
            epoch: Epoch(row.epoch),
            lease_id: LeaseId(row.lease_id.as_u128()),
            is_offered: true,
            cancel: None,
            cancel_signal: None,
        })
        .collect())
}

/// Sessions of tasks.
///
/// # Errors
/// Any [`StoreError`].
pub async fn find_sessions(
    db: impl PgExecutor<'_>,
    tasks: &[TaskId],
) -> Result<Vec<(TaskId, SessionUid)>, StoreError> {
    let ids: Vec<Uuid> = tasks.iter().map(|id| Uuid::from_u128(id.0)).collect();
    let rows = sqlx::query!("select id, session_uid from task where id = any($1)", &ids)
        .fetch_all(db)
        .await?;
    Ok(rows
        .into_iter()
        .map(|row| (TaskId(row.id.as_u128()), SessionUid(row.session_uid)))
        .collect())
}

/// The spec of a task.
///
/// # Errors
/// Any [`StoreError`].
pub async fn find_spec(
    db: impl PgExecutor<'_>,
    task: TaskId,
) -> Result<Option<TaskSpec>, StoreError> {
    let spec = sqlx::query_scalar!(
        "select spec from task where id = $1",
        Uuid::from_u128(task.0)
    )
    .fetch_optional(db)
    .await?;
    decode("spec", spec.as_deref())
}

/// The spec of a task whose lease is held under this epoch and id.
///
/// # Errors
/// Any [`StoreError`].
pub async fn find_lease_spec(
    db: impl PgExecutor<'_>,
    task: TaskId,
    epoch: Epoch,
    lease_id: LeaseId,
) -> Result<Option<TaskSpec>, StoreError> {
    let spec = sqlx::query_scalar!(
        "select t.spec from task t join task_live l on l.id = t.id
         where l.id = $1 and l.epoch = $2 and l.lease_id = $3 and l.worker_session is not null",
        Uuid::from_u128(task.0),
        epoch.0,
        Uuid::from_u128(lease_id.0)
    )
    .fetch_optional(db)
    .await?;
    decode("spec", spec.as_deref())
}
