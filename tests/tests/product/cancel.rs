//! Cancel: what no process holds settles at once, what runs is told and then killed.

use taskyard_proto::v1::{
    CancelOutcome, CancelTaskRequest, CancelTaskResponse, SessionTask, TaskDefinition, TaskState,
};
use taskyard_tests::client::{
    Client, command, exit_code, exit_signal, milliseconds, new_session, probe,
};
use taskyard_tests::deployment::Deployment;
use taskyard_tests::process::is_alive;
use taskyard_tests::wait::{SOON, eventually, until};

#[tokio::test]
async fn a_task_in_the_queue_is_canceled_at_once() {
    let mut client = Deployment::shared().await.client().await;
    let held = TaskDefinition {
        hold: true,
        ..command(&["true"])
    };
    let task = client.create(&new_session("cancel"), held).await;
    let answer = cancel(&mut client, &task.id, None).await;
    assert_eq!(answer.outcome(), CancelOutcome::Canceled);
    let canceled = answer.task.unwrap_or_default();
    assert_eq!(canceled.state(), TaskState::Canceled);
    assert!(canceled.cancel_requested_at.is_some() && canceled.finished_at.is_some());
    let again = cancel(&mut client, &task.id, None).await;
    assert_eq!(again.outcome(), CancelOutcome::AlreadyTerminal);
    assert_eq!(
        again.task.unwrap_or_default().generation,
        canceled.generation
    );
}

#[tokio::test]
async fn running_work_is_told_and_may_say_goodbye() {
    let mut client = Deployment::shared().await.client().await;
    let task = ready(&mut client, probe("exit-on-term 0")).await;
    let answer = cancel(&mut client, &task.id, None).await;
    assert_eq!(answer.outcome(), CancelOutcome::Requested);
    let ended = client.ended(&task.id).await;
    let result = client.result(&task.id).await;
    assert_eq!(result["stdout"]["tail"], "ready\nbye\n");
    assert_eq!(exit_code(&ended), Some(0), "{result}");
}

#[tokio::test]
async fn work_that_dies_of_the_signal_is_canceled() {
    let mut client = Deployment::shared().await.client().await;
    let task = ready(&mut client, probe("hang")).await;
    cancel(&mut client, &task.id, None).await;
    let ended = client.ended(&task.id).await;
    assert_eq!(ended.state(), TaskState::Canceled);
    assert!(ended.error.is_none(), "a cancel is no failure: {ended:?}");
    assert_eq!(exit_signal(&ended), Some(15));
}

#[tokio::test]
async fn a_second_cancel_can_only_shorten_the_grace() {
    let mut client = Deployment::shared().await.client().await;
    let task = ready(&mut client, probe("ignore-term")).await;
    let first = cancel(&mut client, &task.id, Some(300_000)).await;
    assert_eq!(first.outcome(), CancelOutcome::Requested);
    let second = cancel(&mut client, &task.id, Some(600_000)).await;
    assert_eq!(second.outcome(), CancelOutcome::AlreadyRequested);
    assert_eq!(client.get(&task.id).await.state(), TaskState::Running);
    cancel(&mut client, &task.id, Some(0)).await;
    let ended = client.ended(&task.id).await;
    assert_eq!(ended.state(), TaskState::Canceled);
    assert_eq!(exit_signal(&ended), Some(9));
}

#[tokio::test]
async fn a_cancel_reaches_the_whole_tree() {
    let deployment = Deployment::shared().await;
    let mut client = deployment.client().await;
    let file = deployment.folder().join(new_session("daemon"));
    let words = format!("daemon {} --stay --ignore-term", file.display());
    let task = ready(&mut client, probe(&words)).await;
    let daemon: u32 = std::fs::read_to_string(&file)
        .ok()
        .and_then(|pid| pid.parse().ok())
        .expect("the daemon's pid");
    assert!(is_alive(daemon));
    cancel(&mut client, &task.id, Some(100)).await;
    let ended = client.ended(&task.id).await;
    assert_eq!(ended.state(), TaskState::Canceled);
    until("the daemon to be gone", SOON, async || !is_alive(daemon)).await;
}

async fn cancel(client: &mut Client, task: &str, grace: Option<i64>) -> CancelTaskResponse {
    let request = CancelTaskRequest {
        task: task.to_owned(),
        grace: grace.map(milliseconds),
        ..CancelTaskRequest::default()
    };
    client
        .tasks
        .cancel_task(request)
        .await
        .expect("answered")
        .into_inner()
}

/// A task whose process has said that it is set up.
async fn ready(client: &mut Client, task: TaskDefinition) -> SessionTask {
    let task = client.create(&new_session("cancel"), task).await;
    eventually("the process to be ready", SOON, async || {
        let request = taskyard_proto::v1::ReadOutputRequest {
            task: task.id.clone(),
            ..Default::default()
        };
        let output = client.tasks.read_output(request).await.ok()?.into_inner();
        output.data.starts_with(b"ready\n").then_some(())
    })
    .await;
    task
}
