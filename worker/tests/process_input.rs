//! Live standard input, and signals that are no cancel.

mod process_support;

use process_support::{PATIENCE, Story, World, next_event, until_ready};
use taskyard_worker::process::{ExitStatus, INPUT_BYTES_MAX, Process, ProcessEvent, Signal, Stdin};

/// Waits until so many bytes were taken.
async fn until_taken(process: &mut Process, wanted: u64) {
    loop {
        if let ProcessEvent::InputTaken { total } =
            next_event(process).await.expect("another event")
            && total >= wanted
        {
            assert_eq!(total, wanted);
            return;
        }
    }
}

#[tokio::test]
async fn what_comes_is_read_in_order_and_ends_when_it_is_told() {
    let mut world = World::probe(&["stdin-echo"]);
    world.launch.stdin = Stdin::Live;
    let mut process = world.spawn().await;
    let bytes: Vec<u8> = (0..=255u8).collect();
    process.write_input(&bytes, false).expect("told");
    until_taken(&mut process, 256).await;
    process.write_input(b"and more", false).expect("told");
    until_taken(&mut process, 264).await;
    process.write_input(b"", true).expect("told");
    let story = Story::of(&mut process).await;
    assert_eq!(story.exited, Some(ExitStatus::Code(0)));
    assert_eq!(story.end.stdout.total, 264);
}

#[tokio::test]
async fn a_process_that_does_not_read_stops_its_input_and_nothing_else() {
    let mut world = World::probe(&["exit-on-term", "3"]);
    world.launch.stdin = Stdin::Live;
    let mut process = world.spawn().await;
    until_ready(&mut process).await;
    // A pipe holds 64 KiB: four pieces go in, of the fifth nothing is told until somebody reads.
    let piece = vec![b'x'; INPUT_BYTES_MAX];
    for n in 1..=4 {
        process.write_input(&piece, false).expect("told");
        until_taken(&mut process, n * INPUT_BYTES_MAX as u64).await;
    }
    process.write_input(&piece, true).expect("told");
    process.signal(Signal::Term, false).expect("told");
    let story = Story::of(&mut process).await;
    assert_eq!(story.exited, Some(ExitStatus::Code(3)));
    assert_eq!(world.stdout_text(), "ready\nbye\n");
}

#[tokio::test]
async fn input_for_a_process_that_closed_it_is_dropped() {
    let mut world = World::probe(&["closes-stdin"]);
    world.launch.stdin = Stdin::Live;
    let mut process = world.spawn().await;
    until_ready(&mut process).await;
    process.write_input(b"lost", false).expect("told");
    until_taken(&mut process, 4).await;
    process.write_input(b"too", true).expect("told");
    until_taken(&mut process, 7).await;
    process.kill().expect("told");
    Story::of(&mut process).await;
}

#[tokio::test]
async fn signals_reach_the_group_or_the_root_alone() {
    let script = "\"$0\" catch & exec \"$0\" catch";
    let world = World::command(&["sh", "-c", script, process_support::TESTBED]);
    let mut process = world.spawn().await;
    let lines_of = |wanted: &str| {
        let text = world.stdout_text();
        text.lines().filter(|line| *line == wanted).count()
    };
    process_support::wait_until("both", || (lines_of("ready") == 2).then_some(())).await;
    process.signal(Signal::Usr1, true).expect("told");
    process.signal(Signal::Hup, false).expect("told");
    process_support::wait_until("HUP at both", || (lines_of("1") == 2).then_some(())).await;
    process_support::wait_until("USR1", || (lines_of("10") > 0).then_some(())).await;
    process.signal(Signal::Term, false).expect("told");
    let story = tokio::time::timeout(PATIENCE, Story::of(&mut process))
        .await
        .expect("an end");
    assert_eq!(story.exited, Some(ExitStatus::Code(0)));
    assert_eq!(lines_of("10"), 1, "{}", world.stdout_text());
}
