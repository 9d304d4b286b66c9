//! Batches whose tasks name each other as parents, all or none and each for itself.

use taskyard_proto::v1::{
    BatchCreateResult, BatchCreateTasksRequest, CancelScope, CancelTaskRequest, ListTasksRequest,
    SessionTask, TaskDefinition, TaskState,
};
use taskyard_tests::client::{Client, command, new_session};
use taskyard_tests::deployment::Deployment;
use taskyard_tests::monitor::{every, monitor};
use taskyard_tests::refusal::{expect_bad_field, expect_refused};
use tonic::{Code, Status};
use tonic_types::StatusExt;

#[tokio::test]
async fn the_tasks_of_a_batch_can_be_a_tree() {
    let mut client = Deployment::shared().await.client().await;
    for atomic in [true, false] {
        let session = new_session("tree");
        let batch = vec![
            held(),
            below(0),
            below(1),
            below(0),
            command(&["true"]),
            TaskDefinition {
                hold: false,
                ..below(4)
            },
        ];
        let tasks = stored(create(&mut client, &session, batch, atomic).await);
        let parents: Vec<&str> = tasks
            .iter()
            .map(|task| task.parent_task_id.as_str())
            .collect();
        let id = |item: usize| tasks[item].id.as_str();
        assert_eq!(parents, ["", id(0), id(1), id(0), "", id(4)]);
        let roots: Vec<&str> = tasks
            .iter()
            .map(|task| task.root_task_id.as_str())
            .collect();
        assert_eq!(roots, [id(0), id(0), id(0), id(0), id(4), id(4)]);
        let ordinals: Vec<i64> = tasks.iter().map(|task| task.ordinal).collect();
        if atomic {
            assert_eq!(ordinals, [1, 2, 3, 4, 5, 6]);
        } else {
            // one generation after the other
            assert_eq!(ordinals, [1, 3, 6, 4, 2, 5]);
        }
        for item in [4, 5] {
            assert_eq!(client.ended(id(item)).await.state(), TaskState::Succeeded);
        }
        // What the store says is what was answered, and a cancel of the tree ends all of it.
        let grandchild = client.get(id(2)).await;
        assert_eq!(
            (grandchild.parent_task_id, grandchild.root_task_id),
            (id(1).to_owned(), id(0).to_owned())
        );
        let cancel = CancelTaskRequest {
            task: id(0).to_owned(),
            scope: CancelScope::Tree.into(),
            ..CancelTaskRequest::default()
        };
        client.tasks.cancel_task(cancel).await.expect("canceled");
        for item in 0..4 {
            assert_eq!(client.ended(id(item)).await.state(), TaskState::Canceled);
        }
    }
}

#[tokio::test]
async fn a_child_of_a_refused_task_is_refused_and_says_why() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("orphans");
    client.create(&session, named("taken", held())).await;
    let batch = || vec![held(), named("taken", held()), below(1), below(2), below(0)];
    let refused = create(&mut client, &session, batch(), true).await;
    let refused = expect_refused("the batch", refused, Code::AlreadyExists, "NAME_TAKEN");
    assert!(
        refused.message().starts_with("tasks[1].name"),
        "{refused:?}"
    );
    assert_eq!(count(&mut client, &session).await, 1);

    let results = create(&mut client, &session, batch(), false).await;
    let results = results.expect("the batch is answered");
    let reasons: Vec<String> = results.iter().map(reason).collect();
    assert_eq!(
        reasons,
        ["", "NAME_TAKEN", "PARENT_REFUSED", "PARENT_REFUSED", ""]
    );
    let error = results[3].error.clone().unwrap_or_default();
    assert_eq!(error.code, Code::FailedPrecondition as i32);
    assert!(
        error.message.starts_with("tasks[3].parent_item: ") && error.message.contains("tasks[2]"),
        "{error:?}"
    );
    assert_eq!(count(&mut client, &session).await, 3);
}

