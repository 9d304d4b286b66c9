//! One client asks for as much at once as the default limits let it, and the calls of another one do not stand behind that.
//!
//! Nothing is timed: a call that stands behind what the greedy client has under way comes back after as many of its calls.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use taskyard_proto::v1::{
    CreateTaskRequest, DeleteSessionRequest, ListTasksRequest, StatRequest, WriteHeader,
    WriteRequest,
};
use taskyard_tests::client::{Client, new_session, shell};
use taskyard_tests::deployment::Deployment;
use taskyard_tests::refusal::reason_of;
use taskyard_tests::secured::{text, with_token, write_tokens};
use taskyard_tests::wait::until;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

const GREEDY: &str = "greedy";
const MODEST: &str = "modest";
/// Calls that the greedy client has under way at any time, over several connections and for several sessions, so that
/// each committer has some of them.
const UNDER_WAY: usize = 4_000;
const CONNECTIONS: usize = 8;
const SESSIONS: usize = 10;
/// A call of the modest client comes back before so many of the greedy one's: those that have their turns, some times over.
const NEAR: usize = UNDER_WAY / 4 * 3;
/// Files that the greedy client begins, and how many of them find a place.
const BEGUN: usize = 32;
const FILES_OF_ONE: usize = 4;
const LONG: Duration = Duration::from_secs(60);

/// A server with the default limits, and who calls it.
struct Scene {
    _folder: tempfile::TempDir,
    deployment: Deployment,
    modest: Client,
    session: String,
}

/// Calls of the greedy client, each made again as soon as it comes back.
struct Flood {
    came_back: Arc<AtomicUsize>,
    calls: JoinSet<()>,
}

impl Scene {
    async fn set() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let list = folder.path().join("auth.yaml");
        let role = "role: client";
        write_tokens(&list, &[(GREEDY, role), (MODEST, role)]);
        let deployment = Deployment::builder()
            .workers(Vec::new())
            .server_env(&[("TASKYARD_AUTH_FILE", text(&list))])
            .start()
            .await;
        let modest = deployment.client().await;
        let session = new_session("modest");
        let first = create(modest.clone(), MODEST, session.clone()).await;
        first.expect("before it begins");
        Self {
            _folder: folder,
            deployment,
            modest,
            session,
        }
    }
}

