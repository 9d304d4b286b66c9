//! Cancel of a tree, a group and a session: everything below goes with it, whatever stands between.

use taskyard_proto::v1::{
    CancelOutcome, CancelScope, CancelTaskRequest, CancelTaskResponse, CancelTasksRequest,
    CancelTasksResponse, SessionTask, TaskDefinition, TaskState,
};
use taskyard_tests::client::{Client, command, new_session, probe};
use taskyard_tests::deployment::Deployment;
use taskyard_tests::refusal::expect_refused;
use tonic::{Code, Status};

#[tokio::test]
async fn a_tree_ends_as_a_whole_and_others_go_on() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("tree");
    let root = client.create(&session, held()).await;
    let mut below = Vec::new();
    let mut parent = root.clone();
    for _ in 0..3 {
        for _ in 0..2 {
            below.push(client.create(&session, child(&parent, held())).await);
        }
        parent = below.last().cloned().unwrap_or_default();
    }
    let stranger = client.create(&session, held()).await;
    let answer = cancel_tree(&mut client, &root.id).await;
    assert_eq!(answer.outcome(), CancelOutcome::Canceled);
    assert_eq!(answer.descendants, 6);
    for task in &below {
        assert_eq!(client.get(&task.id).await.state(), TaskState::Canceled);
    }
    assert_eq!(client.get(&stranger.id).await.state(), TaskState::Queued);

    let again = cancel_tree(&mut client, &root.id).await;
    assert_eq!(again.outcome(), CancelOutcome::AlreadyTerminal);
    assert_eq!(again.descendants, 0);
}

#[tokio::test]
async fn what_is_below_an_ended_task_is_reached_through_it() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("ended");
    let root = client.create(&session, held()).await;
    let middle = client.create(&session, child(&root, held())).await;
    let leaf = client.create(&session, child(&middle, held())).await;
    for ended in [&root, &middle] {
        let alone = cancel(&mut client, &ended.id, CancelScope::Task).await;
        assert_eq!(alone.descendants, 0);
    }
    assert_eq!(
        client.get(&leaf.id).await.state(),
        TaskState::Queued,
        "a cancel of a task alone leaves its children"
    );
    let answer = cancel_tree(&mut client, &root.id).await;
    assert_eq!(answer.outcome(), CancelOutcome::AlreadyTerminal);
    assert_eq!(answer.descendants, 1);
    assert_eq!(client.get(&leaf.id).await.state(), TaskState::Canceled);
}

#[tokio::test]
async fn running_work_of_a_tree_is_told_and_gets_no_more_children() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("told");
    let root = client.create(&session, probe("ignore-term")).await;
    let running = client
        .create(&session, child(&root, probe("ignore-term")))
        .await;
    for task in [&root, &running] {
        client
            .reached(&task.id, |task| task.state() == TaskState::Running)
            .await;
    }
    let request = CancelTaskRequest {
        task: root.id.clone(),
        scope: CancelScope::Tree.into(),
        grace: Some(taskyard_tests::client::milliseconds(600_000)),
        ..CancelTaskRequest::default()
    };
    let answer = client.tasks.cancel_task(request).await;
    let answer = answer.expect("a cancel is answered").into_inner();
    assert_eq!(answer.outcome(), CancelOutcome::Requested);
    assert_eq!(answer.descendants, 1);
    let late = client.try_create(&session, child(&running, held())).await;
    expect_refused(
        "a child of a flagged task",
        late,
        Code::FailedPrecondition,
        "PARENT_CANCELED",
    );
    for task in [&root, &running] {
        kill(&mut client, &task.id).await;
        assert_eq!(client.ended(&task.id).await.state(), TaskState::Canceled);
    }
    let late = client.try_create(&session, child(&running, held())).await;
    expect_refused(
        "a child of an ended task",
        late,
        Code::FailedPrecondition,
        "PARENT_ENDED",
    );
}

#[tokio::test]
async fn a_group_ends_with_all_that_is_below_it() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("group");
    let grouped = |task: TaskDefinition| TaskDefinition {
        group: "builds".to_owned(),
        ..task
    };
    let top = client.create(&session, held()).await;
    let member = client.create(&session, grouped(child(&top, held()))).await;
    let below = client.create(&session, child(&member, held())).await;
    let other = client.create(&session, grouped(held())).await;
    let answer = cancel_tasks(&mut client, &session, "builds").await;
    let answer = answer.expect("a cancel is answered");
    assert_eq!((answer.canceled, answer.requested), (3, 0));
    for task in [&member, &below, &other] {
        assert_eq!(client.get(&task.id).await.state(), TaskState::Canceled);
    }
    assert_eq!(client.get(&top.id).await.state(), TaskState::Queued);
    for nothing in ["builds", "nobody"] {
        let refused = cancel_tasks(&mut client, &session, nothing).await;
        expect_refused(nothing, refused, Code::NotFound, "GROUP_NOT_FOUND");
    }
}

