//! The database is restored from a backup, or replaced by its standby, under a server that goes on.

use std::path::Path;
use std::time::Duration;

use taskyard_proto::v1::watch_response::Item;
use taskyard_proto::v1::{GetTaskRequest, SessionTask, TaskState};
use taskyard_tests::client::{Client, error_kind, new_session, shell};
use taskyard_tests::database::Database;
use taskyard_tests::deployment::Deployment;
use taskyard_tests::refusal::expect_refused;
use taskyard_tests::spare_postgres::SparePostgres;
use taskyard_tests::wait::{SOON, eventually, within};
use taskyard_tests::watcher::Watcher;
use tonic::Code;

const LEASE: Duration = Duration::from_secs(30);

async fn deployment_on(postgres: &SparePostgres) -> Deployment {
    Deployment::builder()
        .database(Database::foreign(&postgres.url()))
        .lease(LEASE)
        .start()
        .await
}

/// A task that ends when the file is there.
async fn waiting(client: &mut Client, session: &str, file: &Path) -> SessionTask {
    let script = format!(
        "until [ -e {} ]; do sleep 0.1; done; echo done",
        file.display()
    );
    let task = client.create(session, shell(&script)).await;
    client
        .reached(&task.id, |task| task.state() == TaskState::Running)
        .await
}

/// Reads on until the watch says that it begins anew, and answers with the tasks of the new snapshot.
async fn begins_anew(watcher: &mut Watcher) -> Vec<SessionTask> {
    within("the watch to begin anew", 2 * SOON, async {
        while !matches!(watcher.next().await, Item::Resync(_)) {}
        let mut tasks = Vec::new();
        loop {
            match watcher.next().await {
                Item::Snapshot(task) => tasks.push(task),
                Item::SnapshotComplete(_) => return tasks,
                Item::Resync(_) => tasks.clear(),
                Item::Event(_) | Item::Progress(_) | Item::Keepalive(_) => {}
            }
        }
    })
    .await
}

/// Runs a task as soon as the database takes it.
async fn runs_again(client: &mut Client, session: &str) -> SessionTask {
    let created = eventually("a task to be taken", 2 * SOON, async || {
        client.try_create(session, shell("echo again")).await.ok()
    })
    .await;
    client.ended(&created.id).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_restore_watchers_begin_anew_and_what_was_lost_is_gone() {
    let mut postgres = SparePostgres::start().await;
    let deployment = deployment_on(&postgres).await;
    let mut client = deployment.client().await;
    let session = new_session("restored");
    let kept = client.run(&session, shell("echo kept")).await;
    let go = deployment.folder().join("go");
    let running = waiting(&mut client, &session, &go).await;
    let go_early = deployment.folder().join("go-early");
    let ending = waiting(&mut client, &session, &go_early).await;
    let mut watcher = Watcher::start(&mut client, &session, "").await;

    postgres.back_up("first", "backup").await;
    std::fs::write(&go_early, b"").expect("it is let go");
    client.ended(&ending.id).await;
    let lost = client.run(&session, shell("echo lost")).await;
    watcher
        .events_until(|event| {
            event.task_id == lost.id
                && event
                    .change
                    .as_ref()
                    .is_some_and(|change| change.state() == TaskState::Succeeded)
        })
        .await;
    let cursor = watcher.cursor().to_owned();
    postgres.lose();
    postgres.restore("backup").await;

    let tasks = begins_anew(&mut watcher).await;
    let ids: Vec<&str> = tasks.iter().map(|task| task.id.as_str()).collect();
    assert!(ids.contains(&kept.id.as_str()), "{ids:?}");
    assert!(!ids.contains(&lost.id.as_str()), "{ids:?}");
    let again = runs_again(&mut client, &session).await;
    assert_eq!(again.state(), TaskState::Succeeded, "{again:?}");
    let mut late = Watcher::start(&mut client, &session, &cursor).await;
    assert!(
        matches!(late.next().await, Item::Resync(_)),
        "an old cursor is not believed"
    );
    let request = GetTaskRequest {
        task: lost.id.clone(),
        ..GetTaskRequest::default()
    };
    expect_refused(
        "what the restore lost",
        client.tasks.get_task(request).await,
        Code::NotFound,
        "TASK_NOT_FOUND",
    );

    // its end is lost, and its worker no longer has it: nobody claims to know
    let unknown = client.ended(&ending.id).await;
    assert_eq!(error_kind(&unknown), "outcome_unknown", "{unknown:?}");

    // what ran through all this ends as it would have
    std::fs::write(&go, b"").expect("it is let go");
    let ended = client.ended(&running.id).await;
    assert_eq!(
        (ended.state(), ended.attempt),
        (TaskState::Succeeded, 1),
        "{ended:?}"
    );
    deployment.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promoted_standby_loses_no_task_and_watchers_begin_anew() {
    let mut postgres = SparePostgres::start().await;
    let deployment = deployment_on(&postgres).await;
    let mut client = deployment.client().await;
    let session = new_session("promoted");
    let go = deployment.folder().join("go");
    let running = waiting(&mut client, &session, &go).await;
    let mut watcher = Watcher::start(&mut client, &session, "").await;
    postgres.back_up("first", "standby").await;
    let after = client.run(&session, shell("echo after the copy")).await;
    postgres.ship_log().await;
    postgres.lose();
    postgres.promote("standby", "first").await;

    let tasks = begins_anew(&mut watcher).await;
    let find = |id: &str| {
        tasks
            .iter()
            .find(|task| task.id == id)
            .map(SessionTask::state)
    };
    assert_eq!(find(&after.id), Some(TaskState::Succeeded));
    assert_eq!(find(&running.id), Some(TaskState::Running));
    let again = runs_again(&mut client, &session).await;
    assert_eq!(again.state(), TaskState::Succeeded, "{again:?}");
    std::fs::write(&go, b"").expect("it is let go");
    let ended = client.ended(&running.id).await;
    assert_eq!(
        (ended.state(), ended.attempt),
        (TaskState::Succeeded, 1),
        "{ended:?}"
    );
    deployment.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_was_put_back_is_declared_another_store() {
    let deployment = Deployment::builder().start().await;
    let mut client = deployment.client().await;
    let session = new_session("copied");
    let task = client.run(&session, shell("echo kept")).await;
    let mut watcher = Watcher::start(&mut client, &session, "").await;
    while !matches!(watcher.next().await, Item::SnapshotComplete(_)) {}
    let cursor = watcher.cursor().to_owned();
    deployment.with_server(0, |server| server.kill());
    let url = deployment.database().url();
    let migrated = deployment
        .command_line()
        .run(&["migrate", "--restored", "--database-url", url])
        .await;
    let said = migrated.expect_code(0).text();
    assert!(said.ends_with("another store from now on\n"), "{said}");
    deployment.restart_server(0).await;
    let mut client = deployment.client().await;
    let mut watcher = Watcher::start(&mut client, &session, &cursor).await;
    let tasks = begins_anew(&mut watcher).await;
    assert_eq!(tasks.len(), 1, "{tasks:?}");
    assert_eq!(tasks[0].id, task.id);
    deployment.remove().await;
}
