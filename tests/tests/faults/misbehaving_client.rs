//! One client does all that it can to hurt a server, within its own credential; another one does not notice.

use std::collections::BTreeMap;
use std::future::Future;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use taskyard_proto::v1::{
    CreateTaskRequest, GetTaskRequest, ListTasksRequest, TailOutputRequest, TaskState,
    WatchRequest, WatchedSession, WriteRequest,
};
use taskyard_tests::admin_page::AdminPage;
use taskyard_tests::binaries;
use taskyard_tests::client::{Client, is_terminal, new_session, shell, with_command};
use taskyard_tests::deployment::Deployment;
use taskyard_tests::process::Process;
use taskyard_tests::refusal::reason_of;
use taskyard_tests::secured::{text, with_token, write_tokens};
use taskyard_tests::wait::{SOON, eventually, until};
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

/// What the bad one was refused, by reason.
#[derive(Clone, Default)]
struct Refused(Arc<Mutex<BTreeMap<String, usize>>>);

impl Refused {
    fn note<T>(&self, answer: &Result<T, Status>) {
        if let Err(status) = answer {
            let mut counts = self.0.lock().expect("nobody panicked");
            *counts.entry(reason_of(status)).or_default() += 1;
        }
    }

    async fn has(&self, reason: &str) {
        until(reason, Duration::from_secs(60), async || {
            self.of(reason) > 0
        })
        .await;
    }

    fn of(&self, reason: &str) -> usize {
        let counts = self.0.lock().expect("nobody panicked");
        counts.get(reason).copied().unwrap_or(0)
    }
}

const BAD: &str = "bad";
const GOOD: &str = "good";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_misbehaving_client_is_refused_and_another_one_is_served() {
    const TASKS: usize = 12;
    let folder = tempfile::tempdir().expect("a folder");
    let list = folder.path().join("auth.yaml");
    write_tokens(
        &list,
        &[
            (BAD, "role: client"),
            (GOOD, "role: client"),
            ("pool", "role: worker"),
        ],
    );
    let deployment = Deployment::builder()
        .workers(Vec::new())
        .server_flags(&[
            "--call-rate=100",
            "--call-burst=100",
            "--max-calls=8",
            "--max-streams=12",
            "--max-watchers=6",
        ])
        .server_env(&[
            ("TASKYARD_ADMIN_LISTEN", "127.0.0.1:0"),
            ("TASKYARD_AUTH_FILE", text(&list)),
        ])
        .start()
        .await;
    let mut command = Command::new(binaries::taskyard());
    command
        .args(["worker", "--endpoint", &deployment.endpoint()])
        .args(["--name=w1", "--slots=4", "--data-dir"])
        .arg(folder.path().join("w1"))
        .env("TASKYARD_TOKEN", "pool");
    let worker = Process::start("w1", command, &folder.path().join("w1.log"));
    worker.logged("works for ", SOON).await;

    let session = new_session("good");
    let good = deployment.client().await;
    let first = create(&good, GOOD, &session).await;
    first.expect("before it begins");

    let refused = Refused::default();
    let mut mischief = JoinSet::new();
    let bad_session = new_session("bad");
    let client = deployment.client().await;
    until("a task of the bad one", SOON, async || {
        create(&client, BAD, &bad_session).await.is_ok()
    })
    .await;
    // One after the other, since a flood leaves its own maker little for other mischief.
    mischief.spawn(send_what_is_too_large(
        deployment.client().await,
        bad_session.clone(),
        refused.clone(),
    ));
    refused.has("MESSAGE_TOO_LARGE").await;
    mischief.spawn(watch_without_reading(
        deployment.client().await,
        bad_session.clone(),
        refused.clone(),
    ));
    refused.has("TOO_MANY_WATCHERS").await;
    mischief.spawn(begin_files_and_send_nothing(
        deployment.client().await,
        refused.clone(),
    ));
    mischief.spawn(open_and_cancel(
        deployment.client().await,
        bad_session.clone(),
    ));
    for _ in 0..4 {
        mischief.spawn(flood(client.clone(), bad_session.clone(), refused.clone()));
    }
    refused.has("RATE_LIMITED").await;

    // All of this with not one refusal, while it goes on.
    let mut ids = Vec::new();
    for _ in 0..TASKS {
        let created = create(&good, GOOD, &session).await;
        ids.push(created.expect("the good one is never refused"));
    }
    for id in ids {
        let ended = eventually("a task's end", Duration::from_secs(60), async || {
            let request = GetTaskRequest {
                task: id.clone(),
                ..GetTaskRequest::default()
            };
            let read = good.tasks.clone().get_task(with_token(GOOD, request)).await;
            let read = read.expect("the good one is never refused");
            read.into_inner().task.filter(is_terminal)
        })
        .await;
        assert_eq!(ended.state(), TaskState::Succeeded, "{ended:?}");
        assert_eq!(ended.attempt, 1, "its worker was heard all the time");
    }
    assert!(!mischief.is_empty());
    mischief.shutdown().await;
    let page = deployment.with_server(0, AdminPage::of);
    let samples = page.samples().await;
    let counted = |reason: &str| {
        let name = format!("taskyard_limit_refusals_total{{reason=\"{reason}\"}}");
        samples.get(&name).copied().unwrap_or(0.0)
    };
    for reason in ["RATE_LIMITED", "TOO_MANY_WATCHERS", "MESSAGE_TOO_LARGE"] {
        assert!(counted(reason) >= refused.of(reason) as f64, "{reason}");
    }
    drop(worker);
    deployment.remove().await;
}

