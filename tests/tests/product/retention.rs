//! What has ended is deleted as its retention says; a session is deleted as a whole.

use std::collections::HashSet;

use sqlx::{Connection, PgConnection, Row};
use taskyard_proto::v1::{
    DeleteSessionRequest, GetRetentionRequest, GetTaskRequest, ListTasksRequest, RetentionLimits,
    RunRetentionRequest, RunRetentionResponse, SessionEventType, SetRetentionRequest,
    TaskDefinition, TaskState, WriteHeader, watch_response::Item,
};
use taskyard_tests::client::{Client, milliseconds, new_session, shell};
use taskyard_tests::deployment::Deployment;
use taskyard_tests::refusal::{expect_refused, reason_of};
use taskyard_tests::wait::{SOON, until, within};
use taskyard_tests::watcher::Watcher;
use tonic::Code;

/// Every table that holds something of a task, with the column that names it.
const TASK_TABLES: [(&str, &str); 11] = [
    ("task", "id"),
    ("task_live", "id"),
    ("task_end", "id"),
    ("attempt", "task_id"),
    ("output_stream", "task_id"),
    ("output_chunk", "task_id"),
    ("message", "task_id"),
    ("question", "task_id"),
    ("run_report", "task_id"),
    ("run_usage", "task_id"),
    ("wake", "task_id"),
];

async fn count(database: &mut PgConnection, sql: &str) -> i64 {
    let row = sqlx::query(sqlx::AssertSqlSafe(sql.to_owned()))
        .fetch_one(database)
        .await;
    row.expect("the table is there").get(0)
}

/// Rows that are left of a task, files included.
async fn rows_of(database: &mut PgConnection, task: &str) -> i64 {
    let uuid = task.trim_start_matches("task_");
    let mut rows = 0;
    for (table, column) in TASK_TABLES {
        let sql = format!("select count(*) from {table} where {column} = '{uuid}'");
        rows += count(database, &sql).await;
    }
    for table in ["file", "file_chunk"] {
        let sql = format!("select count(*) from {table} where path like '/.tasks/{task}/%'");
        rows += count(database, &sql).await;
    }
    rows
}

async fn set(client: &mut Client, session: &str, limits: RetentionLimits) {
    let request = SetRetentionRequest {
        session_id: session.to_owned(),
        limits: Some(limits),
        ..SetRetentionRequest::default()
    };
    client
        .admin
        .set_retention(request)
        .await
        .expect("it is set");
}

async fn run(client: &mut Client, session: &str, dry_run: bool) -> RunRetentionResponse {
    let request = RunRetentionRequest {
        session_id: session.to_owned(),
        dry_run,
        ..RunRetentionRequest::default()
    };
    let answer = client.admin.run_retention(request).await;
    answer.expect("a pass runs").into_inner()
}

/// Ids of some tasks that have ended, oldest first, each with 1,000 bytes of output and an artifact of 500.
async fn ended(client: &mut Client, session: &str, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for number in 0..count {
        let script =
            format!("printf %01000d {number}; printf %0500d {number} >$TASKYARD_ARTIFACTS/note");
        ids.push(client.run(session, shell(&script)).await.id);
    }
    ids
}

