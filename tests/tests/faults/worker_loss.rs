//! Workers die, freeze and come back.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use sqlx::Row;
use taskyard_proto::v1::report_item::Report;
use taskyard_proto::v1::{
    CancelTaskRequest, GetLeaseSpecRequest, Lease, ProgressReport, RetryPolicy, TaskDefinition,
    TaskState, Verdict,
};
use taskyard_tests::client::{Client, milliseconds, new_session, shell};
use taskyard_tests::deployment::{Deployment, WorkerPlan};
use taskyard_tests::process::is_alive;
use taskyard_tests::wait::{SOON, eventually, until};
use tonic::Code;

use crate::hand_worker::{exited, item, push, report_all, write_artifact};
use crate::journal::Journal;

const LEASE: Duration = Duration::from_secs(3);
/// What recovery may take beyond its two leases on a machine that is busy with other tests.
const SLACK: Duration = Duration::from_secs(5);

fn retried(mut task: TaskDefinition, max_runs: i32) -> TaskDefinition {
    task.retry = Some(RetryPolicy {
        max_runs,
        initial_backoff: Some(milliseconds(10)),
        ..RetryPolicy::default()
    });
    task
}

/// Writes the pids of a child, a grandchild and one that has left the session into `folder`, and hangs.
fn family(folder: &Path, name: &str) -> TaskDefinition {
    let base = format!("{}.$TASKYARD_RUN", folder.join(name).display());
    shell(&format!(
        "trap '' TERM; sleep 300 & echo $! > {base}.1; setsid sleep 300 & echo $! > {base}.2; \
         echo $$ > {base}.draft; mv {base}.draft {base}.0; wait"
    ))
}

async fn pids(folder: &Path, name: &str, run: i32) -> Vec<u32> {
    let read = |index: usize| {
        let text = std::fs::read_to_string(folder.join(format!("{name}.{run}.{index}"))).ok()?;
        text.trim().parse::<u32>().ok()
    };
    let what = format!("the processes of {name}");
    eventually(&what, SOON, async || (0..3).map(read).collect()).await
}

async fn gone(what: &str, pids: &[u32]) {
    until(what, SOON, async || pids.iter().all(|pid| !is_alive(*pid))).await;
}

/// The lease under which a task is held now.
async fn lease_of(deployment: &Deployment, id: &str) -> Lease {
    let mut database = deployment.database().connect().await;
    let uuid: uuid::Uuid = id.trim_start_matches("task_").parse().expect("an id");
    let row = sqlx::query("select epoch, lease_id from task_live where id = $1")
        .bind(uuid)
        .fetch_one(&mut database)
        .await
        .expect("the task is live");
    let lease_id: uuid::Uuid = row.get("lease_id");
    Lease {
        task_id: id.to_owned(),
        epoch: row.get("epoch"),
        lease_id: lease_id.into_bytes().to_vec().into(),
    }
}

