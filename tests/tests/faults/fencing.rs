//! What a lease allows and when it is over, told message by message.

use std::time::{Duration, Instant};

use taskyard_proto::v1::report_item::Report;
use taskyard_proto::v1::{
    Artifact, ArtifactReport, CancelOutcome, CancelTaskRequest, HeldLease, HeldStatus, Lease,
    OutputStream, ProgressReport, ReleaseReport, StartReport, TaskState, Verdict,
};
use taskyard_tests::client::{Client, new_session, shell};
use taskyard_tests::deployment::{Deployment, DeploymentBuilder};

use crate::flow::read_all;
use crate::hand_worker::{
    HandWorker, exited, hello, item, lease_of, push, random_id, write_artifact,
};

/// A lease that outlasts the test without heartbeats.
fn without_workers() -> DeploymentBuilder {
    Deployment::builder()
        .lease(Duration::from_secs(300))
        .workers(Vec::new())
}

async fn cancel(client: &mut Client, task: &str) -> CancelOutcome {
    let request = CancelTaskRequest {
        task: task.to_owned(),
        ..CancelTaskRequest::default()
    };
    let answer = client
        .tasks
        .cancel_task(request)
        .await
        .expect("it can be canceled");
    answer.into_inner().outcome()
}

fn start() -> Report {
    Report::Start(StartReport {})
}

fn progress() -> Report {
    Report::Progress(ProgressReport::default())
}

#[tokio::test]
async fn an_offer_that_nobody_answers_returns_without_costing_an_attempt() {
    let deployment = without_workers().start().await;
    let mut client = deployment.client().await;
    let mut worker = HandWorker::attach(&client, hello("silent", 1)).await;
    let id = client
        .create(&new_session("silent"), shell("true"))
        .await
        .id;
    let first = worker.offer().await;
    let offered_at = Instant::now();
    assert_eq!((first.attempt, first.run), (1, 1));
    let task = client.get(&id).await;
    assert_eq!(
        (task.state(), task.attempt, task.generation),
        (TaskState::Queued, 0, 1),
        "an offer is no change"
    );
    worker.set_free(1).await;
    let second = worker.offer().await;
    let waited = offered_at.elapsed();
    eprintln!("the offer came again after {waited:?}");
    assert!(waited >= Duration::from_millis(4_500), "{waited:?}");
    assert_eq!((second.attempt, second.run), (1, 1), "no attempt was used");
    let (old, new) = (lease_of(&first), lease_of(&second));
    assert!(new.epoch > old.epoch && new.lease_id != old.lease_id);
    assert_eq!(worker.report(&old, 1, start()).await, Verdict::LeaseLost);
    assert_eq!(worker.report(&new, 1, start()).await, Verdict::Applied);
    let task = client.get(&id).await;
    assert_eq!(
        (task.state(), task.attempt, task.run),
        (TaskState::Running, 1, 1)
    );
    deployment.remove().await;
}

