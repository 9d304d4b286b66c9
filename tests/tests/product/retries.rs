//! More runs of one task, and repeating a task that has ended.

use std::time::Duration;

use taskyard_proto::v1::{
    RetryPolicy, RetryTaskRequest, RetryTaskResponse, SessionTask, TaskDefinition, TaskState,
};
use taskyard_tests::client::{
    Client, error_kind, exit_code, milliseconds, moment, new_session, shell,
};
use taskyard_tests::deployment::Deployment;
use taskyard_tests::refusal::expect_refused;
use tonic::Code;

#[tokio::test]
async fn a_task_is_run_again_until_it_succeeds() {
    let deployment = Deployment::shared().await;
    let mut client = deployment.client().await;
    let file = deployment.folder().join(new_session("runs"));
    let script = format!(
        "echo run >>{0}; echo this is run $(wc -l <{0}); test $(wc -l <{0}) -ge 3",
        file.display()
    );
    let ended = client.run(&new_session("retry"), retried(&script, 5)).await;
    assert_eq!(ended.state(), TaskState::Succeeded, "{ended:?}");
    assert_eq!((ended.run, ended.attempt), (3, 3));
    assert!(ended.error.is_none(), "{ended:?}");
    let runs = std::fs::read_to_string(&file).expect("it ran");
    assert_eq!(runs.lines().count(), 3);
    let result = client.result(&ended.id).await;
    assert_eq!(result["run"], 3);
    assert_eq!(result["stdout"]["tail"], "this is run 3\n");
    assert!(moment(ended.started_at) < moment(ended.finished_at));
}

#[tokio::test]
async fn a_task_that_backs_off_says_why_and_for_how_long() {
    let mut client = Deployment::shared().await.client().await;
    let task = TaskDefinition {
        retry: Some(RetryPolicy {
            max_runs: 2,
            initial_backoff: Some(milliseconds(600_000)),
            ..RetryPolicy::default()
        }),
        ..shell("echo broken >&2; exit 7")
    };
    let task = client.create(&new_session("backoff"), task).await;
    let is_backing_off = |task: &SessionTask| task.run == 1 && task.state() == TaskState::Queued;
    let waiting = client.reached(&task.id, is_backing_off).await;
    assert_eq!(error_kind(&waiting), "exit");
    let backoff = moment(waiting.not_before).duration_since(moment(waiting.created_at));
    // 10 minutes, varied by up to a fifth
    assert!(backoff.is_ok_and(|backoff| (470..760).contains(&backoff.as_secs())));
    assert_eq!(waiting.result_path, "");
    let cancel = taskyard_proto::v1::CancelTaskRequest {
        task: task.id.clone(),
        ..Default::default()
    };
    client.tasks.cancel_task(cancel).await.expect("canceled");
    assert_eq!(client.get(&task.id).await.state(), TaskState::Canceled);
}

#[tokio::test]
async fn runs_that_all_fail_end_with_what_the_last_one_did() {
    let mut client = Deployment::shared().await.client().await;
    let ended = client
        .run(&new_session("spent"), retried("exit 9", 3))
        .await;
    assert_eq!(ended.state(), TaskState::Failed);
    assert_eq!(ended.run, 3);
    assert_eq!(error_kind(&ended), "exit");
    assert_eq!(exit_code(&ended), Some(9));
}

#[tokio::test]
async fn a_task_that_has_ended_can_be_repeated_as_a_new_one() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("again");
    let named = TaskDefinition {
        name: "deploy".to_owned(),
        key: "only-the-first".to_owned(),
        ..shell("exit 4")
    };
    let first = client.run(&session, named).await;
    let request_id = new_session("id");
    let repeated = retry(&mut client, &first.id, &request_id)
        .await
        .expect("repeated");
    assert!(repeated.created);
    let second = repeated.task.unwrap_or_default();
    assert_ne!(second.id, first.id);
    assert_eq!(
        (second.ordinal, second.name.as_str(), second.key.as_str()),
        (2, "deploy", "")
    );
    assert_eq!(second.links.clone().unwrap_or_default().retry_of, first.id);
    let again = retry(&mut client, &first.id, &request_id)
        .await
        .expect("the same");
    assert!(!again.created);
    assert_eq!(again.task.unwrap_or_default().id, second.id);
    let old = client.get(&first.id).await;
    assert_eq!(old.state(), TaskState::Failed, "what has ended stays so");
    assert_eq!(old.links.unwrap_or_default().retried_as, second.id);
    let ended = client.ended(&second.id).await;
    assert_eq!(exit_code(&ended), Some(4));
}

#[tokio::test]
async fn a_name_that_is_taken_meanwhile_does_not_stop_a_retry() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("name");
    let named = |script: &str| TaskDefinition {
        name: "deploy".to_owned(),
        ..shell(script)
    };
    let first = client.run(&session, named("exit 4")).await;
    let held = TaskDefinition {
        hold: true,
        ..named("true")
    };
    client.create(&session, held).await;
    let request_id = new_session("id");
    let repeated = retry(&mut client, &first.id, &request_id).await;
    let task = repeated.expect("repeated").task.unwrap_or_default();
    assert_eq!(task.name, "");
    assert_eq!(task.links.unwrap_or_default().retry_of, first.id);
    let again = retry(&mut client, &first.id, &request_id).await;
    let again = again.expect("the same");
    assert_eq!(
        (again.created, again.task.unwrap_or_default().id),
        (false, task.id)
    );
}

#[tokio::test]
async fn only_a_task_that_has_ended_can_be_repeated() {
    let mut client = Deployment::shared().await.client().await;
    let held = TaskDefinition {
        hold: true,
        ..shell("true")
    };
    let held = client.create(&new_session("live"), held).await;
    let refused = retry(&mut client, &held.id, "").await;
    expect_refused(
        "a live task",
        refused,
        Code::FailedPrecondition,
        "NOT_TERMINAL",
    );
}

async fn retry(
    client: &mut Client,
    task: &str,
    request_id: &str,
) -> Result<RetryTaskResponse, tonic::Status> {
    let request = RetryTaskRequest {
        task: task.to_owned(),
        request_id: request_id.to_owned(),
        ..RetryTaskRequest::default()
    };
    Ok(client.tasks.retry_task(request).await?.into_inner())
}

fn retried(script: &str, max_runs: i32) -> TaskDefinition {
    let backoff = |time: Duration| prost_types::Duration::try_from(time).ok();
    TaskDefinition {
        retry: Some(RetryPolicy {
            max_runs,
            initial_backoff: backoff(Duration::from_millis(20)),
            max_backoff: backoff(Duration::from_millis(50)),
            multiplier: 2.0,
        }),
        ..shell(script)
    }
}
