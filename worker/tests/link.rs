//! The links: what survives a control plane that goes away.

mod control_support;

use std::time::Duration;

use control_support::{
    ControlPlane, PATIENCE, RunningWorker, World, config, lease, script, wait_until_gone,
};
use taskyard_proto::v1;
use tonic::Status;

#[tokio::test]
async fn a_control_plane_that_comes_later_is_found() {
    let mut plane = ControlPlane::reserve().await;
    let data = tempfile::tempdir().expect("a temporary directory");
    let worker = RunningWorker::start(config(&plane.endpoint(), data.path()));
    plane.start_again().await;
    plane
        .wait_for("a heartbeat", |state| state.heartbeats.first().map(|_| ()))
        .await;
    worker.stop().await;
    assert_eq!(plane.state().goodbyes, 1);
}

#[tokio::test]
async fn heartbeats_tell_what_is_held_and_all_of_it_when_asked() {
    let world = World::new().await;
    let worker = world.start_worker();
    world.plane.offer(script(1, "echo ready; sleep 600")).await;
    world.plane.offer(script(2, "echo ready; sleep 600")).await;
    let digest: Vec<u8> = lease(1, 1)
        .lease_id
        .iter()
        .zip(&lease(2, 1).lease_id)
        .map(|(a, b)| a ^ b)
        .collect();
    world
        .plane
        .wait_for("a heartbeat with both", |state| {
            let both = |beat: &&v1::Heartbeat| beat.held_count == 2 && beat.held_digest == digest;
            state
                .heartbeats
                .last()
                .filter(both)
                .map(|_| state.next_ack_asks_for_all = true)
        })
        .await;
    world
        .plane
        .wait_for("the whole set", |state| {
            let whole = |beat: &v1::Heartbeat| beat.held_is_complete && beat.held.len() == 2;
            state.heartbeats.iter().any(whole).then_some(())
        })
        .await;
    world
        .plane
        .send(v1::attach_response::Message::Ping(v1::Ping { number: 41 }))
        .await;
    world
        .plane
        .wait_for("a pong", |state| state.pongs.contains(&41).then_some(()))
        .await;
    worker.stop().await;
    wait_until_gone(&lease(1, 1).task_id).await;
    wait_until_gone(&lease(2, 1).task_id).await;
}

#[tokio::test]
async fn a_deaf_stream_is_left_and_the_work_goes_on() {
    let world = World::new().await;
    let worker = world.start_worker();
    let go = world.data.path().join("go");
    let text = format!(
        "echo ready; while [ ! -e {} ]; do sleep 0.05; done; echo went",
        go.display()
    );
    world.plane.offer(script(1, &text)).await;
    world.plane.printed(&lease(1, 1), "ready").await;
    world.plane.state().heartbeats_are_ignored = true;
    world
        .plane
        .wait_for("a second hello", |state| {
            (state.hellos.len() >= 2).then_some(())
        })
        .await;
    world.plane.state().heartbeats_are_ignored = false;
    {
        let state = world.plane.state();
        assert_eq!(state.hellos[0].instance_id, state.hellos[1].instance_id);
        assert!(
            state.hellos[1].held.is_empty(),
            "leases of this boot are no leases of an earlier one"
        );
    }
    std::fs::write(&go, b"").expect("the script is let go");
    let finish = world.plane.finish_of(&lease(1, 1)).await;
    assert_eq!(finish.exit.and_then(|exit| exit.exit_code), Some(0));
    worker.stop().await;
}