#[tokio::test]
async fn reports_are_applied_once_in_order_and_by_the_holder_only() {
    let deployment = without_workers().start().await;
    let mut client = deployment.client().await;
    let session = new_session("reports");
    let mut worker = HandWorker::attach(&client, hello("reporter", 1)).await;
    let id = client.create(&session, shell("true")).await.id;
    let lease = lease_of(&worker.offer().await);
    assert_eq!(
        worker.report(&lease, 2, progress()).await,
        Verdict::Rejected,
        "nothing has started"
    );
    assert_eq!(worker.report(&lease, 1, start()).await, Verdict::Applied);
    assert_eq!(
        worker.report(&lease, 1, start()).await,
        Verdict::AlreadyApplied
    );
    let generation = client.get(&id).await.generation;
    let artifact = Report::Artifact(ArtifactReport {
        artifact: Some(Artifact {
            name: "a.txt".to_owned(),
            path: format!("/.tasks/{id}/artifacts/a.txt"),
            ..Artifact::default()
        }),
    });
    let twice = vec![
        item(&lease, 2, artifact.clone()),
        item(&lease, 2, artifact.clone()),
        item(&lease, 1, artifact),
    ];
    let expected = [
        Verdict::Applied,
        Verdict::AlreadyApplied,
        Verdict::AlreadyApplied,
    ];
    assert_eq!(worker.report_all(twice).await, expected);
    assert_eq!(
        client.get(&id).await.generation,
        generation + 1,
        "what comes twice counts once"
    );

    let stranger = Lease {
        lease_id: random_id(),
        ..lease.clone()
    };
    let earlier = Lease {
        epoch: lease.epoch + 1,
        ..lease.clone()
    };
    for foreign in [&stranger, &earlier] {
        assert_eq!(
            worker.report(foreign, 9, progress()).await,
            Verdict::LeaseLost
        );
        assert_eq!(
            worker.report(foreign, 9, exited(0, 0)).await,
            Verdict::LeaseLost
        );
        assert_eq!(
            push(&mut client, foreign, 1, 0, b"x").await.verdict(),
            Verdict::LeaseLost
        );
        assert!(write_artifact(&mut client, foreign).await.is_err());
    }
    let batch = vec![
        item(&lease, 4, progress()),
        item(&lease, 5, exited(3, 0)),
        item(&lease, 6, progress()),
        item(&lease, 5, exited(0, 0)),
    ];
    let verdicts = worker.report_all(batch).await;
    let expected = [
        Verdict::Applied,
        Verdict::Applied,
        Verdict::Terminal,
        Verdict::AlreadyApplied,
    ];
    assert_eq!(verdicts, expected, "in their order");
    let task = client.get(&id).await;
    assert_eq!(
        task.exit.clone().unwrap_or_default().exit_code,
        Some(3),
        "the first end stays: {task:?}"
    );
    deployment.remove().await;
}

#[tokio::test]
async fn a_start_that_comes_after_a_cancel_is_not_granted() {
    let deployment = without_workers().start().await;
    let mut client = deployment.client().await;
    let session = new_session("late-start");
    let mut worker = HandWorker::attach(&client, hello("slow", 2)).await;
    let id = client.create(&session, shell("true")).await.id;
    let lease = lease_of(&worker.offer().await);
    assert_eq!(
        cancel(&mut client, &id).await,
        CancelOutcome::Canceled,
        "nothing runs yet"
    );
    let verdict = worker.report(&lease, 1, start()).await;
    assert!(
        matches!(verdict, Verdict::Terminal | Verdict::Canceled),
        "{verdict:?}"
    );
    let task = client.get(&id).await;
    assert_eq!((task.state(), task.attempt), (TaskState::Canceled, 0));
    assert_eq!(client.result(&id).await["state"], "canceled");

    // A release gives the task to whoever asks next, without a loss of an attempt.
    let id = client.create(&session, shell("true")).await.id;
    let first = worker.offer().await;
    let release = Report::Release(ReleaseReport::default());
    assert_eq!(
        worker.report(&lease_of(&first), 1, release).await,
        Verdict::Applied
    );
    worker.set_free(1).await;
    let second = worker.offer().await;
    assert_eq!((lease_of(&second).task_id, second.attempt), (id.clone(), 1));
    let lease = worker.start(&second).await;
    // A running task is told to stop, at once and again with each heartbeat.
    assert_eq!(cancel(&mut client, &id).await, CancelOutcome::Requested);
    assert_eq!(worker.cancel().await, lease);
    assert_eq!(
        cancel(&mut client, &id).await,
        CancelOutcome::AlreadyRequested
    );
    let ack = worker.beat(std::slice::from_ref(&lease), true).await;
    assert_eq!(ack.cancels.len(), 1, "{ack:?}");
    assert_eq!(
        worker.report(&lease, 2, exited(0, 0)).await,
        Verdict::Applied
    );
    assert_eq!(
        client.get(&id).await.state(),
        TaskState::Succeeded,
        "a cancel may lose to success"
    );
    assert_eq!(
        cancel(&mut client, &id).await,
        CancelOutcome::AlreadyTerminal
    );
    deployment.remove().await;
}

