//! Connections that live for a second, under calls and streams that must not notice.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use taskyard_proto::v1::tail_output_response::Item;
use taskyard_proto::v1::{
    GetTaskRequest, OutputPosition, OutputStream, TailOutputRequest, TailOutputResponse,
    TaskChange, TaskState, WatchRequest, WatchedSession,
};
use taskyard_tests::client::{Client, new_session, shell};
use taskyard_tests::deployment::{Deployment, WorkerPlan};
use taskyard_tests::refusal::reason_of;
use taskyard_tests::wait::{SOON, until, within};
use taskyard_tests::watcher::Watcher;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::flow::Flow;
use crate::journal::Journal;

/// Clients that call one time after the other, each over a connection of its own.
const CALLERS: usize = 4;
/// Calls of all of them together.
const CALLS: usize = 1_000;
/// Tasks that print all the time.
const TASKS: usize = 4;
/// Streams that a watch takes at least: connections grow old under it.
const STREAMS: usize = 5;

/// A server for looking on, and one whose connections live for a second, with a worker.
async fn young() -> (Deployment, String) {
    let deployment = Deployment::builder()
        .lease(Duration::from_secs(60))
        .workers(Vec::new())
        .start()
        .await;
    let young = deployment
        .add_server_with(&["--max-connection-age=1s"])
        .await;
    let plan = WorkerPlan::new("w1").flags(&["--slots=8"]);
    deployment.add_worker(young, plan).await;
    let endpoint = deployment.endpoint_of(young);
    (deployment, endpoint)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_grow_old_fail_no_call_and_lose_nothing() {
    let (deployment, young) = young().await;
    let session = new_session("aged");
    let journal = Journal::begin(&young, &session).await;
    let mut client = deployment.client().await;
    let flow = Flow::start(&mut client, &session, deployment.folder(), TASKS, 1).await;
    let tail = flow.follow(&young, 0);
    let made = Arc::new(AtomicUsize::new(0));
    let callers: Vec<_> = (0..CALLERS)
        .map(|number| {
            let (endpoint, made) = (young.clone(), made.clone());
            let task = flow.tasks[number % TASKS].clone();
            tokio::spawn(async move {
                let client = Client::connect(&endpoint).await;
                while made.fetch_add(1, Ordering::Relaxed) < CALLS {
                    read(&client, &task).await;
                }
            })
        })
        .collect();
    for caller in callers {
        let called = within("thousands of calls", 8 * SOON, caller).await;
        called.expect("no call failed");
    }
    until(
        "connections to grow old under a watch",
        4 * SOON,
        async || journal.streams() >= STREAMS,
    )
    .await;
    let attached =
        deployment.with_server(1, |server| server.log().matches("worker attached").count());
    assert!(attached >= 2, "the worker has moved: {attached}");
    flow.end();
    flow.verify(&mut client).await;
    let followed = within("the tail to end", SOON, tail).await;
    assert!(followed.expect("the tail holds") > 0);
    let events = journal.ended(&flow.tasks).await;
    assert_eq!(
        events.len(),
        3 * TASKS,
        "each was created, started and ended: {events:?}"
    );
    deployment.remove().await;
}

/// A call that must be answered. This library gives a call back that it could not send before the connection closed; those
/// of other languages send it on the next connection by themselves.
async fn read(client: &Client, task: &str) {
    for _ in 0..3 {
        let request = GetTaskRequest {
            task: task.to_owned(),
            ..GetTaskRequest::default()
        };
        match client.tasks.clone().get_task(request).await {
            Ok(_) => return,
            Err(status) => assert!(was_never_sent(&status), "a call failed: {status:?}"),
        }
    }
    panic!("no connection takes a call");
}

/// Whether the connection took no more calls when this one was to be sent.
fn was_never_sent(status: &Status) -> bool {
    let shown = format!("{status:?}");
    let is_ours = status.get_error_details().error_info().is_some();
    let was_queued = status.code() == Code::Cancelled && shown.contains("operation was canceled");
    let met_goodbye = shown.contains("GoAway") && shown.contains("NO_ERROR");
    !is_ours && (was_queued || met_goodbye)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_says_at_its_age_that_it_goes_on_elsewhere() {
    let (deployment, young) = young().await;
    let session = new_session("parting");
    let mut client = deployment.client().await;
    let go = deployment.folder().join("go");
    let script = format!(
        "echo one; until [ -e {} ]; do sleep 0.1; done; echo two",
        go.display()
    );
    let task = client.create(&session, shell(&script)).await.id;
    client
        .reached(&task, |task| task.state() == TaskState::Running)
        .await;

    let mut old = Client::connect(&young).await;
    let watch = old.tasks.watch(from(&session, "")).await;
    let mut watch = watch.expect("a watch").into_inner();
    let mut cursor = String::new();
    let end = within("the watch to end", SOON, async {
        loop {
            match watch.message().await {
                Ok(Some(item)) if item.cursor.is_empty() => {}
                Ok(Some(item)) => cursor = item.cursor,
                Ok(None) => panic!("the watch ended without a word"),
                Err(status) => return status,
            }
        }
    })
    .await;
    expect_aged(&end);

    let mut old = Client::connect(&young).await;
    let tail = old.tasks.tail_output(tail_from(&task, 0)).await;
    let mut tail = tail.expect("a tail").into_inner();
    let mut came = Vec::new();
    let end = within("the tail to end", SOON, async {
        loop {
            match tail.message().await {
                Ok(Some(message)) => came.extend(data(message)),
                Ok(None) => panic!("the tail ended without a word"),
                Err(status) => return status,
            }
        }
    })
    .await;
    expect_aged(&end);
    assert!(b"one\n".starts_with(&came), "{came:?}");

    // both go on at another server, from where they were
    std::fs::write(&go, b"").expect("the task is let go");
    let mut watcher = Watcher::start(&mut client, &session, &cursor).await;
    let event = watcher.next_event().await;
    let state = event.change.as_ref().map(TaskChange::state);
    assert_eq!(state, Some(TaskState::Succeeded), "{event:?}");
    let offset = i64::try_from(came.len()).expect("a few bytes");
    let tail = client.tasks.tail_output(tail_from(&task, offset)).await;
    let mut tail = tail.expect("a tail").into_inner();
    while let Some(message) = within("the rest", SOON, tail.message())
        .await
        .expect("the tail holds")
    {
        came.extend(data(message));
    }
    assert_eq!(came, b"one\ntwo\n");
    deployment.remove().await;
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

/// The bytes of standard output in an item of a tail.
fn data(message: TailOutputResponse) -> Vec<u8> {
    match message.item {
        Some(Item::Chunk(chunk)) => chunk.data.to_vec(),
        Some(Item::Gap(gap)) => panic!("the tail has a gap: {gap:?}"),
        Some(Item::RunStarted(_) | Item::Keepalive(_) | Item::End(_)) | None => Vec::new(),
    }
}

fn tail_from(task: &str, offset: i64) -> TailOutputRequest {
    TailOutputRequest {
        task: task.to_owned(),
        run: 1,
        positions: vec![OutputPosition {
            stream: OutputStream::Stdout.into(),
            offset,
        }],
        follow: true,
        ..TailOutputRequest::default()
    }
}

fn expect_aged(status: &Status) {
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert_eq!(reason_of(status), "CONNECTION_AGED", "{status:?}");
    assert!(status.get_error_details().retry_info().is_some());
}
