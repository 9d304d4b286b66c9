//! Listings walk along their indexes, however many tasks there are.

use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};
use taskyard_proto::v1::ListTasksRequest;
use taskyard_tests::binaries;
use taskyard_tests::client::pairs;
use taskyard_tests::database::Database;
use taskyard_tests::deployment::Deployment;
use taskyard_tests::wait::{SOON, within};

/// What every statement of a listing begins with.
const MARK: &str = "/* listing */";
const ROWS: i32 = 60_000;
/// Statements: a dozen ways, each in two orders.
const STATEMENTS: usize = 24;
/// More than a page of 50 can need, and far less than the tables have.
const MOST_BUFFERS: i64 = 3_000;

/// Tasks of a hundred sessions with ids that grow with time: families of ten below one root, of which half have ended
/// and some badly; groups, keys and workers among them.
const FILL: &str = r#"
insert into session (namespace_id, id) select 1, 's' || n from generate_series(1, 100) n;
insert into route (queue, kind, executor, worker_labels)
  select 'default', 'kind' || n, 'command', '{}' from generate_series(1, 4) n;
insert into task (id, namespace_id, session_uid, ordinal, route_id, display_name, spec, parent_id, root_id, group_name, key,
    labels, tags, priority, max_runs, initial_backoff_ms, max_backoff_ms, backoff_multiplier, wake_policy, fingerprint,
    created_at)
  select pg_temp.id_of(n), 1, 1 + n / 10 % 100, n + 1, 1 + n % 4, '', '', case when n % 10 > 0 then pg_temp.id_of(n - n % 10) end,
    pg_temp.id_of(n - n % 10), case when n % 3 = 0 then 'g' || n % 7 end, case when n % 5 = 0 then 'k' || n end,
    '{"env": "prod"}', '{a.b}', 0, 1, 1000, 60000, 2, 1, decode(repeat('00', 32), 'hex'), now()
  from generate_series(0, ROWS - 1) n;
insert into worker_session (name, instance_id, state_id, status, attach_no, slots, queues, kinds, executors, labels, version,
    protocol, attached_at, renewed_at)
  select 'w' || n, gen_random_uuid(), gen_random_uuid(), 1, 1, 10, '{default}', '{}', '{command}', '{}', '', 1, now(), now()
  from generate_series(1, 20) n;
insert into task_end (id, state, run, attempt, generation, epoch, item_no, worker_name, started_at, finished_at, updated_at,
    state_detail, summary, error_kind, error_message, error_retryable)
  select pg_temp.id_of(n), case when n % 20 = 0 then 4 else 3 end, 1, 1, 3, 1, 2, 'w' || 1 + n % 20, now(), now(), now(), '',
    '', case when n % 20 = 0 then 'exit' end, case when n % 20 = 0 then '' end, case when n % 20 = 0 then false end
  from generate_series(0, ROWS / 2 - 1) n;
insert into task_live (id, session_uid, route_id, priority, fair_key, lease_ms, updated_at, state, worker_session, attach_no,
    epoch, lease_id, run, attempt, started_at, worker_name)
  select pg_temp.id_of(n), 1 + n / 10 % 100, 1 + n % 4, 0, n, 30000, now(), case when is_held then 1 else 0 end,
    case when is_held then 1 + n % 20 end, case when is_held then 1 end, case when is_held then 1 else 0 end,
    case when is_held then gen_random_uuid() end, case when is_held then 1 else 0 end, case when is_held then 1 else 0 end,
    case when is_held then now() end, case when is_held then 'w' || 1 + n % 20 end
  from (select n, n % 500 = 1 as is_held from generate_series(ROWS / 2, ROWS - 1) n) numbered;
"#;

const ID_OF: &str = r#"
create function pg_temp.id_of(n integer) returns uuid language sql immutable as
$$ select (lpad(to_hex(1790000000000 + n), 12, '0') || '70008000000000000000')::uuid $$;
"#;

#[tokio::test]
async fn no_listing_reads_a_whole_table() {
    let statements = listing_statements();
    assert_eq!(statements.len(), STATEMENTS, "all of them are looked at");
    let database = Database::create().await;
    let mut connection = PgConnection::connect(database.url())
        .await
        .expect("the database answers");
    execute(&mut connection, ID_OF).await;
    execute(&mut connection, &FILL.replace("ROWS", &ROWS.to_string())).await;
    for is_analysed in [false, true] {
        if is_analysed {
            execute(&mut connection, "analyze").await;
        }
        for (statement, is_by_id) in &statements {
            for is_generic in [false, true] {
                let explained = explain(&mut connection, statement, *is_by_id, is_generic).await;
                expect_frugal(statement, explained, (is_analysed, is_generic));
            }
        }
    }
    drop(connection);
    database.remove().await;
}

