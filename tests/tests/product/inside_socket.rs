//! The socket of an attempt: whose it is, and how it ends.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use taskyard_proto::v1::GetSelfRequest;
use taskyard_proto::v1::TaskState;
use taskyard_proto::v1::session_task_service_client::SessionTaskServiceClient;
use taskyard_proto::v1::task_agent_service_client::TaskAgentServiceClient;
use taskyard_proto::v1::{GetTaskRequest, TaskDefinition};
use taskyard_tests::client::{new_session, with_command};
use taskyard_tests::command_line::CommandLine;
use taskyard_tests::deployment::{Deployment, WorkerPlan};
use taskyard_tests::inside::agent;
use taskyard_tests::process::{is_alive, parent, send};
use taskyard_tests::refusal::expect_refused;
use taskyard_tests::wait::{SOON, eventually, until};
use tonic::Code;
use tonic::transport::Endpoint;

#[tokio::test]
async fn a_process_outside_the_attempt_is_refused() {
    let deployment = Deployment::shared().await;
    let mut client = deployment.client().await;
    let place = deployment.folder().join(new_session("socket"));
    let task = client
        .create(&new_session("socket"), telling_its_socket(&place))
        .await;
    let socket = told(&place).await;
    // This test is one such process.
    let target = format!("unix:{}", socket.display());
    let target = Endpoint::from_shared(target).expect("a target");
    let channel = target.connect().await.expect("a connection");
    let mut stranger = TaskAgentServiceClient::new(channel.clone());
    let refused = stranger.get_self(GetSelfRequest {}).await;
    expect_refused(
        "a stranger",
        refused,
        Code::PermissionDenied,
        "NOT_THIS_ATTEMPT",
    );
    let request = GetTaskRequest {
        task: task.id.clone(),
        ..GetTaskRequest::default()
    };
    let mut stranger = SessionTaskServiceClient::new(channel);
    let refused = stranger.get_task(request).await;
    expect_refused(
        "a stranger",
        refused,
        Code::PermissionDenied,
        "NOT_THIS_ATTEMPT",
    );
    let verb = CommandLine::bare().env("TASKYARD_SOCKET", &socket);
    let refused = verb.run(&["self", "status", "x"]).await.expect_code(1);
    assert!(
        refused.stderr.contains("processes of the attempt"),
        "{refused:?}"
    );
    // Another task of the same worker is one, too.
    let other =
        agent("code=0; TASKYARD_SOCKET=$OTHER self status x || code=$?; exit $((code + 40))");
    let other = with_command(other, |command| {
        let socket = socket.display().to_string();
        command.env.insert("OTHER".to_owned(), socket);
    });
    let other = client.run(&new_session("socket"), other).await;
    let code = other.exit.and_then(|exit| exit.exit_code);
    assert_eq!(code, Some(41));
    assert_eq!(client.get(&task.id).await.state_detail, "");
    release(&place);
    let ended = client.ended(&task.id).await;
    assert_eq!(ended.state(), TaskState::Succeeded, "{ended:?}");
    until("the socket to go", SOON, async || !socket.exists()).await;
}

#[tokio::test]
async fn a_daemon_of_the_attempt_belongs_to_it() {
    let deployment = Deployment::shared().await;
    let mut client = deployment.client().await;
    // Its parents are gone when it calls: it is the shim's own child then.
    let script = "(setsid bash -c 'until [ -e orphaned ]; do sleep 0.02; done\n\
                  \"$YARD\" self status \"of a daemon\"; touch told' >/dev/null 2>&1 &)\n\
                  touch orphaned; until [ -e told ]; do sleep 0.02; done; self info -o json\n";
    let task = client.run(&new_session("socket"), agent(script)).await;
    assert_eq!(task.state(), TaskState::Succeeded, "{task:?}");
    let logs = deployment.command_line().run(&["logs", &task.id]).await;
    assert!(logs.text().contains("of a daemon"), "{logs:?}");
}

