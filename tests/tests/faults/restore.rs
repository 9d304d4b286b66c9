//! The database is restored from a backup, or replaced by its standby, under a server that goes on.

use std::path::Path;
use std::time::Duration;

use taskyard_proto::v1::watch_response::Item;
use taskyard_proto::v1::{
    GetTaskRequest, RetryPolicy, SessionTask, TakeWakesRequest, TaskDefinition, TaskState,
    WakePolicy,
};
use taskyard_tests::client::{
    Client, error_kind, exit_code, is_terminal, milliseconds, new_session, shell,
};
use taskyard_tests::database::Database;
use taskyard_tests::deployment::{Deployment, WorkerPlan};
use taskyard_tests::refusal::expect_refused;
use taskyard_tests::session_files::SessionFiles;
use taskyard_tests::spare_postgres::SparePostgres;
use taskyard_tests::wait::{SOON, eventually, within};
use taskyard_tests::watcher::Watcher;
use tonic::Code;

const LEASE: Duration = Duration::from_secs(30);

pub(super) async fn deployment_on(postgres: &SparePostgres) -> Deployment {
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
pub(super) async fn begins_anew(watcher: &mut Watcher) -> Vec<SessionTask> {
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
pub(super) async fn runs_again(client: &mut Client, session: &str) -> SessionTask {
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
    let go_early = deployment.folder().join("go-early");
    let (early, late) = (go_early.display(), go.display());
    let running = TaskDefinition {
        display_name: "prints before the copy, after it, and after the restore".to_owned(),
        ..two_parts(
            &go_early,
            &format!("echo {early}; until [ -e {late} ]; do sleep 0.1; done; echo {late}"),
        )
    };
    let running = with_first_line(&mut client, &session, running).await;
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

    // its end is lost here, but its worker still has it
    let told_again = client.ended(&ending.id).await;
    assert_eq!(
        (told_again.state(), told_again.run, told_again.attempt),
        (TaskState::Succeeded, 1, 1),
        "{told_again:?}"
    );

    // what ran through all this ends as it would have, with all that it printed
    std::fs::write(&go, b"").expect("it is let go");
    let ended = client.ended(&running.id).await;
    assert_eq!(
        (ended.state(), ended.attempt),
        (TaskState::Succeeded, 1),
        "{ended:?}"
    );
    let mut files = SessionFiles::new(&client, &session);
    let path = format!("/.tasks/{}/stdout.log", running.id);
    let printed = files.read(&path).await.expect("it can be read");
    let whole = format!("before\n{}\n{}\n", go_early.display(), go.display());
    assert_eq!(String::from_utf8_lossy(&printed), whole);
    let result = client.result(&running.id).await;
    assert_eq!(result["stdout"]["capture"], "drained", "{result}");
    deployment.remove().await;
}

/// One line, then what `more` does once the file is there.
pub(super) fn two_parts(go: &Path, more: &str) -> TaskDefinition {
    shell(&format!(
        "echo before; until [ -e {} ]; do sleep 0.1; done; {more}",
        go.display()
    ))
}

/// Creates the task and waits until its first line is stored.
pub(super) async fn with_first_line(
    client: &mut Client,
    session: &str,
    task: TaskDefinition,
) -> SessionTask {
    let task = client.create(session, task).await;
    let mut files = SessionFiles::new(client, session);
    let path = format!("/.tasks/{}/stdout.log", task.id);
    eventually("the first line to be stored", SOON, async || {
        let read = files.read(&path).await;
        read.is_ok_and(|bytes| bytes.starts_with(b"before\n"))
            .then_some(())
    })
    .await;
    task
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_ended_after_the_copy_ends_again_as_it_did_and_nothing_of_it_runs_twice() {
    let mut postgres = SparePostgres::start().await;
    let deployment = deployment_on(&postgres).await;
    let mut client = deployment.client().await;
    let session = new_session("told-again");
    let (go, runs) = (
        deployment.folder().join("go"),
        deployment.folder().join("runs"),
    );
    let whole = "echo after; printf '{\"found\": 2}' >\"$TASKYARD_RESULT\"; printf chart >\"$TASKYARD_ARTIFACTS/c\"";
    let whole = TaskDefinition {
        wake_policy: WakePolicy::OnTerminal.into(),
        ..two_parts(&go, whole)
    };
    let whole = with_first_line(&mut client, &session, whole).await;
    let failing = two_parts(&go, "echo oops >&2; exit 7");
    let failing = with_first_line(&mut client, &session, failing).await;
    let repeatable = format!("echo run >>{0}; echo after", runs.display());
    let repeatable = TaskDefinition {
        retry: Some(RetryPolicy {
            max_runs: 3,
            initial_backoff: Some(milliseconds(1)),
            ..RetryPolicy::default()
        }),
        ..two_parts(&go, &repeatable)
    };
    let repeatable = with_first_line(&mut client, &session, repeatable).await;

    postgres.back_up("first", "backup").await;
    let mut generations = Vec::new();
    std::fs::write(&go, b"").expect("they are let go");
    for task in [&whole, &failing, &repeatable] {
        generations.push(client.ended(&task.id).await.generation);
    }
    let first_wakes = take_all_wakes(&mut client, &session).await;
    assert_eq!(first_wakes, [whole.id.as_str()], "and it is acknowledged");
    postgres.lose();
    postgres.restore("backup").await;

    let ended = eventually("all to have ended again", 2 * SOON, async || {
        let mut ended = Vec::new();
        for task in [&whole, &failing, &repeatable] {
            let request = GetTaskRequest {
                task: task.id.clone(),
                ..GetTaskRequest::default()
            };
            let task = client
                .tasks
                .get_task(request)
                .await
                .ok()?
                .into_inner()
                .task?;
            ended.push(task);
        }
        ended.iter().all(is_terminal).then_some(ended)
    })
    .await;
    let standing = |task: &SessionTask| (task.state(), exit_code(task), task.run, task.attempt);
    assert_eq!(
        standing(&ended[0]),
        (TaskState::Succeeded, Some(0), 1, 1),
        "{ended:?}"
    );
    assert_eq!(
        standing(&ended[1]),
        (TaskState::Failed, Some(7), 1, 1),
        "{ended:?}"
    );
    assert_eq!(
        standing(&ended[2]),
        (TaskState::Succeeded, Some(0), 1, 1),
        "{ended:?}"
    );
    let again: Vec<i64> = ended.iter().map(|task| task.generation).collect();
    assert_eq!(
        again, generations,
        "the same changes were made again, each once"
    );
    let runs = std::fs::read_to_string(&runs).expect("it ran");
    assert_eq!(runs, "run\n", "it ran once");

    let result = client.result(&whole.id).await;
    assert_eq!(result["output"]["found"], 2, "{result}");
    assert_eq!(result["artifacts"][0]["name"], "c", "{result}");
    let mut files = SessionFiles::new(&client, &session);
    for (task, file, content) in [
        (&whole, "stdout.log", "before\nafter\n"),
        (&whole, "artifacts/c", "chart"),
        (&failing, "stdout.log", "before\n"),
        (&failing, "stderr.log", "oops\n"),
        (&repeatable, "stdout.log", "before\nafter\n"),
    ] {
        let path = format!("/.tasks/{}/{file}", task.id);
        let read = files.read(&path).await.expect("it can be read");
        assert_eq!(String::from_utf8_lossy(&read), content, "{path}");
        if let Some((stream, _)) = file.split_once(".log") {
            let result = client.result(&task.id).await;
            assert_eq!(result[stream]["capture"], "drained", "{result}");
        }
    }
    let second_wakes = take_all_wakes(&mut client, &session).await;
    assert_eq!(
        second_wakes,
        [whole.id.as_str()],
        "the wake was undone, and fires again"
    );
    deployment.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_was_restarted_since_tells_what_its_boot_before_ran() {
    let mut postgres = SparePostgres::start().await;
    let deployment = deployment_on(&postgres).await;
    let mut client = deployment.client().await;
    let session = new_session("boots");
    let go = deployment.folder().join("go");
    let task = with_first_line(&mut client, &session, two_parts(&go, "echo after; exit 5")).await;
    postgres.back_up("first", "backup").await;
    std::fs::write(&go, b"").expect("it is let go");
    client.ended(&task.id).await;
    let lost = client.run(&session, shell("echo lost")).await;
    deployment.with_worker(0, |worker| worker.kill());
    deployment.restart_worker(0).await;
    postgres.lose();
    postgres.restore("backup").await;

    let again = runs_again(&mut client, &session).await;
    assert_eq!(again.state(), TaskState::Succeeded, "{again:?}");
    let ended = client.ended(&task.id).await;
    assert_eq!(
        (ended.state(), exit_code(&ended), ended.run),
        (TaskState::Failed, Some(5), 1),
        "{ended:?}"
    );
    let mut files = SessionFiles::new(&client, &session);
    let path = format!("/.tasks/{}/stdout.log", task.id);
    let read = files.read(&path).await.expect("it can be read");
    assert_eq!(String::from_utf8_lossy(&read), "before\nafter\n");
    let request = GetTaskRequest {
        task: lost.id.clone(),
        ..GetTaskRequest::default()
    };
    expect_refused(
        "what the restore lost, though its worker offered its result",
        client.tasks.get_task(request).await,
        Code::NotFound,
        "TASK_NOT_FOUND",
    );
    deployment.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_result_that_is_not_kept_nobody_claims_to_know() {
    let mut postgres = SparePostgres::start().await;
    let forgetful = WorkerPlan::new("forgetful").flags(&["--keep-results=0s"]);
    let deployment = Deployment::builder()
        .database(Database::foreign(&postgres.url()))
        .lease(LEASE)
        .workers(vec![forgetful])
        .start()
        .await;
    let mut client = deployment.client().await;
    let session = new_session("forgotten");
    let go = deployment.folder().join("go");
    let task = with_first_line(&mut client, &session, two_parts(&go, "echo after")).await;
    postgres.back_up("first", "backup").await;
    std::fs::write(&go, b"").expect("it is let go");
    client.ended(&task.id).await;
    postgres.lose();
    postgres.restore("backup").await;
    runs_again(&mut client, &session).await;
    let unknown = client.ended(&task.id).await;
    assert_eq!(error_kind(&unknown), "outcome_unknown", "{unknown:?}");
    assert_eq!(unknown.run, 1, "{unknown:?}");
    deployment.remove().await;
}

/// Takes what wakes the session, for good; the tasks of it.
async fn take_all_wakes(client: &mut Client, session: &str) -> Vec<String> {
    let of_session = TakeWakesRequest {
        session_ids: vec![session.to_owned()],
        consumer: "runtime".to_owned(),
        ..TakeWakesRequest::default()
    };
    let taken = client.tasks.take_wakes(of_session.clone()).await;
    let wakes = taken.expect("wakes can be taken").into_inner().wakes;
    let request = TakeWakesRequest {
        ack_ids: wakes.iter().map(|wake| wake.id).collect(),
        ..of_session
    };
    let taken = client.tasks.take_wakes(request).await;
    taken.expect("wakes can be acknowledged");
    wakes.into_iter().map(|wake| wake.task_id).collect()
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
