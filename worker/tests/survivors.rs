//! Runs that outlived the boot before and that the control plane does not give back.

mod control_support;

use std::time::Duration;

use control_support::{PATIENCE, World, command_of, lease, script, wait_until_gone};
use taskyard_proto::v1;

async fn leave_one(world: &World) {
    let worker = world.start_worker();
    let mut offer = script(1, "echo ready; sleep 600");
    command_of(&mut offer).survive_worker_restart = true;
    world.plane.offer(offer).await;
    world.plane.printed(&lease(1, 1), "ready").await;
    worker.crash().await;
}

#[tokio::test]
async fn a_run_that_is_not_given_back_is_killed_and_forgotten() {
    let world = World::new().await;
    leave_one(&world).await;
    let worker = world.start_worker();
    let held = world
        .plane
        .wait_for("the second hello", |state| state.hellos.get(1).cloned())
        .await
        .held;
    assert_eq!(held.len(), 1);
    assert_eq!(held[0].status(), v1::HeldStatus::Running);
    assert_eq!(held[0].next_lease_id.len(), 16);
    wait_until_gone(&lease(1, 1).task_id).await;
    // Another task proves that its slot is free and the worker is well.
    world.plane.offer(script(2, "echo now")).await;
    world.plane.finish_of(&lease(2, 1)).await;
    worker.stop().await;
    assert!(world.plane.state().finishes(&lease(1, 1)).is_empty());
    assert!(world.is_clean());
}

#[tokio::test]
async fn a_control_plane_that_does_not_know_of_survivors_is_told_what_it_understands() {
    let world = World::new().await;
    leave_one(&world).await;
    world.plane.state().refuses_running = true;
    let worker = world.start_worker();
    let statuses = world
        .plane
        .wait_for("a hello without survivors", |state| {
            let last = state.hellos.get(2)?;
            Some(
                last.held
                    .iter()
                    .map(|held| held.status())
                    .collect::<Vec<_>>(),
            )
        })
        .await;
    assert_eq!(statuses, [v1::HeldStatus::Unknown]);
    wait_until_gone(&lease(1, 1).task_id).await;
    worker.stop().await;
    assert!(world.is_clean());
}

#[tokio::test]
async fn the_next_lease_is_noted_before_it_is_said() {
    let mut world = World::new().await;
    let worker = world.start_worker();
    let mut offer = script(1, "echo ready; sleep 600");
    command_of(&mut offer).survive_worker_restart = true;
    world.plane.offer(offer).await;
    world.plane.printed(&lease(1, 1), "ready").await;
    // With no time to drain; what does not survive would be killed.
    worker.stop().await;
    world.plane.stop().await;
    // This boot finds nobody to say it to.
    let worker = world.start_worker();
    let noted = noted_next(&world).await;
    worker.crash().await;
    world.plane.start_again().await;
    let worker = world.start_worker();
    let held = world
        .plane
        .wait_for("the second hello", |state| state.hellos.get(1).cloned())
        .await
        .held;
    let said: String = held[0]
        .next_lease_id
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(said, noted);
    wait_until_gone(&lease(1, 1).task_id).await;
    worker.stop().await;
}

/// The id in the only note of the ledger.
async fn noted_next(world: &World) -> String {
    let ledger = world.data.path().join("ledger");
    let noted = async {
        loop {
            let entries = std::fs::read_dir(&ledger).expect("there is a ledger");
            let notes = entries.flatten().filter_map(|entry| {
                // one that is only being written may be lost with the worker
                if entry
                    .path()
                    .extension()
                    .is_some_and(|ending| ending == "tmp")
                {
                    return None;
                }
                let content = std::fs::read(entry.path()).ok()?;
                let note: serde_json::Value = serde_json::from_slice(&content).ok()?;
                Some(note["surviving"]["next"].as_str()?.to_owned())
            });
            if let Some(next) = notes.last() {
                return next;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, noted)
        .await
        .expect("the id is noted in time")
}
