//! Storing new tasks.

use super::{
    StoreError,
    monitors::MonitorPart,
    secrets::NewSecrets,
    task_row::{column, to_ms},
    times,
};
use chrono::{DateTime, Utc};
use prost::Message;
use sqlx::PgConnection;
use std::time::Duration;
use taskyard_core::{
    id::{SessionUid, TaskId},
    task::{Gate, Policy},
};
use taskyard_proto::v1::TaskSpec;
use taskyard_telemetry::trace::context::TraceContext;
use uuid::Uuid;

/// A task to be stored, but for what its session numbers.
#[derive(Clone, Debug)]
pub struct NewTask {
    /// Its id.
    pub id: TaskId,
    /// Number of its namespace.
    pub namespace_id: i32,
    /// Number of its session.
    pub session: SessionUid,
    /// Number of its route.
    pub route_id: i32,
    /// Its queue.
    pub queue: String,
    /// Virtual time of the queue at the task's priority.
    pub virtual_time: f64,
    /// Its kind.
    pub kind: String,
    /// Its executor.
    pub executor: String,
    /// Name among the session's live tasks.
    pub name: Option<String>,
    /// Idempotency name.
    pub key: Option<String>,
    /// What to call it.
    pub display_name: String,
    /// What to run.
    pub spec: TaskSpec,
    /// What its work is given and no read shows.
    pub secrets: NewSecrets,
    /// What it is created below; none: it is its own root.
    pub parent: Option<Ancestry>,
    /// Group.
    pub group: Option<String>,
    /// Labels, as a JSON object.
    pub labels_json: String,
    /// Tags, as a JSON array.
    pub tags_json: String,
    /// Priority.
    pub priority: i16,
    /// Longest time of one run.
    pub timeout: Option<Duration>,
    /// What the state machine needs.
    pub policy: Policy,
    /// Whether it waits to be claimed.
    pub gate: Gate,
    /// When to wake the owner, as on the wire.
    pub wake_policy: i16,
    /// How its end wakes the owner within its group, as on the wire.
    pub group_wake: i16,
    /// The task that it repeats.
    pub retry_of: Option<TaskId>,
    /// Duration of its leases.
    pub lease: Duration,
    /// SHA-256 of the definition.
    pub fingerprint: [u8; 32],
    /// The trace that asks for it.
    pub trace: TraceContext,
    /// What makes it part of a monitor; none: it has nothing to do with one.
    pub monitor: Option<MonitorPart>,
}

/// Where a new task is in its tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ancestry {
    /// The task below which it is created.
    pub parent: TaskId,
    /// The topmost ancestor.
    pub root: TaskId,
    /// How many ancestors it has.
    pub depth: i16,
}

/// What a new task gets from its session.
#[derive(Clone, Copy, Debug)]
pub struct Placement {
    /// Its ordinal.
    pub ordinal: i64,
    /// Its place in the queue's virtual time.
    pub fair_key: f64,
    /// When it was created.
    pub created_at: DateTime<Utc>,
}

