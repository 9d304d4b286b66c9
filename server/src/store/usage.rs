//! What runs have used, added up: of sessions by counters, of trees by their runs.

use super::{StoreError, task_row::column};
use sqlx::{PgConnection, PgExecutor};
use taskyard_core::id::{SessionUid, TaskId};
use uuid::Uuid;

/// Most names of which a session or a tree has sums.
const MAX_NAMES: i64 = 1_000;

/// What the runs that ended in one commit add to the counters of their session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UsedDelta {
    /// Tasks of which this is the first run that ended.
    pub tasks: i64,
    /// Runs.
    pub runs: i64,
    /// Processor time, in milliseconds.
    pub cpu_ms: i64,
    /// Greatest resident size of any of them, in bytes.
    pub max_rss_bytes: i64,
}

/// One run of a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunRow {
    /// The root of the tree.
    pub root: TaskId,
    /// The task.
    pub task: TaskId,
    /// The run.
    pub run: u32,
    /// Processor time, in milliseconds.
    pub cpu_ms: i64,
    /// Peak of resident memory, in bytes.
    pub max_rss_bytes: i64,
    /// Numbers by name, as a JSON object; none: none.
    pub reported: Option<String>,
}

/// Something that the work of a session reported, summed over a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportedDelta {
    /// The session.
    pub session: SessionUid,
    /// Its name.
    pub name: String,
    /// One run's number, in decimal.
    pub number: String,
}

/// Sums.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Tasks with a run that has ended.
    pub tasks: i64,
    /// Runs that have ended.
    pub runs: i64,
    /// Processor time, in milliseconds.
    pub cpu_ms: i64,
    /// Greatest peak of any run, in bytes.
    pub max_rss_bytes: i64,
    /// Sums by name, as a JSON object; none: nothing was reported.
    pub reported: Option<String>,
}

/// Notes ended runs of trees.
///
/// # Errors
/// Any [`StoreError`].
pub async fn insert_runs(db: &mut PgConnection, rows: &[RunRow]) -> Result<(), StoreError> {
    sqlx::query!(
        r#"insert into run_usage (root_id, task_id, run, cpu_ms, max_rss_bytes, reported)
           select root_id, task_id, run, cpu_ms, max_rss_bytes, reported::jsonb
           from unnest($1::uuid[], $2::uuid[], $3::int[], $4::bigint[], $5::bigint[], $6::text[])
             as w(root_id, task_id, run, cpu_ms, max_rss_bytes, reported)"#,
        &rows
            .iter()
            .map(|row| Uuid::from_u128(row.root.0))
            .collect::<Vec<_>>(),
        &rows
            .iter()
            .map(|row| Uuid::from_u128(row.task.0))
            .collect::<Vec<_>>(),
        &rows.iter().map(|row| column(row.run)).collect::<Vec<_>>(),
        &rows.iter().map(|row| row.cpu_ms).collect::<Vec<_>>(),
        &rows.iter().map(|row| row.max_rss_bytes).collect::<Vec<_>>(),
        &rows
            .iter()
            .map(|row| row.reported.clone())
            .collect::<Vec<_>>() as _
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Adds what was reported to the sums of the sessions, whose locks the transaction holds. A session with as many names as
/// it may have takes no further ones.
///
/// # Errors
/// Any [`StoreError`].
pub async fn add_reported(
    db: &mut PgConnection,
    deltas: &[ReportedDelta],
) -> Result<(), StoreError> {
    sqlx::query!(
        r#"with wanted as (
             select uid, name, sum(number::numeric) as number
             from unnest($1::bigint[], $2::text[], $3::text[]) as w(uid, name, number) group by uid, name),
           known as (
             select u.session_uid as uid, count(*) as names from session_usage u
             where u.session_uid in (select uid from wanted) group by u.session_uid)
           insert into session_usage (session_uid, name, total)
           select w.uid, w.name, w.number from (
             select w.*, (o.name is not null) as is_known,
               row_number() over (partition by w.uid, o.name is null order by w.name) as nth
             from wanted w left join session_usage o on o.session_uid = w.uid and o.name = w.name collate "C") w
           left join known k on k.uid = w.uid
           where w.is_known or coalesce(k.names, 0) + w.nth <= $4
           on conflict (session_uid, name) do update set total = session_usage.total + excluded.total"#,
        &deltas.iter().map(|delta| delta.session.0).collect::<Vec<_>>(),
        &deltas.iter().map(|delta| delta.name.clone()).collect::<Vec<_>>(),
        &deltas.iter().map(|delta| delta.number.clone()).collect::<Vec<_>>(),
        MAX_NAMES
    )
    .execute(db)
    .await?;
    Ok(())
}

/// The sums of a session; none if it is gone.
///
/// # Errors
/// Any [`StoreError`].
pub async fn session_totals(
    db: impl PgExecutor<'_>,
    session: SessionUid,
) -> Result<Option<Totals>, StoreError> {
    Ok(sqlx::query_as!(
        Totals,
        r#"select used_tasks as "tasks!", used_runs as "runs!", used_cpu_ms as "cpu_ms!",
             used_max_rss_bytes as "max_rss_bytes!",
             (select jsonb_object_agg(name, trim_scale(total))::text from session_usage where session_uid = uid) as reported
           from session where uid = $1 and deleted_at is null"#,
        session.0
    )
    .fetch_optional(db)
    .await?)
}

/// A task's place in its tree, with what its end row tells of its last run.
#[derive(Clone, Debug)]
pub struct TreePlace {
    /// The root; the task itself, if it has no parent.
    pub root: TaskId,
    /// Its last run; none while it lives.
    pub ended_run: Option<i32>,
    /// Encoded `RunEnd`.
    pub run_end: Option<Vec<u8>>,
}

/// Where a task stands; none if there is no such task.
///
/// # Errors
/// Any [`StoreError`].
pub async fn tree_place(
    db: impl PgExecutor<'_>,
    task: TaskId,
) -> Result<Option<TreePlace>, StoreError> {
    let row = sqlx::query!(
        r#"select t.root_id, e.run as "ended_run?", e.run_end from task t left join task_end e on e.id = t.id where t.id = $1"#,
        Uuid::from_u128(task.0)
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| TreePlace {
        root: TaskId(row.root_id.as_u128()),
        ended_run: row.ended_run,
        run_end: row.run_end,
    }))
}

