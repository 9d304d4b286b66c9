//! The only worker is gone for a while: nothing that waits for it may be left behind with it.

use std::time::Duration;

use rustix::process::Signal;
use taskyard_proto::v1::{ListWorkersRequest, RetryPolicy, TaskState, WorkerStatus};
use taskyard_tests::client::{milliseconds, new_session, shell};
use taskyard_tests::deployment::Deployment;
use taskyard_tests::wait::{SOON, until};

use crate::journal::Journal;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_a_frozen_worker_runs_when_it_is_back() {
    let deployment = Deployment::builder()
        .lease(Duration::from_secs(2))
        .start()
        .await;
    let session = new_session("lone");
    let journal = Journal::begin(&deployment.endpoint(), &session).await;
    let mut client = deployment.client().await;
    // The lease is short: on a busy machine the worker may be given up once more.
    let patient = |script: &str| {
        let mut task = shell(script);
        task.retry = Some(RetryPolicy {
            max_runs: 10,
            initial_backoff: Some(milliseconds(10)),
            ..RetryPolicy::default()
        });
        task
    };
    let interrupted = patient("[ $TASKYARD_RUN = 1 ] && sleep 300; exit 0");
    let retried = client.create(&session, interrupted).await.id;
    client
        .reached(&retried, |task| task.state() == TaskState::Running)
        .await;
    deployment.with_worker(0, |worker| worker.signal(Signal::STOP));
    let fresh = client.create(&session, patient("exit 0")).await.id;
    // The stream of the frozen worker is still open when its session is given up.
    let mut admin = client.admin.clone();
    until("the worker session to be given up", SOON, async || {
        let workers = admin.list_workers(ListWorkersRequest::default()).await;
        let workers = workers.expect("workers can be listed").into_inner().workers;
        workers
            .iter()
            .any(|worker| worker.status() == WorkerStatus::Lost)
    })
    .await;
    let queued = client.get(&retried).await;
    assert_eq!(queued.state(), TaskState::Queued, "{queued:?}");
    let error = queued.error.unwrap_or_default();
    assert_eq!(
        error.kind, "worker_error",
        "it says why it waits: {error:?}"
    );
    deployment.with_worker(0, |worker| worker.signal(Signal::CONT));
    for id in [&retried, &fresh] {
        let ended = client.ended(id).await;
        assert_eq!(ended.state(), TaskState::Succeeded, "{ended:?}");
    }
    journal.ended(&[retried, fresh]).await;
    deployment.remove().await;
}
