//! Several servers on one database: any of them answers for all.

use std::time::{Duration, Instant, SystemTime};

use taskyard_proto::v1::tail_output_response::Item;
use taskyard_proto::v1::{CancelTaskRequest, TailOutputRequest, TaskState};
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

/// Lines with silence between, so that nobody looks for output often: it comes because the others are told of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tail_at_another_server_follows_line_by_line() {
    let deployment = Deployment::builder()
        .servers(2)
        .workers(Vec::new())
        .start()
        .await;
    deployment.add_worker(1, WorkerPlan::new("far")).await;
    let session = new_session("lines");
    let mut near = deployment.client().await;
    let script = "for line in 1 2 3 4 5 6 7 8 9; do echo $line; sleep 0.5; done";
    let id = near.create(&session, shell(script)).await.id;
    near.reached(&id, |task| task.state() == TaskState::Running)
        .await;
    let tails = [0, 1].map(|server| {
        let endpoint = deployment.endpoint_of(server);
        tokio::spawn(follow_lines(endpoint, id.clone()))
    });
    for (place, tail) in ["the other server", "its own server"].iter().zip(tails) {
        let (text, mut delays) = within("the tail to end", SOON, tail)
            .await
            .expect("the tail holds");
        assert_eq!(text, "1\n2\n3\n4\n5\n6\n7\n8\n9\n", "at {place}");
        delays.sort();
        let median = delays[delays.len() / 2];
        eprintln!("from the print to the tail at {place}: {median:?} (median)");
    }
    deployment.remove().await;
}

/// The output of a task to its end, and how long after the worker read it each piece came.
async fn follow_lines(endpoint: String, task: String) -> (String, Vec<Duration>) {
    let mut client = Client::connect(&endpoint).await;
    let request = TailOutputRequest {
        task,
        follow: true,
        ..TailOutputRequest::default()
    };
    let answer = client.tasks.tail_output(request).await.expect("it tails");
    let mut stream = answer.into_inner();
    let (mut text, mut delays) = (String::new(), Vec::new());
    while let Some(response) = stream.message().await.expect("the stream holds") {
        if let Some(Item::Chunk(chunk)) = response.item {
            text.push_str(&String::from_utf8_lossy(&chunk.data));
            let read_at = chunk.at.expect("a time");
            let read_at = SystemTime::try_from(read_at).expect("a time of ours");
            delays.push(read_at.elapsed().unwrap_or_default());
        }
    }
    (text, delays)
}
