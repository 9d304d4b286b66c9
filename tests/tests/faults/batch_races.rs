//! Batches that meet the deletion of their session: they land in the new session or go with the old one, as every create.

use std::sync::Arc;

use taskyard_proto::v1::{
    BatchCreateResult, BatchCreateTasksRequest, DeleteSessionRequest, ListTasksRequest,
    SessionTask, TaskDefinition,
};
use taskyard_tests::client::{Client, command, new_session};
use taskyard_tests::deployment::Deployment;
use tokio::sync::Barrier;
use tonic::Status;

const ROUNDS: usize = 8;

fn held() -> TaskDefinition {
    TaskDefinition {
        hold: true,
        ..command(&["true"])
    }
}

async fn create(
    mut client: Client,
    session: String,
    tasks: Vec<TaskDefinition>,
    atomic: bool,
) -> Result<Vec<BatchCreateResult>, Status> {
    let request = BatchCreateTasksRequest {
        session_id: session,
        tasks,
        atomic,
        ..BatchCreateTasksRequest::default()
    };
    let answer = client.tasks.batch_create_tasks(request).await?;
    Ok(answer.into_inner().results)
}

async fn delete(client: &Client, session: &str) {
    let request = DeleteSessionRequest {
        session_id: session.to_owned(),
        ..DeleteSessionRequest::default()
    };
    let deleted = client.clone().tasks.delete_session(request).await;
    deleted.expect("it is deleted");
}

/// The tasks of the session that has the id now; none if there is no such session.
async fn tasks(client: &Client, session: &str) -> Vec<SessionTask> {
    let request = ListTasksRequest {
        session_id: session.to_owned(),
        ..ListTasksRequest::default()
    };
    let answer = client.clone().tasks.list_tasks(request).await;
    answer.map_or_else(|_| Vec::new(), |answer| answer.into_inner().tasks)
}

async fn two_servers() -> (Deployment, [Client; 2]) {
    let deployment = Deployment::builder()
        .servers(2)
        .workers(Vec::new())
        .start()
        .await;
    let clients = [
        deployment.client().await,
        Client::connect(&deployment.endpoint_of(1)).await,
    ];
    (deployment, clients)
}

#[tokio::test]
async fn a_batch_of_a_server_that_knows_the_deleted_session_lands_in_the_new_one() {
    let (deployment, [near, far]) = two_servers().await;
    for atomic in [true, false] {
        for _ in 0..ROUNDS {
            let session = new_session("known");
            // The near server holds the session's number for true, and the far one deletes it.
            near.clone().create(&session, held()).await;
            delete(&far, &session).await;
            let child = TaskDefinition {
                parent_item: Some(0),
                ..held()
            };
            let batch = vec![held(), child, held()];
            let results = create(near.clone(), session.clone(), batch, atomic).await;
            let results = results.expect("the batch is stored");
            assert!(
                results.iter().all(|result| result.created),
                "atomic {atomic}: {results:?}"
            );
            assert_eq!(tasks(&far, &session).await.len(), 3, "atomic {atomic}");
        }
    }
    deployment.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_and_a_delete_that_meet_are_both_done() {
    let (deployment, clients) = two_servers().await;
    for round in 0..ROUNDS {
        let atomic = round % 2 == 0;
        let session = new_session("meet");
        for client in &clients {
            client.clone().create(&session, held()).await;
        }
        let barrier = Arc::new(Barrier::new(4));
        let batches: Vec<_> = (0..3)
            .map(|number| {
                let (client, session) = (clients[number % 2].clone(), session.clone());
                let barrier = barrier.clone();
                tokio::spawn(async move {
                    barrier.wait().await;
                    create(client, session, vec![held(); 5], atomic).await
                })
            })
            .collect();
        barrier.wait().await;
        delete(&clients[0], &session).await;
        for batch in batches {
            let results = batch.await.expect("a create does not panic");
            let results = results.expect("the batch is answered");
            assert!(
                results.iter().all(|result| result.error.is_none()),
                "round {round}: {results:?}"
            );
        }
        let kept = tasks(&clients[1], &session).await.len();
        assert!(kept <= 15, "{kept}");
        if atomic {
            assert_eq!(kept % 5, 0, "a batch is in one session: {kept}");
        }
    }
    deployment.remove().await;
}
