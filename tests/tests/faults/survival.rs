//! Processes that outlive their worker: its next boot goes on with them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use taskyard_proto::v1::{CancelTaskRequest, RetryPolicy, TaskDefinition, TaskState};
use taskyard_tests::binaries;
use taskyard_tests::client::{
    Client, error_kind, exit_code, milliseconds, new_session, shell, with_command,
};
use taskyard_tests::deployment::{Deployment, WorkerPlan};
use taskyard_tests::process::{Process, is_alive, parent};
use taskyard_tests::session_files::SessionFiles;
use taskyard_tests::wait::{SOON, eventually, until};

use crate::journal::Journal;

/// Longer than any wait of a test: what is settled with it is settled by a hello. And what a failed test leaves ends with
/// it.
const LONG_LEASE: Duration = Duration::from_secs(120);

fn surviving(task: TaskDefinition) -> TaskDefinition {
    with_command(task, |command| command.survive_worker_restart = true)
}

fn retried(mut task: TaskDefinition, max_runs: i32) -> TaskDefinition {
    task.retry = Some(RetryPolicy {
        max_runs,
        initial_backoff: Some(milliseconds(10)),
        ..RetryPolicy::default()
    });
    task
}

/// A run that counts, a line for each number, until it is let go.
struct Counter {
    base: PathBuf,
}

impl Counter {
    fn new(folder: &Path, name: &str) -> Counter {
        Counter {
            base: folder.join(name),
        }
    }

    /// Exits with `code`; in its end it leaves a result.
    fn task(&self, code: i32) -> TaskDefinition {
        let base = self.base.display();
        surviving(shell(&format!(
            "sleep 300 & echo $! > {base}.child; echo $$ > {base}.draft; mv {base}.draft {base}.pid
             i=0; until [ -e {base}.go ]; do echo $i; i=$((i+1)); echo $i > {base}.at; sleep 0.01; done
             echo $i; echo bye >&2; echo \"{{\\\"last\\\": $i}}\" > $TASKYARD_RESULT; echo kept > $TASKYARD_ARTIFACTS/left
             echo $i > {base}.draft; mv {base}.draft {base}.last; exit {code}"
        )))
    }

    async fn number(&self, file: &str) -> u32 {
        let path = self.base.with_extension(file);
        eventually(&format!("{}", path.display()), SOON, async || {
            std::fs::read_to_string(&path).ok()?.trim().parse().ok()
        })
        .await
    }

    /// Waits until it has counted on.
    async fn counts_on(&self) {
        let before = self.number("at").await;
        until("the run to count on", SOON, async || {
            self.number("at").await > before + 10
        })
        .await;
    }

    fn let_go(&self) {
        std::fs::write(self.base.with_extension("go"), "").expect("the folder can be written");
    }

    /// Waits until its worker has it in hand, which pushes no output before; answers with its processes.
    async fn begun(&self, deployment: &Deployment, id: &str) -> [u32; 3] {
        let mut database = deployment.database().connect().await;
        let uuid: uuid::Uuid = id.trim_start_matches("task_").parse().expect("an id");
        until("the first output to be stored", SOON, async || {
            let stored =
                sqlx::query("select 1 from output_stream where task_id = $1 and durable_end > 0")
                    .bind(uuid)
                    .fetch_optional(&mut database)
                    .await;
            stored.expect("the database answers").is_some()
        })
        .await;
        self.processes().await
    }

    /// Its root, the child that it leaves behind, and its shim.
    async fn processes(&self) -> [u32; 3] {
        let root = self.number("pid").await;
        let shim = parent(root).expect("the root has a shim");
        [root, self.number("child").await, shim]
    }
}

async fn gone(what: &str, pids: &[u32]) {
    until(what, SOON, async || pids.iter().all(|pid| !is_alive(*pid))).await;
}

