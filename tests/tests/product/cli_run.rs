//! `taskyard run`: a command as a task, followed live, with its exit code.

use rustix::process::Signal;
use taskyard_proto::v1::{GetTaskRequest, SessionTask, TaskState};
use taskyard_tests::binaries;
use taskyard_tests::client::{is_terminal, new_session};
use taskyard_tests::command_line::{CommandLine, Running};
use taskyard_tests::deployment::Deployment;
use taskyard_tests::wait::{SOON, eventually};

#[tokio::test]
async fn each_line_is_shown_as_it_is_printed() {
    let deployment = Deployment::shared().await;
    let gate = deployment.folder().join(new_session("gate"));
    let session = new_session("live");
    // The next line comes only once the test has seen the line before.
    let script = format!(
        "for i in 1 2 3; do echo line $i; until [ -e {0}.$i ]; do sleep 0.02; done; done; echo oops >&2; exit 3",
        gate.display()
    );
    let running = start(deployment, &session, &["--", "sh", "-c", &script]);
    for line in 1..=3 {
        running.stdout_has(&format!("line {line}\n")).await;
        std::fs::write(format!("{}.{line}", gate.display()), "").expect("written");
    }
    let finished = running.finish().await.expect_code(3);
    assert_eq!(finished.text(), "line 1\nline 2\nline 3\n");
    assert!(finished.stderr.contains("oops\n"), "{}", finished.stderr);
    assert!(finished.stderr.contains("t1 failed"), "{}", finished.stderr);
    // It was just shown.
    assert!(
        !finished.stderr.contains("read the end of stderr"),
        "{}",
        finished.stderr
    );
    let task = task(deployment, &session, "t1").await;
    let cli = deployment.command_line();
    let file = format!("/.tasks/{}/result.json", task.id);
    let result = cli
        .run(&["files", "cat", &session, &file])
        .await
        .expect_code(0)
        .json();
    assert_eq!(result["exit"]["exit_code"], 3);
    assert_eq!(result["stdout"]["tail"], "line 1\nline 2\nline 3\n");
}

#[tokio::test]
async fn the_exit_code_says_how_the_task_ended() {
    let deployment = Deployment::shared().await;
    let probe = binaries::probe();
    let session = new_session("codes");
    for (arguments, code, word) in [
        (&["--", "true"][..], 0, "succeeded"),
        (&["--", "sh", "-c", "exit 42"], 42, "failed"),
        (&["--", &probe, "raise", "9"], 128 + 9, "failed"),
        (&["--timeout", "200ms", "--", &probe, "hang"], 124, "failed"),
        (&["--", "no-such-program"], 125, "no-such-program"),
        (
            &["--cwd", "/no/such/folder", "--", "true"],
            125,
            "/no/such/folder",
        ),
    ] {
        let finished = start(deployment, &session, arguments)
            .finish()
            .await
            .expect_code(code);
        assert!(
            finished.stderr.contains(word),
            "{arguments:?}: {}",
            finished.stderr
        );
    }
}

#[tokio::test]
async fn flags_shape_the_task() {
    let deployment = Deployment::shared().await;
    let session = new_session("flags");
    let file = deployment.folder().join(new_session("runs"));
    let script = format!(
        "echo $GREETING; pwd; echo >>{0}; test $(wc -l <{0}) = 2",
        file.display()
    );
    let finished = start(
        deployment,
        &session,
        &[
            "--env",
            "GREETING=hello",
            "--cwd",
            "/usr",
            "--name",
            "shaped",
            "--retry",
            "3",
            "--timeout",
            "1m",
            "--",
            "sh",
            "-c",
            &script,
        ],
    )
    .finish()
    .await
    .expect_code(0);
    assert_eq!(finished.text(), "hello\n/usr\nhello\n/usr\n", "both runs");
    let task = task(deployment, &session, "t1").await;
    assert_eq!((task.name.as_str(), task.run), ("shaped", 2));
    assert_eq!(task.timeout.map(|timeout| timeout.seconds), Some(60));
}

