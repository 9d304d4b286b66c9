//! Watches that ask for less: filters hold for snapshots and changes, and cursors move on past what is kept back.

use std::collections::{BTreeMap, BTreeSet};

use taskyard_proto::v1::watch_response::Item;
use taskyard_proto::v1::{
    Progress, SessionEventType, SessionTask, TaskDefinition, TaskState, UpdateTaskRequest,
    WatchRequest, WatchedSession,
};
use taskyard_tests::client::{Client, command, milliseconds, new_session, probe};
use taskyard_tests::deployment::Deployment;
use taskyard_tests::refusal::expect_bad_field;
use taskyard_tests::wait::{SOON, eventually, within};
use taskyard_tests::watcher::Watcher;
use tokio::sync::Barrier;

#[tokio::test]
async fn filters_hold_for_the_snapshot_and_for_what_follows() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("filtered");
    let before = create_four(&mut client, &session).await;
    let cases: Vec<(&str, WatchRequest, Vec<usize>)> = vec![
        (
            "kinds",
            WatchRequest {
                kinds: vec!["a".to_owned()],
                ..ask()
            },
            vec![0, 1],
        ),
        (
            "groups",
            WatchRequest {
                groups: vec!["g".to_owned()],
                ..ask()
            },
            vec![1, 2],
        ),
        (
            "kinds and groups",
            WatchRequest {
                kinds: vec!["a".to_owned()],
                groups: vec!["g".to_owned()],
                ..ask()
            },
            vec![1],
        ),
        (
            "ids",
            WatchRequest {
                task_ids: vec![before[3].id.clone(), before[0].id.clone()],
                ..ask()
            },
            vec![0, 3],
        ),
        (
            "another kind",
            WatchRequest {
                kinds: vec!["z".to_owned()],
                ..ask()
            },
            vec![],
        ),
    ];
    let mut watchers = Vec::new();
    for (what, filters, expected) in &cases {
        let mut watcher = Watcher::start_with(&mut client, &session, "", filters.clone()).await;
        let snapshot = read_snapshot(&mut watcher).await;
        let ids: Vec<&str> = snapshot.iter().map(|task| task.id.as_str()).collect();
        let wanted: Vec<&str> = expected
            .iter()
            .map(|&index| before[index].id.as_str())
            .collect();
        assert_eq!(ids, wanted, "{what}");
        watchers.push(watcher);
    }
    // One more change of each task, then a task that passes every filter but that of ids.
    for task in &before {
        set_detail(&mut client, &task.id, "changed").await;
    }
    let after = create_four(&mut client, &session).await;
    for ((what, filters, expected), watcher) in cases.iter().zip(&mut watchers) {
        let mut wanted: Vec<&str> = expected
            .iter()
            .map(|&index| before[index].id.as_str())
            .collect();
        if filters.task_ids.is_empty() {
            wanted.extend(expected.iter().map(|&index| after[index].id.as_str()));
        }
        for id in wanted {
            assert_eq!(watcher.next_event().await.task_id, id, "{what}");
        }
    }
}

#[tokio::test]
async fn types_of_events_are_chosen_and_snapshots_stay() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("types");
    let first = create(&mut client, &session, "a", "").await;
    let filters = WatchRequest {
        event_types: vec![SessionEventType::TaskCreated.into()],
        ..ask()
    };
    let mut watcher = Watcher::start_with(&mut client, &session, "", filters).await;
    assert_eq!(read_snapshot(&mut watcher).await.len(), 1);
    set_detail(&mut client, &first.id, "changed").await;
    let second = create(&mut client, &session, "a", "").await;
    let event = watcher.next_event().await;
    assert_eq!(
        (event.task_id, event.seq),
        (second.id, 3),
        "the numbers stay"
    );
}

#[tokio::test]
async fn the_cursor_moves_past_events_that_are_kept_back() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("behind");
    let filters = WatchRequest {
        kinds: vec!["seen".to_owned()],
        ..ask()
    };
    let mut watcher = Watcher::start_with(&mut client, &session, "", filters.clone()).await;
    let seen = create(&mut client, &session, "seen", "").await;
    assert_eq!(watcher.next_event().await.task_id, seen.id);
    let at_event = watcher.cursor().to_owned();
    for _ in 0..5 {
        create(&mut client, &session, "hidden", "").await;
    }
    let cursor = eventually("a cursor behind the hidden events", SOON, async || {
        match watcher.next().await {
            Item::Keepalive(_) => {}
            other => panic!("{other:?} instead of a keepalive"),
        }
        (watcher.cursor() != at_event).then(|| watcher.cursor().to_owned())
    })
    .await;
    // Without a filter, that cursor has nothing but what comes after it.
    create(&mut client, &session, "hidden", "").await;
    let mut unfiltered = Watcher::start(&mut client, &session, &cursor).await;
    let next = unfiltered.next_event().await;
    assert!(next.seq > 2, "{next:?}");
    // And a filtered watch goes on from it.
    let mut resumed = Watcher::start_with(&mut client, &session, &cursor, filters).await;
    let seen = create(&mut client, &session, "seen", "").await;
    assert_eq!(resumed.next_event().await.task_id, seen.id);
}

