//! The control plane is asked to stop while a call waits.

use std::time::Duration;

use rustix::process::Signal;
use taskyard_proto::v1::{CreateTaskRequest, ListTasksRequest, TaskState};
use taskyard_tests::client::{milliseconds, new_session, shell};
use taskyard_tests::deployment::Deployment;
use taskyard_tests::wait::{SOON, until, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_create_that_waits_answers_with_the_stored_task() {
    let deployment = Deployment::builder()
        .lease(Duration::from_secs(300))
        .workers(Vec::new())
        .start()
        .await;
    let mut client = deployment.client().await;
    let session = new_session("stopped");
    let request = CreateTaskRequest {
        session_id: session.clone(),
        task: Some(shell("true")),
        wait: Some(milliseconds(30_000)),
        ..CreateTaskRequest::default()
    };
    let mut waiting = client.clone();
    let call = tokio::spawn(async move { waiting.tasks.create_task(request).await });
    until("the task to be stored", SOON, async || {
        let request = ListTasksRequest {
            session_id: session.clone(),
            ..ListTasksRequest::default()
        };
        let listed = client.tasks.list_tasks(request).await;
        listed.is_ok_and(|listed| !listed.into_inner().tasks.is_empty())
    })
    .await;
    deployment.with_server(0, |server| server.signal(Signal::TERM));
    let answer = within("the call to end with the server", SOON, call).await;
    let answer = answer
        .expect("the call ends")
        .expect("what was stored is no error")
        .into_inner();
    assert!(answer.created);
    let task = answer.task.expect("a create answers with its task");
    assert_eq!(task.state(), TaskState::Queued, "{task:?}");
}
