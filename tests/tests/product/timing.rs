//! When a task may start, how long it may take, and waiting for it.

use std::time::{Duration, Instant, SystemTime};

use taskyard_proto::v1::{
    TaskDefinition, TaskState, UpdateTaskRequest, WaitMode, WaitTasksRequest, WaitTasksResponse,
    WaitUntil, WaitedTask,
};
use taskyard_tests::client::{
    Client, command, error_kind, milliseconds, new_session, probe, shell,
};
use taskyard_tests::deployment::Deployment;
use taskyard_tests::wait::SOON;

#[tokio::test]
async fn a_held_task_starts_when_it_is_released() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("hold");
    let held = TaskDefinition {
        hold: true,
        ..command(&["true"])
    };
    let held = client.create(&session, held).await;
    // A task created later in the same queue proves that the dispatcher had its chance.
    client.run(&session, command(&["true"])).await;
    assert_eq!(client.get(&held.id).await.state(), TaskState::Queued);
    let release = UpdateTaskRequest {
        task: held.id.clone(),
        update_mask: Some(prost_types::FieldMask {
            paths: vec!["hold".to_owned()],
        }),
        ..UpdateTaskRequest::default()
    };
    client.tasks.update_task(release).await.expect("released");
    assert_eq!(client.ended(&held.id).await.state(), TaskState::Succeeded);
}

#[tokio::test]
async fn a_task_does_not_start_before_its_time() {
    let mut client = Deployment::shared().await.client().await;
    let not_before = SystemTime::now() + Duration::from_millis(1500);
    let task = TaskDefinition {
        not_before: Some(not_before.into()),
        ..command(&["true"])
    };
    let ended = client.run(&new_session("later"), task).await;
    assert_eq!(ended.state(), TaskState::Succeeded);
    let started = ended
        .started_at
        .and_then(|at| SystemTime::try_from(at).ok());
    assert!(
        started.is_some_and(|started| started >= not_before),
        "{ended:?}"
    );
}

#[tokio::test]
async fn a_task_that_does_not_start_in_time_fails() {
    let mut client = Deployment::shared().await.client().await;
    let task = TaskDefinition {
        queue: "served-by-nobody".to_owned(),
        start_deadline: Some((SystemTime::now() + Duration::from_millis(500)).into()),
        ..command(&["true"])
    };
    let ended = client.run(&new_session("deadline"), task).await;
    assert_eq!(ended.state(), TaskState::Failed);
    assert_eq!(error_kind(&ended), "start_deadline_exceeded");
    assert_eq!((ended.run, ended.attempt), (0, 0));
}

#[tokio::test]
async fn a_run_that_takes_too_long_is_ended_and_says_so() {
    let mut client = Deployment::shared().await.client().await;
    let task = TaskDefinition {
        timeout: Some(milliseconds(300)),
        ..probe("hang")
    };
    let started = Instant::now();
    let ended = client.run(&new_session("timeout"), task).await;
    assert!(started.elapsed() < SOON);
    assert_eq!(ended.state(), TaskState::Failed);
    let error = ended.error.unwrap_or_default();
    assert_eq!(error.kind, "timeout");
    assert!(ended.exit.unwrap_or_default().timed_out);
}

#[tokio::test]
async fn a_run_that_ignores_its_timeout_is_killed_after_the_grace() {
    let mut client = Deployment::shared().await.client().await;
    let task = TaskDefinition {
        timeout: Some(milliseconds(300)),
        ..taskyard_tests::client::with_command(probe("ignore-term"), |command| {
            command.grace = Some(milliseconds(200));
        })
    };
    let ended = client.run(&new_session("timeout"), task).await;
    assert_eq!(error_kind(&ended), "timeout");
    let exit = ended.exit.unwrap_or_default();
    assert_eq!(
        (exit.signal, exit.signal_name.as_str()),
        (Some(9), "SIGKILL")
    );
    assert!(exit.timed_out);
}

#[tokio::test]
async fn a_wait_for_any_or_all_ends_when_they_are_there() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("waits");
    let short = client.create(&session, shell("exit 1")).await.id;
    let long = client.create(&session, probe("hang")).await.id;
    let both = [(short.as_str(), 0), (long.as_str(), 0)];
    let any = wait(
        &mut client,
        &both,
        WaitMode::Any,
        WaitUntil::Terminal,
        30_000,
    )
    .await;
    assert!(!any.timed_out);
    let states: Vec<TaskState> = any.tasks.iter().map(|task| task.state()).collect();
    assert_eq!(states[0], TaskState::Failed);
    assert_eq!(any.tasks[1].id, long, "in the order of the request");
    let all = wait(&mut client, &both, WaitMode::All, WaitUntil::Terminal, 200).await;
    assert!(all.timed_out, "an expired wait is no error");
    let running = client
        .reached(&long, |task| task.state() == TaskState::Running)
        .await;
    let cancel = taskyard_proto::v1::CancelTaskRequest {
        task: long.clone(),
        grace: Some(milliseconds(0)),
        ..Default::default()
    };
    let watching = {
        let mut client = client.clone();
        let seen = [(long.as_str(), running.generation)];
        async move {
            wait(
                &mut client,
                &seen,
                WaitMode::All,
                WaitUntil::Changed,
                30_000,
            )
            .await
        }
    };
    let mut canceling = client.clone();
    let (changed, canceled) = tokio::join!(watching, canceling.tasks.cancel_task(cancel));
    canceled.expect("canceled");
    assert!(!changed.timed_out && changed.tasks[0].generation > running.generation);
    let all = wait(
        &mut client,
        &both,
        WaitMode::All,
        WaitUntil::Terminal,
        30_000,
    )
    .await;
    assert!(!all.timed_out);
    assert_eq!(all.tasks[1].state(), TaskState::Canceled);
}

async fn wait(
    client: &mut Client,
    tasks: &[(&str, i64)],
    mode: WaitMode,
    until: WaitUntil,
    timeout: i64,
) -> WaitTasksResponse {
    let waited = tasks.iter().map(|(task, seen_generation)| WaitedTask {
        task: (*task).to_owned(),
        seen_generation: *seen_generation,
    });
    let request = WaitTasksRequest {
        tasks: waited.collect(),
        mode: mode.into(),
        until: until.into(),
        timeout: Some(milliseconds(timeout)),
        ..WaitTasksRequest::default()
    };
    client
        .tasks
        .wait_tasks(request)
        .await
        .expect("waited")
        .into_inner()
}