#[tokio::test]
async fn a_stolen_lease_is_told_on_the_socket_and_ends_the_work() {
    // Neither a heartbeat nor the end of the lease comes in time to tell of it.
    let deployment = Deployment::builder()
        .lease(Duration::from_secs(3_000))
        .start()
        .await;
    let mut client = deployment.client().await;
    let place = deployment.folder().join("place");
    let script = format!(
        "echo $$ > {place}.draft; mv {place}.draft {place}\n\
         until [ -e {place}.go ]; do sleep 0.05; done\n\
         first=0; self status stolen 2> {place}.said || first=$?\n\
         second=0; self info 2>/dev/null || second=$?\n\
         echo $first $second > {place}.draft; mv {place}.draft {place}.codes; exec sleep 600\n",
        place = place.display()
    );
    let task = client.create(&new_session("stolen"), agent(&script)).await;
    let pid: u32 = eventually("its process id", SOON, async || {
        std::fs::read_to_string(&place).ok()?.trim().parse().ok()
    })
    .await;
    // A shim that stands still gives the work the time to say what it was told; its worker waits ten seconds for it.
    let shim = parent(pid).expect("it has a shim");
    send(shim, Signal::STOP);
    steal_lease(&deployment, &task.id).await;
    std::fs::write(place.with_extension("go"), "").expect("written");
    let codes = eventually("the codes", SOON, async || {
        std::fs::read_to_string(place.with_extension("codes")).ok()
    })
    .await;
    assert_eq!(codes, "125 125\n");
    let said = std::fs::read_to_string(place.with_extension("said")).expect("it was said");
    assert!(said.contains("lease is lost"), "{said}");
    send(shim, Signal::CONT);
    until("the work to be ended", SOON, async || !is_alive(pid)).await;
    assert_eq!(client.get(&task.id).await.state_detail, "");
    deployment.remove().await;
}

#[tokio::test]
async fn what_a_killed_worker_left_is_removed_by_its_next_boot() {
    // The path of its data directory is too long for a socket.
    let name = "w".repeat(64);
    let mut worker = WorkerPlan::new(&name);
    let temporary = tempfile::tempdir().expect("a folder");
    worker = worker.env("TMPDIR", &temporary.path().display().to_string());
    let deployment = Deployment::builder()
        .lease(Duration::from_secs(5))
        .workers(vec![worker])
        .start()
        .await;
    let mut client = deployment.client().await;
    let place = deployment.folder().join("place");
    client
        .create(&new_session("socket"), telling_its_socket(&place))
        .await;
    let socket = told(&place).await;
    assert!(socket.as_os_str().len() < 108, "{socket:?}");
    deployment.with_worker(0, |worker| worker.signal(Signal::KILL));
    until("the worker to end", SOON, async || {
        deployment.with_worker(0, |worker| worker.ended().is_some())
    })
    .await;
    assert!(socket.exists(), "nobody was left to remove it");
    deployment.restart_worker(0).await;
    assert!(!socket.exists());
    deployment.remove().await;
}

async fn steal_lease(deployment: &Deployment, id: &str) {
    let uuid: uuid::Uuid = id.trim_start_matches("task_").parse().expect("an id");
    let mut database = deployment.database().connect().await;
    let stolen = sqlx::query("update task_live set lease_id = gen_random_uuid() where id = $1")
        .bind(uuid)
        .execute(&mut database)
        .await
        .expect("it is stolen");
    assert_eq!(stolen.rows_affected(), 1);
}

/// Writes the path of its socket to a file, and goes on until it is released.
fn telling_its_socket(place: &Path) -> TaskDefinition {
    let place = place.display();
    agent(&format!(
        "echo $TASKYARD_SOCKET > {place}.draft; mv {place}.draft {place}\n\
         until [ -e {place}.go ]; do sleep 0.05; done\n"
    ))
}

async fn told(place: &Path) -> PathBuf {
    let text = eventually("the path of the socket", SOON, async || {
        std::fs::read_to_string(place).ok()
    })
    .await;
    PathBuf::from(text.trim())
}

fn release(place: &Path) {
    std::fs::write(place.with_extension("go"), "").expect("written");
}
