//! What metrics must not leave out: many tenants, calls that nobody waited for, heartbeats without an answer, lost entries.
//! And what logs must: fields without a value.

use std::time::Duration;

use rustix::process::Signal;
use taskyard_proto::v1::{BatchCreateTasksRequest, CreateTaskRequest, TaskDefinition};
use taskyard_tests::admin_page::AdminPage;
use taskyard_tests::client::{command, milliseconds, new_session, shell};
use taskyard_tests::deployment::{Deployment, WorkerPlan};
use taskyard_tests::wait::{SOON, eventually, until};
use tokio::time::timeout;
use tonic::Request;

const ADMIN: (&str, &str) = ("TASKYARD_ADMIN_LISTEN", "127.0.0.1:0");
const PATIENCE: Duration = Duration::from_secs(120);

/// A server without workers, and its page.
async fn lonely() -> (Deployment, AdminPage) {
    let builder = Deployment::builder().server_env(&[ADMIN]);
    let deployment = builder.workers(Vec::new()).start().await;
    let page = deployment.with_server(0, AdminPage::of);
    (deployment, page)
}

fn calls(code: &str) -> String {
    let method = "taskyard.v1.SessionTaskService/CreateTask";
    format!(
        r#"rpc_server_call_duration_seconds_count{{rpc_method="{method}",rpc_response_status_code="{code}",rpc_system_name="grpc"}}"#
    )
}

