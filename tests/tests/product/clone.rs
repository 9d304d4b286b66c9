//! New tasks like existing ones: clones with changes, restarts, and retries whose parents are gone.

use taskyard_proto::v1::{
    CancelTaskRequest, CloneTaskRequest, RetryTaskRequest, SessionTask, TaskDefinition, TaskState,
};
use taskyard_tests::client::{Client, command, new_session, pairs, probe};
use taskyard_tests::deployment::Deployment;
use taskyard_tests::refusal::{expect_bad_field, expect_refused};
use tonic::{Code, Status};

#[tokio::test]
async fn a_clone_has_what_was_not_changed() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("clone");
    let original = TaskDefinition {
        name: "original".to_owned(),
        key: "k".to_owned(),
        labels: pairs(&[("team", "core")]),
        tags: vec!["team.core".to_owned()],
        priority: 7,
        group: "g".to_owned(),
        ..held(&["sh", "-c", "exit 3"])
    };
    let original = client.create(&session, original).await;
    let request = CloneTaskRequest {
        changes: Some(TaskDefinition {
            priority: 2,
            ..command(&["true"])
        }),
        change_mask: mask(&["spec.command.argv", "priority", "labels"]),
        ..of(&original)
    };
    let clone = clone_task(&mut client, request).await.expect("cloned");
    assert_eq!((clone.name.as_str(), clone.key.as_str()), ("", ""));
    assert_eq!((clone.priority, clone.group.as_str()), (2, "g"));
    assert!(clone.labels.is_empty(), "named and unset clears: {clone:?}");
    assert_eq!(clone.tags, ["team.core"]);
    let links = clone.links.clone().unwrap_or_default();
    assert_eq!(links.retry_of, "", "the original has not ended");
    let ended = client.ended(&clone.id).await;
    assert_eq!(
        ended.state(),
        TaskState::Succeeded,
        "the hold is not copied, the command was changed: {ended:?}"
    );
    let state = client.get(&original.id).await.state();
    assert_eq!(state, TaskState::Queued, "the original is untouched");

    let of_ended = clone_task(&mut client, of(&clone)).await.expect("cloned");
    let links = of_ended.links.unwrap_or_default();
    assert_eq!(links.retry_of, clone.id);
}

#[tokio::test]
async fn a_bad_change_is_refused_and_named() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("bad");
    let task = client.create(&session, held(&["true"])).await;
    for unknown in ["nmae", "spec.argv", "labels.team", ""] {
        let request = CloneTaskRequest {
            change_mask: mask(&["priority", unknown]),
            ..of(&task)
        };
        expect_bad_field(clone_task(&mut client, request).await, "change_mask");
    }
    let unmasked = CloneTaskRequest {
        changes: Some(command(&["false"])),
        ..of(&task)
    };
    expect_bad_field(clone_task(&mut client, unmasked).await, "change_mask");
    let bad = CloneTaskRequest {
        changes: Some(TaskDefinition {
            priority: 1_000,
            ..TaskDefinition::default()
        }),
        change_mask: mask(&["priority"]),
        ..of(&task)
    };
    expect_bad_field(clone_task(&mut client, bad).await, "changes.priority");
    let cleared = CloneTaskRequest {
        change_mask: mask(&["spec.command.argv"]),
        ..of(&task)
    };
    let refused = clone_task(&mut client, cleared).await;
    expect_bad_field(refused, "changes.spec.command.argv");
    let unknown = CloneTaskRequest {
        task: "nobody".to_owned(),
        session_id: session,
        ..CloneTaskRequest::default()
    };
    expect_refused(
        "an unknown task",
        clone_task(&mut client, unknown).await,
        Code::NotFound,
        "TASK_NOT_FOUND",
    );
}

