//! The database is put back from a dump, and from a copy of its files, by the steps of docs/operations.md, under workers
//! that go on.

use std::path::PathBuf;
use std::time::SystemTime;

use rustix::process::Signal;
use serde_json::Value;
use taskyard_proto::v1::watch_response::Item;
use taskyard_proto::v1::{GetTaskRequest, SessionTask, TaskState};
use taskyard_tests::client::{Client, moment, new_session, shell};
use taskyard_tests::deployment::Deployment;
use taskyard_tests::refusal::expect_refused;
use taskyard_tests::session_files::SessionFiles;
use taskyard_tests::skip::skipped;
use taskyard_tests::spare_postgres::SparePostgres;
use taskyard_tests::wait::{SOON, until};
use taskyard_tests::watcher::Watcher;
use tonic::Code;

use super::restore::{begins_anew, deployment_on, runs_again, two_parts, with_first_line};

const NOTES: &str = "/notes";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dump_in_a_new_cluster_is_another_store_and_what_was_in_it_goes_on() {
    let mut postgres = SparePostgres::start().await;
    if !postgres.has_dump_programs() {
        skipped("this Postgres came without pg_dump and pg_restore: no dump was restored");
        return;
    }
    let deployment = deployment_on(&postgres).await;
    let mut client = deployment.client().await;
    let work = Work::begin(&mut client, &deployment).await;
    let mut watcher = Watcher::start(&mut client, &work.session, "").await;

    postgres.dump("nightly");
    let undone = work.go_on(&mut client).await;
    let cursor = seen(&mut watcher, &undone.lost).await;
    postgres.lose();
    let lost_at = SystemTime::now();
    // beside, so that nobody meets half of it; then the address leads to it
    postgres.load("second", "nightly").await;

    let tasks = begins_anew(&mut watcher).await;
    let mut client = deployment.client().await;
    let before = Before {
        undone,
        cursor,
        lost_at,
    };
    work.is_all_there(&mut client, &tasks, &before).await;
    deployment.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dump_in_another_database_of_the_cluster_is_another_store_and_what_was_in_it_goes_on() {
    let postgres = SparePostgres::start().await;
    if !postgres.has_dump_programs() {
        skipped("this Postgres came without pg_dump and pg_restore: no dump was restored");
        return;
    }
    let deployment = deployment_on(&postgres).await;
    let mut client = deployment.client().await;
    let work = Work::begin(&mut client, &deployment).await;
    let mut watcher = Watcher::start(&mut client, &work.session, "").await;

    postgres.dump("nightly");
    let undone = work.go_on(&mut client).await;
    let cursor = seen(&mut watcher, &undone.lost).await;
    let lost_at = SystemTime::now();
    postgres.load_beside("nightly").await;

    let tasks = begins_anew(&mut watcher).await;
    let mut client = deployment.client().await;
    let before = Before {
        undone,
        cursor,
        lost_at,
    };
    work.is_all_there(&mut client, &tasks, &before).await;
    deployment.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_of_the_files_is_declared_restored_and_what_was_in_it_goes_on() {
    let mut postgres = SparePostgres::start().await;
    let deployment = deployment_on(&postgres).await;
    let mut client = deployment.client().await;
    let work = Work::begin(&mut client, &deployment).await;

    postgres.stop().await;
    postgres.copy_files("first", "copy");
    postgres.start_cluster("first").await;
    // the outage is over, and the task is not part of the copy
    runs_again(&mut client, &work.session).await;
    let mut watcher = Watcher::start(&mut client, &work.session, "").await;
    let undone = work.go_on(&mut client).await;
    let cursor = seen(&mut watcher, &undone.lost).await;
    postgres.lose();
    let lost_at = SystemTime::now();
    deployment.with_server(0, |server| server.signal(Signal::TERM));
    until("the server to stop", SOON, async || {
        deployment.with_server(0, |server| server.ended().is_some())
    })
    .await;
    postgres.start_cluster("copy").await;
    let migrated = deployment
        .command_line()
        .run(&["migrate", "--restored", "--database-url", &postgres.url()])
        .await;
    let said = migrated.expect_code(0).text();
    assert!(said.ends_with("another store from now on\n"), "{said}");
    deployment.restart_server(0).await;

    let mut client = deployment.client().await;
    let mut watcher = Watcher::start(&mut client, &work.session, &cursor).await;
    let tasks = begins_anew(&mut watcher).await;
    let before = Before {
        undone,
        cursor,
        lost_at,
    };
    work.is_all_there(&mut client, &tasks, &before).await;
    deployment.remove().await;
}

/// What a session has when the copy is made.
struct Work {
    session: String,
    kept: SessionTask,
    kept_result: Value,
    /// Ends after the copy, and before the loss.
    ending: SessionTask,
    /// Prints before the copy, after it, and after the restore.
    running: SessionTask,
    go_early: PathBuf,
    go: PathBuf,
}

/// What happened between the copy and the loss.
struct Undone {
    /// The copy knows nothing of it.
    lost: SessionTask,
    /// Of what ended.
    result: Value,
}

/// What there was before the restore.
struct Before {
    undone: Undone,
    cursor: String,
    lost_at: SystemTime,
}

impl Work {
    async fn begin(client: &mut Client, deployment: &Deployment) -> Work {
        let session = new_session("copied");
        let (go_early, go) = (
            deployment.folder().join("go-early"),
            deployment.folder().join("go"),
        );
        let kept = client.run(&session, shell("echo kept")).await;
        let kept_result = client.result(&kept.id).await;
        let mut files = SessionFiles::new(client, &session);
        files.write(NOTES, b"before").await.expect("it is written");
        let script = format!(
            "echo between; until [ -e {} ]; do sleep 0.1; done; echo after",
            go.display()
        );
        let running = with_first_line(client, &session, two_parts(&go_early, &script)).await;
        let ending = two_parts(&go_early, "printf '{\"found\": 2}' >\"$TASKYARD_RESULT\"");
        let ending = with_first_line(client, &session, ending).await;
        Work {
            session,
            kept,
            kept_result,
            ending,
            running,
            go_early,
            go,
        }
    }

    async fn go_on(&self, client: &mut Client) -> Undone {
        std::fs::write(&self.go_early, b"").expect("they are let go");
        client.ended(&self.ending.id).await;
        let mut files = SessionFiles::new(client, &self.session);
        files.write(NOTES, b"between").await.expect("it is written");
        Undone {
            lost: client.run(&self.session, shell("echo lost")).await,
            result: client.result(&self.ending.id).await,
        }
    }

    /// `tasks` is the snapshot that a watcher was given.
    async fn is_all_there(&self, client: &mut Client, tasks: &[SessionTask], before: &Before) {
        let lost = &before.undone.lost;
        let ids: Vec<&str> = tasks.iter().map(|task| task.id.as_str()).collect();
        for task in [&self.kept, &self.ending, &self.running] {
            assert!(ids.contains(&task.id.as_str()), "{ids:?}");
        }
        assert!(!ids.contains(&lost.id.as_str()), "{ids:?}");
        let again = runs_again(client, &self.session).await;
        assert_eq!(again.state(), TaskState::Succeeded, "{again:?}");
        let mut late = Watcher::start(client, &self.session, &before.cursor).await;
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

        assert_eq!(client.result(&self.kept.id).await, self.kept_result);
        let mut files = SessionFiles::new(client, &self.session);
        let notes = files.read(NOTES).await.expect("it can be read");
        assert_eq!(String::from_utf8_lossy(&notes), "before");

        // told again by its worker
        let ended = client.ended(&self.ending.id).await;
        assert_eq!(
            (ended.state(), ended.run, ended.attempt),
            (TaskState::Succeeded, 1, 1),
            "{ended:?}"
        );
        let mut result = client.result(&self.ending.id).await;
        assert!(
            moment(ended.finished_at) >= before.lost_at,
            "it is the time of the second telling: {result}"
        );
        result["finished_at"] = before.undone.result["finished_at"].clone();
        assert_eq!(result, before.undone.result, "all else is as it was");

        std::fs::write(&self.go, b"").expect("it is let go");
        let ended = client.ended(&self.running.id).await;
        assert_eq!(
            (ended.state(), ended.run, ended.attempt),
            (TaskState::Succeeded, 1, 1),
            "{ended:?}"
        );
        let mut files = SessionFiles::new(client, &self.session);
        for (task, printed) in [
            (&self.ending, "before\n"),
            (&self.running, "before\nbetween\nafter\n"),
        ] {
            let path = format!("/.tasks/{}/stdout.log", task.id);
            let read = files.read(&path).await.expect("it can be read");
            assert_eq!(String::from_utf8_lossy(&read), printed, "{path}");
        }
    }
}

/// Reads until the watch tells of the task's end; the cursor of then.
async fn seen(watcher: &mut Watcher, task: &SessionTask) -> String {
    watcher
        .events_until(|event| {
            event.task_id == task.id
                && event
                    .change
                    .as_ref()
                    .is_some_and(|change| change.state() == TaskState::Succeeded)
        })
        .await;
    watcher.cursor().to_owned()
}
