//! Many watchers cost little more than one, and one that does not read costs nobody anything.

use std::collections::BTreeSet;

use rustix::process::Signal;
use sqlx::{PgConnection, Row};
use taskyard_proto::v1::session_task_service_client::SessionTaskServiceClient;
use taskyard_proto::v1::watch_response::Item;
use taskyard_proto::v1::{TaskDefinition, TaskState, WatchRequest, WatchResponse, WatchedSession};
use taskyard_tests::client::{Client, command, new_session, shell};
use taskyard_tests::deployment::Deployment;
use taskyard_tests::refusal::reason_of;
use taskyard_tests::wait::{SOON, eventually, until, within};
use taskyard_tests::watcher::Watcher;
use tonic::transport::Endpoint;
use tonic::{Status, Streaming};

const MEMORY_LIMIT: u64 = 400 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_watchers_share_one_reader_of_the_log() {
    const CONNECTIONS: usize = 10;
    const WATCHERS: usize = 1_000;
    const EVENTS: i64 = 40;
    // Each watcher looks four or five times where it begins; then one reader reads for all of them, where each for
    // itself would read forty times more.
    const MOST_READS: i64 = 10 * WATCHERS as i64;
    let deployment = Deployment::builder().workers(Vec::new()).start().await;
    let mut client = deployment.client().await;
    let session = new_session("thousand");
    create(&mut client, &session).await;
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(deployment.client().await);
    }
    let mut streams = Vec::new();
    for number in 0..WATCHERS {
        let client = &mut connections[number % CONNECTIONS];
        let filters = WatchRequest {
            // Half of them ask for what the events themselves do not say.
            kinds: vec!["command".to_owned(); number % 2],
            ..WatchRequest::default()
        };
        let mut stream = open(&mut client.tasks, &session, "", filters).await;
        while !is_complete(&next(&mut stream).await) {}
        streams.push(stream);
    }
    for _ in 0..EVENTS {
        create(&mut client, &session).await;
    }
    for stream in &mut streams {
        for seq in 2..=EVENTS + 1 {
            assert_eq!(
                next_seq(stream).await,
                Some(seq),
                "each event, once, in order"
            );
        }
    }
    let memory = deployment.with_server(0, |server| server.peak_memory());
    drop(streams);
    // A connection to the database tells its statistics at the latest when it ends.
    deployment.with_server(0, |server| server.kill());
    let mut database = deployment.database().connect().await;
    until("the server's connections to end", SOON, async || {
        others(&mut database).await == 0
    })
    .await;
    let reads = log_reads(&mut database).await;
    eprintln!(
        "{WATCHERS} watchers of {EVENTS} events: {reads} reads of the log, {} MiB in the server",
        memory >> 20
    );
    assert!(reads <= MOST_READS, "{reads} reads of the log");
    assert!(memory < MEMORY_LIMIT, "{memory} bytes in the server");
    drop(database);
    deployment.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watchers_that_never_read_harm_neither_the_work_nor_others_nor_memory() {
    const STALLED: usize = 50;
    const EVENTS: i64 = 1_500;
    let deployment = Deployment::builder().start().await;
    let mut client = deployment.client().await;
    let session = new_session("stalled");
    let mut stalled = Vec::new();
    for _ in 0..STALLED {
        stalled.push(narrow_watch(&deployment, &session).await);
    }
    // A process that does not even read its socket.
    let stopped = deployment
        .command_line()
        .start(&["watch", &session, "-o", "name"]);
    let mut watcher = Watcher::start(&mut client, &session, "").await;
    let first = create(&mut client, &session).await;
    eventually("the command line to watch", SOON, async || {
        stopped.stdout().contains(&first).then_some(())
    })
    .await;
    stopped.signal(Signal::STOP);
    let creates = (1..EVENTS).map(|_| {
        let (mut client, session) = (client.clone(), session.clone());
        async move { create(&mut client, &session).await }
    });
    futures::future::join_all(creates).await;
    let work = client.create(&session, shell("echo done")).await.id;
    assert_eq!(client.ended(&work).await.state(), TaskState::Succeeded);
    let events = watcher
        .events_until(|event| event.task_id == work && event.generation == 3)
        .await;
    let numbers: Vec<i64> = events.iter().map(|event| event.seq).collect();
    let expected: Vec<i64> = (1..=EVENTS + 3).collect();
    assert_eq!(numbers, expected);
    let memory = deployment.with_server(0, |server| server.peak_memory());
    eprintln!(
        "{STALLED} stalled watchers: {} MiB in the server",
        memory >> 20
    );
    assert!(memory < MEMORY_LIMIT, "{memory} bytes in the server");
    // Who reads at last misses nothing, be it in the same stream or in the next one.
    let Some(stream) = stalled.pop() else {
        panic!("there are stalled watchers");
    };
    let found = read_at_last(&mut client, &session, stream, EVENTS + 3).await;
    assert_eq!(found, expected.into_iter().collect::<BTreeSet<i64>>());
    drop((stalled, stopped));
    deployment.remove().await;
}