#[tokio::test]
async fn only_an_earlier_task_of_the_batch_can_be_the_parent() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("backward");
    for item in [1, 2, 3, -1, i32::MAX, i32::MIN] {
        let refused = create(&mut client, &session, vec![held(), below(item)], true).await;
        expect_bad_field(refused, "tasks[1].parent_item");
    }
    let two_parents = TaskDefinition {
        parent_task_id: "t1".to_owned(),
        ..below(0)
    };
    let refused = create(&mut client, &session, vec![held(), two_parents], true).await;
    expect_bad_field(refused, "tasks[1].parent_item");
    let alone = client.try_create(&session, below(0)).await;
    expect_bad_field(alone, "task.parent_item");
    assert_eq!(count(&mut client, &session).await, 0);
}

#[tokio::test]
async fn a_tree_of_a_batch_keeps_the_limits_of_all_trees() {
    let deployment = Deployment::builder()
        .server_flags(&["--max-tree-depth=2", "--max-children=3"])
        .workers(Vec::new())
        .start()
        .await;
    let mut client = deployment.client().await;
    let session = new_session("limits");
    let chain = || vec![held(), below(0), below(1), below(2), below(3)];
    let refused = create(&mut client, &session, chain(), true).await;
    let refused = expect_refused("a chain", refused, Code::ResourceExhausted, "TREE_TOO_DEEP");
    expect_field(&refused, "tasks[3].parent_item");
    assert_eq!(count(&mut client, &session).await, 0);
    let results = create(&mut client, &session, chain(), false).await;
    let reasons: Vec<String> = results.expect("answered").iter().map(reason).collect();
    assert_eq!(reasons, ["", "", "", "TREE_TOO_DEEP", "PARENT_REFUSED"]);

    let wide = || vec![held(), below(0), below(0), below(0), below(0)];
    let refused = create(&mut client, &session, wide(), true).await;
    let reason = "TOO_MANY_CHILDREN";
    let refused = expect_refused("a wide one", refused, Code::ResourceExhausted, reason);
    expect_field(&refused, "tasks[4].parent_item");
    assert_eq!(count(&mut client, &session).await, 3);

    let firings = vec![monitor(held_not(), every(60_000)), below(0)];
    let refused = create(&mut client, &session, firings, true).await;
    let reason = "PARENT_IS_MONITOR";
    let refused = expect_refused("a monitor", refused, Code::FailedPrecondition, reason);
    expect_field(&refused, "tasks[1].parent_item");
    deployment.remove().await;
}

#[tokio::test]
async fn a_repeated_tree_makes_nothing_twice() {
    let mut client = Deployment::shared().await.client().await;
    for atomic in [true, false] {
        let session = new_session("again");
        // The last two stand for the first two.
        let batch = || {
            vec![
                keyed("p", held()),
                keyed("c", below(0)),
                keyed("p", held()),
                keyed("c", below(2)),
            ]
        };
        let first = stored(create(&mut client, &session, batch(), atomic).await);
        let again = create(&mut client, &session, batch(), atomic).await;
        let results = again.clone().expect("repeated");
        assert!(results.iter().all(|result| !result.created));
        let ids = |tasks: &[SessionTask]| -> Vec<String> {
            tasks.iter().map(|task| task.id.clone()).collect()
        };
        assert_eq!(ids(&first), ids(&stored(again)));
        assert_eq!(first[0].id, first[2].id);
        assert_eq!(first[1].id, first[3].id);
        assert_eq!(count(&mut client, &session).await, 2);

        // A child of a repeated parent belongs below the earlier one, for as long as that may get children.
        let more = || vec![keyed("p", held()), below(0)];
        let tasks = stored(create(&mut client, &session, more(), atomic).await);
        assert_eq!(tasks[1].parent_task_id, first[0].id);
        let cancel = CancelTaskRequest {
            task: first[0].id.clone(),
            ..CancelTaskRequest::default()
        };
        client.tasks.cancel_task(cancel).await.expect("canceled");
        let refused = create(&mut client, &session, more(), atomic).await;
        match refused {
            Ok(results) => assert_eq!(reason(&results[1]), "PARENT_ENDED"),
            refused => {
                let code = Code::FailedPrecondition;
                let status = expect_refused("an ended parent", refused, code, "PARENT_ENDED");
                expect_field(&status, "tasks[1].parent_item");
            }
        }
    }
}

