//! Batches: all tasks or none, or each for itself; and a call that is repeated makes nothing twice.

use taskyard_proto::v1::{
    BatchCreateResult, BatchCreateTasksRequest, ListTasksRequest, TaskDefinition, TaskState,
};
use taskyard_tests::client::{Client, command, new_session};
use taskyard_tests::deployment::Deployment;
use taskyard_tests::refusal::{expect_bad_field, expect_refused};
use tonic::{Code, Status};
use tonic_types::StatusExt;

#[tokio::test]
async fn a_batch_is_stored_in_its_order_and_runs() {
    let mut client = Deployment::shared().await.client().await;
    for atomic in [true, false] {
        let session = new_session("batch");
        let tasks = (0..10).map(|_| command(&["true"])).collect();
        let results = create(&mut client, &session, tasks, atomic, "").await;
        let results = results.expect("a sound batch");
        assert!(
            results
                .iter()
                .all(|result| result.created && result.error.is_none())
        );
        let tasks = results.into_iter().filter_map(|result| result.task);
        for (ordinal, task) in (1..).zip(tasks) {
            assert_eq!(task.ordinal, ordinal);
            assert_eq!(client.ended(&task.id).await.state(), TaskState::Succeeded);
        }
    }
}

#[tokio::test]
async fn an_atomic_batch_leaves_nothing_behind_where_one_task_is_refused() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("atomic");
    let earlier = client.create(&session, keyed("taken-key", "taken")).await;
    let other = TaskDefinition {
        priority: 5,
        ..keyed("taken-key", "")
    };
    let childless = TaskDefinition {
        parent_task_id: "nobody".to_owned(),
        ..held()
    };
    let bad = TaskDefinition {
        priority: 1_000,
        ..held()
    };
    for (culprit, code, reason, field) in [
        (
            keyed("", "taken"),
            Code::AlreadyExists,
            "NAME_TAKEN",
            "name",
        ),
        (other, Code::AlreadyExists, "KEY_CONFLICT", "key"),
        (
            childless,
            Code::NotFound,
            "TASK_NOT_FOUND",
            "parent_task_id",
        ),
        // The name of the first task of the same batch.
        (
            keyed("", "first"),
            Code::AlreadyExists,
            "NAME_TAKEN",
            "name",
        ),
        (bad, Code::InvalidArgument, "INVALID_FIELD", "priority"),
    ] {
        let tasks = vec![keyed("first-key", "first"), held(), culprit];
        let refused = create(&mut client, &session, tasks, true, "").await;
        let status = expect_refused(field, refused, code, reason);
        let details = status.get_details_bad_request();
        let violations = details.map(|details| details.field_violations);
        let fields: Vec<_> = violations
            .into_iter()
            .flatten()
            .map(|violation| violation.field)
            .collect();
        assert_eq!(fields, [format!("tasks[2].{field}")]);
        assert_eq!(count(&mut client, &session).await, 1, "{reason}");
    }
    let twice = vec![keyed("", "first"), keyed("", "first")];
    let refused = create(&mut client, &session, twice, true, "").await;
    let status = expect_refused("twice", refused, Code::AlreadyExists, "NAME_TAKEN");
    assert!(
        status.message().contains("an earlier task of the batch"),
        "no live task has it: {status:?}"
    );
    // Neither key nor name of the refused batches is taken.
    let tasks = vec![
        keyed("first-key", "first"),
        keyed("taken-key", "taken"),
        keyed("first-key", "first"),
    ];
    let results = create(&mut client, &session, tasks, true, "").await;
    let results = results.expect("what is repeated is no conflict");
    let created: Vec<bool> = results.iter().map(|result| result.created).collect();
    assert_eq!(created, [true, false, false]);
    let id = |result: &BatchCreateResult| result.task.clone().unwrap_or_default().id;
    assert_eq!(id(&results[1]), earlier.id);
    assert_eq!(id(&results[2]), id(&results[0]));
    assert_eq!(count(&mut client, &session).await, 2);
}

#[tokio::test]
async fn each_task_of_another_batch_stands_for_itself() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("each");
    client.create(&session, keyed("", "taken")).await;
    let bad = TaskDefinition {
        spec: None,
        ..held()
    };
    let tasks = vec![held(), keyed("", "taken"), bad, held()];
    let results = create(&mut client, &session, tasks, false, "").await;
    let results = results.expect("the batch is answered");
    let reasons: Vec<String> = results
        .iter()
        .map(|result| result.error.clone().unwrap_or_default().reason)
        .collect();
    assert_eq!(reasons, ["", "NAME_TAKEN", "INVALID_FIELD", ""]);
    let error = results[2].error.clone().unwrap_or_default();
    assert_eq!(error.code, Code::InvalidArgument as i32);
    assert!(error.message.starts_with("tasks[2].spec: "), "{error:?}");
    assert!(results[1].task.is_none() && results[3].task.is_some());
    assert_eq!(count(&mut client, &session).await, 3);
}