#[tokio::test]
async fn a_filtered_snapshot_in_a_burst_leaves_no_gap() {
    const CREATORS: usize = 4;
    const EACH: usize = 25;
    let client = Deployment::shared().await.client().await;
    let session = new_session("burst");
    let barrier = Barrier::new(CREATORS + 1);
    let creating = (0..CREATORS).map(|_| {
        let (mut client, session, barrier) = (client.clone(), &session, &barrier);
        async move {
            barrier.wait().await;
            let mut seen = Vec::new();
            for number in 0..EACH {
                let kind = if number % 3 == 0 { "seen" } else { "hidden" };
                let task = create(&mut client, session, kind, "").await;
                set_detail(&mut client, &task.id, "changed").await;
                if kind == "seen" {
                    seen.push(task.id);
                }
            }
            seen
        }
    });
    let watching = async {
        barrier.wait().await;
        let filters = WatchRequest {
            kinds: vec!["seen".to_owned()],
            ..ask()
        };
        let mut watcher = Watcher::start_with(&mut client.clone(), &session, "", filters).await;
        // The newest generation of each task; a task is told of once and then changes by one at a time.
        let mut generations: BTreeMap<String, i64> = BTreeMap::new();
        let mut is_complete = false;
        while generations.len() < CREATORS * EACH.div_ceil(3)
            || generations.values().any(|generation| *generation < 2)
        {
            match watcher.next().await {
                Item::Snapshot(task) => {
                    assert_eq!((task.kind.as_str(), is_complete), ("seen", false));
                    generations.insert(task.id, task.generation);
                }
                Item::SnapshotComplete(complete) => {
                    assert_eq!(usize::try_from(complete.tasks), Ok(generations.len()));
                    is_complete = true;
                }
                Item::Event(event) => {
                    let before = generations.insert(event.task_id, event.generation);
                    assert_eq!(before.unwrap_or(0) + 1, event.generation, "none is missing");
                }
                Item::Keepalive(_) => {}
                other => panic!("{other:?}"),
            }
        }
        generations
    };
    let (created, generations) = tokio::join!(futures::future::join_all(creating), watching);
    let mut created: Vec<String> = created.into_iter().flatten().collect();
    created.sort();
    assert_eq!(created, generations.into_keys().collect::<Vec<_>>());
}

#[tokio::test]
async fn one_filtered_stream_follows_many_sessions_each_with_its_cursor() {
    const SESSIONS: usize = 20;
    let mut client = Deployment::shared().await.client().await;
    let sessions: Vec<String> = (0..SESSIONS).map(|_| new_session("many")).collect();
    let request = |cursors: &BTreeMap<String, String>| WatchRequest {
        sessions: sessions
            .iter()
            .map(|session| WatchedSession {
                session_id: session.clone(),
                cursor: cursors.get(session).cloned().unwrap_or_default(),
            })
            .collect(),
        keepalive: Some(milliseconds(1000)),
        kinds: vec!["seen".to_owned()],
        ..WatchRequest::default()
    };
    let mut cursors = BTreeMap::new();
    let opened = client.tasks.watch(request(&cursors)).await;
    let mut stream = opened.expect("opened").into_inner();
    for session in &sessions {
        create(&mut client, session, "hidden", "").await;
        create(&mut client, session, "seen", "").await;
        create(&mut client, session, "hidden", "").await;
    }
    // Each session's cursor gets past its last, hidden event, which comes after the seen one.
    let (mut seen, mut done) = (BTreeSet::new(), BTreeSet::new());
    within("all cursors", SOON, async {
        while done.len() < SESSIONS {
            let item = stream.message().await.expect("no error").expect("no end");
            match item.item {
                Some(Item::Event(event)) => {
                    assert_eq!(event.created.unwrap_or_default().kind, "seen");
                    assert!(seen.insert(item.session_id.clone()), "each once");
                }
                Some(Item::Keepalive(_)) if seen.contains(&item.session_id) => {
                    done.insert(item.session_id.clone());
                }
                _ => {}
            }
            if !item.cursor.is_empty() {
                cursors.insert(item.session_id, item.cursor);
            }
        }
    })
    .await;
    assert_eq!((seen.len(), cursors.len()), (SESSIONS, SESSIONS));
    drop(stream);
    for session in &sessions {
        create(&mut client, session, "seen", "").await;
    }
    let opened = client.tasks.watch(request(&cursors)).await;
    let mut stream = opened.expect("opened").into_inner();
    let mut ordinals = Vec::new();
    while ordinals.len() < SESSIONS {
        let item = within("an event", SOON, stream.message()).await;
        if let Some(Item::Event(event)) = item.expect("no error").expect("no end").item {
            ordinals.push(event.ordinal);
        }
    }
    assert_eq!(ordinals, [4; SESSIONS], "nothing twice, nothing lost");
}

