//! Processes with a terminal: it is theirs, nothing of what they write is lost, and they end as with pipes.

mod process_support;

use std::time::Duration;

use process_support::{
    KILLED, LONG, SEED, Story, TERMED, TESTBED, World, next_event, pattern, read_range, until_gone,
    until_ready, wait_until,
};
use taskyard_worker::process::{
    Capture, ExitStatus, INPUT_BYTES_MAX, Process, ProcessEvent, Signal, Stdin, TerminalSize,
};

const SIZE: TerminalSize = TerminalSize {
    rows: 30,
    columns: 100,
};

fn with_terminal(mut world: World) -> World {
    world.launch.terminal = Some(SIZE);
    world.launch.env.push(("TERM".into(), "vt100".into()));
    world
}

fn probe(words: &[&str]) -> World {
    with_terminal(World::probe(words))
}

fn shell(script: &str) -> World {
    with_terminal(World::command(&["sh", "-c", script, TESTBED]))
}

/// Waits until so much input was taken.
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
async fn all_three_descriptors_are_a_terminal_of_its_own() {
    let world = probe(&["terminal"]);
    let story = world.run().await;
    assert_eq!(story.exited, Some(ExitStatus::Code(0)));
    let expected = [
        "terminals=[true, true, true]",
        "in front=true",
        "opens=true",
        "size=30x100",
        "TERM=vt100",
        "",
    ];
    assert_eq!(world.stdout_text(), expected.join("\r\n"));
    assert_eq!(story.end.stderr.total, 0);
    assert_eq!(story.end.stdout.capture, Capture::Drained);
    assert_eq!(story.end.stderr.capture, Capture::Drained);
}

#[tokio::test]
async fn no_other_descriptor_of_the_terminal_leaks() {
    let world = probe(&["fds"]);
    world.run().await;
    assert_eq!(world.stdout_text(), "0\r\n1\r\n2\r\n");
}

#[tokio::test]
async fn another_size_is_told_to_the_process() {
    let world = probe(&["terminal", "--watch"]);
    let mut process = world.spawn().await;
    wait_until("its first words", || {
        world.stdout_text().ends_with("ready\r\n").then_some(())
    })
    .await;
    for (rows, columns) in [(40, 120), (1, 1000)] {
        process
            .resize(TerminalSize { rows, columns })
            .expect("told");
        let told = format!("size={rows}x{columns}\r\n");
        wait_until(&told, || world.stdout_text().ends_with(&told).then_some(())).await;
    }
    process.signal(Signal::Term, false).expect("told");
    let story = Story::of(&mut process).await;
    assert_eq!(story.exited, Some(ExitStatus::Code(0)));
}

#[tokio::test]
async fn ten_megabytes_arrive_whole_and_to_the_last_byte() {
    const TOTAL: u64 = 10 * 1024 * 1024;
    let total = TOTAL.to_string();
    let seed = SEED.to_string();
    let mut world = probe(&["spew", "--raw", "--stdout", &total, "--seed", &seed]);
    world.launch.stdout.head_cap = TOTAL;
    let story = world.run().await;
    assert_eq!(story.exited, Some(ExitStatus::Code(0)));
    assert_eq!(story.end.stdout.total, TOTAL);
    assert_eq!(story.end.stdout.capture, Capture::Drained);
    let bytes = read_range(&world.stdout(), 0, TOTAL, TOTAL);
    assert!(pattern::matches(SEED, 0, &bytes));
}

#[tokio::test]
async fn the_last_words_before_an_exit_are_never_lost() {
    for _ in 0..20 {
        let world = shell("printf 'last %03000d' 7; exit 3");
        let story = world.run().await;
        assert_eq!(story.exited, Some(ExitStatus::Code(3)));
        assert_eq!(story.end.stdout.total, 3_005);
        assert!(world.stdout_text().ends_with("00007"));
        assert_eq!(story.end.stdout.capture, Capture::Drained);
    }
}

#[tokio::test]
async fn a_root_that_closes_its_terminal_lives_and_may_open_it_again() {
    let world = shell("exec <&- >&- 2>&-; sleep 0.2; echo again >/dev/tty; exit 4");
    let story = world.run().await;
    assert_eq!(story.exited, Some(ExitStatus::Code(4)));
    assert_eq!(world.stdout_text(), "again\r\n");
}

#[tokio::test]
async fn who_keeps_the_terminal_open_is_ended_and_flagged_as_with_pipes() {
    for words in [
        // It is deaf to the hang-up.
        &["grandchild-holds-stdout", "PID", "--ignore-term"][..],
        // It left the session.
        &["daemon", "PID"][..],
    ] {
        let mut world = probe(&words[..1]);
        let file = world.argument("pid");
        world.push_arguments(&[&file]);
        world.push_arguments(&words[2..]);
        world.launch.drain = Duration::from_millis(300);
        let story = world.run().await;
        assert_eq!(story.exited, Some(ExitStatus::Code(0)), "{words:?}");
        assert_eq!(story.end.stdout.capture, Capture::Leaked, "{words:?}");
        assert_eq!(story.end.leftover_killed, 1, "{words:?}");
        assert_eq!(world.stdout_text(), "ready\r\n");
        until_gone(world.pid_in("pid").await).await;
    }
}