impl Flood {
    async fn of<F, C>(deployment: &Deployment, call: F) -> Self
    where
        F: Fn(Client, &'static str, String) -> C + Copy + Send + 'static,
        C: Future<Output = Result<(), Status>> + Send,
    {
        let sessions: Vec<String> = (0..SESSIONS).map(|_| new_session("greedy")).collect();
        let mut flood = Self {
            came_back: Arc::default(),
            calls: JoinSet::new(),
        };
        for _ in 0..CONNECTIONS {
            let client = deployment.client().await;
            for number in 0..UNDER_WAY / CONNECTIONS {
                let session = sessions[number % SESSIONS].clone();
                let (client, came_back) = (client.clone(), Arc::clone(&flood.came_back));
                flood.calls.spawn(async move {
                    loop {
                        // what it is refused comes back as well
                        let _ = call(client.clone(), GREEDY, session.clone()).await;
                        came_back.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        }
        // all of them are under way
        flood.goes_on(UNDER_WAY).await;
        flood
    }

    async fn goes_on(&self, calls: usize) {
        let by = self.count() + calls;
        until("the flood goes on", LONG, async || self.count() >= by).await;
    }

    fn count(&self) -> usize {
        self.came_back.load(Ordering::Relaxed)
    }

    /// Makes calls of somebody else meanwhile.
    async fn keeps_nobody_waiting(&self, call: impl AsyncFn() -> Result<(), Status>) {
        for _ in 0..5 {
            let before = self.count();
            call().await.expect("it is not refused");
            let meanwhile = self.count() - before;
            assert!(
                meanwhile < NEAR,
                "it came back behind {meanwhile} calls of another client"
            );
        }
        self.goes_on(1).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_client_reads_at_once_keeps_nobody_else_waiting() {
    let scene = Scene::set().await;
    let flood = Flood::of(&scene.deployment, read).await;
    flood
        .keeps_nobody_waiting(async || {
            read(scene.modest.clone(), MODEST, scene.session.clone()).await
        })
        .await;
    drop(flood);
    scene.deployment.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_client_creates_at_once_keeps_nobody_else_waiting() {
    let scene = Scene::set().await;
    let flood = Flood::of(&scene.deployment, create).await;
    flood
        .keeps_nobody_waiting(async || {
            create(scene.modest.clone(), MODEST, scene.session.clone()).await
        })
        .await;
    drop(flood);
    scene.deployment.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_client_deletes_at_once_keeps_nobody_else_waiting() {
    let scene = Scene::set().await;
    let flood = Flood::of(&scene.deployment, delete_nothing).await;
    flood
        .keeps_nobody_waiting(async || {
            create(scene.modest.clone(), MODEST, scene.session.clone()).await
        })
        .await;
    drop(flood);
    scene.deployment.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_one_client_begins_and_does_not_send_leave_room_for_another() {
    let scene = Scene::set().await;
    let greedy = scene.deployment.client().await;
    let mut begun = JoinSet::new();
    for _ in 0..BEGUN {
        begun.spawn(begin_file(greedy.clone(), scene.session.clone()));
    }
    // those that found no place say so, half as long after they came as the others are waited for
    for _ in FILES_OF_ONE..BEGUN {
        let refused = begun.join_next().await.expect("one").expect("no panic");
        assert_eq!(reason_of(&refused), "OVERLOADED");
    }
    let mut files = scene.modest.files.clone();
    let parts = [
        WriteRequest {
            header: Some(header(&scene.session, "/note")),
            data: Vec::new().into(),
        },
        WriteRequest {
            header: None,
            data: b"modest".to_vec().into(),
        },
    ];
    let write = with_token(MODEST, tokio_stream::iter(parts));
    files.write(write).await.expect("there is room");
    let request = StatRequest {
        session_id: scene.session.clone(),
        path: "/note".to_owned(),
        ..StatRequest::default()
    };
    files
        .stat(with_token(MODEST, request))
        .await
        .expect("there it is");
    assert!(
        begun.try_join_next().is_none(),
        "its files are in their places still"
    );
    drop(begun);
    scene.deployment.remove().await;
}

async fn create(client: Client, token: &'static str, session: String) -> Result<(), Status> {
    let request = CreateTaskRequest {
        session_id: session,
        task: Some(shell("true")),
        ..CreateTaskRequest::default()
    };
    let mut tasks = client.tasks;
    tasks.create_task(with_token(token, request)).await?;
    Ok(())
}

async fn read(client: Client, token: &'static str, session: String) -> Result<(), Status> {
    let request = ListTasksRequest {
        session_id: session,
        ..ListTasksRequest::default()
    };
    let mut tasks = client.tasks;
    tasks.list_tasks(with_token(token, request)).await?;
    Ok(())
}

/// Of a session that is not there.
async fn delete_nothing(
    client: Client,
    token: &'static str,
    session: String,
) -> Result<(), Status> {
    let request = DeleteSessionRequest {
        session_id: session,
        ..DeleteSessionRequest::default()
    };
    let mut tasks = client.tasks;
    tasks.delete_session(with_token(token, request)).await?;
    Ok(())
}

fn header(session: &str, path: &str) -> WriteHeader {
    WriteHeader {
        session_id: session.to_owned(),
        path: path.to_owned(),
        ..WriteHeader::default()
    }
}

/// Says what is to come, and then nothing; how it ends.
async fn begin_file(client: Client, session: String) -> Status {
    let (parts, stream) = mpsc::channel(1);
    let first = WriteRequest {
        header: Some(header(&session, "/never")),
        data: Vec::new().into(),
    };
    parts.send(first).await.expect("room for one");
    let mut files = client.files;
    let written = files
        .write(with_token(GREEDY, ReceiverStream::new(stream)))
        .await;
    drop(parts);
    written.expect_err("nothing was sent")
}