/// A watch on a connection of its own, which takes few bytes that nobody reads.
async fn narrow_watch(deployment: &Deployment, session: &str) -> Streaming<WatchResponse> {
    let channel = Endpoint::from_shared(deployment.endpoint())
        .expect("an address")
        .initial_stream_window_size(65_535)
        .initial_connection_window_size(65_535)
        .connect()
        .await
        .expect("connected");
    let mut tasks = SessionTaskServiceClient::new(channel);
    open(&mut tasks, session, "", WatchRequest::default()).await
}

/// Numbers of the events up to `last`, from a stream that may end for having stood still too long.
async fn read_at_last(
    client: &mut Client,
    session: &str,
    mut stream: Streaming<WatchResponse>,
    last: i64,
) -> BTreeSet<i64> {
    let mut found = BTreeSet::new();
    let mut cursor = String::new();
    while !found.contains(&last) {
        match within("an item", SOON, stream.message()).await {
            Ok(Some(response)) => {
                if let Some(Item::Event(event)) = &response.item {
                    assert!(found.insert(event.seq), "{} came twice", event.seq);
                }
                if !response.cursor.is_empty() {
                    cursor = response.cursor;
                }
            }
            ended => {
                let reason = ended.as_ref().err().map(reason_of).unwrap_or_default();
                assert_eq!(reason, "READER_STALLED", "{ended:?}");
                stream = open(&mut client.tasks, session, &cursor, WatchRequest::default()).await;
            }
        }
    }
    found
}

async fn open(
    tasks: &mut SessionTaskServiceClient<tonic::transport::Channel>,
    session: &str,
    cursor: &str,
    filters: WatchRequest,
) -> Streaming<WatchResponse> {
    let request = WatchRequest {
        sessions: vec![WatchedSession {
            session_id: session.to_owned(),
            cursor: cursor.to_owned(),
        }],
        ..filters
    };
    let opened: Result<_, Status> = within("a watch to open", SOON, tasks.watch(request)).await;
    opened.expect("opened").into_inner()
}

async fn next(stream: &mut Streaming<WatchResponse>) -> WatchResponse {
    let item = within("an item", SOON, stream.message()).await;
    item.expect("no error").expect("no end")
}

/// Number of the next event.
async fn next_seq(stream: &mut Streaming<WatchResponse>) -> Option<i64> {
    loop {
        match next(stream).await.item {
            Some(Item::Event(event)) => return Some(event.seq),
            Some(Item::Keepalive(_)) => {}
            _ => return None,
        }
    }
}

fn is_complete(response: &WatchResponse) -> bool {
    matches!(response.item, Some(Item::SnapshotComplete(_)))
}

/// Creates a task that stays where it is and whose event is large; answers with its id.
async fn create(client: &mut Client, session: &str) -> String {
    let task = TaskDefinition {
        hold: true,
        display_name: "x".repeat(256),
        ..command(&["true"])
    };
    client.create(session, task).await.id
}

/// Connections to the database but this one.
async fn others(database: &mut PgConnection) -> i64 {
    let others = "select count(*) from pg_stat_activity
        where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'";
    let row = sqlx::query(others).fetch_one(database).await;
    row.expect("counted").get(0)
}

/// How often the index of the session logs was looked up.
async fn log_reads(database: &mut PgConnection) -> i64 {
    let reads =
        "select coalesce(idx_scan, 0) from pg_stat_user_tables where relname = 'session_log'";
    let row = sqlx::query(reads).fetch_one(database).await;
    row.expect("counted").get(0)
}