#[tokio::test]
async fn tasks_beyond_the_number_go_with_all_they_left_and_the_newest_stay() {
    let deployment = Deployment::shared().await;
    let mut client = deployment.client().await;
    let mut database = deployment.database().connect().await;
    let session = new_session("kept");
    let mut watcher = Watcher::start(&mut client, &session, "").await;
    let ids = ended(&mut client, &session, 4).await;
    let live = client.create(&session, shell("sleep 60")).await.id;
    let limits = RetentionLimits {
        max_ended_tasks: Some(2),
        ..RetentionLimits::default()
    };
    set(&mut client, &session, limits).await;

    let would = run(&mut client, &session, true).await;
    assert_eq!(would.task_ids, ids[..2], "a dry run names the oldest");
    assert_eq!(would.bytes, 3_000, "and says how much they hold");
    assert!(!would.has_more);
    assert!(
        rows_of(&mut database, &ids[0]).await > 3,
        "and deletes nothing"
    );

    // The background may come first; either way they are gone.
    run(&mut client, &session, false).await;
    for id in &ids[..2] {
        assert_eq!(rows_of(&mut database, id).await, 0, "{id}");
        let request = GetTaskRequest {
            task: id.clone(),
            ..GetTaskRequest::default()
        };
        let refused = client.tasks.get_task(request).await;
        expect_refused(
            "a call for what is gone or wrong",
            refused,
            Code::NotFound,
            "TASK_NOT_FOUND",
        );
    }
    for id in &ids[2..] {
        assert_eq!(client.get(id).await.state(), TaskState::Succeeded);
        assert_eq!(client.result(id).await["state"], "succeeded");
    }
    let is_second = |event: &taskyard_proto::v1::SessionEvent| {
        event.r#type() == SessionEventType::TaskDeleted && event.task_id == ids[1]
    };
    let events = watcher.events_until(is_second).await;
    assert!(
        events.iter().any(|event| {
            event.r#type() == SessionEventType::TaskDeleted && event.task_id == ids[0]
        }),
        "watchers are told"
    );
    assert_eq!(client.get(&live).await.id, live, "what is live stays");
    cancel(&mut client, &live).await;
}

async fn cancel(client: &mut Client, task: &str) {
    let request = taskyard_proto::v1::CancelTaskRequest {
        task: task.to_owned(),
        grace: Some(milliseconds(0)),
        ..Default::default()
    };
    client.tasks.cancel_task(request).await.expect("canceled");
    client.ended(task).await;
}

#[tokio::test]
async fn tasks_beyond_the_bytes_go_their_artifacts_included() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("bytes");
    let ids = ended(&mut client, &session, 3).await;
    let limits = RetentionLimits {
        max_ended_bytes: Some(2_500),
        ..RetentionLimits::default()
    };
    set(&mut client, &session, limits).await;
    let would = run(&mut client, &session, true).await;
    assert_eq!(would.task_ids, ids[..2], "1,500 bytes fit, 3,000 do not");
    assert_eq!(would.bytes, 3_000);
}

#[tokio::test]
async fn tasks_beyond_their_age_go_by_themselves() {
    let deployment = Deployment::shared().await;
    let mut client = deployment.client().await;
    let mut database = deployment.database().connect().await;
    let session = new_session("aged");
    let ids = ended(&mut client, &session, 2).await;
    let limits = RetentionLimits {
        ended_task_ttl: Some(milliseconds(1_000)),
        ..RetentionLimits::default()
    };
    set(&mut client, &session, limits).await;
    until("old tasks to be deleted", SOON * 3, async || {
        rows_of(&mut database, &ids[0]).await + rows_of(&mut database, &ids[1]).await == 0
    })
    .await;
}

#[tokio::test]
async fn a_session_without_limits_has_its_namespaces_and_can_have_its_own() {
    let deployment = Deployment::builder().workers(Vec::new()).start().await;
    let mut client = deployment.client().await;
    let session = new_session("own");
    client.create(&session, shell("true")).await;
    let mut get = async |session_id: &str| {
        let request = GetRetentionRequest {
            session_id: session_id.to_owned(),
            ..GetRetentionRequest::default()
        };
        let answer = client.admin.get_retention(request).await;
        answer.expect("limits are read").into_inner()
    };
    assert!(get(&session).await.limits.is_none());
    let month = RetentionLimits {
        ended_task_ttl: Some(milliseconds(30 * 24 * 3_600_000)),
        ..RetentionLimits::default()
    };
    let mut other = deployment.client().await;
    set(&mut other, "", month).await;
    let found = get(&session).await;
    assert_eq!((found.limits, found.is_own), (Some(month), false));
    let few = RetentionLimits {
        max_ended_tasks: Some(0),
        ..RetentionLimits::default()
    };
    set(&mut other, &session, few).await;
    let found = get(&session).await;
    assert_eq!((found.limits, found.is_own), (Some(few), true));

    let bad = SetRetentionRequest {
        limits: Some(RetentionLimits {
            max_ended_tasks: Some(-1),
            ..RetentionLimits::default()
        }),
        ..SetRetentionRequest::default()
    };
    let refused = other.admin.set_retention(bad).await;
    expect_refused(
        "a call for what is gone or wrong",
        refused,
        Code::InvalidArgument,
        "INVALID_FIELD",
    );
    deployment.remove().await;
}

