//! The claim finds its tasks by its index, however long the queue and the history are.

use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};
use taskyard_tests::database::Database;

/// The very statement that the server runs.
const CLAIM: &str = include_str!("../../../server/src/store/sql/claim.sql");
const ROWS: i32 = 100_000;
const SLOTS: usize = 10;
const ROUTES: i32 = 4;

/// A long queue of four routes, and as many tasks that have ended, as the server would leave them.
const FILL: &str = r#"
insert into session (namespace_id, id) select 1, 's' || n from generate_series(1, 100) n;
insert into route (queue, kind, executor, worker_labels)
  select 'default', 'kind' || n, 'command', '{}' from generate_series(1, ROUTES) n;
insert into task (id, namespace_id, session_uid, ordinal, route_id, display_name, spec, root_id, labels, tags, priority,
    max_runs, initial_backoff_ms, max_backoff_ms, backoff_multiplier, wake_policy, fingerprint, created_at)
  select md5('task' || n)::uuid, 1, 1 + n % 100, n, 1 + n % ROUTES, '', '', md5('task' || n)::uuid, '{}', '{}', 0,
    1, 1000, 60000, 2, 1, decode(repeat('00', 32), 'hex'), now()
  from generate_series(1, 2 * ROWS) n;
insert into task_live (id, session_uid, route_id, priority, fair_key, lease_ms, updated_at)
  select md5('task' || n)::uuid, 1 + n % 100, 1 + n % ROUTES, n % 3, n / 100.0, 30000, now() from generate_series(1, ROWS) n;
insert into task_end (id, state, run, attempt, generation, epoch, item_no, started_at, finished_at, updated_at,
    state_detail, summary)
  select md5('task' || n)::uuid, 3, 1, 1, 3, 1, 2, now(), now(), now(), '', '' from generate_series(ROWS + 1, 2 * ROWS) n;
insert into worker_session (name, instance_id, state_id, status, attach_no, slots, queues, kinds, executors, labels, version,
    protocol, attached_at, renewed_at)
  select 'w' || n, gen_random_uuid(), gen_random_uuid(), 1, 1, 10, '{default}', '{}', '{command}', '{}', '', 1, now(), now()
  from generate_series(1, 20) n;
update task_live set state = 1, worker_session = 1 + run_no % 10, attach_no = 1, epoch = 1, lease_id = gen_random_uuid(),
    run = 1, attempt = 1, started_at = now()
  from (select md5('task' || n)::uuid as run_id, n as run_no from generate_series(1, 100) n) running where id = run_id;
"#;

/// What else runs all the time and must not read the whole queue: what it is, its parameters' types and values.
const OTHERS: [(&str, &str, &str, &str); 5] = [
    (
        "stale offers",
        include_str!("../../../server/src/store/sql/stale_offers.sql"),
        "float8, bigint",
        "5, 500",
    ),
    (
        "counting the queues",
        include_str!("../../../server/src/store/sql/count_queues.sql"),
        "bigint",
        "50",
    ),
    (
        "expired leases",
        include_str!("../../../server/src/store/sql/expired_leases.sql"),
        "timestamptz, uuid, bigint",
        "'2000-01-01', '00000000-0000-0000-0000-000000000000', 200",
    ),
    (
        "giving up workers",
        include_str!("../../../server/src/store/sql/give_up_workers.sql"),
        "timestamptz, float8",
        "'2000-01-01', 60",
    ),
    (
        "the leases of workers",
        include_str!("../../../server/src/store/sql/worker_leases.sql"),
        "bigint[]",
        "array[1, 2]",
    ),
];

async fn execute(database: &mut PgConnection, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(database)
        .await
        .unwrap_or_else(|error| panic!("{sql}: {error}"));
}

/// Runs a statement under EXPLAIN and takes its changes back; answers with the plan and its buffers.
async fn explain(database: &mut PgConnection, sql: &str) -> (String, i64) {
    execute(database, "begin").await;
    let explained = format!("explain (analyze, buffers, format json) {sql}");
    let row = sqlx::raw_sql(AssertSqlSafe(explained))
        .fetch_one(&mut *database)
        .await
        .unwrap_or_else(|error| panic!("{sql}: {error}"));
    execute(database, "rollback").await;
    let plan: serde_json::Value = row.get(0);
    let top = &plan[0]["Plan"];
    let buffers = ["Shared Hit Blocks", "Shared Read Blocks"]
        .iter()
        .map(|name| top[*name].as_i64().unwrap_or(0))
        .sum();
    (plan.to_string(), buffers)
}

/// A statement with its parameters filled in, planned for these values or once for all.
async fn explain_prepared(
    database: &mut PgConnection,
    (statement, types, values): (&str, &str, &str),
    is_generic: bool,
) -> (String, i64) {
    let mode = if is_generic {
        "force_generic_plan"
    } else {
        "force_custom_plan"
    };
    execute(
        database,
        &format!("set plan_cache_mode = {mode}; deallocate all"),
    )
    .await;
    execute(
        database,
        &format!("prepare prepared ({types}) as {statement}"),
    )
    .await;
    explain(database, &format!("execute prepared ({values})")).await
}

fn expect_frugal(what: &str, plan: &str, buffers: i64, most: i64) {
    eprintln!("{what}: {buffers} buffers");
    let scans_all = plan.contains("\"Seq Scan\"")
        && plan.split("\"Seq Scan\"").skip(1).any(|rest| {
            let node: String = rest.chars().take(300).collect();
            node.contains("\"Relation Name\":\"task_live\"")
        });
    assert!(!scans_all, "{what} reads all of task_live: {plan}");
    assert!(buffers <= most, "{what} takes {buffers} buffers: {plan}");
}

#[tokio::test]
async fn the_claim_is_held_to_its_index() {
    let database = Database::create().await;
    let mut connection = PgConnection::connect(database.url())
        .await
        .expect("the database answers");
    // Statistics are gathered when this test says so.
    execute(
        &mut connection,
        "alter table task_live set (autovacuum_enabled = off)",
    )
    .await;
    execute(
        &mut connection,
        &FILL
            .replace("ROUTES", &ROUTES.to_string())
            .replace("ROWS", &ROWS.to_string()),
    )
    .await;
    let routes: Vec<String> = (1..=ROUTES).map(|route| route.to_string()).collect();
    let ones = ["1"; SLOTS].join(",");
    let claimed = format!(
        "array[{}], array[{ones}], array[{ones}], {SLOTS}",
        routes.join(",")
    );
    for is_analysed in [false, true] {
        if is_analysed {
            execute(&mut connection, "analyze").await;
        }
        for is_generic in [false, true] {
            let what = format!("the claim (analysed: {is_analysed}, generic plan: {is_generic})");
            let claim = (CLAIM, "int[], bigint[], bigint[], bigint", claimed.as_str());
            let (plan, buffers) = explain_prepared(&mut connection, claim, is_generic).await;
            assert!(
                plan.contains("task_live_claim"),
                "{what} does not use its index: {plan}"
            );
            expect_frugal(&what, &plan, buffers, 1_500);
            for (other, statement, types, values) in OTHERS {
                let what = format!("{other} (analysed: {is_analysed}, generic plan: {is_generic})");
                let (plan, buffers) =
                    explain_prepared(&mut connection, (statement, types, values), is_generic).await;
                expect_frugal(&what, &plan, buffers, 1_000);
            }
        }
    }
    drop(connection);
    database.remove().await;
}