#[tokio::test]
async fn detached_it_prints_just_the_id() {
    let deployment = Deployment::shared().await;
    let session = new_session("detached");
    let finished = start(
        deployment,
        &session,
        &["--detach", "-o", "name", "--", "sleep", "100"],
    );
    let finished = finished.finish().await.expect_code(0);
    let id = finished.text().trim_end().to_owned();
    assert!(id.starts_with("task_") && !id.contains('\n'), "{id:?}");
    let mut client = deployment.client().await;
    assert!(!is_terminal(&client.get(&id).await));
    let cli = deployment.command_line();
    let canceled = cli
        .run(&["cancel", &id, "--grace", "0s"])
        .await
        .expect_code(0);
    assert!(canceled.text().contains(&id), "{}", canceled.text());
    assert_eq!(client.ended(&id).await.state(), TaskState::Canceled);
}

#[tokio::test]
async fn ctrl_c_asks_first() {
    let deployment = Deployment::shared().await;
    let session = new_session("ctrl-c");
    let running = start(
        deployment,
        &session,
        &["--", &binaries::probe(), "exit-on-term", "5"],
    );
    running.stdout_has("ready\n").await;
    running.signal(Signal::INT);
    running
        .stderr_has("canceling t1; Ctrl-C again kills it")
        .await;
    let finished = running.finish().await;
    assert_eq!(
        finished.text(),
        "ready\nbye\n",
        "what it says at the end is shown"
    );
    let finished = finished.expect_code(130);
    let summary = finished.stderr.lines().last().unwrap_or_default();
    assert!(
        summary.starts_with("taskyard: t1 canceled") && summary.matches("canceled").count() == 1,
        "{}",
        finished.stderr
    );
    let task = task(deployment, &session, "t1").await;
    assert!(task.cancel_requested_at.is_some());
}

#[tokio::test]
async fn ctrl_c_twice_kills() {
    let deployment = Deployment::shared().await;
    let session = new_session("ctrl-c");
    let running = start(
        deployment,
        &session,
        &["--", &binaries::probe(), "ignore-term"],
    );
    running.stdout_has("ready\n").await;
    running.signal(Signal::INT);
    running.stderr_has("Ctrl-C again kills it").await;
    running.signal(Signal::INT);
    running.stderr_has("killing t1").await;
    running.finish().await.expect_code(130);
    let task = task(deployment, &session, "t1").await;
    assert_eq!(task.state(), TaskState::Canceled);
    assert_eq!(task.exit.and_then(|exit| exit.signal), Some(9));
}

#[tokio::test]
async fn a_client_that_is_killed_changes_nothing() {
    let deployment = Deployment::shared().await;
    let session = new_session("gone");
    let gate = deployment.folder().join(new_session("gate"));
    let script = format!(
        "echo ready; until [ -e {} ]; do sleep 0.02; done; exit 6",
        gate.display()
    );
    let running = start(deployment, &session, &["--", "sh", "-c", &script]);
    running.stdout_has("ready\n").await;
    running.signal(Signal::KILL);
    assert_eq!(running.finish().await.code(), None);
    std::fs::write(&gate, "").expect("written");
    let ended = eventually("the task to end", SOON, async || {
        let task = task(deployment, &session, "t1").await;
        is_terminal(&task).then_some(task)
    })
    .await;
    assert_eq!(ended.exit.and_then(|exit| exit.exit_code), Some(6));
}

#[tokio::test]
async fn a_reader_that_goes_away_ends_the_command() {
    let deployment = Deployment::shared().await;
    let program = binaries::taskyard().display().to_string();
    let session = new_session("pipe");
    let script = format!(
        "'{program}' run --endpoint {} --session {session} -- sh -c 'while :; do echo y; sleep 0.02; done' | head -n 1",
        deployment.endpoint()
    );
    let child = tokio::process::Command::new("sh")
        .args(["-c", &script])
        .output();
    let output = taskyard_tests::wait::within("the pipe to end", SOON, child).await;
    assert_eq!(output.expect("it ran").stdout, b"y\n");
    let cli = deployment.command_line();
    cli.run(&["cancel", "t1", "--session", &session, "--grace", "0s"])
        .await
        .expect_code(0);
}

