//! Workers that can and cannot isolate, and those whose operator insists on it.

use std::path::{Path, PathBuf};

use taskyard_proto::v1::{ResourceLimits, TaskDefinition, TaskState};
use taskyard_tests::client::{
    command, error_kind, exit_code, new_session, pairs, shell, with_command,
};
use taskyard_tests::command_line::CommandLine;
use taskyard_tests::deployment::{Deployment, WorkerPlan};
use taskyard_tests::refusal::expect_bad_field;
use taskyard_tests::skip::skipped;
use taskyard_tests::wait::{SOON, until};

use crate::isolation_support::{can_restrict, with_isolation};

#[tokio::test]
async fn a_restricted_task_waits_for_a_worker_that_can() {
    let deployment = Deployment::shared().await;
    let mut client = deployment.client().await;
    if !can_restrict(&mut client).await {
        return;
    }
    let queue = new_session("able");
    let in_queue = |task: TaskDefinition| TaskDefinition {
        queue: queue.clone(),
        ..task
    };
    let unable = format!("{queue}-1");
    let plan =
        WorkerPlan::new(&unable).flags(&["--slots=4", "--queues", &queue, "--isolation-max=none"]);
    deployment.add_worker(0, plan).await;
    let session = new_session("able");
    let wants = in_queue(with_isolation(command(&["true"]), |_| {}));
    let wants = client.create(&session, wants).await;
    // One that comes later and asks for nothing is taken by the same claim that passes over the other.
    let plain = client.run(&session, in_queue(command(&["true"]))).await;
    assert_eq!(plain.worker_id, unable);
    assert_eq!(client.get(&wants.id).await.state(), TaskState::Queued);
    let able = format!("{queue}-2");
    let plan = WorkerPlan::new(&able).flags(&["--slots=4", "--queues", &queue]);
    deployment.add_worker(0, plan).await;
    let ended = client.ended(&wants.id).await;
    assert_eq!(
        (ended.state(), ended.worker_id),
        (TaskState::Succeeded, able)
    );
}

#[tokio::test]
async fn an_operator_raises_every_task_and_says_which_paths_there_are() {
    let deployment = Deployment::shared().await;
    let mut client = deployment.client().await;
    if !can_restrict(&mut client).await {
        return;
    }
    let queue = new_session("strict");
    let place = deployment.folder().canonicalize().expect("it is there");
    let (allowed, other) = (
        place.join(new_session("allowed")),
        place.join(new_session("other")),
    );
    for folder in [&allowed, &other] {
        std::fs::create_dir(folder).expect("made");
    }
    let paths = allowed.display().to_string();
    let plan = WorkerPlan::new(&queue).flags(&[
        "--slots=4",
        "--queues",
        &queue,
        "--isolation-min=restricted",
        "--isolation-paths",
        &paths,
    ]);
    deployment.add_worker(0, plan).await;
    let script = "grep -q 'NoNewPrivs:.1' /proc/self/status && echo x > here && ! ls /root";
    let session = new_session("strict");
    let task = TaskDefinition {
        queue: queue.clone(),
        ..shell(script)
    };
    let raised = client.run(&session, task).await;
    assert_eq!(raised.state(), TaskState::Succeeded, "{raised:?}");
    assert_eq!(raised.isolation, "restricted");
    for (folder, succeeds) in [(&allowed, true), (&other, false)] {
        let task = with_command(shell("echo x > here"), |command| {
            command.cwd = folder.display().to_string();
        });
        let task = TaskDefinition {
            queue: queue.clone(),
            ..task
        };
        let ended = client.run(&session, task).await;
        let expected = if succeeds { "" } else { "start_failed" };
        assert_eq!(error_kind(&ended), expected, "{ended:?}");
    }
}

