//! How a command can be started, and how it is told that it could not be.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;

use taskyard_proto::v1::{
    CommandSpec, ReadOutputRequest, ResourceLimit, SessionTask, TaskDefinition, TaskState,
    WriteHeader,
};
use taskyard_tests::client::{
    Client, command, milliseconds, new_session, pairs, probe, shell, with_command,
};
use taskyard_tests::deployment::Deployment;
use taskyard_tests::refusal::expect_bad_field;

/// A task that runs `shell` as its script.
fn script(script: &str) -> TaskDefinition {
    with_command(TaskDefinition::default(), |command| {
        command.shell = script.to_owned();
    })
}

async fn stdout_of(client: &mut Client, task: &SessionTask) -> String {
    let request = ReadOutputRequest {
        task: task.id.clone(),
        stream: 1,
        max_bytes: 64 * 1024,
        ..ReadOutputRequest::default()
    };
    let answer = client.tasks.read_output(request).await.expect("readable");
    String::from_utf8_lossy(&answer.into_inner().data).into_owned()
}

async fn write(client: &mut Client, session: &str, path: &str, content: &[u8]) {
    let header = WriteHeader {
        session_id: session.to_owned(),
        path: path.to_owned(),
        ..WriteHeader::default()
    };
    client.write_file(header, content).await.expect("written");
}

#[tokio::test]
async fn a_script_is_run_by_a_shell_or_by_what_is_named() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("script");
    let task = client
        .run(&session, script("a=1\nb=2\necho $((a + b)) $0"))
        .await;
    assert_eq!(task.state(), TaskState::Succeeded);
    assert_eq!(stdout_of(&mut client, &task).await, "3 /bin/sh\n");
    let task = with_command(script("echo"), |command| {
        command.shell = "it's me".to_owned();
        command.interpreter = ["printf", "<%s>"].map(str::to_owned).to_vec();
    });
    let task = client.run(&session, task).await;
    assert_eq!(stdout_of(&mut client, &task).await, "<it's me>");
}

#[tokio::test]
async fn the_last_command_of_a_script_takes_the_place_of_its_shell() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("handoff");
    // By a signal, not by a shell's 128+n.
    let probe = taskyard_tests::binaries::probe();
    let task = client
        .run(&session, script(&format!("exec {probe} raise 9")))
        .await;
    let exit = task.exit.unwrap_or_default();
    assert_eq!((exit.exit_code, exit.signal), (None, Some(9)));
}

#[tokio::test]
async fn variables_come_from_files_of_the_session() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("env-files");
    write(
        &mut client,
        &session,
        "/env/base",
        b"# base\nA=1\nB='two words'\nHOME=/base\n",
    )
    .await;
    write(&mut client, &session, "/env/more", b"A=2\nC=3\n").await;
    let with_files = |files: &[&str]| {
        let files = files.iter().map(|file| (*file).to_owned()).collect();
        with_command(script("echo \"$A|$B|$C|$HOME\""), |command| {
            command.env_files = files;
            command.env = pairs(&[("C", "spec")]);
        })
    };
    let task = client
        .run(&session, with_files(&["/env/base", "/env/more"]))
        .await;
    assert_eq!(
        stdout_of(&mut client, &task).await,
        "2|two words|spec|/base\n"
    );
    let task = client.run(&session, with_files(&["/env/none"])).await;
    expect_start_failed(&task, "/env/none");
    write(&mut client, &session, "/env/bad", b"A=1\nhush hush\n").await;
    let task = client.run(&session, with_files(&["/env/bad"])).await;
    let message = expect_start_failed(&task, "line 2");
    assert!(!message.contains("hush"), "{message}");
}

#[tokio::test]
async fn standard_input_comes_from_a_file_of_the_session() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("stdin-file");
    let bytes: Vec<u8> = (0..=255).cycle().take(700_000).collect();
    write(&mut client, &session, "/in/data", &bytes).await;
    let reading = |path: &str| {
        with_command(script("wc -c | tr -d ' '"), |command| {
            command.stdin_file = path.to_owned();
        })
    };
    let task = client.run(&session, reading("/in/data")).await;
    assert_eq!(stdout_of(&mut client, &task).await, "700000\n");
    let task = client.run(&session, reading("/in/none")).await;
    expect_start_failed(&task, "/in/none");
}

#[tokio::test]
async fn limits_and_priority_are_set() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("limits");
    let limited = |nofile: u64| {
        with_command(probe("limits"), |command| {
            let both = |limit| ResourceLimit {
                soft: Some(limit),
                hard: None,
            };
            command.rlimits = BTreeMap::from([
                ("nofile".to_owned(), both(nofile)),
                ("core".to_owned(), both(0)),
            ]);
            command.nice = Some(19);
        })
    };
    let task = client.run(&session, limited(99)).await;
    let text = stdout_of(&mut client, &task).await;
    for line in ["nofile=99:99", "core=0:0", "nice=19"] {
        assert!(text.lines().any(|found| found == line), "{line}: {text}");
    }
    let task = client.run(&session, limited(1 << 60)).await;
    expect_start_failed(&task, "nofile");
}

