//! The control plane is asked to stop while calls wait and streams are open.

use std::pin::pin;
use std::time::Duration;

use futures::poll;
use rustix::process::Signal;
use taskyard_proto::v1::watch_response::Item;
use taskyard_proto::v1::{
    CreateTaskRequest, ListTasksRequest, TailOutputRequest, TakeWakesRequest, TaskState,
    WaitTasksRequest, WaitedTask, WatchRequest, WatchedSession, WriteHeader, WriteRequest,
};
use taskyard_tests::client::{Client, command, milliseconds, new_session, shell};
use taskyard_tests::deployment::Deployment;
use taskyard_tests::refusal::reason_of;
use taskyard_tests::wait::{SOON, eventually, until, within};
use taskyard_tests::watcher::Watcher;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_create_that_waits_answers_with_the_stored_task() {
    let deployment = Deployment::builder()
        .lease(Duration::from_secs(300))
        .workers(Vec::new())
        .start()
        .await;
    let mut client = deployment.client().await;
    let session = new_session("stopped");
    let request = CreateTaskRequest {
        session_id: session.clone(),
        task: Some(shell("true")),
        wait: Some(milliseconds(30_000)),
        ..CreateTaskRequest::default()
    };
    let mut waiting = client.clone();
    let call = tokio::spawn(async move { waiting.tasks.create_task(request).await });
    until("the task to be stored", SOON, async || {
        let request = ListTasksRequest {
            session_id: session.clone(),
            ..ListTasksRequest::default()
        };
        let listed = client.tasks.list_tasks(request).await;
        listed.is_ok_and(|listed| !listed.into_inner().tasks.is_empty())
    })
    .await;
    deployment.with_server(0, |server| server.signal(Signal::TERM));
    let answer = within("the call to end with the server", SOON, call).await;
    let answer = answer
        .expect("the call ends")
        .expect("what was stored is no error")
        .into_inner();
    assert!(answer.created);
    let task = answer.task.expect("a create answers with its task");
    assert_eq!(task.state(), TaskState::Queued, "{task:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_open_ends_with_a_word_and_goes_on_at_another_server() {
    let deployment = Deployment::builder()
        .servers(2)
        .workers(Vec::new())
        .start()
        .await;
    let session = new_session("stopping");
    let mut other = Client::connect(&deployment.endpoint_of(1)).await;
    let task = other.create(&session, command(&["true"])).await.id;
    let client = deployment.client().await;

    let mut tasks = client.tasks.clone();
    let watch = tasks.watch(from(&session, "")).await;
    let mut watch = watch.expect("a watch").into_inner();
    let mut cursor = String::new();
    loop {
        let message = within("the snapshot", SOON, watch.message()).await;
        let message = message.expect("the watch holds").expect("it goes on");
        if !message.cursor.is_empty() {
            cursor = message.cursor;
        }
        if matches!(message.item, Some(Item::SnapshotComplete(_))) {
            break;
        }
    }
    let request = TailOutputRequest {
        task: task.clone(),
        follow: true,
        ..TailOutputRequest::default()
    };
    let tail = tasks.tail_output(request).await;
    let mut tail = tail.expect("a tail").into_inner();
    let (parts, upload) = mpsc::channel(4);
    let header = WriteHeader {
        session_id: session.clone(),
        path: "/half".to_owned(),
        ..WriteHeader::default()
    };
    let first = WriteRequest {
        header: Some(header),
        data: b"half of it".to_vec().into(),
    };
    parts.send(first).await.expect("it is read");
    let mut files = client.files.clone();
    let mut writing = pin!(files.write(ReceiverStream::new(upload)));
    let mut waiter = client.tasks.clone();
    let waited = WaitedTask {
        task: task.clone(),
        ..WaitedTask::default()
    };
    let mut waiting = pin!(waiter.wait_tasks(WaitTasksRequest {
        session_id: session.clone(),
        tasks: vec![waited],
        timeout: Some(milliseconds(60_000)),
        ..WaitTasksRequest::default()
    }));
    let mut taker = client.tasks.clone();
    let mut taking = pin!(taker.take_wakes(TakeWakesRequest {
        session_ids: vec![session.clone()],
        consumer: "agent".to_owned(),
        wait: Some(milliseconds(60_000)),
        ..TakeWakesRequest::default()
    }));
    // they go out in this order, so all are there once the last one is answered
    assert!(poll!(writing.as_mut()).is_pending());
    assert!(poll!(waiting.as_mut()).is_pending());
    assert!(poll!(taking.as_mut()).is_pending());
    client.clone().get(&task).await;
    deployment.with_server(0, |server| server.signal(Signal::TERM));

    let last = within("the watch to end", SOON, async {
        loop {
            match watch.message().await {
                Ok(Some(message)) if message.cursor.is_empty() => {}
                Ok(Some(message)) => cursor = message.cursor,
                Ok(None) => panic!("the watch ended without a word"),
                Err(status) => return status,
            }
        }
    });
    expect_leaving("watch", &last.await);
    let last = within("the tail to end", SOON, async {
        loop {
            match tail.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("the tail ended without a word"),
                Err(status) => return status,
            }
        }
    });
    expect_leaving("tail", &last.await);
    let ended = within("the wait to end", SOON, waiting).await;
    expect_leaving("wait", &refused(ended));
    let ended = within("the wait for wakes to end", SOON, taking).await;
    expect_leaving("take", &refused(ended));
    let ended = within("the upload to end", SOON, writing).await;
    expect_leaving("write", &refused(ended));
    drop(parts);

    let mut watcher = Watcher::start(&mut other, &session, &cursor).await;
    let more = other.create(&session, command(&["true"])).await.id;
    assert_eq!(watcher.next_event().await.task_id, more, "nothing between");
    deployment.remove().await;
}