#[tokio::test]
async fn a_control_plane_that_restarts_gets_every_byte_and_the_true_end() {
    let mut world = World::new().await;
    let worker = world.start_worker();
    let text = "i=0; while [ $i -lt 200 ]; do echo line $i; i=$((i+1)); sleep 0.01; done; exit 7";
    world.plane.offer(script(1, text)).await;
    world.plane.printed(&lease(1, 1), "line 10\n").await;
    world.plane.stop().await;
    // It ends while nobody listens: the ledger notes it.
    let ledger = world.data.path().join("ledger");
    let noted = async {
        loop {
            let mut notes = std::fs::read_dir(&ledger).expect("a ledger").flatten();
            let is_finished = |path: std::path::PathBuf| {
                std::fs::read_to_string(path).is_ok_and(|note| note.contains("\"finished\""))
            };
            if notes.any(|note| is_finished(note.path())) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, noted)
        .await
        .expect("the end is noted");
    world.plane.start_again().await;
    let finish = world.plane.finish_of(&lease(1, 1)).await;
    assert_eq!(finish.exit.and_then(|exit| exit.exit_code), Some(7));
    assert!(!finish.accept_incomplete);
    let expected: String = (0..200).map(|line| format!("line {line}\n")).collect();
    assert_eq!(
        world
            .plane
            .output_of(&lease(1, 1), v1::OutputStream::Stdout)
            .await
            .text(),
        expected
    );
    assert_eq!(world.plane.state().violations, Vec::<String>::new());
    worker.stop().await;
}

#[tokio::test]
async fn a_broken_output_stream_goes_on_where_it_is_durable() {
    let world = World::new().await;
    let worker = world.start_worker();
    world.plane.state().break_output_after = Some(3);
    let text = "i=0; while [ $i -lt 100 ]; do echo line $i; i=$((i+1)); sleep 0.01; done";
    world.plane.offer(script(1, text)).await;
    world.plane.finish_of(&lease(1, 1)).await;
    let expected: String = (0..100).map(|line| format!("line {line}\n")).collect();
    assert_eq!(
        world
            .plane
            .output_of(&lease(1, 1), v1::OutputStream::Stdout)
            .await
            .text(),
        expected
    );
    assert_eq!(
        world.plane.state().break_output_after,
        None,
        "it was broken"
    );
    assert_eq!(world.plane.state().violations, Vec::<String>::new());
    worker.stop().await;
}

#[tokio::test]
async fn reports_are_tried_again_with_their_number_and_a_bad_one_harms_no_other() {
    let world = World::new().await;
    {
        let failures = [
            Status::unavailable("down"),
            Status::unknown("h2 protocol error"),
            Status::internal("x"),
        ];
        world.plane.state().report_failures.extend(failures);
    }
    let worker = world.start_worker();
    world.plane.offer(script(1, "true")).await;
    world.plane.finish_of(&lease(1, 1)).await;
    let numbers: Vec<i64> = world
        .plane
        .state()
        .reports
        .iter()
        .map(|item| item.item_no)
        .collect();
    assert_eq!(numbers, [1, 2]);
    world
        .plane
        .state()
        .report_failures
        .push_back(Status::invalid_argument("makes no sense"));
    world.plane.offer(script(2, "true")).await;
    world
        .plane
        .wait_for("the failure is used", |state| {
            state.report_failures.is_empty().then_some(())
        })
        .await;
    world.plane.offer(script(3, "true")).await;
    world.plane.finish_of(&lease(3, 1)).await;
    worker.stop().await;
}

#[tokio::test]
async fn a_flood_of_output_delays_no_heartbeat_and_is_counted_to_the_byte() {
    let world = World::new().await;
    world.plane.state().heartbeat_interval = Some(Duration::from_secs(1));
    let worker = world.start_worker();
    world
        .plane
        .offer(script(1, "echo ready; head -c 100000000 /dev/zero"))
        .await;
    let finish = world.plane.finish_of(&lease(1, 1)).await;
    let stdout = finish.stdout.expect("there is a report on stdout");
    assert_eq!(stdout.total_bytes, 100_000_006);
    let kept = 16 * 1024 * 1024;
    let head_end = kept - kept / 3;
    let tail_start = 100_000_006 - kept / 3;
    let stored = world
        .plane
        .output_of(&lease(1, 1), v1::OutputStream::Stdout)
        .await;
    assert_eq!(stored.durable, 100_000_006);
    let covered = |from: u64, to: u64| {
        let pieces = stored
            .pieces
            .iter()
            .map(|(offset, piece)| (*offset, offset + piece.len() as u64));
        pieces
            .map(|(start, end)| end.min(to).saturating_sub(start.max(from)))
            .sum::<u64>()
            == to - from
    };
    assert!(covered(0, head_end), "all of the head is stored");
    assert!(
        covered(tail_start, 100_000_006),
        "all of the tail is stored"
    );
    assert_eq!(world.plane.state().violations, Vec::<String>::new());
    assert_eq!(
        world.plane.state().hellos.len(),
        1,
        "the control link was never given up"
    );
    worker.stop().await;
}
