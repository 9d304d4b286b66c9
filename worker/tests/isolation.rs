//! What a worker makes of work that asks for more isolation than it can give, and what it says of itself.

mod control_support;

use control_support::{RunningWorker, World, lease, script};
use taskyard_proto::v1;
use taskyard_worker::isolation::{IsolationConfig, IsolationLevel};

/// A level that no worker of today knows.
const OF_THE_FUTURE: i32 = 77;

fn asking(number: u8, isolation: v1::Isolation) -> v1::Offer {
    let mut offer = script(number, "touch ran; exit 0");
    offer.spec.as_mut().expect("a spec").isolation = Some(isolation);
    offer
}

fn restricted() -> v1::Isolation {
    v1::Isolation {
        level: v1::IsolationLevel::Restricted.into(),
        ..Default::default()
    }
}

#[tokio::test]
async fn a_worker_that_is_asked_for_more_than_it_can_give_refuses() {
    let world = World::new().await;
    let mut config = world.config();
    config.isolation = IsolationConfig {
        max: IsolationLevel::None,
        ..IsolationConfig::default()
    };
    let worker = RunningWorker::start(config);
    let limited = v1::Isolation {
        limits: Some(v1::ResourceLimits {
            memory_bytes: Some(64 << 20),
            ..Default::default()
        }),
        ..Default::default()
    };
    let of_the_future = v1::Isolation {
        level: OF_THE_FUTURE,
        ..Default::default()
    };
    let contradictory = v1::Isolation {
        network: v1::NetworkAccess::None.into(),
        ..Default::default()
    };
    let cases = [
        (restricted(), "--isolation-max none"),
        (limited, "--cgroup"),
        (of_the_future, "does not know"),
        (contradictory, "for `restricted` only"),
    ];
    for (number, (isolation, words)) in (1..).zip(cases) {
        world.plane.offer(asking(number, isolation)).await;
        let finish = world.plane.finish_of(&lease(number, 1)).await;
        let error = finish.error.expect("it is refused");
        assert_eq!(error.kind, "isolation_unavailable", "{error:?}");
        assert!(!error.retryable && !error.hint.is_empty(), "{error:?}");
        assert!(error.message.contains(words), "{error:?}");
        assert_eq!(finish.exit, None, "nothing was started");
        assert_eq!(finish.isolation, "");
    }
    // It goes on with what it can.
    world.plane.offer(script(9, "exit 3")).await;
    let finish = world.plane.finish_of(&lease(9, 1)).await;
    assert_eq!(finish.isolation, "none");
    assert_eq!(finish.exit.and_then(|exit| exit.exit_code), Some(3));
    worker.stop().await;
    assert!(world.is_clean());
}

#[tokio::test]
async fn a_worker_among_the_systems_programs_isolates_nobody() {
    // Its directory would be readable for every task.
    let Ok(data) = tempfile::tempdir_in("/usr/local") else {
        eprintln!("SKIPPED: this user cannot write /usr/local");
        return;
    };
    let world = World::new().await;
    let mut config = world.config();
    config.data_dir = data.path().join("worker");
    let worker = RunningWorker::start(config);
    world.plane.offer(asking(1, restricted())).await;
    let finish = world.plane.finish_of(&lease(1, 1)).await;
    let error = finish.error.expect("it is refused");
    assert_eq!(error.kind, "isolation_unavailable", "{error:?}");
    worker.stop().await;
}
