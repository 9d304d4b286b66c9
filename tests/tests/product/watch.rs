//! Watching a session: a snapshot, then every change, once and in order.

use taskyard_proto::v1::watch_response::Item;
use taskyard_proto::v1::{
    Progress, SessionEvent, SessionEventType, TaskDefinition, TaskState, UpdateTaskRequest,
    WatchRequest, WatchedSession,
};
use taskyard_tests::client::{Client, command, is_terminal, new_session, probe, shell};
use taskyard_tests::deployment::Deployment;
use taskyard_tests::refusal::expect_refused;
use taskyard_tests::wait::{SOON, within};
use taskyard_tests::watcher::Watcher;
use tonic::Code;

#[tokio::test]
async fn a_watcher_sees_a_task_from_its_creation_to_its_end() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("watch");
    // It does not exist yet.
    let mut watcher = Watcher::start(&mut client, &session, "").await;
    let task = client.create(&session, shell("exit 3")).await;
    let events = watcher.events_until(is_end).await;
    assert_gapless(&events);
    let states: Vec<TaskState> = events.iter().map(state_of).collect();
    assert_eq!(
        states,
        [TaskState::Queued, TaskState::Running, TaskState::Failed]
    );
    let generations: Vec<i64> = events.iter().map(|event| event.generation).collect();
    assert_eq!(generations, [1, 2, 3], "one event for each change");
    assert!(
        events
            .iter()
            .all(|event| event.task_id == task.id && event.ordinal == 1)
    );
    assert_eq!(events[0].r#type(), SessionEventType::TaskCreated);
    assert_eq!(
        events[0].created.clone().unwrap_or_default().kind,
        "command"
    );
    let end = events[2].change.clone().unwrap_or_default();
    assert_eq!(end.error.unwrap_or_default().kind, "exit");
    assert_eq!(end.exit.and_then(|exit| exit.exit_code), Some(3));
    assert!(end.started_at.is_some() && end.finished_at.is_some() && !end.summary.is_empty());
}

#[tokio::test]
async fn a_watch_that_is_resumed_at_each_event_sees_exactly_the_rest() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("resume");
    let mut watcher = Watcher::start(&mut client, &session, "").await;
    let mut cursors = Vec::new();
    let mut events = Vec::new();
    for _ in 0..3 {
        client.run(&session, command(&["true"])).await;
    }
    while events.iter().filter(|event| is_end(event)).count() < 3 {
        events.push(watcher.next_event().await);
        cursors.push(watcher.cursor().to_owned());
    }
    assert_gapless(&events);
    for (at, cursor) in cursors.iter().enumerate().take(events.len() - 1) {
        let mut resumed = Watcher::start(&mut client, &session, cursor).await;
        let mut rest = Vec::new();
        while rest.len() < events.len() - at - 1 {
            match resumed.next().await {
                Item::Event(event) => rest.push(event),
                Item::Keepalive(_) => {}
                other => panic!("{other:?} instead of an event"),
            }
        }
        assert_eq!(rest, events[at + 1..]);
    }
}

#[tokio::test]
async fn a_snapshot_in_a_burst_of_creates_leaves_no_gap_and_nothing_double() {
    const TASKS: usize = 60;
    const WATCHERS: usize = 6;
    let client = Deployment::shared().await.client().await;
    let session = new_session("burst");
    let (created, begin) = tokio::sync::watch::channel(0);
    let creating = async {
        for number in 1..=TASKS {
            let held = TaskDefinition {
                hold: true,
                ..command(&["true"])
            };
            client.clone().create(&session, held).await;
            created.send_replace(number);
        }
    };
    // Each begins at another moment of the burst.
    let watchers = (0..WATCHERS).map(|number| {
        let (mut client, session, mut begin) = (client.clone(), &session, begin.clone());
        async move {
            let first = number * TASKS / WATCHERS;
            begin
                .wait_for(|created| *created >= first)
                .await
                .expect("tasks are created");
            let mut watcher = Watcher::start(&mut client, session, "").await;
            let mut ordinals = Vec::new();
            let mut in_snapshot = None;
            while in_snapshot.is_none() || ordinals.len() < TASKS {
                match watcher.next().await {
                    Item::Snapshot(task) => ordinals.push(task.ordinal),
                    Item::SnapshotComplete(complete) => {
                        assert_eq!(usize::try_from(complete.tasks).ok(), Some(ordinals.len()));
                        in_snapshot = Some(ordinals.len());
                    }
                    Item::Event(event) => ordinals.push(event.ordinal),
                    Item::Keepalive(_) => {}
                    other => panic!("{other:?}"),
                }
            }
            ordinals.sort_unstable();
            let expected: Vec<i64> = (1..).take(TASKS).collect();
            assert_eq!(ordinals, expected);
            assert!(in_snapshot.is_some_and(|tasks| tasks >= first));
        }
    });
    tokio::join!(creating, futures::future::join_all(watchers));
}

#[tokio::test]
async fn a_cursor_of_another_store_or_session_starts_afresh() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("foreign");
    client.run(&session, command(&["true"])).await;
    let another = new_session("foreign");
    client.run(&another, command(&["true"])).await;
    let mut watcher = Watcher::start(&mut client, &another, "").await;
    while !matches!(watcher.next().await, Item::SnapshotComplete(_)) {}
    let of_another_session = watcher.cursor().to_owned();
    assert_starts_afresh(&mut client, &session, &of_another_session).await;
    let deployment = Deployment::builder().workers(Vec::new()).start().await;
    let mut elsewhere = deployment.client().await;
    elsewhere.create(&session, command(&["true"])).await;
    let mut watcher = Watcher::start(&mut elsewhere, &session, "").await;
    while !matches!(watcher.next().await, Item::SnapshotComplete(_)) {}
    // Made with the same Postgres: the store is the same, the session's number need not be.
    let cursor = watcher.cursor().to_owned();
    deployment.remove().await;
    let opened = Watcher::try_start(&mut client, &session, &cursor).await;
    drop(opened.expect("a cursor of a server is never refused"));
}

