//! Work that keeps spawning does not outlive the cancel of its tree, whichever servers the two meet at.

use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use taskyard_proto::v1::{
    CancelScope, CancelTaskRequest, CancelTasksRequest, CreateTaskRequest, Lease, ListTasksRequest,
    RetryTaskRequest, SessionTask, TaskDefinition, TaskState,
};
use taskyard_tests::client::{Client, command, new_session};
use taskyard_tests::deployment::Deployment;
use taskyard_tests::refusal::reason_of;
use tokio::sync::Barrier;
use tonic::metadata::MetadataValue;
use tonic::{Request, Status};

use crate::hand_worker::{HandWorker, hello};

const ROUNDS: usize = 6;
/// Spawners below each root, and the children that each makes at most.
const SPAWNERS: usize = 4;
const CHILDREN: usize = 120;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_spawns_on_is_canceled_with_its_tree() {
    let deployment = start().await;
    let clients = clients(&deployment).await;
    for round in 0..ROUNDS {
        let session = new_session("spawning");
        let root = clients[0].clone().create(&session, task("")).await;
        let spawners = spawn_below(&clients, &session, &root).await;
        let mut canceling = clients[round % 2].clone();
        let cancel = CancelTaskRequest {
            task: root.id.clone(),
            scope: CancelScope::Tree.into(),
            ..CancelTaskRequest::default()
        };
        spawners.begin.wait().await;
        let answer = canceling.tasks.cancel_task(cancel).await;
        let answer = answer.expect("a cancel is answered").into_inner();
        let made = spawners.finish().await;
        let left = live(&mut canceling, &session).await;
        assert!(left.is_empty(), "round {round}: {left:?} of {made} escaped");
        assert!(answer.descendants >= SPAWNERS as i32, "{answer:?}");
    }
    deployment.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_spawns_on_is_canceled_with_its_session() {
    let deployment = start().await;
    let clients = clients(&deployment).await;
    for round in 0..ROUNDS {
        let session = new_session("spawning");
        let root = clients[0].clone().create(&session, task("")).await;
        let spawners = spawn_below(&clients, &session, &root).await;
        let mut canceling = clients[round % 2].clone();
        let cancel = CancelTasksRequest {
            session_id: session.clone(),
            ..CancelTasksRequest::default()
        };
        spawners.begin.wait().await;
        let answer = canceling.tasks.cancel_tasks(cancel).await;
        let answer = answer.expect("a cancel is answered").into_inner();
        let made = spawners.finish().await;
        let left = live(&mut canceling, &session).await;
        assert!(left.is_empty(), "round {round}: {left:?} of {made} escaped");
        assert!(answer.canceled > SPAWNERS as i32, "{answer:?}");
    }
    deployment.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn running_work_that_spawns_is_fenced_by_the_cancel() {
    let deployment = start().await;
    let clients = clients(&deployment).await;
    let session = new_session("inside");
    let mut creating = clients[0].clone();
    let mut worker = HandWorker::attach(&clients[0], hello("spawner", 1)).await;
    let running = TaskDefinition {
        hold: false,
        ..task("")
    };
    let root = creating.create(&session, running).await;
    let offer = worker.offer().await;
    let lease = worker.start(&offer).await;
    let child = creating.create(&session, task(&root.id)).await;
    let begin = Arc::new(Barrier::new(3));
    let spawning: Vec<_> = clients
        .iter()
        .cloned()
        .map(|client| {
            let (begin, lease) = (begin.clone(), lease.clone());
            tokio::spawn(async move {
                begin.wait().await;
                spawn_inside(client, &lease).await
            })
        })
        .collect();
    begin.wait().await;
    let cancel = CancelTaskRequest {
        task: root.id.clone(),
        scope: CancelScope::Tree.into(),
        ..CancelTaskRequest::default()
    };
    let answer = creating.tasks.cancel_task(cancel).await;
    answer.expect("a cancel is answered");
    for spawner in spawning {
        let refused = spawner.await.expect("a spawner does not panic");
        assert_eq!(refused.as_deref(), Some("PARENT_CANCELED"));
    }
    let left = live(&mut creating, &session).await;
    assert_eq!(left, std::slice::from_ref(&root.id), "the work is told");
    let told = creating.get(&root.id).await;
    assert!(told.cancel_requested_at.is_some(), "{told:?}");

    // Nor can the work put a copy beside its tree; its owner can.
    let retry = RetryTaskRequest {
        task: child.id,
        ..RetryTaskRequest::default()
    };
    let escape = inside(retry.clone(), &lease);
    let refused = creating.tasks.retry_task(escape).await;
    let refused = refused.map(|_| ()).map_err(|status| reason_of(&status));
    assert_eq!(refused, Err("PARENT_CANCELED".to_owned()));
    let retried = creating.tasks.retry_task(retry).await.expect("retried");
    let retried = retried.into_inner().task.unwrap_or_default();
    assert_eq!(retried.root_task_id, retried.id);
    deployment.remove().await;
}

async fn start() -> Deployment {
    let lease = Duration::from_secs(300);
    let builder = Deployment::builder().lease(lease).servers(2);
    // So that nothing but the cancel ends the spawning.
    let builder = builder.server_flags(&["--max-children=100000"]);
    builder.workers(Vec::new()).start().await
}

async fn clients(deployment: &Deployment) -> [Client; 2] {
    [
        deployment.client().await,
        Client::connect(&deployment.endpoint_of(1)).await,
    ]
}

struct Spawners {
    begin: Arc<Barrier>,
    running: Vec<tokio::task::JoinHandle<usize>>,
}

impl Spawners {
    /// Waits until all were refused or had enough; how many tasks they made.
    async fn finish(self) -> usize {
        let mut made = 0;
        for running in self.running {
            made += running.await.expect("a spawner does not panic");
        }
        made
    }
}

/// Children of `root`, each of which goes on to grow a tree of its own once `begin` is passed.
async fn spawn_below(clients: &[Client; 2], session: &str, root: &SessionTask) -> Spawners {
    let begin = Arc::new(Barrier::new(SPAWNERS + 1));
    let mut running = Vec::new();
    for number in 0..SPAWNERS {
        let mut client = clients[number % 2].clone();
        let (begin, session) = (begin.clone(), session.to_owned());
        let first = client.create(&session, task(&root.id)).await;
        running.push(tokio::spawn(async move {
            begin.wait().await;
            spawn_on(client, &session, first).await
        }));
    }
    Spawners { begin, running }
}

/// Creates task after task, each below the newest one, and from `first` on again where the tree is as deep as it may
/// be, until it is refused; how many it made.
async fn spawn_on(mut client: Client, session: &str, first: SessionTask) -> usize {
    let mut newest = first.id.clone();
    for made in 0..CHILDREN {
        match client.try_create(session, task(&newest)).await {
            Ok(task) => newest = task.id,
            Err(status) => match reason_of(&status).as_str() {
                "TREE_TOO_DEEP" => newest.clone_from(&first.id),
                "PARENT_ENDED" | "PARENT_CANCELED" => return made,
                _ => panic!("{status:?}"),
            },
        }
    }
    CHILDREN
}

/// Creates children as what runs inside the task would, until that is refused; why it was.
async fn spawn_inside(mut client: Client, lease: &Lease) -> Option<String> {
    for _ in 0..50_000 {
        let create = CreateTaskRequest {
            task: Some(task("")),
            ..CreateTaskRequest::default()
        };
        let answer: Result<_, Status> = client.tasks.create_task(inside(create, lease)).await;
        if let Err(status) = answer {
            return Some(reason_of(&status));
        }
    }
    None
}

/// A request as a worker passes it on from inside the task.
fn inside<T>(message: T, lease: &Lease) -> Request<T> {
    let mut request = Request::new(message);
    let value = MetadataValue::from_bytes(&lease.encode_to_vec());
    request
        .metadata_mut()
        .insert_bin("taskyard-lease-bin", value);
    request
}

/// Ids of the session's tasks that have not ended.
async fn live(client: &mut Client, session: &str) -> Vec<String> {
    let request = ListTasksRequest {
        session_id: session.to_owned(),
        states: [
            TaskState::Queued,
            TaskState::Running,
            TaskState::AwaitingInput,
        ]
        .map(i32::from)
        .to_vec(),
        ..ListTasksRequest::default()
    };
    let page = client.tasks.list_tasks(request).await;
    let live = page.expect("a listing").into_inner().tasks;
    live.into_iter().map(|task| task.id).collect()
}

fn task(parent: &str) -> TaskDefinition {
    TaskDefinition {
        parent_task_id: parent.to_owned(),
        hold: true,
        ..command(&["true"])
    }
}
