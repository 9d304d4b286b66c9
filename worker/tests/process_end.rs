//! How processes end: by themselves, on request, and at the deadline.

mod process_support;

use std::time::{Duration, Instant};

use process_support::{
    KILLED, LONG, PATIENCE, Story, TERMED, World, is_running, next_event, pids_with, until_ready,
    wait_until,
};
use taskyard_worker::boot_time::BootTime;
use taskyard_worker::process::{Capture, ExitStatus, ProcessEvent, Signal, StartError};

#[tokio::test]
async fn a_grandchild_that_holds_stdout_is_killed_after_the_drain_and_called_a_leak() {
    let mut world = World::probe(&["grandchild-holds-stdout"]);
    world.push_arguments(&[&world.argument("pid")]);
    world.launch.drain = Duration::from_millis(300);
    let mut process = world.spawn().await;
    let exited_at = loop {
        if let ProcessEvent::Exited(status) = next_event(&mut process).await.expect("an event") {
            assert_eq!(status, ExitStatus::Code(0));
            break Instant::now();
        }
    };
    let grandchild = world.pid_in("pid").await;
    let end = loop {
        if let ProcessEvent::Ended(end) = next_event(&mut process).await.expect("an event") {
            break end;
        }
    };
    assert!(
        exited_at.elapsed() >= Duration::from_millis(250),
        "the drain was given its time"
    );
    assert_eq!(
        (end.stdout.capture, end.stderr.capture),
        (Capture::Leaked, Capture::Leaked)
    );
    assert_eq!((end.leftover_killed, end.unkillable), (1, 0));
    assert!(!is_running(grandchild));
}

#[tokio::test]
async fn a_pipe_held_by_a_stranger_is_abandoned() {
    let mut world = World::probe(&["hang"]);
    world.launch.drain = Duration::from_millis(100);
    let mut process = world.spawn().await;
    until_ready(&mut process).await;
    // This test is no descendant of the shim, so it is not killed.
    let held = std::fs::OpenOptions::new()
        .write(true)
        .open(format!("/proc/{}/fd/1", process.pid()));
    let held = held.expect("the pipe opens");
    let root = rustix::process::Pid::from_raw(process.pid() as i32).expect("a process id");
    rustix::process::kill_process(root, rustix::process::Signal::TERM)
        .expect("the root is signalled");
    let story = Story::of(&mut process).await;
    assert_eq!(story.exited, TERMED);
    assert_eq!(
        (story.end.stdout.capture, story.end.stderr.capture),
        (Capture::Abandoned, Capture::Drained)
    );
    assert_eq!((story.end.stdout.total, story.end.leftover_killed), (6, 0));
    drop(held);
}

#[tokio::test]
async fn a_daemon_in_its_own_session_does_not_survive() {
    for flags in [&["--close"][..], &["--close", "--ignore-term"], &[]] {
        let mut world = World::probe(&["daemon"]);
        world.push_arguments(&[&world.argument("pid")]);
        world.push_arguments(flags);
        world.launch.drain = Duration::from_millis(100);
        let story = world.run().await;
        assert_eq!(story.exited, Some(ExitStatus::Code(0)));
        assert_eq!(
            (story.end.leftover_killed, story.end.unkillable),
            (1, 0),
            "{flags:?}"
        );
        let expected = if flags.is_empty() {
            Capture::Leaked
        } else {
            Capture::Drained
        };
        assert_eq!(story.end.stdout.capture, expected);
        assert!(!is_running(world.pid_in("pid").await));
    }
}

#[tokio::test]
async fn closing_its_output_does_not_end_a_process() {
    let world = World::probe(&["close-stdout-then-hang"]);
    let mut process = world.spawn().await;
    until_ready(&mut process).await;
    let silence = tokio::time::timeout(Duration::from_millis(200), process.next_event()).await;
    assert!(silence.is_err(), "nothing happens: {silence:?}");
    process.kill().expect("a command");
    let story = Story::of(&mut process).await;
    assert_eq!(story.exited, KILLED);
    assert_eq!(story.end.stdout.capture, Capture::Drained);
}

#[tokio::test]
async fn terminate_lets_a_process_end_by_itself() {
    let world = World::probe(&["exit-on-term", "5"]);
    let mut process = world.spawn().await;
    until_ready(&mut process).await;
    process.terminate(Signal::Term, LONG).expect("a command");
    let story = Story::of(&mut process).await;
    assert_eq!(story.exited, Some(ExitStatus::Code(5)));
    assert_eq!(world.stdout_text(), "ready\nbye\n");
}

#[tokio::test]
async fn each_signal_ends_the_process_by_itself_or_by_the_kill_after_it() {
    for signal in Signal::ALL {
        let world = World::command(&["sh", "-c", "echo ready; exec sleep 100"]);
        let mut process = world.spawn().await;
        until_ready(&mut process).await;
        // What ends nothing by default is followed by KILL, when the grace is over.
        let (grace, last) = match signal {
            Signal::Term
            | Signal::Int
            | Signal::Kill
            | Signal::Hup
            | Signal::Quit
            | Signal::Usr1
            | Signal::Usr2 => (LONG, Some(ExitStatus::Signal(signal.number()))),
            Signal::Cont | Signal::Stop | Signal::Tstp | Signal::Winch => {
                (Duration::from_millis(100), KILLED)
            }
        };
        process.terminate(signal, grace).expect("a command");
        let story = Story::of(&mut process).await;
        assert_eq!(story.exited, last, "{signal:?}");
    }
}

