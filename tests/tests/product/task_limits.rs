//! How many tasks there may be that have not ended, and how many sessions.

use futures::future::join_all;
use taskyard_proto::v1::{
    BatchCreateTasksRequest, CancelTaskRequest, CreateTaskRequest, TaskDefinition,
};
use taskyard_tests::client::{Client, command, new_session, shell};
use taskyard_tests::deployment::Deployment;
use taskyard_tests::monitor::{QUICK, every, monitor};
use taskyard_tests::refusal::{expect_refused, reason_of};
use taskyard_tests::wait::{SOON, eventually};
use tonic::{Code, Status};
use tonic_types::StatusExt;

const REASON: &str = "TOO_MANY_LIVE_TASKS";

fn held() -> TaskDefinition {
    TaskDefinition {
        hold: true,
        ..command(&["true"])
    }
}

async fn cancel(client: &mut Client, id: &str) {
    let request = CancelTaskRequest {
        task: id.to_owned(),
        ..CancelTaskRequest::default()
    };
    client.tasks.cancel_task(request).await.expect("canceled");
}

/// Refused for live tasks of the scope, with a time to come back.
#[track_caller]
fn expect_full<T>(answer: Result<T, Status>, scope: &str) {
    let refused = expect_refused("a task", answer, Code::ResourceExhausted, REASON);
    let details = refused.get_error_details();
    assert!(details.retry_info().is_some(), "{details:?}");
    let facts = details.error_info().map(|info| info.metadata.clone());
    let facts = facts.unwrap_or_default();
    assert_eq!(facts.get("scope").map(String::as_str), Some(scope));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn creates_that_meet_at_two_servers_fill_a_session_exactly() {
    let deployment = Deployment::builder()
        .server_flags(&["--max-session-tasks=5"])
        .servers(2)
        .workers(Vec::new())
        .start()
        .await;
    let session = new_session("full");
    let mut clients = Vec::new();
    for server in 0..2 {
        clients.push(Client::connect(&deployment.endpoint_of(server)).await);
    }
    let creates = (0..40).map(|number: usize| {
        let mut client = clients[number % 2].clone();
        let session = session.clone();
        async move { client.try_create(&session, held()).await }
    });
    let (mut created, mut refused) = (Vec::new(), 0);
    for answer in join_all(creates).await {
        match answer {
            Ok(task) => created.push(task.id),
            Err(status) => {
                assert_eq!(reason_of(&status), REASON, "{status:?}");
                refused += 1;
            }
        }
    }
    assert_eq!((created.len(), refused), (5, 35));
    let client = &mut clients[0];
    expect_full(client.try_create(&session, held()).await, "session");
    client.create(&new_session("other"), held()).await;
    cancel(client, &created[0]).await;
    client.create(&session, held()).await;
    deployment.remove().await;
}

#[tokio::test]
async fn a_full_session_answers_repeats_and_takes_batches_as_far_as_they_go() {
    let deployment = Deployment::builder()
        .server_flags(&["--max-session-tasks=3"])
        .workers(Vec::new())
        .start()
        .await;
    let mut client = deployment.client().await;
    let session = new_session("batches");
    let named = CreateTaskRequest {
        session_id: session.clone(),
        task: Some(held()),
        request_id: "once".to_owned(),
        ..CreateTaskRequest::default()
    };
    let first = client.tasks.create_task(named.clone()).await;
    let first = first.expect("created").into_inner();
    client.create(&session, held()).await;
    let batch = |atomic| BatchCreateTasksRequest {
        session_id: session.clone(),
        tasks: vec![held(); 2],
        atomic,
        ..BatchCreateTasksRequest::default()
    };
    let whole = client.tasks.batch_create_tasks(batch(true)).await;
    expect_full(whole, "session");
    // Nothing of the whole batch was left behind, so one of these has room.
    let each = client.tasks.batch_create_tasks(batch(false)).await;
    let results = each.expect("item by item").into_inner().results;
    let reasons: Vec<String> = results
        .into_iter()
        .map(|item| item.error.unwrap_or_default().reason)
        .collect();
    assert_eq!(reasons, ["", REASON]);
    let repeated = client.tasks.create_task(named).await;
    let repeated = repeated.expect("it is there already").into_inner();
    assert!(!repeated.created);
    assert_eq!(
        repeated.task.unwrap_or_default().id,
        first.task.unwrap_or_default().id
    );
    deployment.remove().await;
}

#[tokio::test]
async fn a_namespace_has_so_many_live_tasks_and_sessions() {
    let deployment = Deployment::builder()
        .server_flags(&["--max-namespace-tasks=3", "--max-namespace-sessions=2"])
        .workers(Vec::new())
        .start()
        .await;
    let mut client = deployment.client().await;
    let sessions = [new_session("one"), new_session("two")];
    let first = client.create(&sessions[0], held()).await;
    client.create(&sessions[1], held()).await;
    let third = client.try_create(&new_session("three"), held()).await;
    expect_refused(
        "a third session",
        third,
        Code::ResourceExhausted,
        "TOO_MANY_SESSIONS",
    );
    client.create(&sessions[1], held()).await;
    expect_full(client.try_create(&sessions[0], held()).await, "namespace");
    let elsewhere = CreateTaskRequest {
        namespace: "elsewhere".to_owned(),
        session_id: new_session("one"),
        task: Some(held()),
        ..CreateTaskRequest::default()
    };
    let created = client.tasks.create_task(elsewhere).await;
    created.expect("another namespace");
    cancel(&mut client, &first.id).await;
    // The count may be a second old.
    eventually("room in the namespace", SOON, async || {
        client.try_create(&sessions[0], held()).await.ok()
    })
    .await;
    deployment.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_monitor_in_a_full_session_counts_what_it_left_out_and_goes_on() {
    let deployment = Deployment::builder()
        .server_flags(&[QUICK, "--max-session-tasks=2"])
        .start()
        .await;
    let mut client = deployment.client().await;
    let session = new_session("monitor");
    let blocking = client.create(&session, held()).await;
    client
        .create(&session, monitor(shell("true"), every(100)))
        .await;
    let stuck = client
        .monitor_reached(&session, |monitor| monitor.skipped >= 2)
        .await;
    assert_eq!(stuck.firings, 0, "{stuck:?}");
    cancel(&mut client, &blocking.id).await;
    client
        .monitor_reached(&session, |monitor| monitor.firings >= 2)
        .await;
    deployment.remove().await;
}
