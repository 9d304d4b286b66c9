//! What runs have used, added up: by session and by tree, each run once.

use serde_json::{Value, json};
use sqlx::Row;
use taskyard_proto::v1::report_item::Report;
use taskyard_proto::v1::session_task_service_client::SessionTaskServiceClient;
use taskyard_proto::v1::{
    Exit, FinishReport, GetUsageRequest, GetUsageResponse, ReportUsageRequest, RetentionLimits,
    RunRetentionRequest, SetRetentionRequest, StreamReport, TaskDefinition, TaskState, Usage,
};
use taskyard_tests::client::{Client, command, new_session};
use taskyard_tests::deployment::Deployment;
use taskyard_tests::inside::{agent, retried};
use taskyard_tests::played::Played;
use taskyard_tests::refusal::{expect_bad_field, expect_refused};
use tonic::{Code, Status};

const MIB: i64 = 1 << 20;

fn finished(code: i32, cpu_ms: i64, max_rss_bytes: i64, reported: Value) -> Report {
    Report::Finish(FinishReport {
        exit: Some(Exit {
            exit_code: Some(code),
            ..Exit::default()
        }),
        stdout: Some(StreamReport::default()),
        stderr: Some(StreamReport::default()),
        usage: Some(Usage {
            cpu_ms,
            max_rss_bytes,
            reported_json: reported.to_string(),
        }),
        ..FinishReport::default()
    })
}

async fn try_usage(
    client: &mut Client,
    session: &str,
    task: &str,
) -> Result<GetUsageResponse, Status> {
    let request = GetUsageRequest {
        session_id: session.to_owned(),
        task: task.to_owned(),
        ..GetUsageRequest::default()
    };
    Ok(client.tasks.get_usage(request).await?.into_inner())
}

/// Tasks, runs, processor time, memory, and what was reported.
type Sums = (i64, i64, i64, i64, Value);

fn sums(answer: GetUsageResponse) -> Sums {
    let totals = answer.totals.expect("there are sums");
    let reported = match totals.reported_json.as_str() {
        "" => Value::Null,
        json => serde_json::from_str(json).expect("it is JSON"),
    };
    (
        totals.tasks,
        totals.runs,
        totals.cpu_ms,
        totals.max_rss_bytes,
        reported,
    )
}

async fn usage(client: &mut Client, session: &str, task: &str) -> Sums {
    let answer = try_usage(client, session, task).await;
    sums(answer.unwrap_or_else(|status| panic!("no usage of {session} {task:?}: {status:?}")))
}

#[tokio::test]
async fn retried_and_lost_runs_count_once_each() {
    let mut client = Deployment::by_hand().await.client().await;
    let session = new_session("usage");
    let task = retried(command(&["work"]), 3);
    let mut played = Played::start(&client, &session, task).await;
    let id = played.id().to_owned();
    let nothing = (0, 0, 0, 0, Value::Null);
    assert_eq!(usage(&mut client, &session, "").await, nothing);
    assert_eq!(usage(&mut client, "", &id).await, nothing, "it still runs");

    // What the work itself had said is known of a lost run, too.
    let said = json!({"tokens": 5, "cost": 0.1, "model": "large"}).to_string();
    let request = played
        .inside
        .request(ReportUsageRequest { usage_json: said });
    let reported = played.inside.agent.clone().report_usage(request).await;
    reported.expect("it is noted");
    played.lose_worker(&client).await;
    let lost = (1, 1, 0, 0, json!({"tokens": 5, "cost": 0.1}));
    client
        .reached(&id, |task| {
            task.state() == TaskState::Queued || task.run == 2
        })
        .await;
    assert_eq!(usage(&mut client, &session, "").await, lost);
    assert_eq!(usage(&mut client, "", &id).await, lost);

    played.start_again(&client).await;
    let used = json!({"tokens": 7, "cost": 0.2});
    played.finish_as(finished(1, 1_000, 50 * MIB, used)).await;
    played.start_again(&client).await;
    let twice = (1, 2, 1_000, 50 * MIB, json!({"tokens": 12, "cost": 0.3}));
    assert_eq!(usage(&mut client, &session, "").await, twice);
    played
        .finish_as(finished(0, 500, 20 * MIB, json!({"tokens": 1})))
        .await;
    assert_eq!(client.ended(&id).await.state(), TaskState::Succeeded);
    let all = (1, 3, 1_500, 50 * MIB, json!({"tokens": 13, "cost": 0.3}));
    assert_eq!(usage(&mut client, &session, "").await, all);
    assert_eq!(usage(&mut client, &session, "t1").await, all);
    let own = client.get(&id).await.usage.expect("of the last run");
    assert_eq!((own.cpu_ms, own.max_rss_bytes), (500, 20 * MIB));
}

async fn below(client: &Client, session: &str, parent: &str) -> Played {
    let task = TaskDefinition {
        parent_task_id: parent.to_owned(),
        ..command(&["work"])
    };
    Played::start(client, session, task).await
}

async fn forget_ended(client: &mut Client, session: &str) {
    let limits = RetentionLimits {
        max_ended_tasks: Some(0),
        ..RetentionLimits::default()
    };
    let request = SetRetentionRequest {
        session_id: session.to_owned(),
        limits: Some(limits),
        ..SetRetentionRequest::default()
    };
    let set = client.admin.set_retention(request).await;
    set.expect("it is set");
    let request = RunRetentionRequest {
        session_id: session.to_owned(),
        ..RunRetentionRequest::default()
    };
    let run = client.admin.run_retention(request).await;
    run.expect("a pass runs");
}

