//! Two servers behind one address are restarted one after the other, under load.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use taskyard_proto::v1::{CreateTaskRequest, SessionTask, TaskState};
use taskyard_tests::balancer::Balancer;
use taskyard_tests::client::{Client, command, milliseconds, new_session, shell};
use taskyard_tests::deployment::{Deployment, WorkerPlan};
use taskyard_tests::wait::{SOON, until, within};
use tokio::task::JoinHandle;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::journal::Journal;

/// Clients that create one task after the other.
const CLIENTS: usize = 4;
/// Tasks that run through all restarts.
const LONG_TASKS: usize = 4;
/// Tasks that must have ended between two restarts.
const TASKS_BETWEEN: usize = 12;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_under_load_fails_no_task_and_loses_no_event() {
    let deployment = Deployment::builder()
        .lease(Duration::from_secs(60))
        .servers(2)
        .workers(Vec::new())
        .start()
        .await;
    let service = Balancer::start(&[deployment.endpoint_of(0), deployment.endpoint_of(1)]).await;
    for name in ["w1", "w2"] {
        let plan = WorkerPlan::new(name).flags(&["--slots=8"]);
        deployment.add_worker_at(&service.endpoint(), plan).await;
    }
    let session = new_session("rolling");
    let journal = Journal::begin(&service.endpoint(), &session).await;
    let mut client = Client::connect(&service.endpoint()).await;
    let mut all = Vec::new();
    let go = deployment.folder().join("go");
    for _ in 0..LONG_TASKS {
        let script = format!("until [ -e {} ]; do sleep 0.1; done", go.display());
        all.push(client.create(&session, shell(&script)).await.id);
    }
    let load = Load::start(&service.endpoint(), &session);
    for server in [0, 1, 0, 1] {
        load.goes_on().await;
        deployment.with_server(server, |process| process.signal(Signal::TERM));
        until("the server to end", SOON, async || {
            deployment
                .with_server(server, |process| process.ended())
                .is_some()
        })
        .await;
        load.goes_on().await;
        deployment.restart_server(server).await;
    }
    load.goes_on().await;
    all.extend(load.end().await);
    std::fs::write(&go, b"").expect("the long tasks are let go");
    let events = journal.ended(&all).await;
    assert_eq!(
        events.len(),
        3 * all.len(),
        "each was created, started and ended"
    );
    let mut client = Client::connect(&service.endpoint()).await;
    for id in &all {
        let task = client.get(id).await;
        let held = (task.state(), task.attempt, task.run);
        assert_eq!(held, (TaskState::Succeeded, 1, 1), "{task:?}");
    }
    deployment.remove().await;
}

/// Clients that go on whatever happens to the servers.
struct Load {
    is_over: Arc<AtomicBool>,
    ended: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<Vec<String>>>,
}

impl Load {
    fn start(endpoint: &str, session: &str) -> Load {
        let is_over = Arc::new(AtomicBool::new(false));
        let ended = Arc::new(AtomicUsize::new(0));
        let one = |number: usize| {
            let (endpoint, session) = (endpoint.to_owned(), session.to_owned());
            let (is_over, ended) = (is_over.clone(), ended.clone());
            tokio::spawn(async move {
                let mut client = Client::connect(&endpoint).await;
                let mut ids = Vec::new();
                while !is_over.load(Ordering::Relaxed) {
                    let request_id = format!("{session}-{number}-{}", ids.len());
                    ids.push(run_one(&mut client, &session, request_id).await.id);
                    ended.fetch_add(1, Ordering::Relaxed);
                }
                ids
            })
        };
        let clients = (0..CLIENTS).map(one).collect();
        Load {
            is_over,
            ended,
            clients,
        }
    }

    /// Waits until more tasks have ended.
    async fn goes_on(&self) {
        let wanted = self.ended.load(Ordering::Relaxed) + TASKS_BETWEEN;
        until("the work to go on", SOON, async || {
            assert!(
                !self.clients.iter().any(JoinHandle::is_finished),
                "a client gave up"
            );
            self.ended.load(Ordering::Relaxed) >= wanted
        })
        .await;
    }

    /// Ends the load and answers with all tasks.
    async fn end(self) -> Vec<String> {
        self.is_over.store(true, Ordering::Relaxed);
        let mut ids = Vec::new();
        for client in self.clients {
            ids.extend(
                within("a client to end", SOON, client)
                    .await
                    .expect("it held"),
            );
        }
        ids
    }
}

/// Runs a task to its end as a careful client does: the same call again, with the same id, until it is answered.
async fn run_one(client: &mut Client, session: &str, request_id: String) -> SessionTask {
    let request = CreateTaskRequest {
        session_id: session.to_owned(),
        request_id,
        task: Some(command(&["sleep", "0.02"])),
        wait: Some(milliseconds(5_000)),
        ..CreateTaskRequest::default()
    };
    within("a task to end", 2 * SOON, async {
        loop {
            match create(client, request.clone()).await {
                Ok(task) if task.finished_at.is_some() => return task,
                Ok(_) => {}
                Err(status) => expect_passing(&status),
            }
        }
    })
    .await
}

async fn create(client: &mut Client, request: CreateTaskRequest) -> Result<SessionTask, Status> {
    let answer = client.tasks.create_task(request).await?.into_inner();
    answer
        .task
        .ok_or_else(|| Status::internal("an answer without a task"))
}

/// What a restart may look like to a client: a connection that is gone, or a server that says it ends.
fn expect_passing(status: &Status) {
    // the transport's own words for a connection that closed under a call
    let is_transport = matches!(status.code(), Code::Unknown | Code::Cancelled)
        && status.get_error_details().error_info().is_none();
    assert!(
        status.code() == Code::Unavailable || is_transport,
        "a restart must not look like this: {status:?}"
    );
}