#[tokio::test]
async fn a_cursor_that_no_server_made_is_refused() {
    let mut client = Deployment::shared().await.client().await;
    for cursor in ["x", "not a cursor", "AAAA", "%00"] {
        let opened = Watcher::try_start(&mut client, "any", cursor).await;
        expect_refused(cursor, opened, Code::InvalidArgument, "BAD_TOKEN");
    }
}

#[tokio::test]
async fn a_silent_watch_gives_signs_of_life() {
    let mut client = Deployment::shared().await.client().await;
    let mut watcher = Watcher::start(&mut client, &new_session("silent"), "").await;
    within("two keepalives", SOON, async {
        let mut seen = 0;
        while seen < 2 {
            seen += u32::from(matches!(watcher.next().await, Item::Keepalive(_)));
        }
    })
    .await;
}

#[tokio::test]
async fn one_stream_follows_many_sessions() {
    let mut client = Deployment::shared().await.client().await;
    let sessions: Vec<String> = (0..5).map(|_| new_session("many")).collect();
    let request = WatchRequest {
        sessions: sessions
            .iter()
            .map(|session| WatchedSession {
                session_id: session.clone(),
                cursor: String::new(),
            })
            .collect(),
        ..WatchRequest::default()
    };
    let mut stream = client
        .tasks
        .watch(request)
        .await
        .expect("opened")
        .into_inner();
    for session in &sessions {
        client.create(session, shell("true")).await;
    }
    let mut ended = Vec::new();
    while ended.len() < sessions.len() {
        let item = within("an item", SOON, stream.message()).await;
        let item = item.expect("no error").expect("no end");
        if matches!(&item.item, Some(Item::Event(event)) if is_end(event)) {
            ended.push(item.session_id);
        }
    }
    ended.sort();
    let mut sessions = sessions;
    sessions.sort();
    assert_eq!(ended, sessions);
}

#[tokio::test]
async fn progress_is_shown_without_a_number() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("progress");
    let task = client.create(&session, probe("hang")).await;
    client
        .reached(&task.id, |task| task.state() == TaskState::Running)
        .await;
    let mut watcher = Watcher::start(&mut client, &session, "").await;
    while !matches!(watcher.next().await, Item::SnapshotComplete(_)) {}
    let generation = client.get(&task.id).await.generation;
    let request = UpdateTaskRequest {
        task: task.id.clone(),
        update_mask: Some(prost_types::FieldMask {
            paths: vec!["progress".to_owned()],
        }),
        progress: Some(Progress {
            label: "half".to_owned(),
            ..Progress::default()
        }),
        ..UpdateTaskRequest::default()
    };
    client.tasks.update_task(request).await.expect("updated");
    let label = within("the progress", SOON, async {
        loop {
            match watcher.next().await {
                Item::Progress(progress) => return progress.progress.unwrap_or_default().label,
                Item::Keepalive(_) => {}
                other => panic!("{other:?} instead of progress"),
            }
        }
    })
    .await;
    assert_eq!(label, "half");
    assert_eq!(client.get(&task.id).await.generation, generation);
}

#[tokio::test]
async fn a_watcher_that_reads_nothing_hinders_nobody() {
    let deployment = Deployment::shared().await;
    let mut client = deployment.client().await;
    let session = new_session("stalled");
    // Connections of their own, so that it is not the transport that couples them.
    let mut stalled = Vec::new();
    for _ in 0..20 {
        let mut client = deployment.client().await;
        stalled.push(Watcher::start(&mut client, &session, "").await);
    }
    let mut watcher = Watcher::start(&mut client, &session, "").await;
    let creates = (0..100).map(|_| {
        let mut client = client.clone();
        let session = session.clone();
        let held = TaskDefinition {
            hold: true,
            // So much that it fills the windows of whoever does not read.
            display_name: "x".repeat(256),
            ..command(&["true"])
        };
        async move { client.create(&session, held).await }
    });
    futures::future::join_all(creates).await;
    let events = watcher.events_until(|event| event.seq == 100).await;
    assert_gapless(&events);
    drop(stalled);
}

async fn assert_starts_afresh(client: &mut Client, session: &str, cursor: &str) {
    let mut watcher = Watcher::start(client, session, cursor).await;
    let Item::Resync(resync) = watcher.next().await else {
        panic!("a cursor of another session was resumed");
    };
    assert!(!resync.reason.is_empty());
    let Item::Snapshot(task) = watcher.next().await else {
        panic!("no snapshot after a resync");
    };
    assert!(is_terminal(&task));
    assert!(matches!(watcher.next().await, Item::SnapshotComplete(_)));
}

fn is_end(event: &SessionEvent) -> bool {
    match state_of(event) {
        TaskState::Succeeded | TaskState::Failed | TaskState::Canceled => true,
        TaskState::Unspecified
        | TaskState::Queued
        | TaskState::Running
        | TaskState::AwaitingInput => false,
    }
}

fn state_of(event: &SessionEvent) -> TaskState {
    event
        .change
        .as_ref()
        .map_or(TaskState::Unspecified, |change| change.state())
}

fn assert_gapless(events: &[SessionEvent]) {
    let numbers: Vec<i64> = events.iter().map(|event| event.seq).collect();
    let expected: Vec<i64> = (1..).take(events.len()).collect();
    assert_eq!(numbers, expected);
}