#[tokio::test]
async fn a_task_that_nobody_takes_is_told_so_once() {
    let deployment = Deployment::shared().await;
    let session = new_session("nope");
    let cli = deployment.command_line();
    let definition =
        format!(r#"{{"session": "{session}", "queue": "nope", "command": {{"argv": ["true"]}}}}"#);
    let file = deployment.folder().join(new_session("definition"));
    std::fs::write(&file, definition).expect("written");
    let file = file.display().to_string();
    let waiting = cli.start(&["submit", "--wait", "-f", &file]);
    let hint = "t1 waits: no worker has taken it yet (queue nope, kind command); `taskyard workers` shows who serves what";
    waiting.stderr_has(hint).await;
    let shown = cli
        .run(&["get", "t1", "--session", &session])
        .await
        .expect_code(0);
    assert!(shown.text().contains(hint), "{}", shown.text());
    cli.run(&["cancel", "t1", "--session", &session])
        .await
        .expect_code(0);
    let finished = waiting.finish().await.expect_code(1);
    assert_eq!(
        finished.stderr.matches("waits").count(),
        1,
        "{}",
        finished.stderr
    );
    assert!(
        finished
            .stderr
            .trim_end()
            .ends_with("t1 canceled before it started")
            || finished.stderr.trim_end().ends_with("t1 canceled"),
        "{}",
        finished.stderr
    );
    let shown = cli
        .run(&["get", "t1", "--session", &session])
        .await
        .expect_code(0);
    assert!(!shown.text().contains("waits"), "{}", shown.text());
}

#[tokio::test]
async fn arguments_that_make_no_sense_are_usage() {
    for arguments in [
        &["run"][..],
        &["run", "--timeout", "soon", "--", "true"],
        &["run", "--no-such-flag", "--", "true"],
        &["run", "--retry", "x", "--", "true"],
        &["no-such-verb"],
        &["wait"],
    ] {
        let finished = CommandLine::bare().run(arguments).await.expect_code(2);
        assert!(
            finished.stdout.is_empty() && !finished.stderr.is_empty(),
            "{finished:?}"
        );
    }
    for (arguments, words) in [
        (
            &["run", "--timeout", "-5", "--", "true"][..],
            "`-5` is not a duration",
        ),
        (
            &["wait", "t1", "--timeout", "-1s"],
            "`-1s` is not a duration",
        ),
        (
            &["cancel", "t1", "--grace", "-2m"],
            "`-2m` is not a duration",
        ),
        (
            &["logs", "t1", "--tail", "-4"],
            "`-4` is neither a number of lines",
        ),
        (&["dev", "--lease", "-1s"], "`-1s` is not a duration"),
        (&["run", "--retry", "-1", "--", "true"], "-1 is not in"),
    ] {
        let finished = CommandLine::bare().run(arguments).await.expect_code(2);
        assert!(
            finished.stderr.contains(words),
            "{arguments:?}: {}",
            finished.stderr
        );
    }
}

fn start(deployment: &Deployment, session: &str, arguments: &[&str]) -> Running {
    let all = [&["run", "--session", session][..], arguments].concat();
    deployment.command_line().start(&all)
}

async fn task(deployment: &Deployment, session: &str, called: &str) -> SessionTask {
    let request = GetTaskRequest {
        session_id: session.to_owned(),
        task: called.to_owned(),
        ..GetTaskRequest::default()
    };
    let answer = deployment.client().await.tasks.get_task(request).await;
    answer
        .expect("the task")
        .into_inner()
        .task
        .unwrap_or_default()
}