async fn create(client: &Client, token: &str, session: &str) -> Result<String, Status> {
    let request = CreateTaskRequest {
        session_id: session.to_owned(),
        task: Some(shell("true")),
        ..CreateTaskRequest::default()
    };
    let mut tasks = client.tasks.clone();
    let answer = tasks.create_task(with_token(token, request)).await?;
    Ok(answer.into_inner().task.unwrap_or_default().id)
}

async fn flood(client: Client, session: String, refused: Refused) {
    loop {
        let request = ListTasksRequest {
            session_id: session.clone(),
            ..ListTasksRequest::default()
        };
        let mut tasks = client.tasks.clone();
        refused.note(&tasks.list_tasks(with_token(BAD, request)).await);
    }
}

fn watch_of(session: &str) -> WatchRequest {
    WatchRequest {
        sessions: vec![WatchedSession {
            session_id: session.to_owned(),
            ..WatchedSession::default()
        }],
        ..WatchRequest::default()
    }
}

/// Holds all that it is given, and asks for more.
async fn watch_without_reading(client: Client, session: String, refused: Refused) {
    let mut unread = Vec::new();
    loop {
        let mut tasks = client.tasks.clone();
        let opened = tasks.watch(with_token(BAD, watch_of(&session))).await;
        refused.note(&opened);
        unread.extend(opened.ok());
    }
}

async fn begin_files_and_send_nothing(client: Client, refused: Refused) {
    let mut begun = JoinSet::new();
    loop {
        let (parts, stream) = tokio::sync::mpsc::channel::<WriteRequest>(1);
        let mut files = client.files.clone();
        let refused = refused.clone();
        begun.spawn(async move {
            let written = files
                .write(with_token(BAD, ReceiverStream::new(stream)))
                .await;
            refused.note(&written);
            drop(parts);
        });
        // at most so many of them wait here
        if begun.len() >= 16 {
            begun.join_next().await;
        }
    }
}

async fn send_what_is_too_large(client: Client, session: String, refused: Refused) {
    loop {
        let huge = with_command(shell("true"), |command| {
            command.stdin = Some(vec![7; 5 << 20].into());
        });
        let request = CreateTaskRequest {
            session_id: session.clone(),
            task: Some(huge),
            ..CreateTaskRequest::default()
        };
        let mut tasks = client.tasks.clone();
        refused.note(&tasks.create_task(with_token(BAD, request)).await);
    }
}

/// Begins streams and resets them, some before the server has looked at them.
async fn open_and_cancel(client: Client, session: String) {
    loop {
        let mut tasks = client.tasks.clone();
        let tail = TailOutputRequest {
            session_id: session.clone(),
            task: "t1".to_owned(),
            ..TailOutputRequest::default()
        };
        let tailing = tasks.tail_output(with_token(BAD, tail));
        reset_soon(tailing).await;
        let mut tasks = client.tasks.clone();
        reset_soon(tasks.watch(with_token(BAD, watch_of(&session)))).await;
    }
}

/// Gives a call a moment on its way, then lets it go.
async fn reset_soon<T>(call: impl Future<Output = T>) {
    let _ = tokio::time::timeout(Duration::from_millis(2), call).await;
}