#[tokio::test]
async fn a_finish_waits_for_the_output_that_it_names() {
    let deployment = without_workers().start().await;
    let mut client = deployment.client().await;
    let session = new_session("pending");
    let mut worker = HandWorker::attach(&client, hello("pusher", 1)).await;
    let id = client.create(&session, shell("true")).await.id;
    let offer = worker.offer().await;
    let early = push(&mut client, &lease_of(&offer), 1, 0, b"0123").await;
    assert_eq!(
        early.verdict(),
        Verdict::LeaseLost,
        "nothing has started: {early:?}"
    );
    let lease = worker.start(&offer).await;
    assert_eq!(
        worker.report(&lease, 2, exited(0, 10)).await,
        Verdict::OutputPending
    );
    assert_eq!(
        push(&mut client, &lease, 1, 0, b"0123").await.verdict(),
        Verdict::Applied
    );
    assert_eq!(
        worker.report(&lease, 2, exited(0, 10)).await,
        Verdict::OutputPending
    );
    assert_eq!(
        push(&mut client, &lease, 1, 6, b"6789").await.verdict(),
        Verdict::Rejected,
        "a hole in the head"
    );
    assert_eq!(
        push(&mut client, &lease, 2, 4, b"4567").await.verdict(),
        Verdict::LeaseLost,
        "another run"
    );
    // What was sent before is trimmed, what is new is kept.
    let overlapping = push(&mut client, &lease, 1, 2, b"23456789").await;
    assert_eq!(overlapping.verdict(), Verdict::Applied);
    let durable = overlapping
        .durable
        .iter()
        .find(|position| position.stream() == OutputStream::Stdout);
    assert_eq!(durable.map(|position| position.offset), Some(10));
    assert_eq!(
        push(&mut client, &lease, 1, 0, b"0123").await.verdict(),
        Verdict::Applied
    );
    assert_eq!(
        worker.report(&lease, 2, exited(0, 10)).await,
        Verdict::Applied
    );
    assert_eq!(
        worker.report(&lease, 2, exited(0, 10)).await,
        Verdict::AlreadyApplied
    );
    assert_eq!(
        push(&mut client, &lease, 1, 10, b"late").await.verdict(),
        Verdict::Terminal
    );
    let task = client.get(&id).await;
    assert_eq!(
        read_all(&mut client, &task, OutputStream::Stdout).await,
        b"0123456789"
    );
    deployment.remove().await;
}

#[tokio::test]
async fn a_set_that_was_slow_on_its_way_loses_no_lease() {
    let deployment = without_workers().start().await;
    let mut client = deployment.client().await;
    let session = new_session("slow-set");
    let mut worker = HandWorker::attach(&client, hello("counter", 2)).await;
    let id = client.create(&session, shell("true")).await.id;
    let lease = {
        let offer = worker.offer().await;
        worker.start(&offer).await
    };
    // It was sent before the offer came, and is read after the start was granted.
    let ack = worker.beat(&[], true).await;
    assert!(ack.send_held, "the server asks again: {ack:?}");
    assert_eq!(client.get(&id).await.state(), TaskState::Running);
    let ack = worker.beat(std::slice::from_ref(&lease), true).await;
    assert!(!ack.send_held && ack.drops.is_empty(), "{ack:?}");
    assert_eq!(client.get(&id).await.state(), TaskState::Running);
    let ack = worker.beat(std::slice::from_ref(&lease), false).await;
    assert!(!ack.send_held, "the sets agree: {ack:?}");
    // A lease that nobody holds is named as lost.
    let stranger = Lease {
        lease_id: random_id(),
        ..lease.clone()
    };
    let ack = worker.beat(&[lease.clone(), stranger.clone()], false).await;
    assert!(ack.send_held, "the sets differ: {ack:?}");
    let ack = worker.beat(&[lease.clone(), stranger.clone()], true).await;
    let drops: Vec<Option<Lease>> = ack.drops.into_iter().map(|drop| drop.lease).collect();
    assert_eq!(drops, [Some(stranger)]);
    // What the worker leaves out again, although it was asked, it does not hold.
    worker.beat(&[], true).await;
    worker.beat(&[], true).await;
    let task = client.ended(&id).await;
    assert_eq!(task.error.unwrap_or_default().kind, "outcome_unknown");
    assert_eq!(
        worker.report(&lease, 2, exited(0, 0)).await,
        Verdict::Terminal
    );
    deployment.remove().await;
}

