//! What the work itself said of a run before its end: its result, and what it used.

use super::{StoreError, records::decode, task_row::column};
use sqlx::{PgConnection, PgExecutor};
use taskyard_core::id::TaskId;
use taskyard_proto::v1::TaskSpec;
use uuid::Uuid;

/// Something that the work said of its run; none: it said nothing of this.
#[derive(Clone, Debug, Default)]
pub struct RunReport {
    /// The structured result, as JSON. Replaces what was said before.
    pub output_json: Option<String>,
    /// What was used, as a JSON object. Its members replace those said before.
    pub usage_json: Option<String>,
}

/// What a run's end is judged by beside the worker's facts.
#[derive(Clone, Debug, Default)]
pub struct Expectations {
    /// The schema of the structured result; empty: none.
    pub result_schema: String,
    /// What the work said.
    pub report: RunReport,
}

/// Notes what the work said of a run.
///
/// # Errors
/// Any [`StoreError`].
pub async fn write_report(
    db: &mut PgConnection,
    task: TaskId,
    run: u32,
    report: &RunReport,
) -> Result<(), StoreError> {
    sqlx::query!(
        r#"insert into run_report as r (task_id, run, output_json, usage_json) values ($1, $2, $3, $4)
           on conflict (task_id, run) do update set
             output_json = coalesce(excluded.output_json, r.output_json),
             usage_json = case when excluded.usage_json is null then r.usage_json
               else (coalesce(r.usage_json, '{}')::jsonb || excluded.usage_json::jsonb)::text end"#,
        Uuid::from_u128(task.0),
        column(run),
        report.output_json,
        report.usage_json
    )
    .execute(db)
    .await?;
    Ok(())
}

/// What the work said of a run so far.
///
/// # Errors
/// Any [`StoreError`].
pub async fn read_report(
    db: impl PgExecutor<'_>,
    task: TaskId,
    run: u32,
) -> Result<RunReport, StoreError> {
    let row = sqlx::query_as!(
        RunReport,
        "select output_json, usage_json from run_report where task_id = $1 and run = $2",
        Uuid::from_u128(task.0),
        column(run)
    )
    .fetch_optional(db)
    .await?;
    Ok(row.unwrap_or_default())
}

/// What the work of these runs said that it used, of those where it said anything.
///
/// # Errors
/// Any [`StoreError`].
pub async fn read_usages(
    db: impl PgExecutor<'_>,
    runs: &[(TaskId, u32)],
) -> Result<Vec<(TaskId, u32, String)>, StoreError> {
    let rows = sqlx::query!(
        r#"select r.task_id, r.run, r.usage_json as "usage_json!"
           from unnest($1::uuid[], $2::int[]) w(task_id, run)
           join run_report r on r.task_id = w.task_id and r.run = w.run where r.usage_json is not null"#,
        &runs.iter().map(|(task, _)| Uuid::from_u128(task.0)).collect::<Vec<_>>(),
        &runs.iter().map(|(_, run)| column(*run)).collect::<Vec<_>>()
    )
    .fetch_all(db)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            (
                TaskId(row.task_id.as_u128()),
                row.run.unsigned_abs(),
                row.usage_json,
            )
        })
        .collect())
}

/// What these tasks' present runs will be judged by, for those where there is anything, each with its run.
///
/// # Errors
/// Any [`StoreError`].
pub async fn read_expectations(
    db: impl PgExecutor<'_>,
    tasks: &[TaskId],
) -> Result<Vec<(TaskId, Expectations)>, StoreError> {
    let rows = sqlx::query!(
        r#"select l.id, r.output_json as "output_json?", r.usage_json as "usage_json?",
             case when t.has_result_schema then t.spec end as spec
           from task_live l join task t on t.id = l.id left join run_report r on r.task_id = l.id and r.run = l.run
           where l.id = any($1) and (t.has_result_schema or r.task_id is not null)"#,
        &tasks.iter().map(|task| Uuid::from_u128(task.0)).collect::<Vec<_>>()
    )
    .fetch_all(db)
    .await?;
    rows.into_iter()
        .map(|row| {
            let spec: Option<TaskSpec> = decode("spec", row.spec.as_deref())?;
            let expectations = Expectations {
                result_schema: spec.unwrap_or_default().result_schema_json,
                report: RunReport {
                    output_json: row.output_json,
                    usage_json: row.usage_json,
                },
            };
            Ok((TaskId(row.id.as_u128()), expectations))
        })
        .collect()
}