#[tokio::test]
async fn each_start_that_fails_says_why_and_is_not_repeated() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("start-failed");
    let directory = tempfile::tempdir().expect("a directory");
    let file = |name: &str, content: &str, mode: u32| {
        let path = directory.path().join(name);
        std::fs::write(&path, content).expect("written");
        let mode = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(&path, mode).expect("set");
        path.to_string_lossy().into_owned()
    };
    let plain = file("plain", "no program", 0o644);
    let orphan = file("orphan", "#!/no/such/interpreter\n", 0o755);
    let nothing = file("nothing", "\u{1}\u{2}", 0o755);
    let script_of_plain = file("script", &format!("#!{plain}\n"), 0o755);
    let below_a_file = format!("{plain}/program");
    let circle = directory.path().join("circle");
    std::os::unix::fs::symlink("circle", &circle).expect("made");
    let circle = circle.to_string_lossy().into_owned();
    let long = format!("/{}", "x".repeat(300));
    let retried = |mut task: TaskDefinition| {
        let retry = taskyard_proto::v1::RetryPolicy {
            max_runs: 3,
            initial_backoff: Some(milliseconds(1)),
            ..Default::default()
        };
        task.retry = Some(retry);
        task
    };
    let with = |change: fn(&mut CommandSpec)| with_command(shell("true"), change);
    let cases = [
        (
            "ENOENT",
            "no-such-program-here",
            command(&["no-such-program-here"]),
        ),
        ("EACCES", "EACCES", command(&[&plain])),
        (
            "EACCES",
            "the interpreter that",
            command(&[&script_of_plain]),
        ),
        ("ENOTDIR", "ENOTDIR", command(&[&below_a_file])),
        ("ELOOP", "ELOOP", command(&[&circle])),
        ("ENAMETOOLONG", "ENAMETOOLONG", command(&[&long])),
        ("NO_INTERPRETER", "ENOENT", command(&[&orphan])),
        ("ENOEXEC", "ENOEXEC", command(&[&nothing])),
        ("E2BIG", "E2BIG", command(&["true", &"x".repeat(200_000)])),
        (
            "BAD_CWD",
            "ENOENT",
            with(|command| command.cwd = "/no/such/directory".to_owned()),
        ),
        (
            "ENOENT",
            "no-such-shell-here",
            with_command(script("true"), |command| {
                command.interpreter = vec!["no-such-shell-here".to_owned()];
            }),
        ),
        (
            "BAD_USER",
            "no-such-user-here",
            with(|command| command.user = "no-such-user-here".to_owned()),
        ),
        (
            "BAD_STDIN",
            "/no/input",
            with(|command| command.stdin_file = "/no/input".to_owned()),
        ),
        (
            "BAD_ENV",
            "--inherit-env",
            with(|command| command.inherit_env = vec!["SOME_API_TOKEN".to_owned()]),
        ),
    ];
    for (reason, word, task) in cases {
        let task = client.run(&session, retried(task)).await;
        expect_start_failed(&task, word);
        assert_eq!(task.run, 1, "{reason}: it would only fail again");
        let error = task.error.clone().unwrap_or_default();
        assert_eq!(error.reason, reason, "{}", error.message);
        let result = client.result(&task.id).await;
        assert_eq!(result["error"]["reason"], reason, "{result}");
        assert_eq!(result["exit"]["exit_code"], serde_json::Value::Null);
    }
    let task = client
        .run(&session, command(&["no-such-program-here"]))
        .await;
    let line = Deployment::shared().await.command_line();
    let shown = line.run(&["get", &task.id]).await.expect_code(0);
    assert!(shown.text().contains("start_failed (ENOENT)"), "{shown:?}");
    let shown = line.run(&["get", "-o", "json", &task.id]).await;
    let shown: serde_json::Value =
        serde_json::from_str(&shown.expect_code(0).text()).expect("JSON");
    assert_eq!(shown["error"]["reason"], "ENOENT", "{shown}");
}

#[tokio::test]
async fn a_jitter_delays_the_start_and_the_deadline_still_counts() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("jitter");
    let jittered = |jitter: i64| {
        with_command(shell("true"), |command| {
            command.start_jitter = Some(milliseconds(jitter));
        })
    };
    let task = client.create(&session, jittered(100)).await;
    let not_before = task.not_before.expect("it is told when it is due");
    let task = client.ended(&task.id).await;
    let started_at = task.started_at.expect("it started");
    assert!(
        (started_at.seconds, started_at.nanos) >= (not_before.seconds, not_before.nanos),
        "{started_at:?} {not_before:?}"
    );
    // Some of them are due only after the deadline; none starts behind it.
    let deadline = std::time::SystemTime::now() + std::time::Duration::from_millis(600);
    let mut tasks = Vec::new();
    for _ in 0..12 {
        let mut task = jittered(3_600_000);
        task.start_deadline = Some(deadline.into());
        tasks.push(client.create(&session, task).await);
    }
    for task in tasks {
        let task = client.ended(&task.id).await;
        if task.run == 0 {
            let error = task.error.unwrap_or_default();
            assert_eq!(error.kind, "start_deadline_exceeded");
        }
    }
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_by_its_field() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("bad-start");
    let field = |name: &str| format!("task.spec.command.{name}");
    let cases: [(&str, TaskDefinition); 4] = [
        (
            "shell",
            with_command(shell("true"), |command| command.shell = "true".to_owned()),
        ),
        (
            "nice",
            with_command(shell("true"), |command| command.nice = Some(-21)),
        ),
        (
            "rlimits",
            with_command(shell("true"), |command| {
                command
                    .rlimits
                    .insert("files".to_owned(), ResourceLimit::default());
            }),
        ),
        (
            "stdin_live",
            with_command(shell("true"), |command| {
                command.stdin_live = true;
                command.stdin_file = "/in".to_owned();
            }),
        ),
    ];
    for (name, task) in cases {
        let refused = client.try_create(&session, task).await;
        expect_bad_field(refused, &field(name));
    }
}

/// Holds a task to have failed to start, for a reason that its message names.
#[track_caller]
fn expect_start_failed(task: &SessionTask, word: &str) -> String {
    let error = task.error.clone().unwrap_or_default();
    assert_eq!(error.kind, "start_failed", "{task:?}");
    assert!(error.message.contains(word), "{word}: {}", error.message);
    assert!(!error.retryable, "{}", error.message);
    error.message
}
