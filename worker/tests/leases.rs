//! Which offers are taken and which are given back, and what ends with a lease.

mod control_support;

use std::time::Duration;

use control_support::{RunningWorker, World, lease, script, to_wire, wait_until_gone};
use taskyard_proto::v1;

#[tokio::test]
async fn an_offer_without_a_slot_is_released_and_one_without_a_spec_is_fetched() {
    let world = World::new().await;
    let mut config = world.config();
    config.slots = 1;
    let worker = RunningWorker::start(config);
    let mut large = script(1, "echo ready; sleep 600");
    let spec = large.spec.take().expect("a spec");
    world.plane.state().specs.insert(lease(1, 1).task_id, spec);
    world.plane.offer(large).await;
    world.plane.printed(&lease(1, 1), "ready").await;
    world.plane.offer(script(2, "true")).await;
    world
        .plane
        .wait_for("a release", |state| {
            state.has_released(&lease(2, 1)).then_some(())
        })
        .await;
    world
        .plane
        .wait_for("slots that count both offers", |state| {
            let counted = |slots: &&v1::Slots| (slots.free, slots.offers_received) == (0, Some(2));
            state.slots.last().filter(counted).map(|_| ())
        })
        .await;
    world.plane.cancel(lease(1, 1), Some(Duration::ZERO)).await;
    world
        .plane
        .wait_for("a free slot", |state| {
            state
                .slots
                .last()
                .filter(|slots| slots.free == 1)
                .map(|_| ())
        })
        .await;
    worker.stop().await;
}

#[tokio::test]
async fn a_disk_that_cannot_be_written_stops_offers_until_it_can() {
    let world = World::new().await;
    let worker = world.start_worker();
    world
        .plane
        .wait_for("a hello", |state| state.hellos.first().map(|_| ()))
        .await;
    let (ledger, aside) = (
        world.data.path().join("ledger"),
        world.data.path().join("aside"),
    );
    std::fs::rename(&ledger, &aside).expect("the ledger is taken away");
    world.plane.offer(script(1, "echo never")).await;
    world
        .plane
        .wait_for("a release", |state| {
            state.has_released(&lease(1, 1)).then_some(())
        })
        .await;
    world
        .plane
        .wait_for("no free slot", |state| {
            state
                .slots
                .last()
                .filter(|slots| slots.free == 0)
                .map(|_| ())
        })
        .await;
    std::fs::rename(&aside, &ledger).expect("the ledger is back");
    world
        .plane
        .wait_for("free slots", |state| {
            state
                .slots
                .last()
                .filter(|slots| slots.free == 4)
                .map(|_| ())
        })
        .await;
    world.plane.offer(script(2, "echo now")).await;
    world.plane.finish_of(&lease(2, 1)).await;
    worker.stop().await;
}

#[tokio::test]
async fn a_start_that_is_not_applied_launches_nothing() {
    let world = World::new().await;
    {
        let refusals = [
            v1::Verdict::Canceled,
            v1::Verdict::LeaseLost,
            v1::Verdict::Terminal,
        ];
        world.plane.state().start_verdicts.extend(refusals);
    }
    let worker = world.start_worker();
    for number in 1..=3 {
        world.plane.offer(script(number, "echo never")).await;
        let report_count = usize::from(number);
        world
            .plane
            .wait_for("the start", |state| {
                (state.reports.len() == report_count).then_some(())
            })
            .await;
    }
    // A fourth one proves that the slots are free and the worker is well.
    world.plane.offer(script(4, "echo now")).await;
    world.plane.finish_of(&lease(4, 1)).await;
    for number in 1..=3 {
        assert!(world.plane.state().finishes(&lease(number, 1)).is_empty());
        assert!(
            world
                .plane
                .output_of(&lease(number, 1), v1::OutputStream::Stdout)
                .await
                .pieces
                .is_empty()
        );
    }
    worker.stop().await;
    assert!(world.is_clean());
}

#[tokio::test]
async fn a_newer_lease_on_a_task_ends_the_older_one_first() {
    let world = World::new().await;
    let worker = world.start_worker();
    world.plane.offer(script(1, "echo ready; sleep 600")).await;
    world.plane.printed(&lease(1, 1), "ready").await;
    let mut again = script(1, "pgrep -f 'sleep 60[0]' > /dev/null; echo fresh");
    again.lease = Some(lease(1, 2));
    again.run = 2;
    world.plane.offer(again).await;
    let finish = world.plane.finish_of(&lease(1, 2)).await;
    assert_eq!(finish.exit.and_then(|exit| exit.exit_code), Some(0));
    assert!(world.plane.state().finishes(&lease(1, 1)).is_empty());
    worker.stop().await;
}

#[tokio::test]
async fn a_dropped_lease_kills_the_work_and_nothing_more_is_told() {
    let world = World::new().await;
    let worker = world.start_worker();
    world.plane.offer(script(1, "echo ready; sleep 600")).await;
    world.plane.printed(&lease(1, 1), "ready").await;
    let drop = v1::DropLease {
        lease: Some(lease(1, 1)),
    };
    world
        .plane
        .send(v1::attach_response::Message::Drop(drop))
        .await;
    wait_until_gone(&lease(1, 1).task_id).await;
    world
        .plane
        .wait_for("an empty heartbeat", |state| {
            state
                .heartbeats
                .last()
                .filter(|heartbeat| heartbeat.held_count == 0)
                .map(|_| ())
        })
        .await;
    assert!(world.plane.state().finishes(&lease(1, 1)).is_empty());
    worker.stop().await;
    assert!(world.is_clean());
}

#[tokio::test]
async fn output_for_a_lost_lease_kills_the_work() {
    let world = World::new().await;
    world
        .plane
        .state()
        .output_verdicts
        .push_back(v1::Verdict::LeaseLost);
    let worker = world.start_worker();
    world.plane.offer(script(1, "echo ready; sleep 600")).await;
    world
        .plane
        .wait_for("the start", |state| {
            (!state.reports.is_empty()).then_some(())
        })
        .await;
    world
        .plane
        .wait_for("output", |state| (!state.output.is_empty()).then_some(()))
        .await;
    wait_until_gone(&lease(1, 1).task_id).await;
    worker.stop().await;
    assert!(world.plane.state().finishes(&lease(1, 1)).is_empty());
}

#[tokio::test]
async fn a_lease_that_runs_out_kills_the_work_and_says_so() {
    let mut world = World::new().await;
    let worker = world.start_worker();
    let mut offer = script(1, "echo ready; sleep 600");
    offer.lease_duration = Some(to_wire(Duration::from_secs(3)));
    world.plane.offer(offer).await;
    world.plane.printed(&lease(1, 1), "ready").await;
    world.plane.stop().await;
    wait_until_gone(&lease(1, 1).task_id).await;
    world.plane.start_again().await;
    let finish = world.plane.finish_of(&lease(1, 1)).await;
    assert_eq!(finish.stop_cause(), v1::StopCause::LeaseExpired);
    worker.stop().await;
}