fn refused<T: std::fmt::Debug>(ended: Result<T, Status>) -> Status {
    ended.expect_err("there is nothing to answer")
}

fn from(session: &str, cursor: &str) -> WatchRequest {
    WatchRequest {
        sessions: vec![WatchedSession {
            session_id: session.to_owned(),
            cursor: cursor.to_owned(),
        }],
        ..WatchRequest::default()
    }
}

fn expect_leaving(what: &str, status: &Status) {
    assert_eq!(status.code(), Code::Unavailable, "{what}: {status:?}");
    assert_eq!(reason_of(status), "SHUTTING_DOWN", "{what}: {status:?}");
    let details = status.get_error_details();
    assert!(details.retry_info().is_some(), "{what}: {status:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_says_that_it_leaves_before_it_does() {
    let deployment = Deployment::builder()
        .server_flags(&["--shutdown-delay=10m"])
        .workers(Vec::new())
        .start()
        .await;
    let session = new_session("leaving");
    let mut client = deployment.client().await;
    let mut health = HealthClient::new(client.channel.clone());
    let watched = health.watch(HealthCheckRequest::default()).await;
    let mut watched = watched.expect("a watch of the health").into_inner();
    deployment.with_server(0, |server| server.signal(Signal::TERM));
    eventually("the server to say that it leaves", SOON, async || {
        let told = watched.message().await.expect("the watch holds");
        let status = told.expect("the watch goes on").status();
        (status == ServingStatus::NotServing).then_some(())
    })
    .await;
    // whoever has not noticed is served, over old connections and new ones
    client.create(&session, command(&["true"])).await;
    let mut late = deployment.client().await;
    late.create(&session, command(&["true"])).await;
    // a second word ends it at once
    deployment.with_server(0, |server| server.signal(Signal::TERM));
    until("the server to end", SOON, async || {
        deployment.with_server(0, |server| server.ended().is_some())
    })
    .await;
    deployment.remove().await;
}