#[tokio::test]
async fn a_session_ends_whole_and_takes_new_tasks_afterwards() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("all");
    let other_session = new_session("other");
    let elsewhere = client.create(&other_session, held()).await;
    let running = client.create(&session, probe("hang")).await;
    client
        .reached(&running.id, |task| task.state() == TaskState::Running)
        .await;
    let queued = client.create(&session, held()).await;
    let below = client.create(&session, child(&queued, held())).await;
    let answer = cancel_tasks(&mut client, &session, "").await;
    let answer = answer.expect("a cancel is answered");
    assert_eq!((answer.canceled, answer.requested), (2, 1));
    for task in [&running, &queued, &below] {
        assert_eq!(client.ended(&task.id).await.state(), TaskState::Canceled);
    }
    let state = client.get(&elsewhere.id).await.state();
    assert_eq!(state, TaskState::Queued, "another session is left alone");
    let after = client.run(&session, command(&["true"])).await;
    assert_eq!(after.state(), TaskState::Succeeded);

    let unknown = cancel_tasks(&mut client, &new_session("never"), "").await;
    expect_refused(
        "an unknown session",
        unknown,
        Code::NotFound,
        "SESSION_NOT_FOUND",
    );
    let nameless = cancel_tasks(&mut client, "", "").await;
    expect_refused(
        "no session",
        nameless,
        Code::InvalidArgument,
        "INVALID_FIELD",
    );
}

#[tokio::test]
async fn the_command_line_cancels_trees_groups_and_sessions() {
    let deployment = Deployment::shared().await;
    let mut client = deployment.client().await;
    let taskyard = deployment.command_line();
    let session = new_session("cli");
    let root = client.create(&session, held()).await;
    let below = client.create(&session, child(&root, held())).await;
    let session_flag = format!("--session={session}");
    let tree = taskyard
        .run(&["cancel", "--tree", "t1", &session_flag])
        .await
        .expect_code(0);
    let said = String::from_utf8_lossy(&tree.stdout).into_owned();
    assert!(said.contains("with 1 task below it"), "{said}");
    assert_eq!(client.get(&below.id).await.state(), TaskState::Canceled);

    let grouped = TaskDefinition {
        group: "g".to_owned(),
        ..held()
    };
    client.create(&session, grouped).await;
    client.create(&session, held()).await;
    let group = taskyard
        .run(&["cancel", "--group=g", &session_flag])
        .await
        .expect_code(0);
    assert_eq!(group.stdout, b"1 canceled, 0 told to stop\n");
    let all = taskyard
        .run(&["cancel", "--all", &session_flag])
        .await
        .expect_code(0);
    assert_eq!(all.stdout, b"1 canceled, 0 told to stop\n");
    taskyard.run(&["cancel", "--all"]).await.expect_code(2);
    taskyard.run(&["cancel"]).await.expect_code(2);
}

async fn cancel_tree(client: &mut Client, task: &str) -> CancelTaskResponse {
    cancel(client, task, CancelScope::Tree).await
}

async fn cancel(client: &mut Client, task: &str, scope: CancelScope) -> CancelTaskResponse {
    let request = CancelTaskRequest {
        task: task.to_owned(),
        scope: scope.into(),
        ..CancelTaskRequest::default()
    };
    let answer = client.tasks.cancel_task(request).await;
    answer.expect("a cancel is answered").into_inner()
}

async fn kill(client: &mut Client, task: &str) {
    let request = CancelTaskRequest {
        task: task.to_owned(),
        grace: Some(prost_types::Duration::default()),
        ..CancelTaskRequest::default()
    };
    let answer = client.tasks.cancel_task(request).await;
    answer.expect("a cancel is answered");
}

async fn cancel_tasks(
    client: &mut Client,
    session: &str,
    group: &str,
) -> Result<CancelTasksResponse, Status> {
    let request = CancelTasksRequest {
        session_id: session.to_owned(),
        group: group.to_owned(),
        ..CancelTasksRequest::default()
    };
    Ok(client.tasks.cancel_tasks(request).await?.into_inner())
}

fn held() -> TaskDefinition {
    TaskDefinition {
        hold: true,
        ..command(&["true"])
    }
}

fn child(parent: &SessionTask, task: TaskDefinition) -> TaskDefinition {
    TaskDefinition {
        parent_task_id: parent.id.clone(),
        ..task
    }
}
