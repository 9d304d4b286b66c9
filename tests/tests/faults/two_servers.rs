//! Several servers on one database: any of them answers for all.

use std::time::Instant;

use taskyard_proto::v1::{CancelTaskRequest, TaskState};
use taskyard_tests::client::{Client, new_session, shell};
use taskyard_tests::deployment::{Deployment, WorkerPlan};
use taskyard_tests::wait::{SOON, within};

use crate::flow::Flow;
use crate::journal::Journal;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_server_takes_runs_and_is_seen_at_the_other() {
    let deployment = Deployment::builder()
        .servers(2)
        .workers(Vec::new())
        .start()
        .await;
    deployment.add_worker(1, WorkerPlan::new("far")).await;
    let session = new_session("both");
    let journal = Journal::begin(&deployment.endpoint_of(0), &session).await;
    let mut near = deployment.client().await;
    let created_at = Instant::now();
    let quick = near.run(&session, shell("echo hi; exit 4")).await;
    eprintln!(
        "across two servers from create to end: {:?}",
        created_at.elapsed()
    );
    assert_eq!(
        quick.exit.clone().unwrap_or_default().exit_code,
        Some(4),
        "{quick:?}"
    );

    let flow = Flow::start(&mut near, &session, deployment.folder(), 2, 1).await;
    let tails = [0, 1].map(|server| flow.follow(&deployment.endpoint_of(server), 0));
    flow.advance(&mut near).await;
    flow.end();
    flow.verify(&mut near).await;
    let mut far = Client::connect(&deployment.endpoint_of(1)).await;
    flow.verify(&mut far).await;
    let mut lengths = Vec::new();
    for tail in tails {
        lengths.push(
            within("the tail to end", SOON, tail)
                .await
                .expect("the tail holds"),
        );
    }
    assert_eq!(lengths[0], lengths[1], "both servers show the same");

    let id = near.create(&session, shell("sleep 300")).await.id;
    near.reached(&id, |task| task.state() == TaskState::Running)
        .await;
    let canceled_at = Instant::now();
    let request = CancelTaskRequest {
        task: id.clone(),
        ..CancelTaskRequest::default()
    };
    near.tasks
        .cancel_task(request)
        .await
        .expect("it can be canceled");
    let task = near.ended(&id).await;
    let took = canceled_at.elapsed();
    eprintln!("from the cancel at one server to the end of a task at the other: {took:?}");
    assert_eq!(task.state(), TaskState::Canceled);
    // The next heartbeat would come only after 2.5 s.
    assert!(took.as_millis() < 2_000, "the cancel was pushed: {took:?}");
    let mut all = flow.tasks.clone();
    all.extend([quick.id, id]);
    journal.ended(&all).await;
    deployment.remove().await;
}