#[tokio::test]
async fn progress_goes_by_the_filters_of_tasks_and_not_beside_types() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("progress");
    let mut running = Vec::new();
    for kind in ["seen", "hidden"] {
        let task = TaskDefinition {
            kind: kind.to_owned(),
            ..probe("hang")
        };
        let task = client.create(&session, task).await;
        client
            .reached(&task.id, |task| task.state() == TaskState::Running)
            .await;
        running.push(task.id);
    }
    let by_kind = WatchRequest {
        kinds: vec!["seen".to_owned()],
        ..ask()
    };
    let mut by_kind = Watcher::start_with(&mut client, &session, "", by_kind).await;
    let typed = WatchRequest {
        event_types: vec![SessionEventType::TaskUpdated.into()],
        ..ask()
    };
    let mut typed = Watcher::start_with(&mut client, &session, "", typed).await;
    read_snapshot(&mut by_kind).await;
    read_snapshot(&mut typed).await;
    for task in running.iter().rev() {
        let request = UpdateTaskRequest {
            task: task.clone(),
            update_mask: Some(prost_types::FieldMask {
                paths: vec!["progress".to_owned()],
            }),
            progress: Some(Progress::default()),
            ..UpdateTaskRequest::default()
        };
        client.tasks.update_task(request).await.expect("updated");
    }
    set_detail(&mut client, &running[0], "changed").await;
    let first = next_but_keepalives(&mut by_kind).await;
    assert!(
        matches!(&first, Item::Progress(progress) if progress.task_id == running[0]),
        "{first:?}"
    );
    let first = next_but_keepalives(&mut typed).await;
    assert!(matches!(&first, Item::Event(_)), "{first:?}");
}

#[tokio::test]
async fn a_cursor_whose_events_are_pruned_starts_afresh_with_the_filter() {
    let deployment = Deployment::builder().workers(Vec::new()).start().await;
    let mut client = deployment.client().await;
    let session = new_session("pruned");
    let seen = create(&mut client, &session, "seen", "").await;
    let mut watcher = Watcher::start(&mut client, &session, "").await;
    read_snapshot(&mut watcher).await;
    let cursor = watcher.cursor().to_owned();
    create(&mut client, &session, "hidden", "").await;
    create(&mut client, &session, "hidden", "").await;
    let mut database = deployment.database().connect().await;
    sqlx::query("delete from session_log where last_seq <= 2")
        .execute(&mut database)
        .await
        .expect("pruned");
    let filters = WatchRequest {
        kinds: vec!["seen".to_owned()],
        ..ask()
    };
    let mut watcher = Watcher::start_with(&mut client, &session, &cursor, filters).await;
    let Item::Resync(resync) = watcher.next().await else {
        panic!("a cursor of events that are gone was resumed");
    };
    assert!(resync.reason.contains("no longer kept"), "{resync:?}");
    let snapshot = read_snapshot(&mut watcher).await;
    assert_eq!(snapshot.len(), 1);
    assert_eq!(snapshot[0].id, seen.id);
    drop(database);
    deployment.remove().await;
}