#[tokio::test]
async fn of_many_tenants_none_is_lost() {
    const NAMESPACES: usize = 30;
    const QUEUES: usize = 40;
    let (deployment, page) = lonely().await;
    let client = deployment.client().await;
    for namespace in 0..NAMESPACES {
        let task = |queue| TaskDefinition {
            queue: format!("q-{queue}"),
            ..command(&["true"])
        };
        let batch = BatchCreateTasksRequest {
            namespace: format!("n-{namespace}"),
            session_id: "s".to_owned(),
            tasks: (0..QUEUES).map(task).collect(),
            atomic: true,
            ..BatchCreateTasksRequest::default()
        };
        let created = client.tasks.clone().batch_create_tasks(batch).await;
        created.expect("all are created");
    }
    let counted = eventually("all to be counted", PATIENCE, async || {
        let samples = page.samples().await.into_iter();
        let counted: Vec<(String, f64)> = samples
            .filter(|(name, _)| name.starts_with("taskyard_queue_tasks{"))
            .collect();
        let sum: f64 = counted.iter().map(|(_, count)| count).sum();
        (sum.round() == 1_200.0).then_some(counted)
    })
    .await;
    let is_joined = |name: &str| name.contains(r#"queue="other""#);
    let joined: Vec<_> = counted.iter().filter(|(name, _)| is_joined(name)).collect();
    assert_eq!(counted.len(), 1_001);
    assert_eq!(joined.len(), 1, "{joined:?}");
    assert!(
        joined[0].0.contains(r#"taskyard_namespace="other""#),
        "{joined:?}"
    );
    let overflows = |name: &String| name.contains("otel_metric_overflow");
    assert!(!page.samples().await.keys().any(overflows));
    deployment.remove().await;
}

#[tokio::test]
async fn a_call_whose_caller_is_gone_is_counted_and_a_wait_is_not() {
    let (deployment, page) = lonely().await;
    let mut client = deployment.client().await;
    let session = new_session("impatient");
    client.create(&session, command(&["true"])).await;

    // the database holds up whoever creates
    let mut database = deployment.database().connect().await;
    for statement in ["begin", "lock table task_live in access exclusive mode"] {
        sqlx::query(statement)
            .execute(&mut database)
            .await
            .expect("is locked");
    }
    let request = || CreateTaskRequest {
        session_id: session.clone(),
        task: Some(command(&["true"])),
        ..CreateTaskRequest::default()
    };
    let mut timed = Request::new(request());
    timed.set_timeout(Duration::from_millis(500));
    client
        .tasks
        .create_task(timed)
        .await
        .expect_err("its time is up");
    until("the call to be counted as late", SOON, async || {
        page.samples().await.get(&calls("DEADLINE_EXCEEDED")) == Some(&1.0)
    })
    .await;
    let given_up = timeout(Duration::from_secs(2), client.tasks.create_task(request()));
    given_up.await.expect_err("nobody answers");
    until("the call to be counted as given up", SOON, async || {
        page.samples().await.get(&calls("CANCELLED")) == Some(&1.0)
    })
    .await;
    sqlx::query("rollback")
        .execute(&mut database)
        .await
        .expect("is unlocked");

    // no worker is there, so both wait in vain, one up to its end
    let waiting = |wait| CreateTaskRequest {
        wait: Some(milliseconds(wait)),
        ..request()
    };
    let mut timed = Request::new(waiting(10_000));
    timed.set_timeout(Duration::from_millis(500));
    client
        .tasks
        .create_task(timed)
        .await
        .expect_err("its time is up");
    client
        .tasks
        .create_task(waiting(100))
        .await
        .expect("is created");
    // one more that does not wait is the second that is well
    client.create(&session, command(&["true"])).await;
    until("what did not wait to be counted", SOON, async || {
        page.samples().await.get(&calls("OK")) == Some(&2.0)
    })
    .await;
    let samples = page.samples().await;
    assert_eq!(samples.get(&calls("DEADLINE_EXCEEDED")), Some(&1.0));
    deployment.remove().await;
}

#[tokio::test]
async fn heartbeats_that_get_no_answer_are_late() {
    let worker = WorkerPlan::new("w1").env(ADMIN.0, ADMIN.1);
    let builder = Deployment::builder().lease(Duration::from_secs(12));
    let deployment = builder.workers(vec![worker]).start().await;
    let page = deployment.with_worker(0, AdminPage::of);
    let late = r#"taskyard_worker_heartbeats_total{event="late"}"#;
    let sample = async || *page.samples().await.get(late).expect("begins at 0");
    let before = sample().await;
    // one beat a second, and nobody who answers
    deployment.with_server(0, |server| server.signal(Signal::STOP));
    until("several late heartbeats", SOON, async || {
        sample().await >= before + 3.0
    })
    .await;
    deployment.with_server(0, |server| server.signal(Signal::CONT));
    deployment.remove().await;
}

#[tokio::test]
async fn an_entry_of_the_audit_log_that_is_lost_is_counted() {
    let (deployment, page) = lonely().await;
    let mut database = deployment.database().connect().await;
    let refuse =
        "alter table audit_event add constraint refused check (session_id <> 'refused') not valid";
    sqlx::query(refuse)
        .execute(&mut database)
        .await
        .expect("is altered");
    let mut client = deployment.client().await;
    client.create("kept", command(&["true"])).await;
    client.create("refused", command(&["true"])).await;
    until("the loss to be counted", SOON, async || {
        let samples = page.samples().await;
        samples.get("taskyard_audit_entries_lost_total") == Some(&1.0)
    })
    .await;
    deployment.remove().await;
}

#[tokio::test]
async fn without_a_trace_a_log_has_no_field_for_it() {
    let worker = WorkerPlan::new("w1").env("TASKYARD_LOG_FORMAT", "json");
    let deployment = Deployment::builder().workers(vec![worker]).start().await;
    let mut client = deployment.client().await;
    client.run(&new_session("untraced"), shell("true")).await;
    let line = eventually("the end of the attempt in the log", SOON, async || {
        let log = deployment.with_worker(0, |worker| worker.log());
        let mut lines = log.lines();
        let line = lines.find(|line| line.contains("the attempt is finished"));
        line.map(str::to_owned)
    })
    .await;
    let line: serde_json::Value = serde_json::from_str(&line).expect("one JSON object");
    let span = line["span"].as_object().expect("the attempt's span");
    assert!(span.contains_key("session.id"), "{line}");
    assert!(!span.contains_key("trace.id"), "{line}");
    deployment.remove().await;
}