#[tokio::test]
async fn a_repeated_batch_makes_nothing_twice() {
    let mut client = Deployment::shared().await.client().await;
    for atomic in [true, false] {
        let session = new_session("again");
        let request_id = format!("r-{session}");
        let tasks = || vec![held(), held(), held()];
        let first = create(&mut client, &session, tasks(), atomic, &request_id).await;
        let again = create(&mut client, &session, tasks(), atomic, &request_id).await;
        let ids = |results: Result<Vec<BatchCreateResult>, Status>, created: bool| -> Vec<String> {
            let results = results.expect("a sound batch");
            assert!(results.iter().all(|result| result.created == created));
            let tasks = results.into_iter().filter_map(|result| result.task);
            tasks.map(|task| task.id).collect()
        };
        assert_eq!(ids(first, true), ids(again, false));

        let mut longer = tasks();
        longer.push(held());
        let other = create(&mut client, &session, longer, atomic, &request_id).await;
        expect_refused(
            "another batch under the id",
            other,
            Code::AlreadyExists,
            "REQUEST_ID_CONFLICT",
        );
        assert_eq!(count(&mut client, &session).await, 3);
    }
}

#[tokio::test]
async fn a_key_means_the_same_alone_and_in_a_batch() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("same");
    let alone = client.create(&session, keyed("k", "")).await;
    let results = create(&mut client, &session, vec![keyed("k", "")], true, "").await;
    let result = results.expect("a sound batch").remove(0);
    assert!(!result.created);
    assert_eq!(result.task.unwrap_or_default().id, alone.id);
}

#[tokio::test]
async fn a_batch_has_its_bounds() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("bounds");
    for count in [0, 201] {
        let refused = create(&mut client, &session, vec![held(); count], true, "").await;
        expect_bad_field(refused, "tasks");
    }
    let results = create(&mut client, &session, vec![held(); 200], true, "").await;
    assert_eq!(results.expect("the largest batch").len(), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn atomic_batches_that_meet_are_stored_whole_or_not_at_all() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("meet");
    let batches: Vec<_> = (0..12)
        .map(|batch| {
            let (mut client, session) = (client.clone(), session.clone());
            tokio::spawn(async move {
                // Of all batches one can have the name; its place differs.
                let mut tasks = vec![held(); 3];
                tasks[batch % 3] = keyed("", "one");
                create(&mut client, &session, tasks, true, "").await.is_ok()
            })
        })
        .collect();
    let mut stored = 0;
    for batch in batches {
        stored += usize::from(batch.await.expect("a create does not panic"));
    }
    assert_eq!(stored, 1);
    assert_eq!(count(&mut client, &session).await, 3);
}

#[tokio::test]
async fn a_file_of_several_tasks_is_a_batch() {
    let deployment = Deployment::shared().await;
    let cli = deployment.command_line();
    let session = new_session("file");
    let flag = format!("--session={session}");
    let documents = "name: a\ncommand: {argv: ['true']}\n---\nname: b\ncommand: {argv: ['true']}\n";
    let submitted = cli
        .run_with_input(
            &["submit", "-f", "-", &flag, "--wait", "-o", "json"],
            documents.as_bytes(),
        )
        .await
        .expect_code(0);
    let tasks = submitted.json();
    let names: Vec<_> = tasks.as_array().into_iter().flatten().collect();
    assert_eq!(names.len(), 2);
    assert!(
        names.iter().all(|task| task["state"] == "succeeded"),
        "{tasks}"
    );

    let json = r#"[{"name": "c", "command": {"argv": ["true"]}}, {"name": "c", "command": {"argv": ["true"]}}]"#;
    let held = ["submit", "-f", "-", &flag, "--hold"];
    let atomic: Vec<&str> = held.iter().copied().chain(["--atomic"]).collect();
    let refused = cli.run_with_input(&atomic, json.as_bytes()).await;
    let refused = refused.expect_code(1);
    assert!(refused.stderr.contains("task 2: name: "), "{refused:?}");
    let each = cli.run_with_input(&held, json.as_bytes()).await;
    let each = each.expect_code(1);
    assert!(each.stderr.contains("task 2: "), "{each:?}");
    cli.run(&["release", "c", &flag]).await.expect_code(0);
    cli.run(&["wait", "t3", &flag]).await.expect_code(0);
    let late = cli.run(&["hold", "t3", &flag]).await;
    late.expect_code(1);
}

async fn create(
    client: &mut Client,
    session: &str,
    tasks: Vec<TaskDefinition>,
    atomic: bool,
    request_id: &str,
) -> Result<Vec<BatchCreateResult>, Status> {
    let request = BatchCreateTasksRequest {
        session_id: session.to_owned(),
        tasks,
        atomic,
        request_id: request_id.to_owned(),
        ..BatchCreateTasksRequest::default()
    };
    let answer = client.tasks.batch_create_tasks(request).await?;
    Ok(answer.into_inner().results)
}

async fn count(client: &mut Client, session: &str) -> usize {
    let request = ListTasksRequest {
        session_id: session.to_owned(),
        page_size: 500,
        ..ListTasksRequest::default()
    };
    let answer = client.tasks.list_tasks(request).await;
    answer.expect("a listing").into_inner().tasks.len()
}

fn held() -> TaskDefinition {
    TaskDefinition {
        hold: true,
        ..command(&["true"])
    }
}

fn keyed(key: &str, name: &str) -> TaskDefinition {
    TaskDefinition {
        key: key.to_owned(),
        name: name.to_owned(),
        ..held()
    }
}
