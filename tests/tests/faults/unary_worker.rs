//! A worker without a stream: everything it needs comes by unary calls.

use std::time::Duration;

use taskyard_proto::v1::report_item::Report;
use taskyard_proto::v1::{
    AcquireLeasesRequest, AcquireLeasesResponse, CancelTaskRequest, Heartbeat, Hello, Lease,
    StartReport, TaskState, Verdict,
};
use taskyard_tests::client::{Client, new_session, shell};
use taskyard_tests::deployment::Deployment;

use crate::hand_worker::{exited, hello, item, lease_of, random_id, report_all};

const WAIT: prost_types::Duration = prost_types::Duration {
    seconds: 20,
    nanos: 0,
};

async fn acquire(
    client: &mut Client,
    hello: &Hello,
    max_offers: i32,
    held: &[Lease],
) -> AcquireLeasesResponse {
    let request = AcquireLeasesRequest {
        hello: Some(hello.clone()),
        max_offers,
        wait: Some(WAIT),
        heartbeat: Some(Heartbeat {
            number: 1,
            held: held.to_vec(),
            held_is_complete: true,
            ..Heartbeat::default()
        }),
    };
    let answer = client.worker.acquire_leases(request).await;
    answer.expect("a good call is answered").into_inner()
}

#[tokio::test]
async fn it_takes_a_task_is_told_of_a_cancel_and_finishes_by_unary_calls() {
    let deployment = Deployment::builder()
        .lease(Duration::from_secs(300))
        .workers(Vec::new())
        .start()
        .await;
    let mut client = deployment.client().await;
    let me = hello("unary", 1);
    let mut waiting = client.clone();
    let call = tokio::spawn({
        let me = me.clone();
        async move { acquire(&mut waiting, &me, 1, &[]).await }
    });
    let session = new_session("unary");
    let id = client.create(&session, shell("true")).await.id;
    let answer = call.await.expect("the call ends");
    assert_eq!(answer.offers.len(), 1, "{answer:?}");
    let lease = lease_of(&answer.offers[0]);
    let start = item(&lease, 1, Report::Start(StartReport {}));
    assert_eq!(
        report_all(&mut client, vec![start]).await,
        [Verdict::Applied]
    );

    let foreign = Lease {
        lease_id: random_id(),
        ..lease.clone()
    };
    let renewed = acquire(&mut client, &me, 0, &[lease.clone(), foreign.clone()]).await;
    assert_eq!(
        renewed.welcome.map(|welcome| welcome.worker_session_id),
        answer.welcome.map(|welcome| welcome.worker_session_id),
        "one boot is one worker session"
    );
    let ack = renewed.heartbeat_ack.expect("a heartbeat is answered");
    assert_eq!(ack.drops.len(), 1, "what is not held is lost: {ack:?}");
    assert_eq!(ack.drops[0].lease, Some(foreign));
    assert_eq!(ack.cancels, []);

    let cancel = CancelTaskRequest {
        task: id.clone(),
        ..CancelTaskRequest::default()
    };
    client
        .tasks
        .cancel_task(cancel)
        .await
        .expect("it can be canceled");
    let told = acquire(&mut client, &me, 0, std::slice::from_ref(&lease)).await;
    let cancels = told.heartbeat_ack.expect("a heartbeat is answered").cancels;
    assert_eq!(cancels.len(), 1, "{cancels:?}");
    assert_eq!(cancels[0].lease, Some(lease.clone()));

    let finish = item(&lease, 2, exited(0, 0));
    assert_eq!(
        report_all(&mut client, vec![finish]).await,
        [Verdict::Applied]
    );
    let task = client.get(&id).await;
    assert_eq!(
        task.state(),
        TaskState::Succeeded,
        "a cancel may lose to success"
    );
}

#[tokio::test]
async fn bounds_of_a_call_are_named() {
    let deployment = Deployment::builder().workers(Vec::new()).start().await;
    let mut client = deployment.client().await;
    let request = AcquireLeasesRequest {
        hello: Some(hello("greedy", 1)),
        max_offers: 33,
        ..AcquireLeasesRequest::default()
    };
    let refusal = client
        .worker
        .acquire_leases(request)
        .await
        .expect_err("too many offers are refused");
    assert_eq!(refusal.code(), tonic::Code::InvalidArgument);
    assert!(refusal.message().contains("max_offers"), "{refusal}");
}