#[tokio::test]
async fn a_repeated_clone_is_one_task() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("again");
    let task = client.create(&session, held(&["true"])).await;
    let request = |task: &str| CloneTaskRequest {
        session_id: session.clone(),
        task: task.to_owned(),
        changes: Some(TaskDefinition {
            hold: true,
            ..TaskDefinition::default()
        }),
        change_mask: mask(&["hold"]),
        request_id: format!("r-{session}"),
        ..CloneTaskRequest::default()
    };
    let first = clone_task(&mut client, request("t1"))
        .await
        .expect("cloned");
    let again = clone_task(&mut client, request(&task.id)).await;
    assert_eq!(again.expect("the same call").id, first.id);
    let other = CloneTaskRequest {
        change_mask: mask(&["hold", "tags"]),
        ..request("t1")
    };
    expect_refused(
        "another clone under the id",
        clone_task(&mut client, other).await,
        Code::AlreadyExists,
        "REQUEST_ID_CONFLICT",
    );
}

#[tokio::test]
async fn a_copy_whose_parent_is_gone_is_a_root() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("roots");
    let parent = client.create(&session, held(&["true"])).await;
    let child = TaskDefinition {
        parent_task_id: parent.id.clone(),
        ..command(&["true"])
    };
    let child = client.run(&session, child).await;
    let below = retry(&mut client, &child.id).await;
    assert_eq!(below.parent_task_id, parent.id, "the parent still lives");
    cancel(&mut client, &parent.id).await;

    let retried = retry(&mut client, &child.id).await;
    let cloned = clone_task(&mut client, of(&child)).await.expect("cloned");
    for copy in [retried, cloned] {
        assert_eq!(copy.parent_task_id, "");
        assert_eq!(copy.root_task_id, copy.id);
        assert_eq!(copy.links.clone().unwrap_or_default().retry_of, child.id);
        client.ended(&copy.id).await;
    }
    let named = CloneTaskRequest {
        changes: Some(TaskDefinition {
            parent_task_id: parent.id,
            ..TaskDefinition::default()
        }),
        change_mask: mask(&["parent_task_id"]),
        ..of(&child)
    };
    expect_refused(
        "a parent that has ended and is asked for",
        clone_task(&mut client, named).await,
        Code::FailedPrecondition,
        "PARENT_ENDED",
    );
}

#[tokio::test]
async fn the_command_line_clones_and_restarts() {
    let deployment = Deployment::shared().await;
    let mut client = deployment.client().await;
    let cli = deployment.command_line();
    let session = new_session("cli");
    let flag = format!("--session={session}");
    let named = TaskDefinition {
        name: "server".to_owned(),
        ..probe("hang")
    };
    let first = client.create(&session, named).await;
    client
        .reached(&first.id, |task| task.state() == TaskState::Running)
        .await;
    let restarted = cli
        .run(&["restart", "server", &flag, "-o", "name"])
        .await
        .expect_code(0)
        .text();
    let second = client.get(restarted.trim()).await;
    assert_eq!(second.links.clone().unwrap_or_default().retry_of, first.id);
    assert_eq!(second.name, "server");
    assert_eq!(client.get(&first.id).await.state(), TaskState::Canceled);
    cancel(&mut client, &second.id).await;
    client.ended(&second.id).await;

    let cloned = cli
        .run(&[
            "clone",
            "t2",
            &flag,
            "--name=other",
            "--hold",
            "--retry=2",
            "--timeout=5s",
            "-o",
            "name",
            "--",
            "echo",
            "hello",
        ])
        .await
        .expect_code(0)
        .text();
    let clone = client.get(cloned.trim()).await;
    assert_eq!((clone.name.as_str(), clone.hold), ("other", true));
    assert_eq!(clone.retry.unwrap_or_default().max_runs, 2);
    assert_eq!(clone.timeout.unwrap_or_default().seconds, 5);
    let command = clone.spec.unwrap_or_default().command.unwrap_or_default();
    assert_eq!(command.argv, ["echo", "hello"]);
    cli.run(&["release", "other", &flag]).await.expect_code(0);
    assert_eq!(client.ended(&clone.id).await.state(), TaskState::Succeeded);
    cli.run(&["clone", "nobody", &flag]).await.expect_code(1);
    cli.run(&["restart", "nobody", &flag]).await.expect_code(1);
}

