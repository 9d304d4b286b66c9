//! What the server makes of runs that outlived their worker, said message by message.

use taskyard_proto::v1::report_item::Report;
use taskyard_proto::v1::{
    CancelTaskRequest, HeldLease, HeldStatus, Hello, Lease, ProgressReport, RetryPolicy,
    TaskDefinition, TaskState, Verdict, Welcome,
};
use taskyard_tests::client::{Client, milliseconds, new_session, shell};
use taskyard_tests::deployment::Deployment;

use crate::hand_worker::{HandWorker, exited, hello, item, push, random_id, report_all};

/// A newer boot that says it has the process of `lease` in its hands.
fn next_boot(first: &Hello, lease: &Lease, next_lease_id: &bytes::Bytes) -> Hello {
    Hello {
        instance_id: random_id(),
        features: vec!["reattach".to_owned()],
        free_slots: 0,
        held: vec![HeldLease {
            lease: Some(lease.clone()),
            status: HeldStatus::Running.into(),
            next_lease_id: next_lease_id.clone(),
        }],
        ..first.clone()
    }
}

fn retried(mut task: TaskDefinition) -> TaskDefinition {
    task.retry = Some(RetryPolicy {
        max_runs: 3,
        initial_backoff: Some(milliseconds(60_000)),
        ..RetryPolicy::default()
    });
    task
}

async fn begin(client: &mut Client, queue: &str, boot: &mut Hello) -> (String, Lease) {
    let mut task = retried(shell("true"));
    task.queue = queue.to_owned();
    boot.queues = vec![queue.to_owned()];
    let id = client.create(&new_session("reattach"), task).await.id;
    let mut worker = HandWorker::attach(client, boot.clone()).await;
    let offer = worker.offer().await;
    let lease = worker.start(&offer).await;
    assert_eq!(lease.task_id, id);
    let pushed = push(client, &lease, 1, 0, b"first ").await;
    assert_eq!(pushed.verdict(), Verdict::Applied, "{pushed:?}");
    (id, lease)
}

fn resumed(welcome: &Welcome, earlier: &Lease) -> Lease {
    let [entry] = welcome.resumed.as_slice() else {
        panic!("one run goes on: {welcome:?}");
    };
    assert_eq!(entry.earlier.as_ref(), Some(earlier));
    entry.lease.clone().expect("it goes on under a lease")
}

#[tokio::test]
async fn the_same_words_mean_the_same_whichever_answer_was_lost() {
    let deployment = Deployment::by_hand().await;
    let mut client = deployment.client().await;
    let mut first = hello("again", 1);
    let (id, old) = begin(&mut client, "reattach-again", &mut first).await;
    let next_lease_id = random_id();
    let second = next_boot(&first, &old, &next_lease_id);
    let (_, welcome) = HandWorker::attach_welcomed(&client, second.clone()).await;
    let next = resumed(&welcome, &old);
    assert_eq!(
        (next.epoch, &next.lease_id),
        (old.epoch + 1, &next_lease_id)
    );
    let task = client.get(&id).await;
    assert_eq!(
        (task.attempt, task.run, task.state()),
        (2, 1, TaskState::Running)
    );
    // The welcome was lost: by the same boot, and by one that came after it died.
    let (_, welcome) = HandWorker::attach_welcomed(&client, second).await;
    assert_eq!(resumed(&welcome, &old), next);
    let third = next_boot(&first, &old, &next_lease_id);
    let (mut worker, welcome) = HandWorker::attach_welcomed(&client, third.clone()).await;
    assert_eq!(resumed(&welcome, &old), next);
    assert_eq!(client.get(&id).await.attempt, 2, "it was taken over once");

    // The old lease is over, the new one begins at its beginning, and the output goes on where it was.
    let late = vec![
        item(&old, 9, Report::Progress(ProgressReport::default())),
        item(&old, 10, exited(0, 0)),
    ];
    assert_eq!(report_all(&mut client, late).await, [Verdict::LeaseLost; 2]);
    let pushed = push(&mut client, &old, 1, 6, b"late").await;
    assert_eq!(pushed.verdict(), Verdict::LeaseLost);
    let pushed = push(&mut client, &next, 1, 3, b"st second").await;
    assert_eq!(pushed.verdict(), Verdict::Applied, "{pushed:?}");
    let ack = worker.beat(std::slice::from_ref(&next), true).await;
    assert!(ack.drops.is_empty() && !ack.send_held, "{ack:?}");
    assert_eq!(
        worker.report(&next, 1, exited(0, 12)).await,
        Verdict::Applied
    );
    let task = client.ended(&id).await;
    assert_eq!(
        (task.state(), task.attempt, task.run),
        (TaskState::Succeeded, 2, 1)
    );
    assert_eq!(client.result(&id).await["stdout"]["total_bytes"], 12);
    // Words that come after the end give nothing back.
    let fourth = next_boot(&first, &next, &random_id());
    let (_, welcome) = HandWorker::attach_welcomed(&client, fourth).await;
    assert_eq!(welcome.resumed, []);
}

#[tokio::test]
async fn a_cancel_that_was_asked_for_is_told_under_the_new_lease() {
    let deployment = Deployment::by_hand().await;
    let mut client = deployment.client().await;
    let mut first = hello("canceled", 1);
    let (id, old) = begin(&mut client, "reattach-canceled", &mut first).await;
    let request = CancelTaskRequest {
        task: id.clone(),
        ..CancelTaskRequest::default()
    };
    client
        .tasks
        .cancel_task(request)
        .await
        .expect("it is asked to stop");
    let second = next_boot(&first, &old, &random_id());
    let (mut worker, welcome) = HandWorker::attach_welcomed(&client, second).await;
    let next = resumed(&welcome, &old);
    let ack = worker.beat(std::slice::from_ref(&next), true).await;
    let told: Vec<_> = ack
        .cancels
        .iter()
        .map(|cancel| cancel.lease.clone())
        .collect();
    assert_eq!(told, [Some(next)]);
}

#[tokio::test]
async fn a_worker_that_cannot_go_on_is_not_believed() {
    let deployment = Deployment::by_hand().await;
    let mut client = deployment.client().await;
    let mut first = hello("mute", 1);
    let (id, old) = begin(&mut client, "reattach-mute", &mut first).await;
    let mut second = next_boot(&first, &old, &random_id());
    second.features.clear();
    let (_, welcome) = HandWorker::attach_welcomed(&client, second).await;
    assert_eq!(welcome.resumed, []);
    let task = client.get(&id).await;
    assert_eq!(
        (task.state(), task.attempt, task.run),
        (TaskState::Queued, 1, 1),
        "it counts as lost"
    );
}