#[tokio::test]
async fn what_a_worker_can_give_is_its_own_to_say() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("worker").display().to_string();
    let start = async |flags: &[&str]| {
        let mut arguments = vec!["worker", "--name", "liar", "--data-dir", &data];
        arguments.extend(flags);
        CommandLine::bare().run(&arguments).await.expect_code(125)
    };
    let forged = start(&["--labels", "taskyard.dev/isolation=restricted"]).await;
    assert!(forged.stderr.contains("it sets them itself"), "{forged:?}");
    let impossible = start(&["--isolation-min=restricted", "--isolation-max=none"]).await;
    assert!(
        impossible.stderr.contains("asks for more"),
        "{impossible:?}"
    );
    let no_group = start(&["--cgroup", folder.path().to_str().expect("UTF-8")]).await;
    assert!(no_group.stderr.contains("cgroup"), "{no_group:?}");

    let mut client = Deployment::shared().await.client().await;
    let mut task = command(&["true"]);
    task.spec.get_or_insert_default().worker_labels =
        pairs(&[("taskyard.dev/isolation", "restricted")]);
    let refused = client.try_create(&new_session("liar"), task).await;
    expect_bad_field(refused, "task.spec.worker_labels");
}

#[tokio::test]
async fn a_limit_that_no_worker_keeps_is_not_forgotten() {
    let deployment = Deployment::shared().await;
    let mut client = deployment.client().await;
    let session = new_session("limits");
    let mut task = command(&["true"]);
    let isolation = task
        .spec
        .get_or_insert_default()
        .isolation
        .get_or_insert_default();
    isolation.limits = Some(ResourceLimits {
        processes: Some(10),
        ..ResourceLimits::default()
    });
    let limited = client.create(&session, task).await;
    let free = client.run(&session, command(&["true"])).await;
    assert_eq!(free.state(), TaskState::Succeeded);
    assert_eq!(client.get(&limited.id).await.state(), TaskState::Queued);
    let answer = deployment
        .command_line()
        .run(&["cancel", &limited.id])
        .await;
    answer.expect_code(0);
}

#[tokio::test]
async fn each_run_has_a_cgroup_which_goes_with_all_that_is_in_it() {
    let Some(groups) = writable_cgroup() else {
        skipped("there is no cgroup v2 that this user can write");
        return;
    };
    let deployment = Deployment::shared().await;
    let mut client = deployment.client().await;
    let queue = new_session("grouped");
    let directory = groups.path.display().to_string();
    let plan =
        WorkerPlan::new(&queue).flags(&["--slots=4", "--queues", &queue, "--cgroup", &directory]);
    let worker = deployment.add_worker(0, plan).await;
    let told = deployment.folder().join(new_session("told"));
    // A daemon that left its session and closed its pipes is still in the group.
    let script = format!(
        "cat /proc/self/cgroup; (setsid sleep 600 >/dev/null 2>&1 & echo $! > {told}); exit 5",
        told = told.display()
    );
    let task = TaskDefinition {
        queue: queue.clone(),
        ..shell(&script)
    };
    let ended = client.run(&new_session("grouped"), task).await;
    assert_eq!(exit_code(&ended), Some(5), "{ended:?}");
    let result = client.result(&ended.id).await;
    let tail = result["stdout"]["tail"].as_str().unwrap_or_default();
    assert!(tail.contains("taskyard-runs-"), "{result}");
    assert_eq!(result["exit"]["oom_killed"], false, "{result}");
    let pid = std::fs::read_to_string(&told).expect("it was told");
    let gone = PathBuf::from(format!("/proc/{}", pid.trim()));
    assert!(!gone.exists(), "the daemon is gone");
    until("the group of the run to go", SOON, async || {
        runs_in(&groups.path) == 0
    })
    .await;
    deployment.with_worker(worker, |worker| worker.kill());
}

/// A group of the test's own, removed with what a worker leaves in it.
struct TestGroup {
    path: PathBuf,
}

impl Drop for TestGroup {
    fn drop(&mut self) {
        for below in subfolders(&self.path) {
            for run in subfolders(&below) {
                let _ = std::fs::remove_dir(run);
            }
            let _ = std::fs::remove_dir(below);
        }
        let _ = std::fs::remove_dir(&self.path);
    }
}

fn writable_cgroup() -> Option<TestGroup> {
    ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"]
        .map(Path::new)
        .into_iter()
        .filter(|root| {
            root.join("cgroup.procs").exists() && root.join("cgroup.controllers").exists()
        })
        .map(|root| root.join(new_session("taskyard-test")))
        .find(|path| std::fs::create_dir(path).is_ok())
        .map(|path| TestGroup { path })
}

fn runs_in(group: &Path) -> usize {
    subfolders(group)
        .iter()
        .map(|below| subfolders(below).len())
        .sum()
}

fn subfolders(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect()
}