/// The sums of a whole tree. `last` is the root's last run, counted unless it is among the noted ones.
///
/// # Errors
/// Any [`StoreError`].
pub async fn tree_totals(
    db: impl PgExecutor<'_>,
    root: TaskId,
    last: Option<&RunRow>,
) -> Result<Totals, StoreError> {
    Ok(sqlx::query_as!(
        Totals,
        r#"with noted as (
             select task_id, run, cpu_ms, max_rss_bytes, reported from run_usage where root_id = $1),
           runs as (
             select task_id, cpu_ms, max_rss_bytes, reported from noted
             union all
             select $1, $3::bigint, $4::bigint, $5::text::jsonb
             where $2::int is not null and not exists (select from noted where task_id = $1 and run = $2)),
           sums as (
             select r.key, trim_scale(sum(r.value::numeric)) as total
             from runs, jsonb_each_text(runs.reported) r group by r.key order by r.key collate "C" limit $6)
           select count(distinct task_id) as "tasks!", count(*) as "runs!", coalesce(sum(cpu_ms), 0)::bigint as "cpu_ms!",
             coalesce(max(max_rss_bytes), 0) as "max_rss_bytes!",
             (select jsonb_object_agg(key, total)::text from sums) as reported
           from runs"#,
        Uuid::from_u128(root.0),
        last.map(|last| column(last.run)),
        last.map(|last| last.cpu_ms),
        last.map(|last| last.max_rss_bytes),
        last.and_then(|last| last.reported.as_deref()),
        MAX_NAMES
    )
    .fetch_one(db)
    .await?)
}

/// The sums of a task within a tree and of what is below it.
///
/// # Errors
/// Any [`StoreError`].
pub async fn subtree_totals(
    db: impl PgExecutor<'_>,
    root: TaskId,
    task: TaskId,
) -> Result<Totals, StoreError> {
    Ok(sqlx::query_as!(
        Totals,
        r#"with recursive below as (
             select $2::uuid as id union all select t.id from below join task t on t.parent_id = below.id),
           runs as materialized (
             select u.task_id, u.cpu_ms, u.max_rss_bytes, u.reported from run_usage u
             where u.root_id = $1 and u.task_id in (select id from below)),
           sums as (
             select r.key, trim_scale(sum(r.value::numeric)) as total
             from runs, jsonb_each_text(runs.reported) r group by r.key order by r.key collate "C" limit $3)
           select count(distinct task_id) as "tasks!", count(*) as "runs!", coalesce(sum(cpu_ms), 0)::bigint as "cpu_ms!",
             coalesce(max(max_rss_bytes), 0) as "max_rss_bytes!",
             (select jsonb_object_agg(key, total)::text from sums) as reported
           from runs"#,
        Uuid::from_u128(root.0),
        Uuid::from_u128(task.0),
        MAX_NAMES
    )
    .fetch_one(db)
    .await?)
}

/// Forgets the runs of tasks that are gone, in those of these trees whose roots are gone as well.
///
/// # Errors
/// Any [`StoreError`].
pub async fn forget_runs(db: &mut PgConnection, roots: &[Uuid]) -> Result<(), StoreError> {
    sqlx::query!(
        "delete from run_usage u where u.root_id = any($1) and not exists (select from task where id = u.root_id)
           and not exists (select from task where id = u.task_id)",
        roots
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Forgets what was reported in a session.
///
/// # Errors
/// Any [`StoreError`].
pub async fn forget_session(db: &mut PgConnection, session: SessionUid) -> Result<(), StoreError> {
    sqlx::query!(
        "delete from session_usage where session_uid = $1",
        session.0
    )
    .execute(db)
    .await?;
    Ok(())
}