#[tokio::test]
async fn a_deleted_session_leaves_nothing_and_its_id_is_free_at_once() {
    let deployment = Deployment::builder().start().await;
    let mut client = deployment.client().await;
    let mut database = deployment.database().connect().await;
    let session = new_session("deleted");
    let mut watcher = Watcher::start(&mut client, &session, "").await;
    let ended = client.run(&session, shell("echo out")).await.id;
    let running = client.create(&session, shell("sleep 600")).await.id;
    client
        .reached(&running, |task| task.state() == TaskState::Running)
        .await;
    let header = WriteHeader {
        session_id: session.clone(),
        path: "/notes/a.txt".to_owned(),
        ..WriteHeader::default()
    };
    client
        .write_file(header, &[7; 300_000])
        .await
        .expect("a file is written");
    let uid = format!("select uid from session where id = '{session}'");
    let uid = count(&mut database, &uid).await;

    let request = DeleteSessionRequest {
        session_id: session.clone(),
        grace: Some(milliseconds(0)),
        ..DeleteSessionRequest::default()
    };
    let deleted = client.tasks.delete_session(request.clone()).await;
    assert_eq!(deleted.expect("it is deleted").into_inner().open_tasks, 1);
    watcher
        .events_until(|event| event.r#type() == SessionEventType::SessionDeleted)
        .await;
    let refused = client.tasks.delete_session(request).await;
    expect_refused(
        "a call for what is gone or wrong",
        refused,
        Code::NotFound,
        "SESSION_NOT_FOUND",
    );
    for id in [&ended, &running] {
        let request = GetTaskRequest {
            task: id.clone(),
            ..GetTaskRequest::default()
        };
        let refused = client.tasks.get_task(request).await;
        expect_refused(
            "a call for what is gone or wrong",
            refused,
            Code::NotFound,
            "TASK_NOT_FOUND",
        );
    }

    // The id stands for a new session, which the watch goes on with.
    let again = client.create(&session, shell("true")).await;
    assert_eq!(again.ordinal, 1);
    let event = watcher
        .events_until(|event| event.r#type() == SessionEventType::TaskCreated)
        .await
        .pop();
    assert_eq!(event.map(|event| event.seq), Some(1));
    let request = ListTasksRequest {
        session_id: session.clone(),
        ..ListTasksRequest::default()
    };
    let listed = client.tasks.list_tasks(request).await.expect("a list");
    assert_eq!(listed.into_inner().tasks.len(), 1);

    until("every row of the old session to go", SOON * 2, async || {
        let mut left =
            rows_of(&mut database, &ended).await + rows_of(&mut database, &running).await;
        for table in ["file", "file_chunk", "session_log", "task", "wake"] {
            let sql = format!("select count(*) from {table} where session_uid = {uid}");
            left += count(&mut database, &sql).await;
        }
        let sql = format!("select count(*) from session where uid = {uid}");
        left + count(&mut database, &sql).await == 0
    })
    .await;
    client.ended(&again.id).await;
    let _ = database.close().await;
    deployment.remove().await;
}

#[tokio::test]
async fn a_page_token_does_not_outlive_its_session() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("token");
    let request = ListTasksRequest {
        session_id: session.clone(),
        page_size: 1,
        ..ListTasksRequest::default()
    };
    for _ in 0..2 {
        client.create(&session, shell("true")).await;
    }
    let page = client.tasks.list_tasks(request.clone()).await;
    let page_token = page.expect("a list").into_inner().next_page_token;
    assert_ne!(page_token, "");
    let delete = DeleteSessionRequest {
        session_id: session.clone(),
        ..DeleteSessionRequest::default()
    };
    client.tasks.delete_session(delete).await.expect("deleted");
    for _ in 0..2 {
        client.create(&session, shell("true")).await;
    }
    let stale = ListTasksRequest {
        page_token,
        ..request
    };
    expect_refused(
        "a token of the session that had the id before",
        client.tasks.list_tasks(stale).await,
        Code::InvalidArgument,
        "BAD_TOKEN",
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn creates_that_meet_a_delete_land_in_the_new_session_or_go_with_the_old() {
    let deployment = Deployment::builder()
        .servers(2)
        .workers(Vec::new())
        .start()
        .await;
    let clients = [
        deployment.client().await,
        Client::connect(&deployment.endpoint_of(1)).await,
    ];
    let mut database = deployment.database().connect().await;
    for round in 0..8 {
        let session = new_session("meet");
        let mut old = HashSet::new();
        for client in &clients {
            // both servers know the session's number
            let task = client.clone().create(&session, shell("true")).await;
            old.insert(task.id);
        }
        let keyed = TaskDefinition {
            key: "k".to_owned(),
            ..shell("true")
        };
        old.insert(clients[0].clone().create(&session, keyed.clone()).await.id);
        let mut watcher = Watcher::start(&mut clients[1].clone(), &session, "").await;
        let barrier = std::sync::Arc::new(tokio::sync::Barrier::new(5));
        let creating: Vec<_> = (0..4)
            .map(|number| {
                let (mut client, session) = (clients[number % 2].clone(), session.clone());
                let barrier = barrier.clone();
                // two of them repeat a task that goes with the old session, or is made anew in the new one
                let task = if number < 2 {
                    shell("true")
                } else {
                    keyed.clone()
                };
                tokio::spawn(async move {
                    barrier.wait().await;
                    client.try_create(&session, task).await
                })
            })
            .collect();
        barrier.wait().await;
        let request = DeleteSessionRequest {
            session_id: session.clone(),
            ..DeleteSessionRequest::default()
        };
        let deleted = clients[0].clone().tasks.delete_session(request).await;
        deleted.expect("it is deleted");
        let mut accepted = old.clone();
        for create in creating {
            match create.await.expect("a create does not panic") {
                Ok(task) => accepted.insert(task.id),
                Err(status) => panic!("{}: {status:?}", reason_of(&status)),
            };
        }
        // The watch tells of each one, on which side of the delete it landed.
        let mut new = HashSet::new();
        let mut is_deleted = false;
        let watching = async {
            while !is_deleted || old.len() + new.len() < accepted.len() {
                let id = match watcher.next().await {
                    Item::Event(event) => {
                        is_deleted |= event.r#type() == SessionEventType::SessionDeleted;
                        event.task_id
                    }
                    Item::Snapshot(task) => task.id,
                    Item::SnapshotComplete(_)
                    | Item::Progress(_)
                    | Item::Resync(_)
                    | Item::Keepalive(_) => continue,
                };
                if id.is_empty() {
                    continue;
                }
                if is_deleted {
                    assert!(!old.contains(&id), "{id} is told of after its session");
                    new.insert(id);
                } else {
                    old.insert(id);
                }
            }
        };
        within("the watch to tell of all", SOON * 2, watching).await;
        let told: HashSet<&String> = old.union(&new).collect();
        assert_eq!(told, accepted.iter().collect(), "round {round}");
        // What is in the new session is there and live, and what was in the old one is gone.
        let mut client = clients[1].clone();
        let mut ordinals = Vec::new();
        for id in &new {
            let task = client.get(id).await;
            assert_eq!(
                (task.session_id.as_str(), task.state()),
                (session.as_str(), TaskState::Queued)
            );
            ordinals.push(task.ordinal);
        }
        ordinals.sort_unstable();
        assert!(ordinals.iter().copied().eq(1..=new.len() as i64));
        for id in &old {
            until("a task of the deleted session to go", SOON, async || {
                let request = GetTaskRequest {
                    task: id.clone(),
                    ..GetTaskRequest::default()
                };
                let read = client.tasks.get_task(request).await;
                read.is_err_and(|status| reason_of(&status) == "TASK_NOT_FOUND")
            })
            .await;
        }
        until("no live task in the deleted session", SOON, async || {
            let sql = format!(
                "select count(*) from task_live l join session s on s.uid = l.session_uid
                 where s.id = '{session}' and s.deleted_at is not null"
            );
            count(&mut database, &sql).await == 0
        })
        .await;
    }
    deployment.remove().await;
}