/// Stores new tasks: what is written once, and the live rows.
///
/// # Errors
/// [`StoreError::Duplicate`] naming `task_by_key`, `task_live_by_name` or `task_pkey`; any other [`StoreError`].
pub async fn insert_tasks(
    db: &mut PgConnection,
    tasks: &[(&NewTask, Placement)],
) -> Result<(), StoreError> {
    let ids: Vec<Uuid> = tasks
        .iter()
        .map(|(task, _)| Uuid::from_u128(task.id.0))
        .collect();
    let sessions: Vec<i64> = tasks.iter().map(|(task, _)| task.session.0).collect();
    let routes: Vec<i32> = tasks.iter().map(|(task, _)| task.route_id).collect();
    let names: Vec<Option<String>> = tasks.iter().map(|(task, _)| task.name.clone()).collect();
    let groups: Vec<Option<String>> = tasks.iter().map(|(task, _)| task.group.clone()).collect();
    let priorities: Vec<i16> = tasks.iter().map(|(task, _)| task.priority).collect();
    let created: Vec<DateTime<Utc>> = tasks
        .iter()
        .map(|(_, placement)| placement.created_at)
        .collect();
    let policy_time = |pick: fn(&Policy) -> Option<taskyard_core::Timestamp>| {
        tasks
            .iter()
            .map(|(task, _)| pick(&task.policy).map(times::to_database))
            .collect::<Vec<_>>()
    };
    let not_before = policy_time(|policy| policy.not_before);
    let start_deadlines = policy_time(|policy| policy.start_deadline);
    sqlx::query!(
        r#"insert into task (id, namespace_id, session_uid, ordinal, route_id, name, key, display_name, spec, parent_id, root_id,
             group_name, labels, tags, priority, not_before, start_deadline, timeout_ms, max_runs, initial_backoff_ms,
             max_backoff_ms, backoff_multiplier, wake_policy, retry_of, fingerprint, created_at, depth, group_wake, has_result_schema,
             secrets, traceparent, tracestate)
           select v.id, v.namespace_id, v.session_uid, v.ordinal, v.route_id, v.name, v.key, v.display_name, v.spec, v.parent_id,
             v.root_id, v.group_name, v.labels::jsonb,
             array(select jsonb_array_elements_text(v.tags::jsonb)), v.priority, v.not_before, v.start_deadline, v.timeout_ms,
             v.max_runs, v.initial_backoff_ms, v.max_backoff_ms, v.backoff_multiplier, v.wake_policy, v.retry_of,
             v.fingerprint, v.created_at, v.depth, v.group_wake, v.has_result_schema, v.secrets,
             v.traceparent, v.tracestate
           from unnest($1::uuid[], $2::int[], $3::bigint[], $4::bigint[], $5::int[], $6::text[], $7::text[], $8::text[],
             $9::bytea[], $10::uuid[], $11::uuid[], $12::text[], $13::text[], $14::text[], $15::smallint[],
             $16::timestamptz[], $17::timestamptz[], $18::bigint[], $19::int[], $20::bigint[], $21::bigint[], $22::float8[],
             $23::smallint[], $24::uuid[], $25::bytea[], $26::timestamptz[], $27::smallint[], $28::smallint[], $29::boolean[], $30::bytea[],
             $31::text[], $32::text[])
             as v(id, namespace_id, session_uid, ordinal, route_id, name, key, display_name, spec, parent_id, root_id,
               group_name, labels, tags, priority, not_before, start_deadline, timeout_ms, max_runs, initial_backoff_ms,
               max_backoff_ms, backoff_multiplier, wake_policy, retry_of, fingerprint, created_at, depth, group_wake, has_result_schema,
               secrets, traceparent, tracestate)"#,
        &ids,
        &tasks.iter().map(|(task, _)| task.namespace_id).collect::<Vec<_>>(),
        &sessions,
        &tasks.iter().map(|(_, placement)| placement.ordinal).collect::<Vec<_>>(),
        &routes,
        &names as _,
        &tasks.iter().map(|(task, _)| task.key.clone()).collect::<Vec<_>>() as _,
        &tasks.iter().map(|(task, _)| task.display_name.clone()).collect::<Vec<_>>(),
        &tasks.iter().map(|(task, _)| task.spec.encode_to_vec()).collect::<Vec<_>>(),
        &tasks.iter().map(|(task, _)| task.parent.map(|above| Uuid::from_u128(above.parent.0))).collect::<Vec<_>>() as _,
        &tasks.iter().map(|(task, _)| Uuid::from_u128(task.parent.map_or(task.id, |above| above.root).0)).collect::<Vec<_>>(),
        &groups as _,
        &tasks.iter().map(|(task, _)| task.labels_json.clone()).collect::<Vec<_>>(),
        &tasks.iter().map(|(task, _)| task.tags_json.clone()).collect::<Vec<_>>(),
        &priorities,
        &not_before as _,
        &start_deadlines as _,
        &tasks.iter().map(|(task, _)| task.timeout.map(to_ms)).collect::<Vec<_>>() as _,
        &tasks.iter().map(|(task, _)| column(task.policy.retry.max_runs)).collect::<Vec<_>>(),
        &tasks.iter().map(|(task, _)| to_ms(task.policy.retry.initial_backoff)).collect::<Vec<_>>(),
        &tasks.iter().map(|(task, _)| to_ms(task.policy.retry.max_backoff)).collect::<Vec<_>>(),
        &tasks.iter().map(|(task, _)| task.policy.retry.multiplier).collect::<Vec<_>>(),
        &tasks.iter().map(|(task, _)| task.wake_policy).collect::<Vec<_>>(),
        &tasks.iter().map(|(task, _)| task.retry_of.map(|id| Uuid::from_u128(id.0))).collect::<Vec<_>>() as _,
        &tasks.iter().map(|(task, _)| task.fingerprint.to_vec()).collect::<Vec<_>>(),
        &created,
        &tasks.iter().map(|(task, _)| task.parent.map_or(0, |above| above.depth)).collect::<Vec<_>>(),
        &tasks.iter().map(|(task, _)| task.group_wake).collect::<Vec<_>>(),
        &tasks.iter().map(|(task, _)| !task.spec.result_schema_json.is_empty()).collect::<Vec<_>>(),
        &tasks.iter().map(|(task, _)| task.secrets.column()).collect::<Vec<_>>() as _,
        &tasks.iter().map(|(task, _)| some_text(task.trace.traceparent())).collect::<Vec<_>>() as _,
        &tasks.iter().map(|(task, _)| some_text(task.trace.tracestate())).collect::<Vec<_>>() as _
    )
    .execute(&mut *db)
    .await?;
    sqlx::query!(
        r#"insert into task_live (id, session_uid, route_id, name, priority, fair_key, gate, not_before, start_deadline, lease_ms, updated_at, group_name, is_monitor)
           select * from unnest($1::uuid[], $2::bigint[], $3::int[], $4::text[], $5::smallint[], $6::float8[], $7::smallint[],
             $8::timestamptz[], $9::timestamptz[], $10::bigint[], $11::timestamptz[], $12::text[], $13::boolean[])"#,
        &ids,
        &sessions,
        &routes,
        &names as _,
        &priorities,
        &tasks.iter().map(|(_, placement)| placement.fair_key).collect::<Vec<_>>(),
        &tasks.iter().map(|(task, _)| gate_column(task.gate)).collect::<Vec<_>>(),
        &not_before as _,
        &start_deadlines as _,
        &tasks.iter().map(|(task, _)| to_ms(task.lease)).collect::<Vec<_>>(),
        &created,
        &groups as _,
        &tasks.iter().map(|(task, _)| task.policy.is_monitor).collect::<Vec<_>>()
    )
    .execute(db)
    .await?;
    Ok(())
}

fn some_text(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

fn gate_column(gate: Gate) -> i16 {
    match gate {
        Gate::Open => 0,
        Gate::Until(_) => 1,
        Gate::Held { .. } => 2,
        Gate::Monitor => 3,
    }
}
