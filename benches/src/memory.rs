//! What stands around takes: watchers and workers at the server, running tasks at the worker. Memory that processes share
//! is counted in parts. Each is measured in processes of its own: one that has served others before takes what it has
//! left of them, and seems to take nothing.

use crate::figures::{Figure, Row};
use anyhow::Context;
use sqlx::{Connection, PgConnection};
use std::{fs, process::Command, time::Duration};
use taskyard_proto::v1::{CancelTaskRequest, TaskDefinition, TaskState};
use taskyard_tests::{
    client::{Client, command, new_session},
    database::Database,
    deployment::{Deployment, WorkerPlan},
    hand_worker::{HandWorker, hello},
    process::family,
    watcher::Watcher,
};

const WATCHERS: usize = 1_000;
const WORKERS: usize = 200;
/// As many as the worker has slots.
const TASKS: usize = 32;
/// Served by nobody else.
const QUEUE: &str = "memory";

/// Three rows: a watcher, an attached worker, a running task.
pub async fn measure(url: &str) -> anyhow::Result<Vec<Row>> {
    let server = start(url, Vec::new()).await;
    let watchers = watchers(&server, url).await;
    server.remove().await;
    let server = start(url, Vec::new()).await;
    let workers = workers(&server, url).await;
    server.remove().await;
    let slots = format!("--slots={TASKS}");
    let queue = format!("--queues={QUEUE}");
    let plan = WorkerPlan::new(QUEUE).flags(&[&slots, &queue]);
    let deployment = start(url, vec![plan]).await;
    let tasks = tasks(&deployment).await;
    deployment.remove().await;
    Ok(vec![watchers?, workers?, tasks?])
}

async fn start(url: &str, workers: Vec<WorkerPlan>) -> Deployment {
    Deployment::builder()
        .database(Database::foreign(url))
        .server_flags(&["--call-rate=off"])
        .workers(workers)
        .start()
        .await
}

async fn watchers(deployment: &Deployment, url: &str) -> anyhow::Result<Row> {
    let server = deployment.with_server(0, |server| server.pid());
    let mut client = Client::connect(&deployment.endpoint()).await;
    let mut watchers = vec![Watcher::start(&mut client, &new_session("watched"), "").await];
    let before = memory(server)?;
    for _ in 0..WATCHERS {
        watchers.push(Watcher::start(&mut client, &new_session("watched"), "").await);
    }
    let taken = memory(server)?.saturating_sub(before);
    Ok(Row {
        what: "server's memory for one watcher, of 1,000",
        ours: Figure::Bytes(taken as f64 / WATCHERS as f64),
        baseline_is: "an idle connection at Postgres",
        baseline: backend(url).await?,
    })
}

async fn workers(deployment: &Deployment, url: &str) -> anyhow::Result<Row> {
    let server = deployment.with_server(0, |server| server.pid());
    let client = Client::connect(&deployment.endpoint()).await;
    let mut workers = vec![HandWorker::attach(&client, hello("idle", 0)).await];
    let before = memory(server)?;
    for number in 0..WORKERS {
        let name = format!("idle-{number}");
        workers.push(HandWorker::attach(&client, hello(&name, 0)).await);
    }
    let taken = memory(server)?.saturating_sub(before);
    Ok(Row {
        what: "server's memory for one attached worker, of 200",
        ours: Figure::Bytes(taken as f64 / WORKERS as f64),
        baseline_is: "an idle connection at Postgres",
        baseline: backend(url).await?,
    })
}

async fn tasks(deployment: &Deployment) -> anyhow::Result<Row> {
    let worker = deployment.with_worker(0, |worker| worker.pid());
    let mut client = Client::connect(&deployment.endpoint()).await;
    let session = new_session("running");
    let before = memory_with_children(worker)?;
    let mut running = Vec::with_capacity(TASKS);
    for _ in 0..TASKS {
        let sleeping = TaskDefinition {
            queue: QUEUE.to_owned(),
            ..command(&["sleep", "600"])
        };
        running.push(client.create(&session, sleeping).await);
    }
    for task in &running {
        let is_running =
            |task: &taskyard_proto::v1::SessionTask| task.state() == TaskState::Running;
        client.reached(&task.id, is_running).await;
    }
    let taken = memory_with_children(worker)?.saturating_sub(before);
    for task in &running {
        let request = CancelTaskRequest {
            task: task.id.clone(),
            ..CancelTaskRequest::default()
        };
        client.tasks.cancel_task(request).await?;
    }
    let mut bare = Command::new("sleep").arg("600").spawn()?;
    // it is itself only once it has loaded
    tokio::time::sleep(Duration::from_millis(200)).await;
    let alone = memory(bare.id());
    bare.kill()?;
    bare.wait()?;
    Ok(Row {
        what: "worker's memory for one running `sleep`, its shim and itself, of 32",
        ours: Figure::Bytes(taken as f64 / TASKS as f64),
        baseline_is: "a `sleep` that nobody watches",
        baseline: Figure::Bytes(alone? as f64),
    })
}

/// The process that serves one more connection to Postgres.
async fn backend(url: &str) -> anyhow::Result<Figure> {
    let mut connection = PgConnection::connect(url).await?;
    let pid: i32 = sqlx::query_scalar("select pg_backend_pid()")
        .fetch_one(&mut connection)
        .await?;
    Ok(Figure::Bytes(memory(pid.unsigned_abs())? as f64))
}

fn memory_with_children(pid: u32) -> anyhow::Result<u64> {
    // one that ends meanwhile takes nothing
    let below = family(pid).into_iter().filter_map(|pid| memory(pid).ok());
    Ok(memory(pid)? + below.sum::<u64>())
}

/// Resident memory in bytes, shared pages in proportion.
fn memory(pid: u32) -> anyhow::Result<u64> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).with_context(|| format!("{path} cannot be read"))?;
    let kibibytes = text
        .lines()
        .find_map(|line| line.strip_prefix("Pss:"))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|number| number.parse::<u64>().ok());
    Ok(kibibytes.context("the kernel does not say how much is resident")? * 1024)
}
