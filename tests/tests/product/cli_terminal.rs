//! `run -t` and `run -it`: the terminal here is the screen and the keys of the task, and is given back as it was.

use rustix::process::Signal;
use taskyard_proto::v1::{CancelTaskRequest, ListTasksRequest, SessionTask, TaskState};
use taskyard_tests::binaries;
use taskyard_tests::client::{Client, new_session};
use taskyard_tests::deployment::Deployment;
use taskyard_tests::screen::Screen;
use taskyard_tests::wait::{SOON, until};

/// `run` with these options in front of the probe with these words.
async fn start(options: &[&str], session: &str, words: &[&str]) -> Screen {
    let probe = binaries::probe();
    let head = ["run", "--session", session];
    let mut arguments = [&head[..], options, &["--", &probe]].concat();
    arguments.extend_from_slice(words);
    let line = Deployment::shared().await.command_line();
    line.env("TERM", "vt220")
        .start_on_screen(&arguments, (31, 101))
}

async fn the_task_of(client: &mut Client, session: &str) -> SessionTask {
    let request = ListTasksRequest {
        session_id: session.to_owned(),
        ..ListTasksRequest::default()
    };
    let listed = client.tasks.list_tasks(request).await.expect("listed");
    listed.into_inner().tasks.pop().expect("there is one")
}

#[tokio::test]
async fn the_task_has_the_size_and_the_keys_of_the_terminal_here() {
    let session = new_session("tty-size");
    let mut screen = start(&["-it"], &session, &["terminal", "--watch"]).await;
    let before = screen.modes();
    screen.shows("terminals=[true, true, true]\r\n").await;
    screen.shows("size=31x101\r\n").await;
    screen.shows("TERM=vt220\r\n").await;
    screen.shows("ready").await;
    assert_ne!(screen.modes(), before, "keys go through as they are");
    for (rows, columns) in [(20, 60), (50, 132)] {
        screen.resize((rows, columns));
        screen.shows(&format!("size={rows}x{columns}\r\n")).await;
    }
    // Ctrl-C is the task's.
    screen.type_keys(&[3]);
    assert_eq!(screen.ended().await.code(), Some(130), "{}", screen.text());
    assert_eq!(screen.modes(), before);
    let mut client = Deployment::shared().await.client().await;
    let task = the_task_of(&mut client, &session).await;
    assert_eq!(task.state(), TaskState::Failed, "it was not canceled");
}

#[tokio::test]
async fn keys_come_one_by_one_and_the_exit_code_is_the_tasks() {
    let session = new_session("tty-keys");
    let mut screen = start(&["-it"], &session, &["keys"]).await;
    let before = screen.modes();
    screen.shows("ready").await;
    for (keys, shown) in [(&b"a"[..], "<97>"), (&[27, 91], "<27><91>"), (b"~", "")] {
        screen.type_keys(keys);
        screen.shows(shown).await;
    }
    screen.type_keys(b"\r~~");
    screen.shows("<126><13><126>").await;
    screen.type_keys(b"q");
    assert_eq!(screen.ended().await.code(), Some(0), "{}", screen.text());
    assert_eq!(screen.modes(), before);
    let mut screen = start(&["-it"], &session, &["exit", "7"]).await;
    assert_eq!(screen.ended().await.code(), Some(7), "{}", screen.text());
    assert_eq!(screen.modes(), before);
}

#[tokio::test]
async fn whoever_leaves_gets_the_terminal_back_and_the_task_goes_on() {
    let mut client = Deployment::shared().await.client().await;
    let leave: [fn(&Screen); 3] = [
        |screen| screen.type_keys(b"\r~."),
        |screen| screen.signal(Signal::HUP),
        |screen| screen.signal(Signal::QUIT),
    ];
    for leave in leave {
        let session = new_session("tty-left");
        let mut screen = start(&["-it"], &session, &["hang"]).await;
        let before = screen.modes();
        screen.shows("ready").await;
        leave(&screen);
        assert_eq!(screen.ended().await.code(), Some(130), "{}", screen.text());
        assert_eq!(screen.modes(), before);
        screen.shows("may still be running").await;
        let task = the_task_of(&mut client, &session).await;
        assert_eq!(task.state(), TaskState::Running);
        let request = CancelTaskRequest {
            task: task.id,
            ..CancelTaskRequest::default()
        };
        client.tasks.cancel_task(request).await.expect("canceled");
    }
}

#[tokio::test]
async fn a_signal_from_elsewhere_cancels_and_gives_the_terminal_back() {
    let session = new_session("tty-term");
    let mut screen = start(&["-it"], &session, &["hang"]).await;
    let before = screen.modes();
    screen.shows("ready").await;
    screen.signal(Signal::TERM);
    assert_eq!(screen.ended().await.code(), Some(130), "{}", screen.text());
    assert_eq!(screen.modes(), before);
}

#[tokio::test]
async fn without_keys_of_its_own_ctrl_c_cancels() {
    let session = new_session("tty-only");
    let mut screen = start(&["-t"], &session, &["terminal", "--watch"]).await;
    let before = screen.modes();
    screen.shows("size=31x101").await;
    screen.shows("ready").await;
    assert_eq!(screen.modes(), before);
    screen.resize((22, 90));
    screen.shows("size=22x90").await;
    screen.type_keys(&[3]);
    assert_eq!(screen.ended().await.code(), Some(130), "{}", screen.text());
    let mut client = Deployment::shared().await.client().await;
    let task = the_task_of(&mut client, &session).await;
    until("the cancel", SOON, async || {
        client.clone().get(&task.id).await.state() == TaskState::Canceled
    })
    .await;
}

#[tokio::test]
async fn without_a_terminal_here_the_task_gets_one_all_the_same() {
    let line = Deployment::shared().await.command_line();
    let session = new_session("tty-pipe");
    let head = ["run", "--session", &session];
    let probe = binaries::probe();
    let told = line
        .run(&[&head[..], &["-t", "--", &probe, "terminal"]].concat())
        .await
        .expect_code(0)
        .text();
    for line in [
        "terminals=[true, true, true]",
        "size=24x80",
        "TERM=xterm-256color",
    ] {
        assert!(told.contains(&format!("{line}\r\n")), "{told}");
    }
    let typed = line
        .run_with_input(&[&head[..], &["-it", "--", "cat"]].concat(), b"typed\n")
        .await
        .expect_code(0);
    assert_eq!(typed.text(), "typed\r\ntyped\r\n");
}