/// Everything that a worker can write under a lease is refused.
async fn expect_fenced(client: &mut Client, lease: &Lease, run: i32, verdict: Verdict) {
    let progress = Report::Progress(ProgressReport::default());
    let items = vec![
        item(lease, 1_000, progress),
        item(lease, 1_001, exited(0, 0)),
    ];
    assert_eq!(report_all(client, items).await, [verdict, verdict]);
    let pushed = push(client, lease, run, 0, b"late").await;
    assert_eq!(pushed.verdict(), verdict, "{pushed:?}");
    let written = write_artifact(client, lease)
        .await
        .expect_err("a late write");
    assert!(
        matches!(written.code(), Code::Aborted | Code::FailedPrecondition),
        "{written:?}"
    );
    let request = GetLeaseSpecRequest {
        lease: Some(lease.clone()),
    };
    let spec = client.worker.get_lease_spec(request).await;
    assert_eq!(spec.expect_err("a late read").code(), Code::Aborted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_workers_tasks_end_as_their_specs_say() {
    let deployment = Deployment::builder().lease(LEASE).start().await;
    let session = new_session("killed");
    let journal = Journal::begin(&deployment.endpoint(), &session).await;
    let mut client = deployment.client().await;
    let folder = deployment.folder();
    let again = client
        .create(&session, retried(family(folder, "again"), 2))
        .await
        .id;
    let once = client.create(&session, family(folder, "once")).await.id;
    let canceled = client
        .create(&session, retried(family(folder, "canceled"), 5))
        .await
        .id;
    let mut all = Vec::new();
    for name in ["again", "once", "canceled"] {
        all.extend(pids(folder, name, 1).await);
    }
    let request = CancelTaskRequest {
        task: canceled.clone(),
        grace: Some(milliseconds(60_000)),
        ..CancelTaskRequest::default()
    };
    client
        .tasks
        .cancel_task(request)
        .await
        .expect("it can be asked to stop");
    let old = [
        lease_of(&deployment, &again).await,
        lease_of(&deployment, &once).await,
    ];

    let killed_at = Instant::now();
    deployment.with_worker(0, |worker| worker.kill());
    gone("every process of the killed worker to be gone", &all).await;
    eprintln!("processes gone {:?} after the worker", killed_at.elapsed());
    let second = deployment.add_worker(0, WorkerPlan::new("w2")).await;
    let rerun = client
        .reached(&again, |task| task.run == 2 && task.worker_id == "w2")
        .await;
    let recovered_in = killed_at.elapsed();
    eprintln!("run again {recovered_in:?} after the worker's death, at a lease of {LEASE:?}");
    assert!(recovered_in < 2 * LEASE + SLACK, "{recovered_in:?}");
    assert_eq!((rerun.attempt, rerun.state()), (2, TaskState::Running));
    for id in [&once, &canceled] {
        let task = client.ended(id).await;
        let error = task.error.clone().unwrap_or_default();
        assert_eq!(
            (task.state(), error.kind.as_str()),
            (TaskState::Failed, "outcome_unknown"),
            "{task:?}"
        );
        assert_eq!((task.attempt, task.run), (1, 1), "it was not run again");
        assert_eq!(client.result(id).await["error"]["kind"], "outcome_unknown");
    }
    let newer = lease_of(&deployment, &again).await;
    assert!(newer.epoch > old[0].epoch);
    expect_fenced(&mut client, &old[0], 1, Verdict::LeaseLost).await;
    expect_fenced(&mut client, &old[1], 1, Verdict::Terminal).await;
    // Neither half of a lease is enough.
    let mixed = Lease {
        epoch: newer.epoch,
        ..old[0].clone()
    };
    expect_fenced(&mut client, &mixed, 2, Verdict::LeaseLost).await;

    // The second loss spends the last run.
    let run_pids = pids(folder, "again", 2).await;
    deployment.with_worker(second, |worker| worker.kill());
    gone("the second run to be gone", &run_pids).await;
    let spent = client.ended(&again).await;
    let error = spent.error.clone().unwrap_or_default();
    assert_eq!(
        (spent.state(), error.kind.as_str(), spent.run),
        (TaskState::Failed, "orphaned", 2)
    );
    journal.ended(&[again, once, canceled]).await;
    deployment.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_worker_that_wakes_up_changes_nothing() {
    let deployment = Deployment::builder().lease(LEASE).start().await;
    let session = new_session("frozen");
    let journal = Journal::begin(&deployment.endpoint(), &session).await;
    let mut client = deployment.client().await;
    let pid_file = deployment.folder().join("first.pid");
    let go = deployment.folder().join("go");
    let script = format!(
        "if [ $TASKYARD_ATTEMPT = 1 ]; then echo $$ > {pid}; sleep 300; exit 9; fi; \
         until [ -e {go} ]; do sleep 0.05; done; echo second; exit 0",
        pid = pid_file.display(),
        go = go.display()
    );
    let id = client.create(&session, retried(shell(&script), 3)).await.id;
    let child: u32 = eventually("the first run", SOON, async || {
        std::fs::read_to_string(&pid_file).ok()?.trim().parse().ok()
    })
    .await;
    let old = lease_of(&deployment, &id).await;
    let second = deployment.add_worker(0, WorkerPlan::new("w2")).await;
    let frozen_at = Instant::now();
    deployment.with_worker(0, |worker| worker.signal(Signal::STOP));
    gone(
        "the shim to kill what its frozen worker cannot hold",
        &[child],
    )
    .await;
    eprintln!(
        "the child was gone {:?} after the freeze, at a lease of {LEASE:?}",
        frozen_at.elapsed()
    );
    let task = client
        .reached(&id, |task| {
            task.attempt == 2 && task.state() == TaskState::Running
        })
        .await;
    assert_eq!(task.worker_id, "w2");
    deployment.with_worker(0, |worker| worker.signal(Signal::CONT));
    // It notices that it was away, and comes back.
    let is_back = async || {
        let workers = client
            .admin
            .list_workers(taskyard_proto::v1::ListWorkersRequest::default())
            .await;
        let workers = workers.expect("workers can be listed").into_inner().workers;
        let active = taskyard_proto::v1::WorkerStatus::Active;
        workers
            .iter()
            .filter(|worker| worker.status() == active)
            .map(|worker| worker.name.as_str())
            .any(|name| name == "w1")
    };
    until("the worker to be back", SOON, is_back).await;
    expect_fenced(&mut client, &old, 1, Verdict::LeaseLost).await;
    std::fs::write(&go, "").expect("the folder can be written");
    let task = client.ended(&id).await;
    assert_eq!(
        (task.state(), task.attempt, task.run),
        (TaskState::Succeeded, 2, 2),
        "{task:?}"
    );
    journal.ended(&[id]).await;
    // The worker that was away works again.
    deployment.with_worker(second, |worker| worker.kill());
    let mut after = shell("exit 0");
    after.retry = None;
    let after = client.run(&session, after).await;
    assert!(
        after.state() == TaskState::Succeeded && after.worker_id == "w1",
        "{after:?}"
    );
    deployment.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_worker_settles_what_it_held_at_once() {
    // A lease that no test waits for: whatever is settled here is settled by the hello.
    let deployment = Deployment::builder()
        .lease(Duration::from_secs(600))
        .start()
        .await;
    let session = new_session("reboot");
    let journal = Journal::begin(&deployment.endpoint(), &session).await;
    let mut client = deployment.client().await;
    let folder = deployment.folder();
    let go = folder.join("go");
    let once = client.create(&session, family(folder, "once")).await.id;
    let again = client
        .create(&session, retried(family(folder, "again"), 3))
        .await
        .id;
    let script = format!(
        "echo begun; until [ -e {0} ]; do sleep 0.05; done; echo done; echo $$ > {0}.pid; exit 7",
        go.display()
    );
    let finished = client.create(&session, shell(&script)).await.id;
    let mut held = pids(folder, "once", 1).await;
    held.extend(pids(folder, "again", 1).await);
    client
        .reached(&finished, |task| task.state() == TaskState::Running)
        .await;

    // The third task ends while nobody can be told, and the worker dies with the news in its ledger.
    deployment.with_server(0, |server| server.kill());
    std::fs::write(&go, "").expect("the folder can be written");
    let ledger = folder.join("w1");
    until("the end to be noted in the ledger", SOON, async || {
        names_finished(&ledger, &finished)
    })
    .await;
    deployment.with_worker(0, |worker| worker.kill());
    gone("the worker's processes to be gone", &held).await;
    deployment.restart_server(0).await;
    client = deployment.client().await;
    let restarted_at = Instant::now();
    deployment.restart_worker(0).await;
    let task = client.ended(&once).await;
    assert_eq!(task.error.unwrap_or_default().kind, "outcome_unknown");
    let task = client.ended(&finished).await;
    assert_eq!(
        task.exit.clone().unwrap_or_default().exit_code,
        Some(7),
        "{task:?}"
    );
    assert_eq!((task.attempt, task.run), (1, 1));
    let result = client.result(&finished).await;
    assert_eq!(result["stdout"]["tail"], "begun\ndone\n", "{result}");
    let task = client
        .reached(&again, |task| {
            task.run == 2 && task.state() == TaskState::Running
        })
        .await;
    assert_eq!(task.attempt, 2);
    eprintln!(
        "all settled {:?} after the worker's restart",
        restarted_at.elapsed()
    );
    let request = CancelTaskRequest {
        task: again.clone(),
        grace: Some(milliseconds(0)),
        ..CancelTaskRequest::default()
    };
    client
        .tasks
        .cancel_task(request)
        .await
        .expect("it can be canceled");
    assert_eq!(client.ended(&again).await.state(), TaskState::Canceled);
    journal.ended(&[once, again, finished]).await;
    deployment.remove().await;
}

/// Whether the ledger below `folder` says that the task finished; drafts do not count.
fn names_finished(folder: &Path, id: &str) -> bool {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if entry.file_name().to_string_lossy().starts_with(id)
                && path
                    .extension()
                    .is_some_and(|extension| extension == "json")
            {
                let text = std::fs::read_to_string(&path).unwrap_or_default();
                if text.to_lowercase().contains("finished") {
                    return true;
                }
            }
        }
    }
    false
}
