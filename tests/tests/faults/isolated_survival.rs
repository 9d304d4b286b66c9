//! Restricted tasks that are also something else: outlive their worker, are signalled there, run as another user.

use std::time::Duration;

use taskyard_proto::v1::{
    CancelTaskRequest, ListWorkersRequest, ReadOutputRequest, SignalTaskRequest, TaskDefinition,
    TaskState, WorkerStatus,
};
use taskyard_tests::client::{
    Client, command, exit_code, exit_signal, milliseconds, new_session, with_command,
};
use taskyard_tests::deployment::Deployment;
use taskyard_tests::isolated::with_isolation;
use taskyard_tests::process::{Process, with_variable};
use taskyard_tests::skip::skipped;
use taskyard_tests::wait::{SOON, eventually, until};

/// Longer than any wait of a test: what is settled with it is settled by a hello.
const LONG_LEASE: Duration = Duration::from_secs(120);

/// Prints what it is told, and at each `USR1` whether it can write beyond its own directory, and as whom it runs.
const GUARD: &str = "
    trap 'echo interrupted; exit 7' INT
    trap 'if touch /tmp/evil 2>/dev/null; then echo free; else echo kept in; fi
          touch own && id -u && grep NoNewPrivs /proc/self/status' USR1
    echo ready; while :; do sleep 0.05; done";

fn guard(change: impl FnOnce(&mut taskyard_proto::v1::CommandSpec)) -> TaskDefinition {
    with_isolation(
        with_command(command(&["bash", "-c", GUARD]), change),
        |_| {},
    )
}

async fn start() -> Option<Deployment> {
    let deployment = Deployment::builder().lease(LONG_LEASE).start().await;
    let mut client = deployment.client().await;
    let listed = client.admin.list_workers(ListWorkersRequest::default());
    let workers = listed.await.expect("listed").into_inner().workers;
    let can = workers.iter().any(|worker| {
        worker.status() == WorkerStatus::Active
            && worker.labels.contains_key("taskyard.dev/isolation")
    });
    if can {
        return Some(deployment);
    }
    skipped("this machine has no Landlock that restricted tasks need");
    deployment.remove().await;
    None
}

async fn stdout(client: &mut Client, id: &str) -> String {
    let request = ReadOutputRequest {
        task: id.to_owned(),
        stream: 1,
        max_bytes: 4_096,
        ..ReadOutputRequest::default()
    };
    let answer = client.tasks.read_output(request).await;
    answer.map_or_else(
        |_| String::new(),
        |answer| String::from_utf8_lossy(&answer.into_inner().data).into_owned(),
    )
}

/// Waits until it has printed something that ends with `end`.
async fn printed(client: &mut Client, id: &str, end: &str) -> String {
    eventually(&format!("{end:?}"), SOON, async || {
        let text = stdout(client, id).await;
        text.ends_with(end).then_some(text)
    })
    .await
}

async fn signal(client: &mut Client, id: &str, name: &str) {
    let request = SignalTaskRequest {
        task: id.to_owned(),
        signal: name.to_owned(),
        ..SignalTaskRequest::default()
    };
    client.tasks.signal_task(request).await.expect("sent");
}

async fn cancel_by_interrupt(client: &mut Client, id: &str) {
    let request = CancelTaskRequest {
        task: id.to_owned(),
        grace: Some(milliseconds(20_000)),
        signal: "INT".to_owned(),
        ..CancelTaskRequest::default()
    };
    client.tasks.cancel_task(request).await.expect("told");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restricted_run_stays_restricted_and_within_reach_under_its_workers_next_boot() {
    let Some(deployment) = start().await else {
        return;
    };
    let mut client = deployment.client().await;
    let task = guard(|command| command.survive_worker_restart = true);
    let id = client.create(&new_session("guarded"), task).await.id;
    printed(&mut client, &id, "ready\n").await;
    signal(&mut client, &id, "USR1").await;
    let before = printed(&mut client, &id, "NoNewPrivs:\t1\n").await;
    assert!(before.contains("kept in"), "{before}");
    deployment.with_worker(0, Process::kill);
    deployment.restart_worker(0).await;
    let task = client.reached(&id, |task| task.attempt == 2).await;
    assert_eq!(
        (task.run, task.state()),
        (1, TaskState::Running),
        "{task:?}"
    );
    // A signal finds the process that another boot has started.
    signal(&mut client, &id, "USR1").await;
    let twice = format!("{before}{}", before.trim_start_matches("ready\n"));
    assert_eq!(printed(&mut client, &id, &twice).await, twice);
    cancel_by_interrupt(&mut client, &id).await;
    let task = client.ended(&id).await;
    assert_eq!(
        (task.state(), exit_code(&task), task.run),
        (TaskState::Canceled, Some(7), 1),
        "{task:?}"
    );
    assert_eq!(task.isolation, "restricted", "{task:?}");
    assert_eq!(
        stdout(&mut client, &id).await,
        format!("{twice}interrupted\n")
    );
    until("every process of the run to be gone", SOON, async || {
        with_variable(&format!("TASKYARD_TASK_ID={id}")).is_empty()
    })
    .await;
    deployment.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restricted_run_of_another_user_is_both_and_can_be_interrupted_and_killed() {
    // SAFETY: a plain call.
    if unsafe { libc::geteuid() } != 0 {
        skipped("only root can run tasks as another user");
        return;
    }
    if !other_users_can_enter() {
        skipped("temporary files are closed to other users");
        return;
    }
    let Some(deployment) = start().await else {
        return;
    };
    let mut client = deployment.client().await;
    let session = new_session("guarded");
    let task = guard(|command| command.user = "nobody".to_owned());
    let id = client.create(&session, task.clone()).await.id;
    printed(&mut client, &id, "ready\n").await;
    signal(&mut client, &id, "USR1").await;
    let text = printed(&mut client, &id, "NoNewPrivs:\t1\n").await;
    assert!(text.contains("kept in\n65534\n"), "{text}");
    cancel_by_interrupt(&mut client, &id).await;
    let task_ended = client.ended(&id).await;
    assert_eq!(
        (task_ended.state(), exit_code(&task_ended)),
        (TaskState::Canceled, Some(7)),
        "{task_ended:?}"
    );
    assert_eq!(task_ended.isolation, "restricted");
    let id = client.create(&session, task).await.id;
    printed(&mut client, &id, "ready\n").await;
    signal(&mut client, &id, "KILL").await;
    let killed = client.ended(&id).await;
    assert_eq!(
        (killed.state(), exit_signal(&killed)),
        (TaskState::Failed, Some(9)),
        "{killed:?}"
    );
    deployment.remove().await;
}

/// Whether other users can come to what tests keep.
fn other_users_can_enter() -> bool {
    use std::os::unix::fs::MetadataExt;
    let place = std::env::temp_dir();
    let open = |folder: &std::path::Path| {
        std::fs::metadata(folder).is_ok_and(|folder| folder.mode() & 0o001 != 0)
    };
    place.ancestors().all(open)
}
