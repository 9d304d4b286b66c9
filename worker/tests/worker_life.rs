//! The life of a worker: what keeps it from starting, and what it leaves when it ends or crashes.

mod control_support;

use std::time::Duration;

use control_support::{PATIENCE, RunningWorker, World, config, lease, script, wait_until_gone};
use taskyard_proto::v1;
use taskyard_worker::WorkerError;
use tokio_util::sync::CancellationToken;

#[tokio::test]
async fn a_worker_that_cannot_run_says_why() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let good = config("http://127.0.0.1:1", data.path());
    let error_of = async |config| {
        taskyard_worker::run(config, CancellationToken::new())
            .await
            .expect_err("it fails")
    };

    let mut bad = good.clone();
    bad.endpoint = "ftp://example".to_owned();
    assert!(matches!(
        error_of(bad).await,
        WorkerError::BadEndpoint { .. }
    ));
    let mut bad = good.clone();
    bad.name = "two words".to_owned();
    assert!(matches!(error_of(bad).await, WorkerError::BadName { .. }));
    let mut bad = good.clone();
    bad.slots = 0;
    assert!(matches!(error_of(bad).await, WorkerError::BadSlots { .. }));
    let mut bad = good.clone();
    bad.shim_program = "/no/such/shim".into();
    assert!(matches!(error_of(bad).await, WorkerError::Shim { .. }));
    let mut bad = good.clone();
    bad.data_dir = "/proc/none".into();
    assert!(matches!(
        error_of(bad).await,
        WorkerError::DataDirectory { .. }
    ));
}

#[tokio::test]
async fn two_workers_cannot_share_a_directory() {
    let world = World::new().await;
    let worker = world.start_worker();
    world
        .plane
        .wait_for("a hello", |state| state.hellos.first().map(|_| ()))
        .await;
    let refused = taskyard_worker::run(world.config(), CancellationToken::new())
        .await
        .expect_err("it fails");
    assert!(
        matches!(refused, WorkerError::DataDirectoryLocked { .. }),
        "{refused:?}"
    );
    worker.stop().await;
}

#[tokio::test]
async fn a_crashed_worker_tells_what_became_of_its_leases_at_its_next_boot() {
    let world = World::new().await;
    let worker = world.start_worker();
    world.plane.offer(script(1, "echo ready; sleep 600")).await;
    world.plane.printed(&lease(1, 1), "ready").await;
    // This one ends, but its output and so its finish are held up.
    world.plane.state().output_is_stalled = true;
    world.plane.offer(script(2, "echo kept; exit 5")).await;
    let ledger = world.data.path().join("ledger");
    let noted = async {
        loop {
            let finished = std::fs::read_dir(&ledger)
                .expect("a ledger")
                .flatten()
                .any(|note| {
                    std::fs::read_to_string(note.path())
                        .is_ok_and(|text| text.contains("\"finished\""))
                });
            if finished {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, noted)
        .await
        .expect("the end is noted");
    worker.crash().await;
    wait_until_gone(&lease(1, 1).task_id).await;
    assert!(world.plane.state().finishes(&lease(2, 1)).is_empty());
    world.plane.state().output_is_stalled = false;

    let worker = world.start_worker();
    let hello = world
        .plane
        .wait_for("a second hello", |state| state.hellos.get(1).cloned())
        .await;
    {
        let state = world.plane.state();
        assert_eq!(hello.state_id, state.hellos[0].state_id);
        assert_ne!(hello.instance_id, state.hellos[0].instance_id);
    }
    let status_of = |lease: &v1::Lease| {
        hello
            .held
            .iter()
            .find(|held| held.lease.as_ref() == Some(lease))
            .map(v1::HeldLease::status)
    };
    assert_eq!(status_of(&lease(1, 1)), Some(v1::HeldStatus::Unknown));
    assert_eq!(status_of(&lease(2, 1)), Some(v1::HeldStatus::Finished));
    let finish = world.plane.finish_of(&lease(2, 1)).await;
    assert_eq!(finish.exit.and_then(|exit| exit.exit_code), Some(5));
    assert_eq!(
        world
            .plane
            .output_of(&lease(2, 1), v1::OutputStream::Stdout)
            .await
            .text(),
        "kept\n"
    );
    worker.stop().await;
    assert!(world.is_clean());
}

#[tokio::test]
async fn a_worker_that_is_stopped_kills_reports_and_leaves_nothing() {
    let world = World::new().await;
    let worker = world.start_worker();
    world
        .plane
        .offer(script(
            1,
            "trap '' TERM; echo ready; while :; do sleep 1; done",
        ))
        .await;
    world.plane.printed(&lease(1, 1), "ready").await;
    worker.stop().await;
    wait_until_gone(&lease(1, 1).task_id).await;
    let finish = world.plane.finish_of(&lease(1, 1)).await;
    let error = finish.error.expect("there is an error");
    assert_eq!(
        (error.kind.as_str(), error.retryable),
        ("worker_error", true)
    );
    assert_eq!(world.plane.state().goodbyes, 1);
    assert!(world.is_clean());
}

#[tokio::test]
async fn a_worker_that_is_stopped_lets_short_work_finish_within_its_drain() {
    let world = World::new().await;
    let mut config = world.config();
    config.drain = PATIENCE;
    let worker = RunningWorker::start(config);
    world
        .plane
        .offer(script(1, "echo ready; sleep 0.5; echo done"))
        .await;
    world.plane.printed(&lease(1, 1), "ready").await;
    worker.shutdown.cancel();
    world
        .plane
        .wait_for("a goodbye", |state| (state.goodbyes == 1).then_some(()))
        .await;
    world.plane.offer(script(2, "echo never")).await;
    world
        .plane
        .wait_for("a release", |state| {
            state.has_released(&lease(2, 1)).then_some(())
        })
        .await;
    worker.stop().await;
    let finish = world.plane.finish_of(&lease(1, 1)).await;
    assert_eq!(finish.exit.and_then(|exit| exit.exit_code), Some(0));
}
