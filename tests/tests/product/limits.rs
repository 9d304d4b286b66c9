//! How large a tree may grow, how a parent is named, and whose children share keys.

use taskyard_proto::v1::{CancelTaskRequest, ListTasksRequest, TaskDefinition};
use taskyard_tests::client::{command, new_session};
use taskyard_tests::deployment::Deployment;
use taskyard_tests::refusal::{expect_bad_field, expect_refused};
use tonic::Code;
use tonic_types::StatusExt;

#[tokio::test]
async fn a_tree_is_no_deeper_and_no_wider_than_the_server_allows() {
    let deployment = Deployment::builder()
        .server_flags(&["--max-tree-depth=2", "--max-children=3"])
        .workers(Vec::new())
        .start()
        .await;
    let mut client = deployment.client().await;
    let session = new_session("limits");
    let mut parent = client.create(&session, held()).await;
    let root = parent.clone();
    for _ in 0..2 {
        parent = client.create(&session, below(&parent.id)).await;
    }
    let deeper = client.try_create(&session, below(&parent.id)).await;
    let refused = expect_refused(
        "a third level",
        deeper,
        Code::ResourceExhausted,
        "TREE_TOO_DEEP",
    );
    let info = refused.get_details_error_info();
    let limit = info.and_then(|info| info.metadata.get("limit").cloned());
    assert_eq!(limit.as_deref(), Some("2"));

    // The root has one child by now. An ended one still counts.
    let second = client.create(&session, below(&root.id)).await;
    let cancel = CancelTaskRequest {
        task: second.id,
        ..CancelTaskRequest::default()
    };
    client.tasks.cancel_task(cancel).await.expect("canceled");
    client.create(&session, below(&root.id)).await;
    let fourth = client.try_create(&session, below(&root.id)).await;
    expect_refused(
        "a fourth child",
        fourth,
        Code::ResourceExhausted,
        "TOO_MANY_CHILDREN",
    );
    deployment.remove().await;
}

#[tokio::test]
async fn creates_that_meet_below_one_parent_keep_its_limit() {
    let deployment = Deployment::builder()
        .server_flags(&["--max-children=5"])
        .servers(2)
        .workers(Vec::new())
        .start()
        .await;
    let clients = [
        deployment.client().await,
        taskyard_tests::client::Client::connect(&deployment.endpoint_of(1)).await,
    ];
    let session = new_session("width");
    let parent = clients[0].clone().create(&session, held()).await;
    let creates: Vec<_> = (0..20)
        .map(|index| {
            let (mut client, session, child) = (
                clients[index % 2].clone(),
                session.clone(),
                below(&parent.id),
            );
            tokio::spawn(async move { client.try_create(&session, child).await })
        })
        .collect();
    let mut created = 0;
    for create in creates {
        match create.await.expect("a create does not panic") {
            Ok(_) => created += 1,
            refused => {
                expect_refused(
                    "a child too many",
                    refused,
                    Code::ResourceExhausted,
                    "TOO_MANY_CHILDREN",
                );
            }
        }
    }
    assert_eq!(created, 5);
    deployment.remove().await;
}

#[tokio::test]
async fn a_parent_is_named_as_any_task_is() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("named");
    let parent = TaskDefinition {
        name: "boss".to_owned(),
        ..held()
    };
    let parent = client.create(&session, parent).await;
    for (number, name) in (1..).zip([parent.id.as_str(), "t1", "boss", &parent.id[..20]]) {
        let child = client.create(&session, below(name)).await;
        assert_eq!(child.parent_task_id, parent.id, "{name}");
        let request = ListTasksRequest {
            session_id: session.clone(),
            parent_task_id: name.to_owned(),
            ..ListTasksRequest::default()
        };
        let found = client.tasks.list_tasks(request).await.expect("a listing");
        assert_eq!(found.into_inner().tasks.len(), number, "{name}");
    }
    let unknown = client.try_create(&session, below("nobody")).await;
    expect_refused(
        "an unknown parent",
        unknown,
        Code::NotFound,
        "TASK_NOT_FOUND",
    );
    let elsewhere = client
        .try_create(&new_session("away"), below(&parent.id))
        .await;
    expect_refused(
        "a parent of another session",
        elsewhere,
        Code::NotFound,
        "TASK_NOT_FOUND",
    );
    let sessionless = ListTasksRequest {
        parent_task_id: "t1".to_owned(),
        ..ListTasksRequest::default()
    };
    let refused = client.tasks.list_tasks(sessionless).await;
    expect_bad_field(refused, "session_id");
}

#[tokio::test]
async fn a_key_counts_below_its_parent_only() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("keys");
    let first = client.create(&session, held()).await;
    let second = client.create(&session, held()).await;
    let keyed = |parent: &str| TaskDefinition {
        key: "k".to_owned(),
        ..below(parent)
    };
    let under_first = client.create(&session, keyed(&first.id)).await;
    let under_second = client.create(&session, keyed(&second.id)).await;
    let alone = client.create(&session, keyed("")).await;
    assert_ne!(under_first.id, under_second.id);
    assert!(alone.id != under_first.id && alone.id != under_second.id);
    let again = client.create(&session, keyed(&first.id)).await;
    assert_eq!(again.id, under_first.id);
    let other = TaskDefinition {
        priority: 1,
        ..keyed(&first.id)
    };
    let conflict = client.try_create(&session, other).await;
    expect_refused(
        "another definition",
        conflict,
        Code::AlreadyExists,
        "KEY_CONFLICT",
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_child_takes_no_key_and_no_name_from_another() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("refused");
    let parent = client.create(&session, held()).await;
    let cancel = CancelTaskRequest {
        task: parent.id.clone(),
        ..CancelTaskRequest::default()
    };
    client.tasks.cancel_task(cancel).await.expect("canceled");
    let child = TaskDefinition {
        key: "k".to_owned(),
        name: "n".to_owned(),
        ..below(&parent.id)
    };
    // Together, so that some of them are decided in one commit.
    let creates: Vec<_> = (0..24)
        .map(|_| {
            let (mut client, session, child) = (client.clone(), session.clone(), child.clone());
            tokio::spawn(async move { client.try_create(&session, child).await })
        })
        .collect();
    for create in creates {
        let refused = create.await.expect("a create does not panic");
        expect_refused(
            "a child of an ended task",
            refused,
            Code::FailedPrecondition,
            "PARENT_ENDED",
        );
    }
}

fn held() -> TaskDefinition {
    TaskDefinition {
        hold: true,
        ..command(&["true"])
    }
}

fn below(parent: &str) -> TaskDefinition {
    TaskDefinition {
        parent_task_id: parent.to_owned(),
        ..held()
    }
}