#[tokio::test]
async fn who_is_left_in_front_of_the_terminal_is_hung_up() {
    let mut world = probe(&["grandchild-holds-stdout"]);
    let file = world.argument("pid");
    world.push_arguments(&[&file]);
    world.launch.drain = LONG;
    let story = world.run().await;
    assert_eq!(story.exited, Some(ExitStatus::Code(0)));
    assert_eq!(story.end.stdout.capture, Capture::Drained);
    until_gone(world.pid_in("pid").await).await;
}

#[tokio::test]
async fn it_is_terminated_and_killed_as_with_pipes() {
    let world = probe(&["hang"]);
    let mut process = world.spawn().await;
    until_ready(&mut process).await;
    process.terminate(Signal::Term, LONG).expect("told");
    let story = Story::of(&mut process).await;
    assert_eq!(story.exited, TERMED);
    let world = probe(&["ignore-term"]);
    let mut process = world.spawn().await;
    until_ready(&mut process).await;
    process.kill().expect("told");
    let story = Story::of(&mut process).await;
    assert_eq!(story.exited, KILLED);
    assert_eq!(story.end.stdout.capture, Capture::Drained);
    assert_eq!(world.stdout_text(), "ready\r\n");
}

#[tokio::test]
async fn what_comes_live_is_echoed_and_read_and_its_end_is_typed() {
    let mut world = with_terminal(World::command(&["cat"]));
    world.launch.stdin = Stdin::Live;
    let mut process = world.spawn().await;
    process.write_input(b"hello\n", false).expect("told");
    until_taken(&mut process, 6).await;
    wait_until("echo and answer", || {
        (world.stdout_text() == "hello\r\nhello\r\n").then_some(())
    })
    .await;
    process.write_input(b"half", true).expect("told");
    let story = Story::of(&mut process).await;
    assert_eq!(story.exited, Some(ExitStatus::Code(0)));
    assert_eq!(world.stdout_text(), "hello\r\nhello\r\nhalfhalf");
}

#[tokio::test]
async fn keys_that_make_signals_reach_the_group_in_front() {
    let mut world = probe(&["hang"]);
    world.launch.stdin = Stdin::Live;
    let mut process = world.spawn().await;
    until_ready(&mut process).await;
    process.write_input(&[3], false).expect("told");
    let story = Story::of(&mut process).await;
    assert_eq!(story.exited, Some(ExitStatus::Signal(libc::SIGINT)));
}

#[tokio::test]
async fn without_input_a_reader_finds_the_end_at_once() {
    let world = with_terminal(World::command(&["cat"]));
    let story = world.run().await;
    assert_eq!(story.exited, Some(ExitStatus::Code(0)));
    assert_eq!(story.end.stdout.total, 0);
}

#[tokio::test]
async fn a_file_is_typed_whole_however_slowly_it_is_read() {
    let mut world = shell("stty -echo; while read -r line; do echo \"$line\"; done; echo end");
    let input = world.path("input");
    let lines: String = (0..5_000).map(|n| format!("line {n}\n")).collect();
    std::fs::write(&input, &lines).expect("written");
    world.launch.stdin = Stdin::File(input);
    world.launch.stdout.head_cap = 1024 * 1024;
    let story = world.run().await;
    assert_eq!(story.exited, Some(ExitStatus::Code(0)));
    let text = world.stdout_text();
    // What was typed before the echo was turned off was echoed.
    let answers = format!("{lines}end\n").replace('\n', "\r\n");
    assert!(text.ends_with(&answers), "{} bytes", text.len());
}

#[tokio::test]
async fn a_process_that_does_not_read_stops_its_input_and_nothing_else() {
    let mut world = shell("stty raw -echo; exec \"$0\" exit-on-term 3");
    world.launch.stdin = Stdin::Live;
    let mut process = world.spawn().await;
    until_ready(&mut process).await;
    let piece = vec![b'x'; INPUT_BYTES_MAX];
    let mut n_taken = 0;
    loop {
        process.write_input(&piece, false).expect("told");
        n_taken += 1;
        assert!(n_taken < 64, "there is no bound");
        let taken = until_taken(&mut process, n_taken * INPUT_BYTES_MAX as u64);
        if tokio::time::timeout(Duration::from_secs(1), taken)
            .await
            .is_err()
        {
            break;
        }
    }
    process.signal(Signal::Term, false).expect("told");
    let story = Story::of(&mut process).await;
    assert_eq!(story.exited, Some(ExitStatus::Code(3)));
    assert_eq!(world.stdout_text(), "ready\nbye\n");
}

#[tokio::test]
async fn secrets_are_masked_however_the_terminal_prints_them() {
    let mut world = shell("printf 'a b\\nc d\\n e'; echo ' and one-two'");
    world.launch.secrets = vec![b"a b\nc d\n e".to_vec(), b"one-two".to_vec()];
    world.run().await;
    assert_eq!(world.stdout_text(), "*** and ***\r\n");
}
