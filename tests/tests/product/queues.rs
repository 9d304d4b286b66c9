//! What queues hold, as operators and scalers see it.

use std::time::{Duration, SystemTime};

use taskyard_proto::v1::{
    ListQueuesRequest, ListSessionsRequest, Queue, TaskDefinition, TaskState,
};
use taskyard_tests::client::{Client, command, moment, new_session, shell};
use taskyard_tests::deployment::{Deployment, WorkerPlan};
use taskyard_tests::refusal::expect_refused;
use taskyard_tests::wait::{SOON, eventually};
use tonic::Code;

async fn queues(client: &mut Client) -> Vec<Queue> {
    let answer = client.admin.list_queues(ListQueuesRequest::default()).await;
    answer.expect("listed").into_inner().queues
}

/// Waits until a queue is as `is_there` wants it; counts are up to a second old.
async fn reached(client: &mut Client, name: &str, is_there: impl Fn(&Queue) -> bool) -> Queue {
    eventually("the queue to be counted", SOON, async || {
        let mut queues = queues(client).await.into_iter();
        queues.find(|queue| queue.name == name && is_there(queue))
    })
    .await
}

fn on(queue: &str, task: TaskDefinition) -> TaskDefinition {
    TaskDefinition {
        queue: queue.to_owned(),
        ..task
    }
}

#[tokio::test]
async fn queues_are_counted_by_what_their_tasks_do() {
    let worker = WorkerPlan::new("w1").flags(&["--slots=2", "--queues=busy"]);
    let deployment = Deployment::builder().workers(vec![worker]).start().await;
    let mut client = deployment.client().await;
    let session = new_session("queues");
    assert!(queues(&mut client).await.is_empty());

    let mut running = Vec::new();
    for _ in 0..2 {
        let task = on("busy", shell("exec sleep 600"));
        running.push(client.create(&session, task).await.id);
    }
    for id in &running {
        client
            .reached(id, |task| task.state() == TaskState::Running)
            .await;
    }
    let first = client
        .create(&session, on("busy", command(&["true"])))
        .await;
    for kind in ["one", "other"] {
        let task = TaskDefinition {
            kind: kind.to_owned(),
            ..on("busy", command(&["true"]))
        };
        client.create(&session, task).await;
    }
    // What could not start does not wait for a worker.
    let held = TaskDefinition {
        hold: true,
        ..on("busy", command(&["true"]))
    };
    client.create(&session, held).await;
    let late = TaskDefinition {
        not_before: Some((SystemTime::now() + Duration::from_secs(3_600)).into()),
        ..on("busy", command(&["true"]))
    };
    client.create(&session, late).await;
    client
        .create(&session, on("idle", command(&["true"])))
        .await;

    let busy = reached(&mut client, "busy", |queue| queue.queued == 3).await;
    assert_eq!((busy.running, busy.awaiting_input), (2, 0), "{busy:?}");
    assert!(!busy.is_partial);
    assert_eq!(moment(busy.oldest_queued_at), moment(first.created_at));
    let idle = reached(&mut client, "idle", |queue| queue.queued == 1).await;
    assert_eq!((idle.running, idle.awaiting_input), (0, 0));
    let names: Vec<String> = queues(&mut client)
        .await
        .into_iter()
        .map(|queue| queue.name)
        .collect();
    assert_eq!(names, ["busy", "idle"]);

    let page = |page_token: String| ListQueuesRequest {
        page_size: 1,
        page_token,
    };
    let one = client.admin.list_queues(page(String::new())).await;
    let one = one.expect("listed").into_inner();
    assert_eq!(one.queues[0].name, "busy");
    assert!(one.counted_at.is_some());
    let two = client.admin.list_queues(page(one.next_page_token)).await;
    let two = two.expect("listed").into_inner();
    assert_eq!(two.queues[0].name, "idle");
    assert_eq!(two.next_page_token, "");
    let bad = client.admin.list_queues(page("xx".to_owned())).await;
    expect_refused("a token", bad, Code::InvalidArgument, "BAD_TOKEN");

    // The namespace as a whole, by the counts of its sessions.
    let sessions = client
        .admin
        .list_sessions(ListSessionsRequest::default())
        .await;
    let counts = sessions.expect("listed").into_inner().counts;
    let counts = counts.expect("on the first page");
    assert_eq!(
        (
            counts.sessions,
            counts.open_tasks,
            counts.awaiting_input_tasks
        ),
        (1, 8, 0)
    );
    assert!(!counts.is_partial && counts.counted_at.is_some());

    let cli = deployment.command_line();
    let shown = cli
        .run(&["queues", "-o", "json"])
        .await
        .expect_code(0)
        .json();
    assert_eq!(shown[0]["name"], "busy", "{shown}");
    assert_eq!(shown[0]["queued"], 3, "{shown}");
    let table = cli.run(&["queues"]).await.expect_code(0).text();
    assert!(table.contains("busy") && table.contains("idle"), "{table}");
    deployment.remove().await;
}