#[tokio::test]
async fn a_restart_waits_no_longer_than_it_is_told_and_leaves_monitors_alone() {
    let deployment = Deployment::shared().await;
    let mut client = deployment.client().await;
    let cli = deployment.command_line();
    let session = new_session("restart");
    let flag = format!("--session={session}");
    let deaf = "trap '' TERM; echo ready; while :; do sleep 0.1; done";
    let task = client.create(&session, command(&["sh", "-c", deaf])).await;
    let ready = ["wait", &task.id, "--match", "ready", "--timeout", "30s"];
    cli.run(&ready).await.expect_code(0);
    let restart = ["restart", &task.id, "--grace=60s", "--timeout=300ms"];
    cli.run(&restart).await.expect_code(4);
    let told = client.get(&task.id).await;
    assert!(told.cancel_requested_at.is_some() && told.finished_at.is_none());
    cli.run(&["cancel", &task.id, "--now"]).await.expect_code(0);
    client.ended(&task.id).await;

    let monitor = cli
        .run(&[
            "monitor",
            "create",
            &flag,
            "--every=1h",
            "-o",
            "name",
            "--",
            "true",
        ])
        .await
        .expect_code(0)
        .text();
    let monitor = monitor.trim();
    cli.run(&["restart", monitor]).await.expect_code(1);
    let kept = client.get(monitor).await;
    assert!(kept.cancel_requested_at.is_none(), "{kept:?}");
    cancel(&mut client, monitor).await;
}

fn of(task: &SessionTask) -> CloneTaskRequest {
    CloneTaskRequest {
        task: task.id.clone(),
        ..CloneTaskRequest::default()
    }
}

async fn clone_task(client: &mut Client, request: CloneTaskRequest) -> Result<SessionTask, Status> {
    let answer = client.tasks.clone_task(request).await?.into_inner();
    Ok(answer.task.unwrap_or_default())
}

async fn retry(client: &mut Client, task: &str) -> SessionTask {
    let request = RetryTaskRequest {
        task: task.to_owned(),
        ..RetryTaskRequest::default()
    };
    let answer = client.tasks.retry_task(request).await;
    answer
        .expect("retried")
        .into_inner()
        .task
        .unwrap_or_default()
}

async fn cancel(client: &mut Client, task: &str) {
    let request = CancelTaskRequest {
        task: task.to_owned(),
        ..CancelTaskRequest::default()
    };
    client.tasks.cancel_task(request).await.expect("canceled");
}

fn mask(paths: &[&str]) -> Option<prost_types::FieldMask> {
    Some(prost_types::FieldMask {
        paths: paths.iter().map(|path| (*path).to_owned()).collect(),
    })
}

fn held(argv: &[&str]) -> TaskDefinition {
    TaskDefinition {
        hold: true,
        ..command(argv)
    }
}

#[tokio::test]
async fn a_clone_of_a_monitor_fires_by_the_same_schedule_while_there_is_one() {
    let deployment = Deployment::shared().await;
    let mut client = deployment.client().await;
    let session = new_session("monitor");
    let cli = deployment.command_line().env("TASKYARD_SESSION", &session);
    let words = "monitor create --every 5m --wake-on always --name one -o name -- true";
    let created = cli.run(&words.split(' ').collect::<Vec<_>>()).await;
    let id = created.expect_code(0).text().trim().to_owned();
    let cloned = cli
        .run(&["clone", "one", "-o", "name"])
        .await
        .expect_code(0)
        .text();
    let schedules: Vec<_> = client
        .monitors(&session)
        .await
        .into_iter()
        .map(|monitor| (monitor.task.unwrap_or_default().id, monitor.schedule))
        .collect();
    assert_eq!(schedules.len(), 2, "{schedules:?}");
    assert_eq!(schedules[0].0, cloned.trim(), "newest first");
    assert_eq!(schedules[0].1, schedules[1].1);
    cli.run(&["cancel", "one"]).await.expect_code(0);
    let ended = client.ended(&id).await;
    let refused = clone_task(&mut client, of(&ended)).await;
    expect_bad_field(refused, "task");
    let with_schedule = CloneTaskRequest {
        changes: Some(TaskDefinition {
            schedule: schedules[0].1.clone(),
            ..TaskDefinition::default()
        }),
        change_mask: mask(&["schedule"]),
        ..of(&ended)
    };
    let again = clone_task(&mut client, with_schedule)
        .await
        .expect("cloned");
    assert_eq!(again.kind, "monitor");
}