#[tokio::test]
async fn bad_filters_are_refused_by_name() {
    let mut client = Deployment::shared().await.client().await;
    let many: Vec<String> = (0..33).map(|number| number.to_string()).collect();
    let cases = [
        (
            "task_ids",
            WatchRequest {
                task_ids: vec!["t1".to_owned()],
                ..ask()
            },
        ),
        (
            "kinds",
            WatchRequest {
                kinds: many.clone(),
                ..ask()
            },
        ),
        (
            "kinds",
            WatchRequest {
                kinds: vec![String::new()],
                ..ask()
            },
        ),
        (
            "groups",
            WatchRequest {
                groups: many,
                ..ask()
            },
        ),
        (
            "event_types",
            WatchRequest {
                event_types: vec![0],
                ..ask()
            },
        ),
        (
            "event_types",
            WatchRequest {
                event_types: vec![4_711],
                ..ask()
            },
        ),
    ];
    for (field, filters) in cases {
        let opened = Watcher::try_start_with(&mut client, "any", "", filters).await;
        expect_bad_field(opened, field);
    }
}

#[tokio::test]
async fn the_command_line_watches_what_it_is_asked_to() {
    let deployment = Deployment::shared().await;
    let mut client = deployment.client().await;
    let session = new_session("cli");
    let (seen, hidden) = (
        create(&mut client, &session, "seen", "g").await,
        create(&mut client, &session, "hidden", "g").await,
    );
    let watch = deployment.command_line().start(&[
        "watch",
        &session,
        "--kind",
        "seen",
        "--group",
        "g",
        "--type",
        "task.updated",
        "-o",
        "name",
    ]);
    eventually("the snapshot", SOON, async || {
        watch.stdout().contains(&seen.id).then_some(())
    })
    .await;
    set_detail(&mut client, &hidden.id, "changed").await;
    set_detail(&mut client, &seen.id, "changed").await;
    let expected = format!("{0}\n{0}\n", seen.id);
    eventually("the change", SOON, async || {
        (watch.stdout() == expected).then_some(())
    })
    .await;
    // Of the two tasks the second one, by its ordinal.
    let by_ordinal = ["watch", &session, "--task", "t2", "-o", "name"];
    let watch = deployment.command_line().start(&by_ordinal);
    eventually("the snapshot of one task", SOON, async || {
        (watch.stdout() == format!("{}\n", hidden.id)).then_some(())
    })
    .await;
    set_detail(&mut client, &seen.id, "again").await;
    set_detail(&mut client, &hidden.id, "again").await;
    eventually("the change of one task", SOON, async || {
        (watch.stdout() == format!("{0}\n{0}\n", hidden.id)).then_some(())
    })
    .await;
    for (words, code) in [
        (&["watch", &session, "--type", "nothing"][..], 2),
        (&["watch", &session, "other", "--task", "t2"], 2),
        (&["watch", &session, "--task", "t99"], 1),
    ] {
        let refused = deployment.command_line().run(words).await;
        assert_eq!(refused.code(), Some(code), "{words:?}: {refused:?}");
    }
}

fn ask() -> WatchRequest {
    WatchRequest::default()
}

/// Of kind and group: a, none; a, g; b, g; b, none.
async fn create_four(client: &mut Client, session: &str) -> Vec<SessionTask> {
    let mut created = Vec::new();
    for (kind, group) in [("a", ""), ("a", "g"), ("b", "g"), ("b", "")] {
        created.push(create(client, session, kind, group).await);
    }
    created
}

async fn create(client: &mut Client, session: &str, kind: &str, group: &str) -> SessionTask {
    let task = TaskDefinition {
        kind: kind.to_owned(),
        group: group.to_owned(),
        hold: true,
        ..command(&["true"])
    };
    client.create(session, task).await
}

async fn set_detail(client: &mut Client, task: &str, detail: &str) {
    let request = UpdateTaskRequest {
        task: task.to_owned(),
        update_mask: Some(prost_types::FieldMask {
            paths: vec!["summary".to_owned()],
        }),
        summary: detail.to_owned(),
        ..UpdateTaskRequest::default()
    };
    client.tasks.update_task(request).await.expect("updated");
}

async fn read_snapshot(watcher: &mut Watcher) -> Vec<SessionTask> {
    let mut tasks = Vec::new();
    loop {
        match watcher.next().await {
            Item::Snapshot(task) => tasks.push(task),
            Item::SnapshotComplete(complete) => {
                assert_eq!(usize::try_from(complete.tasks), Ok(tasks.len()));
                return tasks;
            }
            Item::Keepalive(_) => {}
            other => panic!("{other:?} within a snapshot"),
        }
    }
}

async fn next_but_keepalives(watcher: &mut Watcher) -> Item {
    loop {
        match watcher.next().await {
            Item::Keepalive(_) => {}
            item => return item,
        }
    }
}
