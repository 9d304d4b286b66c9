//! Workers: where they may attach, and whose leases they may use.

use prost::Message;
use taskyard_proto::v1::{
    AcquireLeasesRequest, AttachRequest, CreateTaskRequest, GetLeaseSecretsRequest,
    GetLeaseSpecRequest, ListTasksRequest, Pong, ReportItem, ReportRequest, StartReport,
    attach_request::Message as Up, report_item::Report,
};
use taskyard_tests::client::shell;
use taskyard_tests::hand_worker::{hello, lease_of};
use taskyard_tests::refusal::{expect_refused, reason_of};
use taskyard_tests::secured::{with_token, write_tokens};
use taskyard_tests::wait::{SOON, eventually, until};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataValue;
use tonic::{Code, Request};

use super::identity_support::{guarded, list_in};

#[tokio::test]
async fn a_worker_is_of_the_pools_that_its_token_names() {
    let (_deployment, client, _folder) =
        guarded(&[("gpu", "role: worker, pools: ['gpu-*']")]).await;
    for (pool, may) in [("gpu-1", true), ("cpu", false), ("", false)] {
        let mut hello = hello("w", 1);
        if !pool.is_empty() {
            hello
                .labels
                .insert("taskyard.dev/pool".to_owned(), pool.to_owned());
        }
        let request = taskyard_proto::v1::AcquireLeasesRequest {
            hello: Some(hello),
            ..Default::default()
        };
        let answer = client
            .worker
            .clone()
            .acquire_leases(with_token("gpu", request))
            .await;
        if may {
            answer.expect("attached");
        } else {
            expect_refused(pool, answer, Code::PermissionDenied, "POOL_DENIED");
        }
    }
}

#[tokio::test]
async fn a_lease_is_taken_from_nobody_but_its_holder() {
    let (_deployment, client, _folder) = guarded(&[
        ("owner", "role: client"),
        ("mine", "role: worker"),
        ("other", "role: worker"),
    ])
    .await;
    let task = CreateTaskRequest {
        session_id: "s".to_owned(),
        task: Some(shell("true")),
        ..CreateTaskRequest::default()
    };
    let created = client
        .tasks
        .clone()
        .create_task(with_token("owner", task))
        .await;
    created.expect("created");
    let mut worker = client.worker.clone();
    let request = AcquireLeasesRequest {
        hello: Some(hello("w", 1)),
        max_offers: 1,
        wait: Some(prost_types::Duration {
            seconds: 30,
            nanos: 0,
        }),
        ..AcquireLeasesRequest::default()
    };
    let state = request.hello.clone().unwrap_or_default().state_id;
    let acquired = worker
        .acquire_leases(with_token("mine", request.clone()))
        .await;
    let acquired = acquired.expect("attached").into_inner();
    let lease = lease_of(acquired.offers.first().expect("an offer"));

    // the boot is the holder's, too
    let stolen = worker.acquire_leases(with_token("other", request)).await;
    expect_refused("the boot", stolen, Code::PermissionDenied, "BOOT_DENIED");
    // and so is its state directory, whatever boot another one makes up
    let mut hello = hello("w", 1);
    hello.state_id = state.clone();
    let request = AcquireLeasesRequest {
        hello: Some(hello),
        ..AcquireLeasesRequest::default()
    };
    let stolen = worker
        .acquire_leases(with_token("other", request.clone()))
        .await;
    expect_refused("the state", stolen, Code::PermissionDenied, "BOOT_DENIED");
    let spec = || GetLeaseSpecRequest {
        lease: Some(lease.clone()),
    };
    let answer = worker.get_lease_spec(with_token("other", spec())).await;
    expect_refused("the spec", answer, Code::Aborted, "LEASE_LOST");
    let secrets = GetLeaseSecretsRequest {
        lease: Some(lease.clone()),
    };
    let answer = worker.get_lease_secrets(with_token("other", secrets)).await;
    expect_refused("the secrets", answer, Code::Aborted, "LEASE_LOST");
    let report = || ReportRequest {
        items: vec![ReportItem {
            lease: Some(lease.clone()),
            item_no: 1,
            report: Some(Report::Start(StartReport {})),
        }],
    };
    let answer = worker.report(with_token("other", report())).await;
    expect_refused("a report", answer, Code::Aborted, "LEASE_LOST");
    worker
        .get_lease_spec(with_token("mine", spec()))
        .await
        .expect("its own spec");
    worker
        .report(with_token("mine", report()))
        .await
        .expect("its own report");

    let inside = |token: &str| -> Request<ListTasksRequest> {
        let mut request = with_token(token, ListTasksRequest::default());
        let value = MetadataValue::from_bytes(&lease.encode_to_vec());
        request
            .metadata_mut()
            .insert_bin("taskyard-lease-bin", value);
        request
    };
    let mut tasks = client.tasks.clone();
    let listed = tasks
        .list_tasks(inside("mine"))
        .await
        .expect("from inside")
        .into_inner();
    assert!(listed.tasks.is_empty(), "nothing is below the task");
    expect_refused(
        "another worker",
        tasks.list_tasks(inside("other")).await,
        Code::Aborted,
        "LEASE_LOST",
    );
    expect_refused(
        "a client",
        tasks.list_tasks(inside("owner")).await,
        Code::PermissionDenied,
        "ROLE_NEEDED",
    );
    let outside = tasks
        .list_tasks(with_token("mine", ListTasksRequest::default()))
        .await;
    expect_refused("outside", outside, Code::PermissionDenied, "ROLE_NEEDED");
    // its own holder boots on it as before, and the refused one left nothing behind
    let again = worker.acquire_leases(with_token("mine", request)).await;
    again.expect("the next boot");
}

#[tokio::test]
async fn a_worker_whose_token_is_revoked_is_heard_no_more() {
    let (_deployment, mut client, folder) = guarded(&[("mine", "role: worker")]).await;
    let (up, requests) = mpsc::channel(8);
    let say = |message: Up| AttachRequest {
        message: Some(message),
    };
    up.send(say(Up::Hello(hello("w", 1))))
        .await
        .expect("there is room for a hello");
    let request = with_token("mine", ReceiverStream::new(requests));
    let attached = client.worker.attach(request).await.expect("attached");
    let mut down = attached.into_inner();
    down.message().await.expect("open").expect("a welcome");

    write_tokens(&list_in(&folder), &[("other", "role: worker")]);
    let end = eventually("the end", SOON, async || down.message().await.err()).await;
    assert_eq!(reason_of(&end), "CREDENTIAL_ENDED");
    // it goes on as if it had not been told
    until("the worker to be shut out", SOON, async || {
        up.send(say(Up::Pong(Pong::default()))).await.is_err()
    })
    .await;
}
