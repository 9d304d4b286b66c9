//! Slots are given back while the work waits for an answer.

mod control_support;

use control_support::{RunningWorker, TESTBED, World, command, lease, script};
use taskyard_proto::v1;

#[tokio::test]
async fn an_attempt_that_waits_gives_back_its_slot_and_goes_on_without_one() {
    let world = World::new().await;
    let mut config = world.config();
    config.slots = 1;
    let worker = RunningWorker::start(config);
    world.plane.offer(command(1, &[TESTBED, "ask"])).await;
    let asked = world
        .plane
        .wait_for("a question", |state| state.asked.first().cloned())
        .await;
    assert_eq!(asked, lease(1, 1), "it names its lease");
    // Its slot is free, and goes to another one.
    reported(&world, 1, 1).await;
    let hanging = "echo here; until [ -e go ]; do sleep 0.02; done";
    world.plane.offer(script(2, hanging)).await;
    world.plane.printed(&lease(2, 1), "here").await;
    reported(&world, 0, 2).await;
    // The answer comes: the first one goes on, although there is no slot.
    world.plane.state().answered.insert(lease(1, 1).task_id);
    world.plane.printed(&lease(1, 1), "answered").await;
    world.plane.offer(script(3, "true")).await;
    world
        .plane
        .wait_for("the offer beyond the slots to come back", |state| {
            state.has_released(&lease(3, 1)).then_some(())
        })
        .await;
    reported(&world, 0, 3).await;
    // One of the two ends, and the other has the slot.
    world.plane.cancel(lease(1, 1), None).await;
    world.plane.finish_of(&lease(1, 1)).await;
    assert!(world.plane.state().finishes(&lease(2, 1)).is_empty());
    world.plane.cancel(lease(2, 1), None).await;
    world.plane.finish_of(&lease(2, 1)).await;
    reported(&world, 1, 3).await;
    let never_more = world
        .plane
        .state()
        .slots
        .iter()
        .all(|slots| slots.free <= 1);
    assert!(never_more);
    worker.stop().await;
    assert!(world.is_clean());
}

/// Waits until the worker has said last that so many slots are free, counting so many offers.
async fn reported(world: &World, free: i32, offers: i64) {
    let expected = v1::Slots {
        free,
        offers_received: Some(offers),
    };
    world
        .plane
        .wait_for(&format!("{expected:?}"), |state| {
            (state.slots.last() == Some(&expected)).then_some(())
        })
        .await;
}
