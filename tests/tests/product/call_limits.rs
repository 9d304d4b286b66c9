//! What one caller may take of a server: refusals with a reason and a time to come back, and nobody else who notices.

use std::time::Duration;

use futures::future::join_all;
use taskyard_proto::v1::{
    CancelTaskRequest, CreateTaskRequest, GetTaskRequest, ListTasksRequest, TaskDefinition,
    TaskState, WaitTasksRequest, WaitedTask, WatchRequest, WatchedSession, WriteHeader,
    WriteRequest,
};
use taskyard_tests::admin_page::AdminPage;
use taskyard_tests::client::{Client, command, is_terminal, milliseconds, new_session};
use taskyard_tests::command_line::CommandLine;
use taskyard_tests::deployment::Deployment;
use taskyard_tests::inside::agent;
use taskyard_tests::refusal::{expect_refused, reason_of};
use taskyard_tests::secured::{text, with_token, write_tokens};
use taskyard_tests::wait::{SOON, eventually, until, within};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_types::StatusExt;

use super::identity_support::{held, list_in};

const ADMIN: (&str, &str) = ("TASKYARD_ADMIN_LISTEN", "127.0.0.1:0");

/// A server with these flags on which `a` and `b` are known, and no worker.
async fn limited(flags: &[&str]) -> (Deployment, Client, TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    write_tokens(
        &list_in(&folder),
        &[("a", "role: client"), ("b", "role: client")],
    );
    let deployment = Deployment::builder()
        .workers(Vec::new())
        .server_flags(flags)
        .server_env(&[ADMIN, ("TASKYARD_AUTH_FILE", text(&list_in(&folder)))])
        .start()
        .await;
    let client = deployment.client().await;
    (deployment, client, folder)
}

/// Refused for a limit, with the limit and a time to come back.
#[track_caller]
fn expect_limit<T>(answer: Result<T, Status>, reason: &str, limit: &str) {
    let refused = expect_refused(reason, answer, Code::ResourceExhausted, reason);
    let details = refused.get_error_details();
    let retry = details.retry_info().and_then(|retry| retry.retry_delay);
    assert!(
        retry.is_some_and(|after| after > Duration::ZERO && after <= Duration::from_secs(1)),
        "{details:?}"
    );
    let facts = details.error_info().map(|info| &info.metadata);
    let told = facts.and_then(|facts| facts.get("limit"));
    assert_eq!(told.map(String::as_str), Some(limit), "{details:?}");
}

async fn list(client: &Client, token: &str, session: &str) -> Result<(), Status> {
    let request = ListTasksRequest {
        session_id: session.to_owned(),
        ..ListTasksRequest::default()
    };
    let listed = client
        .tasks
        .clone()
        .list_tasks(with_token(token, request))
        .await;
    listed.map(drop)
}

async fn refusals(deployment: &Deployment, reason: &str) -> f64 {
    let page = deployment.with_server(0, AdminPage::of);
    let name = format!("taskyard_limit_refusals_total{{reason=\"{reason}\"}}");
    page.samples().await.get(&name).copied().unwrap_or(0.0)
}