fn expect_frugal(statement: &str, (plan, buffers): (Value, i64), modes: (bool, bool)) {
    let mut scanned = Vec::new();
    find_scans(&plan, &mut scanned);
    let of_tasks = scanned.iter().any(|table| table.starts_with("task"));
    assert!(
        !of_tasks && buffers <= MOST_BUFFERS,
        "(analysed, generic): {modes:?}: scans of {scanned:?}, {buffers} buffers: {statement}\n{plan:#}"
    );
}

#[tokio::test]
async fn a_long_search_is_answered_in_parts_and_finds_the_last_of_all() {
    let deployment = Deployment::builder().workers(Vec::new()).start().await;
    let mut connection = deployment.database().connect().await;
    execute(&mut connection, ID_OF).await;
    execute(&mut connection, &FILL.replace("ROWS", &ROWS.to_string())).await;
    let mark = r#"update task set labels = '{"only": "one"}' where id = pg_temp.id_of(7)"#;
    execute(&mut connection, mark).await;
    let mut client = deployment.client().await;
    let mut request = ListTasksRequest {
        labels: pairs(&[("only", "one")]),
        ..ListTasksRequest::default()
    };
    let (mut found, mut empty_pages) = (Vec::new(), 0);
    loop {
        let answer = within("a page", SOON, client.tasks.list_tasks(request.clone())).await;
        let page = answer.expect("listed").into_inner();
        empty_pages += usize::from(page.tasks.is_empty());
        found.extend(page.tasks);
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    assert!(empty_pages > 0, "it is too far away for one call");
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].ordinal, 8);
    drop(connection);
    deployment.remove().await;
}

/// The statements as they were compiled into the server, each with whether its place is an id.
fn listing_statements() -> Vec<(String, bool)> {
    let folder = binaries::repository().join(".sqlx");
    let files = std::fs::read_dir(folder).expect("the queries of the server");
    files
        .flatten()
        .filter_map(|file| {
            let text = std::fs::read_to_string(file.path()).ok()?;
            let query: Value = serde_json::from_str(&text).ok()?;
            let statement = query["query"].as_str()?.to_owned();
            let place = &query["describe"]["parameters"]["Left"][14];
            statement
                .starts_with(MARK)
                .then(|| (statement, place == "Uuid"))
        })
        .collect()
}

async fn explain(
    connection: &mut PgConnection,
    statement: &str,
    is_by_id: bool,
    is_generic: bool,
) -> (Value, i64) {
    let mode = if is_generic {
        "force_generic_plan"
    } else {
        "force_custom_plan"
    };
    let place_type = if is_by_id { "uuid" } else { "bigint" };
    // In the middle, so that neither end is near.
    let place = if is_by_id {
        "pg_temp.id_of(31000)"
    } else {
        "31000"
    };
    let prepare = format!(
        "set plan_cache_mode = {mode}; deallocate all;
         prepare listing (int, bigint, smallint[], text[], text[], text[], uuid, uuid, text, text, text, text, timestamptz,
           timestamptz, {place_type}, bigint) as {statement}"
    );
    execute(connection, &prepare).await;
    let explain = format!(
        "explain (analyze, buffers, format json) execute listing (1, 5, '{{0,1,2,3}}', '{{kind1,kind2}}', '{{a.b}}', '{{a.}}',
           pg_temp.id_of(31040), pg_temp.id_of(31040), 'g3', '{{\"env\":\"prod\"}}', 'w3', 'k31040', '2000-01-01', '2100-01-01',
           {place}, 51)"
    );
    let row = sqlx::raw_sql(AssertSqlSafe(explain))
        .fetch_one(&mut *connection)
        .await
        .unwrap_or_else(|error| panic!("{statement}: {error}"));
    let plan: Value = row.get(0);
    let top = plan[0]["Plan"].clone();
    let buffers = ["Shared Hit Blocks", "Shared Read Blocks"]
        .iter()
        .map(|name| top[*name].as_i64().unwrap_or(0))
        .sum();
    (top, buffers)
}

/// Tables that the plan reads from one end to the other.
fn find_scans(plan: &Value, found: &mut Vec<String>) {
    if plan["Node Type"] == "Seq Scan" {
        found.extend(plan["Relation Name"].as_str().map(str::to_owned));
    }
    for inner in plan["Plans"].as_array().into_iter().flatten() {
        find_scans(inner, found);
    }
}

async fn execute(database: &mut PgConnection, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(database)
        .await
        .unwrap_or_else(|error| panic!("{sql}: {error}"));
}
