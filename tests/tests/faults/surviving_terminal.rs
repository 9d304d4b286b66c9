//! A terminal outlives the worker with its process: the shim holds it.

use std::time::Duration;

use taskyard_proto::v1::{
    Pty, ReadOutputRequest, ResizeTerminalRequest, SignalTaskRequest, TaskState,
};
use taskyard_tests::client::{Client, new_session, probe, with_command};
use taskyard_tests::deployment::Deployment;
use taskyard_tests::process::Process;
use taskyard_tests::wait::{SOON, until};

const LONG_LEASE: Duration = Duration::from_secs(120);

async fn until_shown(client: &Client, task: &str, wanted: &str) {
    until(wanted, SOON, async || {
        let request = ReadOutputRequest {
            task: task.to_owned(),
            stream: 1,
            max_bytes: 4096,
            ..ReadOutputRequest::default()
        };
        match client.clone().tasks.read_output(request).await {
            Ok(answer) => {
                let shown = answer.into_inner().data;
                String::from_utf8_lossy(&shown).ends_with(wanted)
            }
            Err(_) => false,
        }
    })
    .await;
}

async fn resize(client: &mut Client, task: &str, rows: u32, columns: u32) {
    let request = ResizeTerminalRequest {
        task: task.to_owned(),
        rows,
        columns,
        ..ResizeTerminalRequest::default()
    };
    client.tasks.resize_terminal(request).await.expect("taken");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminal_outlives_its_worker_and_gets_the_size_that_was_wanted_meanwhile() {
    let deployment = Deployment::builder().lease(LONG_LEASE).start().await;
    let mut client = deployment.client().await;
    let task = with_command(probe("terminal --watch"), |command| {
        command.pty = Some(Pty {
            rows: Some(30),
            columns: Some(90),
            term: String::new(),
        });
        command.survive_worker_restart = true;
    });
    let id = client.create(&new_session("terminal"), task).await.id;
    until_shown(&client, &id, "ready\r\n").await;
    deployment.with_worker(0, Process::kill);
    resize(&mut client, &id, 31, 91).await;
    deployment.restart_worker(0).await;
    let task = client.reached(&id, |task| task.attempt == 2).await;
    assert_eq!((task.run, task.state()), (1, TaskState::Running));
    until_shown(&client, &id, "ready\r\nsize=31x91\r\n").await;
    resize(&mut client, &id, 32, 92).await;
    until_shown(&client, &id, "size=31x91\r\nsize=32x92\r\n").await;
    let end = SignalTaskRequest {
        task: id.clone(),
        signal: "TERM".to_owned(),
        ..SignalTaskRequest::default()
    };
    client.tasks.signal_task(end).await.expect("sent");
    let task = client.ended(&id).await;
    assert_eq!((task.state(), task.run), (TaskState::Succeeded, 1));
    deployment.remove().await;
}