/// The names of the files in a worker's ledger.
fn notes(ledger: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(ledger).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

/// Every number of the counter came, once and in order, and nothing else.
async fn expect_every_line(client: &mut Client, session: &str, id: &str, last: u32) {
    let expected: String = (0..=last).map(|number| format!("{number}\n")).collect();
    let mut files = SessionFiles::new(client, session);
    let stored = files
        .read(&format!("/.tasks/{id}/stdout.log"))
        .await
        .expect("the log can be read");
    let stored = String::from_utf8(stored).expect("it is text");
    assert!(stored == expected, "{} lines", stored.lines().count());
    let result = client.result(id).await;
    assert_eq!(result["stdout"]["total_bytes"], expected.len(), "{result}");
    assert_eq!(result["stdout"]["stored_bytes"], expected.len(), "{result}");
    assert_eq!(result["stderr"]["tail"], "bye\n", "{result}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_goes_on_under_its_workers_next_boots() {
    let deployment = Deployment::builder().lease(LONG_LEASE).start().await;
    let session = new_session("survivor");
    let journal = Journal::begin(&deployment.endpoint(), &session).await;
    let mut client = deployment.client().await;
    let counter = Counter::new(deployment.folder(), "counter");
    let id = client.create(&session, counter.task(0)).await.id;
    let processes = counter.begun(&deployment, &id).await;
    counter.counts_on().await;

    deployment.with_worker(0, Process::kill);
    counter.counts_on().await;
    deployment.restart_worker(0).await;
    let task = client.reached(&id, |task| task.attempt == 2).await;
    assert_eq!(
        (task.run, task.state()),
        (1, TaskState::Running),
        "{task:?}"
    );
    let attempt = deployment.with_worker(0, Process::log);
    assert!(!attempt.contains("session.id=\"\""), "{attempt}");
    counter.counts_on().await;
    // Only a boot that has noted its lease has begun an attempt of its own.
    let ledger = deployment.folder().join("w1").join("ledger");
    until("the second lease to be noted", SOON, async || {
        notes(&ledger)
            .iter()
            .any(|note| note.starts_with(&format!("{id}.2.")) && note.ends_with(".json"))
    })
    .await;
    // again, and at once again, wherever the boot between has come to
    deployment.with_worker(0, Process::kill);
    deployment.restart_worker(0).await;
    deployment.with_worker(0, Process::kill);
    deployment.restart_worker(0).await;
    let task = client.reached(&id, |task| task.attempt >= 3).await;
    assert_eq!(
        (task.run, task.state()),
        (1, TaskState::Running),
        "{task:?}"
    );

    // Nobody else takes the state directory meanwhile.
    let mut second = Command::new(binaries::taskyard());
    second
        .args([
            "worker",
            "--endpoint",
            &deployment.endpoint(),
            "--name",
            "w1",
            "--data-dir",
        ])
        .arg(deployment.folder().join("w1"));
    let second = Process::start("second", second, &deployment.folder().join("second.log"));
    let ended = eventually("the second worker to be refused", SOON, async || {
        second.ended()
    })
    .await;
    assert!(
        !ended.success() && second.log().contains("in use by another worker"),
        "{}",
        second.log()
    );
    counter.counts_on().await;

    counter.let_go();
    let task = client.ended(&id).await;
    assert_eq!(
        (task.state(), task.run, exit_code(&task)),
        (TaskState::Succeeded, 1, Some(0)),
        "{task:?}"
    );
    let last = counter.number("last").await;
    expect_every_line(&mut client, &session, &id, last).await;
    assert_eq!(client.result(&id).await["output"]["last"], last);
    gone("every process of the run to be gone", &processes).await;
    journal.ended(&[id]).await;
    deployment.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_ended_while_no_worker_was_there_is_told_as_it_was() {
    let deployment = Deployment::builder().lease(LONG_LEASE).start().await;
    let session = new_session("survivor");
    let mut client = deployment.client().await;
    let counter = Counter::new(deployment.folder(), "counter");
    let id = client.create(&session, counter.task(7)).await.id;
    let processes = counter.begun(&deployment, &id).await;
    counter.counts_on().await;
    deployment.with_worker(0, Process::kill);
    counter.counts_on().await;
    counter.let_go();
    gone("every process of the run to be gone", &processes).await;
    // Still nobody has told of it.
    assert_eq!(client.get(&id).await.state(), TaskState::Running);
    deployment.restart_worker(0).await;
    let task = client.ended(&id).await;
    assert_eq!(
        (error_kind(&task), task.run, task.attempt, exit_code(&task)),
        ("exit", 1, 2, Some(7)),
        "{task:?}"
    );
    let last = counter.number("last").await;
    expect_every_line(&mut client, &session, &id, last).await;
    let result = client.result(&id).await;
    assert_eq!(result["output"]["last"], last, "{result}");
    assert_eq!(result["artifacts"][0]["name"], "left", "{result}");
    assert!(
        result["duration_ms"].as_i64().is_some_and(|took| took > 0),
        "{result}"
    );
    assert!(
        result["usage"]["max_rss_bytes"]
            .as_i64()
            .is_some_and(|peak| peak > 0),
        "{result}"
    );
    deployment.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_that_came_meanwhile_reaches_the_next_boot() {
    let deployment = Deployment::builder().lease(LONG_LEASE).start().await;
    let session = new_session("survivor");
    let mut client = deployment.client().await;
    let counter = Counter::new(deployment.folder(), "counter");
    let id = client
        .create(&session, retried(counter.task(0), 3))
        .await
        .id;
    let processes = counter.begun(&deployment, &id).await;
    deployment.with_worker(0, Process::kill);
    let request = CancelTaskRequest {
        task: id.clone(),
        grace: Some(milliseconds(100)),
        ..CancelTaskRequest::default()
    };
    client
        .tasks
        .cancel_task(request)
        .await
        .expect("it can be asked to stop");
    assert!(is_alive(processes[0]), "nobody is there to stop it");
    deployment.restart_worker(0).await;
    let task = client.ended(&id).await;
    assert_eq!(
        (task.state(), task.run),
        (TaskState::Canceled, 1),
        "{task:?}"
    );
    gone("every process of the run to be gone", &processes).await;
    deployment.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_time_of_a_run_is_up_with_or_without_a_worker() {
    let deployment = Deployment::builder().lease(LONG_LEASE).start().await;
    let session = new_session("survivor");
    let mut client = deployment.client().await;
    let counter = Counter::new(deployment.folder(), "counter");
    let mut task = counter.task(0);
    task.timeout = Some(milliseconds(8_000));
    let id = client.create(&session, task).await.id;
    let processes = counter.begun(&deployment, &id).await;
    client
        .reached(&id, |task| task.state() == TaskState::Running)
        .await;
    deployment.with_worker(0, Process::kill);
    gone("the shim to end the run in time", &processes).await;
    deployment.restart_worker(0).await;
    let task = client.ended(&id).await;
    assert_eq!(error_kind(&task), "timeout", "{task:?}");
    assert!(task.exit.unwrap_or_default().timed_out);
    deployment.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_comes_after_the_lease_finds_it_lost() {
    let deployment = Deployment::builder()
        .lease(Duration::from_secs(5))
        .start()
        .await;
    let session = new_session("survivor");
    let journal = Journal::begin(&deployment.endpoint(), &session).await;
    let mut client = deployment.client().await;
    let once = Counter::new(deployment.folder(), "once");
    let again = Counter::new(deployment.folder(), "again");
    let once_id = client.create(&session, once.task(0)).await.id;
    let again_id = client.create(&session, retried(again.task(0), 2)).await.id;
    let mut processes = once.begun(&deployment, &once_id).await.to_vec();
    processes.extend(again.begun(&deployment, &again_id).await);
    deployment.with_worker(0, Process::kill);
    gone("the shims to end what nobody holds", &processes).await;
    std::fs::remove_file(again.base.with_extension("pid")).expect("it was there");
    let task = client.ended(&once_id).await;
    assert_eq!(
        (error_kind(&task), task.run),
        ("outcome_unknown", 1),
        "{task:?}"
    );
    client
        .reached(&again_id, |task| task.state() == TaskState::Queued)
        .await;
    deployment.restart_worker(0).await;
    let rerun = again.processes().await;
    let task = client.reached(&again_id, |task| task.run == 2).await;
    assert_eq!(
        (task.attempt, task.state()),
        (2, TaskState::Running),
        "{task:?}"
    );
    again.let_go();
    let task = client.ended(&again_id).await;
    assert_eq!(
        (task.state(), task.run),
        (TaskState::Succeeded, 2),
        "{task:?}"
    );
    gone("the second run to be gone", &rerun).await;
    journal.ended(&[once_id, again_id]).await;
    deployment.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_is_told_to_stop_leaves_and_ends_and_gives_back() {
    let plan = WorkerPlan::new("w1").flags(&["--slots=8", "--drain-grace=3s"]);
    let deployment = Deployment::builder()
        .lease(LONG_LEASE)
        .workers(vec![plan])
        .start()
        .await;
    let session = new_session("stop");
    let mut client = deployment.client().await;
    let folder = deployment.folder();
    let counter = Counter::new(folder, "counter");
    let survivor = client.create(&session, counter.task(0)).await.id;
    let processes = counter.begun(&deployment, &survivor).await;
    let hang = |name: &str| {
        let file = folder.join(name).display().to_string();
        shell(&format!(
            "if [ $TASKYARD_RUN = 1 ]; then echo > {file}; sleep 300; fi; [ $TASKYARD_RUN = 3 ]"
        ))
    };
    let short_go = folder.join("short.go");
    let short = format!(
        "echo > {}; until [ -e {} ]; do sleep 0.02; done",
        folder.join("short").display(),
        short_go.display()
    );
    let short = client.create(&session, shell(&short)).await.id;
    let again = client.create(&session, retried(hang("again"), 2)).await.id;
    let once = client.create(&session, hang("once")).await.id;
    until("all to run", SOON, async || {
        ["short", "again", "once"]
            .iter()
            .all(|name| folder.join(name).exists())
    })
    .await;
    let stopping = async {
        deployment.with_worker(0, |worker| worker.signal(rustix::process::Signal::TERM));
        std::fs::write(&short_go, "").expect("the folder can be written");
        eventually("the worker to stop", SOON, async || {
            deployment.with_worker(0, Process::ended)
        })
        .await
    };
    let ended = stopping.await;
    assert!(ended.success(), "{ended:?}");
    assert_eq!(client.ended(&short).await.state(), TaskState::Succeeded);
    let task = client.ended(&once).await;
    assert_eq!(
        (error_kind(&task), task.run),
        ("worker_error", 1),
        "it may not run again"
    );
    let task = client
        .reached(&again, |task| task.state() == TaskState::Queued)
        .await;
    assert_eq!(task.run, 1, "{task:?}");
    assert!(
        processes.iter().all(|pid| is_alive(*pid)),
        "the survivor is left to its shim"
    );
    counter.counts_on().await;
    deployment.restart_worker(0).await;
    // Two runs are allowed, and the one that was cut short is none of them: the second fails, the third does well.
    let task = client.ended(&again).await;
    assert_eq!(
        (task.state(), task.run),
        (TaskState::Succeeded, 3),
        "{task:?}"
    );
    counter.let_go();
    let task = client.ended(&survivor).await;
    assert_eq!(
        (task.state(), task.run, task.attempt),
        (TaskState::Succeeded, 1, 2),
        "{task:?}"
    );
    let last = counter.number("last").await;
    expect_every_line(&mut client, &session, &survivor, last).await;
    gone("every process of the run to be gone", &processes).await;
    deployment.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_stays_and_the_socket_is_back_at_its_place() {
    let deployment = Deployment::builder().lease(LONG_LEASE).start().await;
    let session = new_session("survivor");
    let mut client = deployment.client().await;
    let script = format!(
        "until answer=$({} self ask --key go 'Go on?'); do sleep 0.1; done; echo \"$answer\"; echo $$ >&2",
        binaries::taskyard().display()
    );
    let id = client.create(&session, surviving(shell(&script))).await.id;
    client
        .reached(&id, |task| task.state() == TaskState::AwaitingInput)
        .await;
    deployment.with_worker(0, Process::kill);
    deployment.restart_worker(0).await;
    let task = client.reached(&id, |task| task.attempt == 2).await;
    assert_eq!(task.state(), TaskState::AwaitingInput, "{task:?}");
    assert_eq!(task.input_request.unwrap_or_default().prompt, "Go on?");
    deployment
        .command_line()
        .run(&["answer", &id, "yes"])
        .await
        .expect_code(0);
    let task = client.ended(&id).await;
    assert_eq!(
        (task.state(), task.run),
        (TaskState::Succeeded, 1),
        "{task:?}"
    );
    assert_eq!(client.result(&id).await["stdout"]["tail"], "yes\n");
    deployment.remove().await;
}