#[tokio::test]
async fn a_hello_says_what_became_of_earlier_leases() {
    let deployment = without_workers().start().await;
    let mut client = deployment.client().await;
    let session = new_session("hello");
    let first_boot = hello("phoenix", 4);
    let mut worker = HandWorker::attach(&client, first_boot.clone()).await;
    let mut tasks = Vec::new();
    let mut leases = Vec::new();
    for _ in 0..4 {
        tasks.push(client.create(&session, shell("true")).await.id);
        let offer = worker.offer().await;
        assert_eq!(&lease_of(&offer).task_id, &tasks[tasks.len() - 1]);
        leases.push(lease_of(&offer));
    }
    // Started: 0 and 1. Received, but not started: 2. Of 3 the ledger knows nothing.
    for lease in &leases[..2] {
        assert_eq!(worker.report(lease, 1, start()).await, Verdict::Applied);
    }
    drop(worker);
    let held = |lease: &Lease, status: HeldStatus| HeldLease {
        lease: Some(lease.clone()),
        status: status.into(),
        ..HeldLease::default()
    };
    let mut second_boot = first_boot.clone();
    second_boot.instance_id = random_id();
    second_boot.free_slots = 2;
    second_boot.held = vec![
        held(&leases[0], HeldStatus::Finished),
        held(&leases[1], HeldStatus::Unknown),
        held(&leases[2], HeldStatus::NotStarted),
    ];
    let mut worker = HandWorker::attach(&client, second_boot).await;
    let unknown = client.ended(&tasks[1]).await;
    assert_eq!(unknown.error.unwrap_or_default().kind, "outcome_unknown");
    let mut offered_again = Vec::new();
    for _ in 0..2 {
        let offer = worker.offer().await;
        assert_eq!((offer.attempt, offer.run), (1, 1), "no attempt was used");
        offered_again.push(lease_of(&offer).task_id);
    }
    offered_again.sort();
    assert_eq!(
        offered_again,
        tasks[2..].to_vec(),
        "ids are minted in order"
    );
    assert_eq!(
        client.get(&tasks[0]).await.state(),
        TaskState::Running,
        "its end is on the way"
    );
    assert_eq!(
        worker.report(&leases[0], 2, exited(0, 0)).await,
        Verdict::Applied
    );
    assert_eq!(
        worker.report(&leases[2], 1, start()).await,
        Verdict::LeaseLost
    );
    // The name alone takes nothing over: another state directory is another worker.
    let other = client.create(&session, shell("true")).await.id;
    worker.set_free(1).await;
    let offer = worker.offer().await;
    let lease = worker.start(&offer).await;
    assert_eq!(lease.task_id, other);
    let _impostor = HandWorker::attach(&client, hello("phoenix", 1)).await;
    assert_eq!(
        worker.report(&lease, 2, exited(0, 0)).await,
        Verdict::Applied
    );
    deployment.remove().await;
}

#[tokio::test]
async fn an_older_stream_of_a_worker_gets_nothing() {
    let deployment = without_workers().start().await;
    let mut client = deployment.client().await;
    let session = new_session("streams");
    let boot = hello("twice", 1);
    let mut newer_boot = boot.clone();
    newer_boot.free_slots = 1;
    let _half_open = HandWorker::attach(&client, boot).await;
    let mut newer = HandWorker::attach(&client, newer_boot).await;
    let id = client.create(&session, shell("true")).await.id;
    let offer = newer.offer().await;
    assert_eq!(lease_of(&offer).task_id, id);
    let lease = newer.start(&offer).await;
    assert_eq!(
        newer.report(&lease, 2, exited(0, 0)).await,
        Verdict::Applied
    );
    deployment.remove().await;
}
