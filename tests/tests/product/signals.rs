//! Signals that are no cancel, and cancels that begin with another signal than TERM.

use taskyard_proto::v1::{
    CancelTaskRequest, ReadOutputRequest, SignalTarget, SignalTaskRequest, SignalTaskResponse,
    TaskState,
};
use taskyard_tests::client::{Client, new_session, probe, shell};
use taskyard_tests::deployment::Deployment;
use taskyard_tests::refusal::{expect_bad_field, expect_refused};
use taskyard_tests::wait::{SOON, until};
use tonic::{Code, Status};

async fn signal(
    client: &mut Client,
    task: &str,
    signal: &str,
) -> Result<SignalTaskResponse, Status> {
    let request = SignalTaskRequest {
        task: task.to_owned(),
        signal: signal.to_owned(),
        ..SignalTaskRequest::default()
    };
    Ok(client.tasks.signal_task(request).await?.into_inner())
}

async fn until_stdout(client: &Client, task: &str, wanted: &str) {
    until(&format!("{wanted:?}"), SOON, async || {
        let request = ReadOutputRequest {
            task: task.to_owned(),
            stream: 1,
            max_bytes: 1024,
            ..ReadOutputRequest::default()
        };
        match client.clone().tasks.read_output(request).await {
            Ok(answer) => answer.into_inner().data == wanted.as_bytes(),
            Err(_) => false,
        }
    })
    .await;
}

#[tokio::test]
async fn signals_reach_the_process_in_their_order_and_end_nothing_by_themselves() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("signals");
    let task = client.create(&session, probe("catch")).await;
    until_stdout(&client, &task.id, "ready\n").await;
    let mut seen = "ready\n".to_owned();
    for (named, number, name) in [
        ("HUP", 1, "SIGHUP"),
        ("sigusr1", 10, "SIGUSR1"),
        ("2", 2, "SIGINT"),
        ("WINCH", 28, "SIGWINCH"),
    ] {
        let answer = signal(&mut client, &task.id, named).await.expect("sent");
        assert_eq!(
            (answer.run, answer.signal, answer.signal_name.as_str()),
            (1, number, name)
        );
        seen.push_str(&format!("{number}\n"));
        until_stdout(&client, &task.id, &seen).await;
    }
    let running = client.get(&task.id).await;
    assert_eq!(running.state(), TaskState::Running);
    assert!(running.cancel_requested_at.is_none());
    signal(&mut client, &task.id, "TERM").await.expect("sent");
    let ended = client.ended(&task.id).await;
    assert_eq!(ended.state(), TaskState::Succeeded, "its own end");
}

#[tokio::test]
async fn a_killed_process_failed_and_was_not_canceled() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("killed");
    let task = client.create(&session, probe("ignore-term")).await;
    until_stdout(&client, &task.id, "ready\n").await;
    signal(&mut client, &task.id, "KILL").await.expect("sent");
    let ended = client.ended(&task.id).await;
    assert_eq!(ended.state(), TaskState::Failed);
    assert_eq!(ended.error.unwrap_or_default().kind, "signal");
    assert_eq!(ended.exit.unwrap_or_default().signal, Some(9));
    let late = signal(&mut client, &task.id, "HUP").await;
    expect_refused("an ended task", late, Code::FailedPrecondition, "TERMINAL");
}

#[tokio::test]
async fn a_stopped_process_goes_on_when_it_is_told() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("stopped");
    let script = "echo ready; while :; do sleep 0.05; [ -e go ] && exit 5; done";
    let task = client.create(&session, shell(script)).await;
    until_stdout(&client, &task.id, "ready\n").await;
    signal(&mut client, &task.id, "STOP").await.expect("sent");
    signal(&mut client, &task.id, "CONT").await.expect("sent");
    let request = SignalTaskRequest {
        task: task.id.clone(),
        signal: "TERM".to_owned(),
        target: SignalTarget::Root.into(),
        ..SignalTaskRequest::default()
    };
    client.tasks.signal_task(request).await.expect("sent");
    let ended = client.ended(&task.id).await;
    assert_eq!(ended.exit.unwrap_or_default().signal, Some(15));
}

#[tokio::test]
async fn what_has_no_process_and_what_is_no_signal_is_refused() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("no-signal");
    let mut held = probe("hang");
    held.hold = true;
    let task = client.create(&session, held).await;
    let refused = signal(&mut client, &task.id, "HUP").await;
    expect_refused(
        "a queued task",
        refused,
        Code::FailedPrecondition,
        "WRONG_STATE",
    );
    for name in ["", "SEGV", "99", "KILLL"] {
        let refused = signal(&mut client, &task.id, name).await;
        expect_bad_field(refused, "signal");
    }
    let cancel = CancelTaskRequest {
        task: task.id.clone(),
        signal: "STOP".to_owned(),
        ..CancelTaskRequest::default()
    };
    let refused = client.tasks.cancel_task(cancel).await;
    expect_bad_field(refused, "signal");
}

#[tokio::test]
async fn a_cancel_begins_with_the_signal_that_was_asked_for() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("cancel-signal");
    let script =
        "trap 'echo int; exit 0' INT; trap '' TERM; echo ready; while :; do sleep 0.05; done";
    let task = client.create(&session, shell(script)).await;
    until_stdout(&client, &task.id, "ready\n").await;
    let request = CancelTaskRequest {
        task: task.id.clone(),
        signal: "INT".to_owned(),
        grace: Some(taskyard_tests::client::milliseconds(60_000)),
        ..CancelTaskRequest::default()
    };
    client.tasks.cancel_task(request).await.expect("asked");
    let ended = client.ended(&task.id).await;
    assert_eq!(ended.state(), TaskState::Canceled);
    until_stdout(&client, &task.id, "ready\nint\n").await;
}

#[tokio::test]
async fn a_signal_crosses_servers() {
    let deployment = Deployment::builder().servers(2).start().await;
    let mut near = deployment.client().await;
    let mut far = Client::connect(&deployment.endpoint_of(1)).await;
    let session = new_session("far");
    let task = near.create(&session, probe("catch")).await;
    until_stdout(&near, &task.id, "ready\n").await;
    signal(&mut far, &task.id, "USR2").await.expect("sent");
    until_stdout(&near, &task.id, "ready\n12\n").await;
    signal(&mut far, &task.id, "TERM").await.expect("sent");
    near.ended(&task.id).await;
    deployment.remove().await;
}

#[tokio::test]
async fn the_command_line_sends_signals() {
    let deployment = Deployment::shared().await;
    let mut client = deployment.client().await;
    let session = new_session("cli-signal");
    let line = deployment.command_line();
    let task = client.create(&session, probe("catch")).await;
    until_stdout(&client, &task.id, "ready\n").await;
    let unknown = line.run(&["signal", &task.id, "BOGUS"]).await;
    unknown.expect_code(2);
    let sent = line.run(&["signal", &task.id, "hup"]).await;
    assert!(sent.expect_code(0).text().contains("SIGHUP"));
    until_stdout(&client, &task.id, "ready\n1\n").await;
    let canceled = line.run(&["cancel", &task.id, "--signal", "TERM"]).await;
    canceled.expect_code(0);
    client.ended(&task.id).await;
    let late = line.run(&["signal", &task.id, "HUP"]).await;
    late.expect_code(1);
}
