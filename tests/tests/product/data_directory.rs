//! A data directory that cannot be used: a sentence that says what to do, and an end.

use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use taskyard_proto::v1::TaskDefinition;
use taskyard_tests::client::{error_kind, new_session, probe};
use taskyard_tests::command_line::CommandLine;
use taskyard_tests::deployment::{Deployment, WorkerPlan};
use taskyard_tests::skip::skipped;
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(60);

#[tokio::test]
async fn it_is_read_only() {
    let folder = open_folder();
    let Some(cli) = on_tmpfs(&folder, "ro,size=64m") else {
        return;
    };
    for verb in ["dev", "server", "worker"] {
        let finished = cli
            .start(&arguments(verb, &folder))
            .finish_within(LIMIT)
            .await;
        let finished = finished.expect_code(125);
        let told = &finished.stderr;
        assert!(
            told.to_lowercase().contains("read-only") && told.contains(&path(&folder)),
            "{verb}: {told}"
        );
    }
}

#[tokio::test]
async fn it_is_full() {
    let folder = open_folder();
    let Some(cli) = on_tmpfs(&folder, "size=1m,mode=0755") else {
        return;
    };
    for verb in ["dev", "server"] {
        let finished = cli
            .start(&arguments(verb, &folder))
            .finish_within(LIMIT)
            .await;
        let finished = finished.expect_code(125);
        let told = &finished.stderr;
        assert!(told.contains("free some space"), "{verb}: {told}");
        assert!(told.contains(&path(&folder)), "{verb}: {told}");
    }
}

#[tokio::test]
async fn it_fills_while_a_task_runs() {
    let deployment = Deployment::shared().await;
    let folder = open_folder();
    let Some(cli) = on_tmpfs(&folder, "size=512k,mode=0755") else {
        return;
    };
    let mut client = deployment.client().await;
    let queue = new_session("full");
    let mut worker = cli.env("TASKYARD_LOG", "info").start(&[
        "worker",
        "--endpoint",
        &deployment.endpoint(),
        "--name",
        &queue,
        "--queues",
        &queue,
        "--data-dir",
        &path(&folder),
    ]);
    let task = TaskDefinition {
        queue: queue.clone(),
        ..probe("spew --stdout 12000000")
    };
    let task = client.create(&new_session("full"), task).await;
    let ended = client.ended(&task.id).await;
    let result = client.result(&task.id).await;
    // The bytes may get away fast enough; where they do not, somebody is told.
    let is_told =
        error_kind(&ended) == "worker_error" || result["stdout"]["capture"] == "incomplete";
    let is_whole =
        result["stdout"]["total_bytes"] == 12_000_000 && result["stdout"]["capture"] == "drained";
    assert!(is_told || is_whole, "{result}");
    assert!(worker.is_running(), "{}", worker.stderr());
    worker.signal(Signal::TERM);
    worker.finish_within(LIMIT).await.expect_code(0);
}

#[tokio::test]
async fn it_is_a_file() {
    let folder = open_folder();
    let file = folder.path().join("file");
    std::fs::write(&file, "").expect("written");
    let file = file.display().to_string();
    for verb in ["dev", "worker"] {
        let fixed = [verb, "--data-dir", &file];
        let more: &[&str] = if verb == "dev" {
            &["--listen", "127.0.0.1:0"]
        } else {
            &["--endpoint", "http://127.0.0.1:1"]
        };
        let finished = CommandLine::bare()
            .start(&[&fixed[..], more].concat())
            .finish_within(LIMIT)
            .await;
        let finished = finished.expect_code(125);
        assert!(
            finished.stderr.contains(&file),
            "{verb}: {}",
            finished.stderr
        );
    }
    assert_eq!(std::fs::read(&file).expect("still there"), b"");
}

#[tokio::test]
async fn another_worker_uses_it() {
    let deployment = Deployment::shared().await;
    let name = new_session("first");
    deployment
        .add_worker(0, WorkerPlan::new(&name).flags(&["--queues", &name]))
        .await;
    let folder = deployment.folder().join(&name).display().to_string();
    let finished = deployment
        .command_line()
        .run(&["worker", "--name", "second", "--data-dir", &folder])
        .await;
    let finished = finished.expect_code(125);
    assert!(
        finished.stderr.contains("in use by another worker"),
        "{}",
        finished.stderr
    );
}

/// Calls that find a file system of their own at the folder; none where mounting is not permitted. It goes with them.
fn on_tmpfs(folder: &TempDir, options: &str) -> Option<CommandLine> {
    let mount = format!(
        "mount -t tmpfs -o {options} none '{}' && exec \"$@\"",
        path(folder)
    );
    let wrapper = ["unshare", "--mount", "sh", "-c", &mount, "sh"];
    let tried = Command::new(wrapper[0])
        .args(&wrapper[1..])
        .arg("true")
        .output();
    if !tried.is_ok_and(|tried| tried.status.success()) {
        skipped("mounting a file system is not permitted here");
        return None;
    }
    Some(CommandLine::bare().through(&wrapper))
}

fn arguments<'a>(verb: &'a str, folder: &'a TempDir) -> Vec<&'a str> {
    let data_dir = folder.path().to_str().expect("text");
    let more: &[&str] = match verb {
        "worker" => &["--endpoint", "http://127.0.0.1:1"],
        _ => &["--listen", "127.0.0.1:0"],
    };
    [&[verb, "--data-dir", data_dir][..], more].concat()
}

fn open_folder() -> TempDir {
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::Permissions::from_mode(0o711);
    tempfile::Builder::new()
        .permissions(mode)
        .tempdir()
        .expect("a folder")
}

fn path(folder: &TempDir) -> String {
    folder.path().display().to_string()
}
