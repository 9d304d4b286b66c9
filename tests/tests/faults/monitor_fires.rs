//! Monitors on two servers, one of which dies: no firing twice, none lost, and each wakes once.

use std::collections::BTreeSet;

use taskyard_proto::v1::{MonitorOverlap, MonitorSchedule, TaskState, WakeReason};
use taskyard_tests::client::{new_session, shell};
use taskyard_tests::deployment::{Deployment, WorkerPlan};
use taskyard_tests::monitor::{QUICK, every, monitor};

const FIRINGS: i64 = 30;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_servers_make_each_firing_once_while_one_dies_and_comes_back() {
    let deployment = Deployment::builder()
        .servers(2)
        .server_flags(&[QUICK])
        .workers(Vec::new())
        .start()
        .await;
    deployment.add_worker(0, WorkerPlan::new("w1")).await;
    let session = new_session("fires");
    let mut client = deployment.client().await;
    let schedule = MonitorSchedule {
        max_firings: FIRINGS,
        overlap: MonitorOverlap::Allow.into(),
        ..every(200)
    };
    let id = client
        .create(&session, monitor(shell("echo fired"), schedule))
        .await
        .id;
    for firings in [4, 12] {
        client
            .monitor_reached(&session, |monitor| monitor.firings >= firings)
            .await;
        deployment.with_server(1, |server| server.kill());
        client
            .monitor_reached(&session, |monitor| monitor.firings >= firings + 4)
            .await;
        deployment.restart_server(1).await;
    }
    let ended = client.ended(&id).await;
    assert_eq!(ended.state(), TaskState::Succeeded, "{ended:?}");
    assert_eq!(ended.run, 0, "it never ran itself: {ended:?}");

    let keys: Vec<String> = client
        .firings(&id)
        .await
        .into_iter()
        .map(|firing| firing.key)
        .collect();
    let expected: Vec<String> = (1..=FIRINGS)
        .map(|number| format!("fire-{number}"))
        .collect();
    assert_eq!(keys, expected);
    let wakes = client.drain_wakes(&session).await;
    let texts: BTreeSet<&str> = wakes.iter().map(|wake| wake.text.as_str()).collect();
    assert_eq!(wakes.len(), expected.len(), "{wakes:?}");
    assert_eq!(texts.len(), expected.len(), "each for its own firing");
    assert!(
        wakes
            .iter()
            .all(|wake| wake.reason() == WakeReason::Monitor && wake.task_id == id)
    );
    deployment.remove().await;
}