#[tokio::test]
async fn who_ignores_term_is_killed_after_the_grace() {
    let world = World::probe(&["ignore-term"]);
    let mut process = world.spawn().await;
    until_ready(&mut process).await;
    let begin = Instant::now();
    process
        .terminate(Signal::Term, Duration::from_millis(300))
        .expect("a command");
    let story = Story::of(&mut process).await;
    assert!(begin.elapsed() >= Duration::from_millis(300));
    assert_eq!(story.exited, KILLED);
    assert_eq!(story.end.leftover_killed, 0, "it was asked for");
}

#[tokio::test]
async fn a_second_terminate_only_shortens_the_grace() {
    let world = World::probe(&["ignore-term"]);
    let mut process = world.spawn().await;
    until_ready(&mut process).await;
    let begin = Instant::now();
    process.terminate(Signal::Term, LONG).expect("a command");
    process
        .terminate(Signal::Int, Duration::from_millis(200))
        .expect("a command");
    process.terminate(Signal::Term, LONG).expect("a command");
    assert_eq!(Story::of(&mut process).await.exited, KILLED);
    assert!(begin.elapsed() < PATIENCE);
}

#[tokio::test]
async fn terminate_reaches_daemons_and_stopped_processes() {
    // The daemon would hang for ever; it ends by TERM, long before the grace is over, and the root with it.
    let mut world = World::probe(&["daemon"]);
    world.push_arguments(&[&world.argument("pid"), "--stay"]);
    let mut process = world.spawn().await;
    until_ready(&mut process).await;
    let daemon = world.pid_in("pid").await;
    for pid in [daemon, process.pid() as i32] {
        let pid = rustix::process::Pid::from_raw(pid).expect("a process id");
        rustix::process::kill_process(pid, rustix::process::Signal::STOP).expect("it is stopped");
    }
    process.terminate(Signal::Term, LONG).expect("a command");
    let story = Story::of(&mut process).await;
    assert_eq!(story.exited, TERMED);
    assert!(!is_running(daemon));
}

#[tokio::test]
async fn what_outlives_the_root_is_killed_when_the_grace_is_over() {
    let mut world = World::probe(&["daemon"]);
    world.push_arguments(&[&world.argument("pid"), "--stay", "--close", "--ignore-term"]);
    world.launch.drain = LONG;
    let mut process = world.spawn().await;
    until_ready(&mut process).await;
    let daemon = world.pid_in("pid").await;
    process
        .terminate(Signal::Term, Duration::from_millis(500))
        .expect("a command");
    let story = Story::of(&mut process).await;
    assert_eq!(story.exited, TERMED);
    assert_eq!(
        (story.end.leftover_killed, story.end.stdout.capture),
        (1, Capture::Drained)
    );
    assert!(!is_running(daemon));
}

#[tokio::test]
async fn a_fork_bomb_ends() {
    for flags in [&[][..], &["--setsid"]] {
        let mut world = World::probe(&["fork-bomb-on-term"]);
        world.push_arguments(flags);
        world
            .launch
            .env
            .push(("BOMB".to_owned(), world.argument("bomb")));
        let mut process = world.spawn().await;
        until_ready(&mut process).await;
        process
            .terminate(Signal::Term, Duration::from_millis(200))
            .expect("a command");
        let story = Story::of(&mut process).await;
        assert_eq!(story.exited, KILLED);
        assert_eq!(story.end.unkillable, 0, "{flags:?}");
        assert_eq!(
            pids_with(&format!("BOMB={}", world.argument("bomb"))),
            [0; 0],
            "{flags:?}"
        );
    }
}

#[tokio::test]
async fn the_deadline_kills_and_says_so() {
    let mut world = World::probe(&["ignore-term"]);
    world.launch.deadline = BootTime::now().plus(Duration::from_millis(700));
    let deadline = world.launch.deadline;
    let story = world.run().await;
    assert!(BootTime::now() >= deadline);
    assert_eq!(story.exited, KILLED);
    assert!(story.end.deadline_exceeded);
}

#[tokio::test]
async fn a_deadline_in_the_past_starts_nothing() {
    let mut world = World::probe(&["touch"]);
    world.push_arguments(&[&world.argument("trace")]);
    world.launch.deadline = BootTime::from_nanos(0);
    assert!(matches!(
        world.try_spawn().await,
        Err(StartError::DeadlinePassed)
    ));
    assert!(!world.path("trace").exists());
}

#[tokio::test]
async fn an_extended_deadline_holds_until_the_new_one() {
    let mut world = World::probe(&["hang"]);
    world.launch.deadline = BootTime::now().plus(Duration::from_secs(3));
    let mut process = world.spawn().await;
    process
        .extend(BootTime::now().plus(LONG))
        .expect("a command");
    until_ready(&mut process).await;
    let first = world.launch.deadline;
    wait_until("the first deadline", || {
        (BootTime::now() > first.plus(Duration::from_millis(200))).then_some(())
    })
    .await;
    assert!(is_running(process.pid() as i32), "it lives on");
    process.extend(BootTime::now()).expect("a command");
    let story = Story::of(&mut process).await;
    assert_eq!((story.exited, story.end.deadline_exceeded), (KILLED, true));
}

#[tokio::test]
async fn waiting_for_an_event_can_be_given_up_without_losing_one() {
    let world = World::probe(&["lines", "20", "--every", "10"]);
    let mut process = world.spawn().await;
    let mut n_given_up = 0;
    let end = loop {
        tokio::select! {
            biased;
            event = process.next_event() => {
                if let ProcessEvent::Ended(end) = event.expect("an event") {
                    break end;
                }
            }
            () = tokio::task::yield_now() => n_given_up += 1,
        }
    };
    assert!(n_given_up > 0);
    assert_eq!(end.exit, Some(ExitStatus::Code(0)));
    assert_eq!(end.stdout.total, world.stdout_text().len() as u64);
}