#[tokio::test]
async fn a_tree_is_summed_below_each_of_its_tasks_and_outlives_deleted_ones() {
    let deployment = Deployment::by_hand().await;
    let mut client = deployment.client().await;
    let session = new_session("tree");
    let mut root = Played::start(&client, &session, command(&["work"])).await;
    let mut child = below(&client, &session, root.id()).await;
    let mut grandchild = below(&client, &session, child.id()).await;
    let mut other = Played::start(&client, &session, command(&["work"])).await;
    let [root_id, child_id, grandchild_id] =
        [&root, &child, &grandchild].map(|played| played.id().to_owned());
    let used = |tokens: i64| json!({ "tokens": tokens });
    grandchild.finish_as(finished(0, 1, 3 * MIB, used(1))).await;
    child.finish_as(finished(0, 10, 2 * MIB, used(10))).await;
    other.finish_as(finished(0, 1_000, MIB, used(1_000))).await;
    client.ended(other.id()).await;
    assert_eq!(
        usage(&mut client, "", &grandchild_id).await,
        (1, 1, 1, 3 * MIB, used(1))
    );
    let below_root = (2, 2, 11, 3 * MIB, used(11));
    assert_eq!(usage(&mut client, "", &child_id).await, below_root);
    assert_eq!(
        usage(&mut client, "", &root_id).await,
        below_root,
        "it still runs"
    );

    // From inside the task's own tree is meant, and nothing else can be.
    let mut inside = SessionTaskServiceClient::new(client.channel.clone());
    let own = root.inside.request(GetUsageRequest::default());
    let own = inside.get_usage(own).await.expect("its own").into_inner();
    assert_eq!(own.task_id, root_id);
    assert_eq!(sums(own), below_root);
    let foreign = root.inside.request(GetUsageRequest {
        task: other.id().to_owned(),
        ..GetUsageRequest::default()
    });
    let answer = inside.get_usage(foreign).await;
    expect_refused("another's", answer, Code::NotFound, "TASK_NOT_FOUND");

    forget_ended(&mut client, &session).await;
    let gone = try_usage(&mut client, "", &child_id).await;
    expect_refused("a deleted task", gone, Code::NotFound, "TASK_NOT_FOUND");
    assert_eq!(usage(&mut client, "", &root_id).await, below_root);
    root.finish_as(finished(0, 100, MIB, used(100))).await;
    let in_session = (4, 4, 1_111, 3 * MIB, used(1_111));
    assert_eq!(usage(&mut client, &session, "").await, in_session);

    forget_ended(&mut client, &session).await;
    let gone = try_usage(&mut client, "", &root_id).await;
    expect_refused("a deleted root", gone, Code::NotFound, "TASK_NOT_FOUND");
    assert_eq!(usage(&mut client, &session, "").await, in_session);
    let mut database = deployment.database().connect().await;
    let uuid = root_id.trim_start_matches("task_");
    let sql = format!("select count(*) from run_usage where root_id = '{uuid}'");
    let row = sqlx::query(sqlx::AssertSqlSafe(sql))
        .fetch_one(&mut database)
        .await;
    assert_eq!(row.expect("the table is there").get::<i64, _>(0), 0);

    let missing = try_usage(&mut client, &new_session("none"), "").await;
    expect_refused("no session", missing, Code::NotFound, "SESSION_NOT_FOUND");
    expect_bad_field(try_usage(&mut client, "", "").await, "session_id");
}

#[tokio::test]
async fn a_person_and_the_work_itself_see_the_sums() {
    let deployment = Deployment::shared().await;
    let mut client = deployment.client().await;
    let session = new_session("sums");
    let script = "self spawn --wait -- bash -c 'i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done' >/dev/null\n\
                  self usage tokens=3 cost=0.5\n\
                  self usage -o json\n";
    let task = client.run(&session, agent(script)).await;
    assert_eq!(task.state(), TaskState::Succeeded, "{task:?}");
    let cli = deployment.command_line().env("TASKYARD_SESSION", &session);
    let inside = cli
        .run(&["logs", "t1", "--stream", "stdout"])
        .await
        .expect_code(0)
        .json();
    assert_eq!(
        (&inside["runs"], &inside["task_id"]),
        (&1.into(), &task.id.as_str().into())
    );
    let whole = cli
        .run(&["usage", "-o", "json"])
        .await
        .expect_code(0)
        .json();
    assert_eq!(
        (&whole["tasks"], &whole["runs"], &whole["reported"]),
        (&2.into(), &2.into(), &json!({"tokens": 3, "cost": 0.5})),
        "{whole}"
    );
    assert!(
        whole["cpu_ms"].as_i64() > Some(0) && whole["max_rss_bytes"].as_i64() > Some(MIB),
        "{whole}"
    );
    let tree = cli
        .run(&["usage", "t1", "-o", "json"])
        .await
        .expect_code(0)
        .json();
    assert_eq!(tree["runs"], 2);
    let shown = cli.run(&["usage", "t2"]).await.expect_code(0).text();
    assert!(
        shown.starts_with("tasks        1\nruns         1\n"),
        "{shown}"
    );
    cli.run(&["usage", "t9"]).await.expect_code(1);
}