#[tokio::test]
async fn a_file_of_several_tasks_names_parents_by_position() {
    let deployment = Deployment::shared().await;
    let session = new_session("file");
    let flag = format!("--session={session}");
    let documents = "command: {argv: ['true']}\n---\nparent_item: 0\ncommand: {argv: ['true']}\n";
    let submitted = deployment
        .command_line()
        .run_with_input(
            &["submit", "-f", "-", &flag, "--hold", "--atomic"],
            documents.as_bytes(),
        )
        .await;
    submitted.expect_code(0);
    let mut client = deployment.client().await;
    let tasks = list(&mut client, &session).await;
    assert_eq!(tasks.len(), 2);
    assert_eq!(tasks[1].parent_task_id, tasks[0].id);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trees_with_the_same_keys_that_meet_become_one() {
    let deployment = Deployment::builder()
        .servers(2)
        .workers(Vec::new())
        .start()
        .await;
    let clients = [
        deployment.client().await,
        Client::connect(&deployment.endpoint_of(1)).await,
    ];
    for round in 0..6 {
        let session = new_session("meet");
        let barrier = std::sync::Arc::new(tokio::sync::Barrier::new(4));
        let calls: Vec<_> = (0..4)
            .map(|number| {
                let (mut client, session) = (clients[number % 2].clone(), session.clone());
                let barrier = barrier.clone();
                let batch = vec![
                    keyed("p", held()),
                    keyed("c", below(0)),
                    keyed("g", below(1)),
                ];
                tokio::spawn(async move {
                    barrier.wait().await;
                    create(&mut client, &session, batch, round % 2 == 0).await
                })
            })
            .collect();
        for call in calls {
            let tasks = stored(call.await.expect("a create does not panic"));
            assert_eq!(tasks.len(), 3, "round {round}");
        }
        assert_eq!(count(&mut clients[0].clone(), &session).await, 3);
    }
    deployment.remove().await;
}

async fn create(
    client: &mut Client,
    session: &str,
    tasks: Vec<TaskDefinition>,
    atomic: bool,
) -> Result<Vec<BatchCreateResult>, Status> {
    let request = BatchCreateTasksRequest {
        session_id: session.to_owned(),
        tasks,
        atomic,
        ..BatchCreateTasksRequest::default()
    };
    let answer = client.tasks.batch_create_tasks(request).await?;
    Ok(answer.into_inner().results)
}

fn stored(results: Result<Vec<BatchCreateResult>, Status>) -> Vec<SessionTask> {
    let results = results.expect("a sound batch");
    let task = |result: BatchCreateResult| {
        let error = result.error;
        result.task.unwrap_or_else(|| panic!("refused: {error:?}"))
    };
    results.into_iter().map(task).collect()
}

fn reason(result: &BatchCreateResult) -> String {
    result.error.clone().unwrap_or_default().reason
}

#[track_caller]
fn expect_field(status: &Status, field: &str) {
    let details = status.get_details_bad_request();
    let violations = details.map(|details| details.field_violations);
    let fields: Vec<String> = violations
        .into_iter()
        .flatten()
        .map(|violation| violation.field)
        .collect();
    assert_eq!(fields, [field]);
}

async fn list(client: &mut Client, session: &str) -> Vec<SessionTask> {
    let request = ListTasksRequest {
        session_id: session.to_owned(),
        page_size: 500,
        order: taskyard_proto::v1::TaskOrder::OldestFirst.into(),
        ..ListTasksRequest::default()
    };
    let answer = client.tasks.list_tasks(request).await;
    answer.expect("a listing").into_inner().tasks
}

async fn count(client: &mut Client, session: &str) -> usize {
    list(client, session).await.len()
}

fn held() -> TaskDefinition {
    TaskDefinition {
        hold: true,
        ..held_not()
    }
}

fn held_not() -> TaskDefinition {
    command(&["true"])
}

fn below(item: i32) -> TaskDefinition {
    TaskDefinition {
        parent_item: Some(item),
        ..held()
    }
}

fn named(name: &str, task: TaskDefinition) -> TaskDefinition {
    TaskDefinition {
        name: name.to_owned(),
        ..task
    }
}

fn keyed(key: &str, task: TaskDefinition) -> TaskDefinition {
    TaskDefinition {
        key: key.to_owned(),
        ..task
    }
}