#[tokio::test]
async fn who_calls_too_often_is_told_when_to_come_back() {
    let (deployment, client, _folder) = limited(&["--call-rate=1", "--call-burst=3"]).await;
    let session = new_session("rate");
    let created = client
        .tasks
        .clone()
        .create_task(with_token("b", held("", &session)))
        .await;
    created.expect("of another caller");
    let refused = eventually("a refusal", SOON, async || {
        let calls = (0..20).map(|_| list(&client, "a", &session));
        let answers = join_all(calls).await;
        answers.into_iter().find(Result::is_err)
    })
    .await;
    expect_limit(refused, "RATE_LIMITED", "1");
    assert!(refusals(&deployment, "RATE_LIMITED").await >= 1.0);
    let other = list(&client, "b", &session).await;
    other.expect("the other caller is not meant");
    until("the first one to be heard again", SOON, async || {
        list(&client, "a", &session).await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn calls_under_way_are_counted_until_they_are_answered() {
    let (_deployment, client, _folder) = limited(&["--max-calls=1"]).await;
    let session = new_session("under-way");
    let waiting = CreateTaskRequest {
        wait: Some(milliseconds(30_000)),
        ..held("", &session)
    };
    let mut tasks = client.tasks.clone();
    // A look below may be under way when it comes; then it is refused itself, and comes again.
    let waiting = tokio::spawn(async move {
        loop {
            let waited = tasks.create_task(with_token("a", waiting.clone())).await;
            match waited {
                Err(status) if reason_of(&status) == "TOO_MANY_CALLS" => {}
                waited => return waited.map(drop),
            }
        }
    });
    let refused = eventually("a refusal", SOON, async || {
        let listed = list(&client, "a", &session).await;
        listed
            .err()
            .filter(|status| status.code() != Code::NotFound)
    })
    .await;
    expect_limit::<()>(Err(refused), "TOO_MANY_CALLS", "1");
    let cancel = CancelTaskRequest {
        session_id: session.clone(),
        task: "t1".to_owned(),
        ..CancelTaskRequest::default()
    };
    // It may not be stored yet; that is all that keeps another caller from it.
    until("the task to be canceled", SOON, async || {
        let mut tasks = client.tasks.clone();
        let canceled = tasks.cancel_task(with_token("b", cancel.clone())).await;
        canceled
            .map_err(|status| assert_eq!(status.code(), Code::NotFound))
            .is_ok()
    })
    .await;
    let waited = within("the first call", SOON, waiting).await.expect("ends");
    waited.expect("it was let through and answered");
    // One after the other is one at a time.
    for _ in 0..20 {
        list(&client, "a", &session).await.expect("there is room");
    }
}

#[tokio::test]
async fn streams_and_watchers_are_counted_apart_from_calls() {
    let (deployment, client, _folder) = limited(&["--max-streams=3", "--max-watchers=2"]).await;
    let session = new_session("streams");
    let created = client
        .tasks
        .clone()
        .create_task(with_token("a", held("", &session)))
        .await;
    created.expect("created");
    let watch = async |token: &str| {
        let request = WatchRequest {
            sessions: vec![WatchedSession {
                session_id: session.clone(),
                ..WatchedSession::default()
            }],
            ..WatchRequest::default()
        };
        let opened = client.tasks.clone().watch(with_token(token, request)).await;
        opened.map(tonic::Response::into_inner)
    };
    let mut watches = vec![
        watch("a").await.expect("the first"),
        watch("a").await.expect("the second"),
    ];
    expect_limit(watch("a").await, "TOO_MANY_WATCHERS", "2");
    let wait = WaitTasksRequest {
        session_id: session.clone(),
        tasks: vec![WaitedTask {
            task: "t1".to_owned(),
            ..WaitedTask::default()
        }],
        timeout: Some(milliseconds(30_000)),
        ..WaitTasksRequest::default()
    };
    let waited = client.tasks.clone().wait_tasks(with_token("a", wait)).await;
    expect_limit(waited, "TOO_MANY_WATCHERS", "2");

    // Any other stream is one more, and then there is no room for a file either.
    let reflect = async || {
        let (asking, questions) = mpsc::channel(1);
        let mut reflection = ServerReflectionClient::new(client.channel.clone());
        let request = with_token("a", ReceiverStream::new(questions));
        let opened = reflection.server_reflection_info(request).await?;
        Ok::<_, Status>((asking, opened.into_inner()))
    };
    let third = reflect().await.expect("a third stream");
    expect_limit(reflect().await, "TOO_MANY_STREAMS", "3");
    let header = WriteRequest {
        header: Some(WriteHeader {
            session_id: session.clone(),
            path: "/file".to_owned(),
            ..WriteHeader::default()
        }),
        ..WriteRequest::default()
    };
    let write = || {
        let mut files = client.files.clone();
        let request = with_token("a", tokio_stream::iter([header.clone()]));
        async move { files.write(request).await }
    };
    expect_limit(write().await, "TOO_MANY_STREAMS", "3");
    assert!(refusals(&deployment, "TOO_MANY_STREAMS").await >= 1.0);
    list(&client, "a", &session).await.expect("a call is none");
    watch("b").await.expect("another caller's");

    drop(third);
    until("room for a file", SOON, async || write().await.is_ok()).await;
    drop(watches.pop());
    let again = eventually("room for a watch", SOON, async || watch("a").await.ok()).await;
    drop(again);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_of_submits_is_slowed_down_and_loses_none() {
    const SUBMITS: usize = 60;
    let (deployment, client, _folder) = limited(&["--call-rate=10", "--call-burst=5"]).await;
    let session = new_session("burst");
    let line = CommandLine::new(&deployment.endpoint()).env("TASKYARD_TOKEN", "a");
    let submit = ["run", "--detach", "--session", &session, "--", "true"];
    let submits: Vec<_> = (0..SUBMITS).map(|_| line.start(&submit)).collect();
    let limit = Duration::from_secs(240);
    let ended = join_all(
        submits
            .into_iter()
            .map(|running| running.finish_within(limit)),
    )
    .await;
    for submitted in ended {
        submitted.expect_code(0);
    }
    assert!(refusals(&deployment, "RATE_LIMITED").await >= 1.0);
    let request = ListTasksRequest {
        session_id: session,
        page_size: 500,
        ..ListTasksRequest::default()
    };
    let listed = client
        .tasks
        .clone()
        .list_tasks(with_token("b", request))
        .await;
    let tasks = listed.expect("of another caller").into_inner().tasks;
    assert_eq!(tasks.len(), SUBMITS, "each is there once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_runs_inside_a_task_uses_up_its_session_and_not_its_worker() {
    let deployment = Deployment::builder()
        .lease(Duration::from_secs(6))
        .server_env(&[
            ADMIN,
            ("TASKYARD_CALL_RATE", "1"),
            ("TASKYARD_CALL_BURST", "3"),
        ])
        .start()
        .await;
    // Goes on until it was told so once.
    let flood = agent(
        "for burst in $(seq 20); do
            for n in 1 2 3 4 5 6 7 8; do self list >/dev/null 2>>told & done; wait
            if grep -q '1 calls a second' told; then exit 0; fi
        done; exit 9",
    );
    // The test itself is a caller with these limits, by its address.
    let patient = async |task: TaskDefinition| {
        let session = new_session("inside");
        eventually("a task to be created", SOON, async || {
            let mut client = deployment.client().await;
            client.try_create(&session, task.clone()).await.ok()
        })
        .await
    };
    let flooding = patient(flood).await;
    let others = patient(agent("self list >/dev/null")).await;
    for id in [&flooding.id, &others.id] {
        let ended = eventually("the task's end", Duration::from_secs(60), async || {
            let mut tasks = deployment.client().await.tasks;
            let request = GetTaskRequest {
                task: id.clone(),
                ..GetTaskRequest::default()
            };
            let read = tasks.get_task(request).await;
            let task = match read {
                Ok(answer) => answer.into_inner().task?,
                Err(status) => {
                    assert_eq!(reason_of(&status), "RATE_LIMITED");
                    return None;
                }
            };
            is_terminal(&task).then_some(task)
        })
        .await;
        assert_eq!(
            (ended.state(), ended.attempt),
            (TaskState::Succeeded, 1),
            "{ended:?}"
        );
    }
    let line = deployment.command_line();
    let logs = ["logs", "--stream", "stderr", &others.id];
    let said = line.run(&logs).await.expect_code(0).text();
    assert_eq!(said, "", "another session was told nothing");
}

#[tokio::test]
async fn connections_of_one_address_have_an_end_and_leave_room_again() {
    const LIMIT: usize = 6;
    let deployment = Deployment::builder()
        .workers(Vec::new())
        .server_flags(&["--max-address-connections=6"])
        .server_env(&[ADMIN])
        .start()
        .await;
    let mut client = deployment.client().await;
    let address = deployment.endpoint().replace("http://", "");
    let open = async || -> Option<TcpStream> {
        let mut stream = TcpStream::connect(&address).await.ok()?;
        // the beginning of HTTP/2, with empty settings: a server answers with its own
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
        stream.write_all(preface).await.ok()?;
        let mut byte = [0];
        let read = within("an answer or an end", SOON, stream.read(&mut byte)).await;
        matches!(read, Ok(1)).then_some(stream)
    };
    let mut connections = Vec::new();
    while let Some(connection) = open().await {
        connections.push(connection);
        assert!(connections.len() < LIMIT, "the client has one of them");
    }
    assert!(refusals(&deployment, "TOO_MANY_CONNECTIONS").await >= 1.0);
    let session = new_session("connected");
    client.create(&session, command(&["true"])).await;
    drop(connections);
    until("room for a connection", SOON, async || {
        open().await.is_some()
    })
    .await;
    deployment.remove().await;
}
