//! Files of the session in the working directory of a task, and what of it is stored afterwards.

use serde_json::Value;
use taskyard_proto::v1::{
    RetryPolicy, SessionTask, TaskCollect, TaskDefinition, TaskInput, TaskState,
};
use taskyard_tests::client::{error_kind, new_session, shell, with_command};
use taskyard_tests::deployment::Deployment;
use taskyard_tests::refusal::expect_bad_field;
use taskyard_tests::session_files::SessionFiles;

fn input(path: &str, to: &str) -> TaskInput {
    TaskInput {
        path: path.to_owned(),
        to: to.to_owned(),
        mode: None,
    }
}

fn collect(glob: &str, to: &str) -> TaskCollect {
    TaskCollect {
        glob: glob.to_owned(),
        to: to.to_owned(),
    }
}

fn with_files(
    mut task: TaskDefinition,
    files: Vec<TaskInput>,
    collect: Vec<TaskCollect>,
) -> TaskDefinition {
    let spec = task.spec.get_or_insert_default();
    spec.files = files;
    spec.collect = collect;
    task
}

fn message(task: &SessionTask) -> &str {
    task.error
        .as_ref()
        .map_or("", |error| error.message.as_str())
}

#[tokio::test]
async fn a_run_finds_files_and_folders_of_its_session() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("inputs");
    let mut files = SessionFiles::new(&client, &session);
    let large: Vec<u8> = (0..700_000_u32).map(|n| (n % 253) as u8).collect();
    files
        .write("/in/plan.md", b"the plan\n")
        .await
        .expect("written");
    files
        .write("/in/deep/data.bin", &large)
        .await
        .expect("written");
    files
        .write("/tool.sh", b"#!/bin/sh\necho \"tool in $(pwd)\"\n")
        .await
        .expect("written");
    let earlier = client
        .run(
            &session,
            shell("echo result >\"$TASKYARD_ARTIFACTS/r\"; echo logged"),
        )
        .await;
    let script = "set -e; cat plan.md; cat all/plan.md; wc -c <all/deep/data.bin; ./bin/run; cat r log; stat -c %a plan.md bin/run";
    let task = with_files(
        with_command(shell(script), |command| command.cwd = "sub/dir".to_owned()),
        vec![
            input("/in/plan.md", ""),
            input("/in", "all"),
            TaskInput {
                mode: Some(0o755),
                ..input("/tool.sh", "bin/run")
            },
            input(&format!("/.tasks/{}/artifacts", earlier.id), ""),
            input(&format!("/.tasks/{}/stdout.log", earlier.id), "log"),
        ],
        Vec::new(),
    );
    let task = client.run(&session, task).await;
    assert_eq!(task.state(), TaskState::Succeeded, "{}", message(&task));
    let log = files
        .read(&format!("/.tasks/{}/stdout.log", task.id))
        .await
        .expect("read");
    let log = String::from_utf8_lossy(&log);
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(&lines[..3], ["the plan", "the plan", "700000"]);
    assert!(
        lines[3].starts_with("tool in ") && lines[3].ends_with("/sub/dir"),
        "{log}"
    );
    assert_eq!(&lines[4..], ["result", "logged", "644", "755"]);
}

#[tokio::test]
async fn a_file_that_is_missing_fails_the_start_and_is_not_waited_for() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("no-input");
    let mut files = SessionFiles::new(&client, &session);
    files.write("/a", b"a").await.expect("written");
    let retried = || TaskDefinition {
        retry: Some(RetryPolicy {
            max_runs: 3,
            ..RetryPolicy::default()
        }),
        ..shell("echo it ran")
    };
    for (inputs, reason) in [
        (vec![input("/nowhere", "x")], "/nowhere"),
        (
            vec![input("/a", "f"), input("/a", "f/below")],
            "needs a folder",
        ),
    ] {
        let task = client
            .run(&session, with_files(retried(), inputs, Vec::new()))
            .await;
        assert_eq!(
            (task.state(), error_kind(&task)),
            (TaskState::Failed, "start_failed")
        );
        assert!(message(&task).contains(reason), "{}", message(&task));
        assert_eq!(task.run, 1, "it is not repeated");
        let log = files.read(&format!("/.tasks/{}/stdout.log", task.id)).await;
        assert_eq!(log.expect("read"), b"");
    }
}

#[tokio::test]
async fn files_that_need_the_same_place_fail_the_start_by_name() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("same-place");
    let mut files = SessionFiles::new(&client, &session);
    for path in ["/a/plan", "/b/plan"] {
        files.write(path, b"x").await.expect("written");
    }
    for (inputs, expected) in [
        (
            [input("/a/plan", ""), input("/b/plan", "plan")],
            "/a/plan and /b/plan would both be at \"plan\"",
        ),
        (
            [input("/a/plan", "in"), input("/b", "in")],
            "/a/plan would be at \"in\" in the working directory, where /b/plan needs a folder",
        ),
    ] {
        let task = with_files(shell("true"), inputs.to_vec(), vec![]);
        let task = client.run(&session, task).await;
        assert_eq!(error_kind(&task), "start_failed", "{task:?}");
        assert!(message(&task).contains(expected), "{task:?}");
    }
    // Two folders may fill one.
    files.write("/b/notes", b"x").await.expect("written");
    files.delete("/b/plan").await.expect("deleted");
    let both = vec![input("/a", "in"), input("/b", "in")];
    let task = with_files(shell("cat in/plan in/notes"), both, vec![]);
    let task = client.run(&session, task).await;
    assert_eq!(task.state(), TaskState::Succeeded, "{task:?}");
}

#[tokio::test]
async fn what_a_run_leaves_is_stored_whether_it_succeeds_or_fails() {
    let mut client = Deployment::shared().await.client().await;
    for (code, state) in [(0, TaskState::Succeeded), (3, TaskState::Failed)] {
        let session = new_session("collect");
        let mut files = SessionFiles::new(&client, &session);
        files
            .write("/results/kept", b"stays")
            .await
            .expect("written");
        let script = format!(
            "mkdir -p out/deep; echo a >out/a.txt; echo b >out/deep/b.txt; echo no >out/c.md
             echo top >report; ln -s /etc/passwd out/passwd.txt; ln -s /etc out/etc
             mkdir locked; echo x >locked/x.txt
             truncate -s 17M out/huge.txt; mkfifo out/pipe.txt; exit {code}"
        );
        let task = with_files(
            shell(&script),
            Vec::new(),
            vec![
                collect("out/**/*.txt", "/results"),
                collect("report", "/"),
                collect("coverage/*.xml", "/"),
            ],
        );
        let task = client.run(&session, task).await;
        assert_eq!(task.state(), state, "{}", message(&task));
        let stored = files.list_all("/", 100).await.expect("listed");
        let expected = [
            "/report",
            "/results/kept",
            "/results/out/a.txt",
            "/results/out/deep/b.txt",
        ];
        assert_eq!(stored, expected);
        assert_eq!(
            files.read("/results/out/deep/b.txt").await.expect("read"),
            b"b\n"
        );
        let mut names: Vec<&str> = task.artifacts.iter().map(|one| one.path.as_str()).collect();
        names.sort_unstable();
        assert_eq!(
            names,
            ["/report", "/results/out/a.txt", "/results/out/deep/b.txt"]
        );
        let said = files
            .read(&format!("/.tasks/{}/collect.json", task.id))
            .await;
        let said: Value = serde_json::from_slice(&said.expect("read")).expect("JSON");
        assert_eq!(
            said["collected"].as_array().map(Vec::len),
            Some(3),
            "{said}"
        );
        assert_eq!(said["skipped_count"], 4, "{said}");
        let skipped: Vec<String> = said["skipped"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|one| {
                format!(
                    "{}: {}",
                    one["from"].as_str().unwrap_or(""),
                    one["reason"].as_str().unwrap_or("")
                )
            })
            .collect();
        for (from, reason) in [
            ("out/huge.txt", "16 MiB"),
            ("out/passwd.txt", "symbolic link"),
            ("out/pipe.txt", "named pipe"),
            ("coverage/*.xml", "fits this pattern"),
        ] {
            let from = format!("{from}: ");
            assert!(
                skipped
                    .iter()
                    .any(|one| one.starts_with(&from) && one.contains(reason)),
                "{from}{skipped:?}"
            );
        }
    }
}

#[tokio::test]
async fn definitions_that_leave_the_directory_or_enter_the_systems_are_refused() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("bad-inputs");
    let long = "x".repeat(257);
    let bad = [
        (
            vec![input("relative", "")],
            vec![],
            "task.spec.files[0].path",
        ),
        (vec![input("/", "all")], vec![], "task.spec.files[0].path"),
        (
            vec![input("/a/../b", "")],
            vec![],
            "task.spec.files[0].path",
        ),
        (
            vec![input("/a", "x"), input("/a", "../x")],
            vec![],
            "task.spec.files[1].to",
        ),
        (
            vec![input("/a", "x"), input("/b", "x"), input("/a", "x")],
            vec![],
            "task.spec.files[2]",
        ),
        (vec![input("/a", "/etc/x")], vec![], "task.spec.files[0].to"),
        (vec![input("/a", "x/")], vec![], "task.spec.files[0].to"),
        (
            vec![TaskInput {
                mode: Some(0o4755),
                ..input("/a", "x")
            }],
            vec![],
            "task.spec.files[0].mode",
        ),
        (vec![input("/a", ""); 65], vec![], "task.spec.files"),
        (
            vec![],
            vec![collect("../*", "/r")],
            "task.spec.collect[0].glob",
        ),
        (
            vec![],
            vec![collect("/etc/*", "/r")],
            "task.spec.collect[0].glob",
        ),
        (
            vec![],
            vec![collect("[", "/r")],
            "task.spec.collect[0].glob",
        ),
        (
            vec![],
            vec![collect(&long, "/r")],
            "task.spec.collect[0].glob",
        ),
        (vec![], vec![collect("*", "r")], "task.spec.collect[0].to"),
        (
            vec![],
            vec![collect("*", "/.tasks/x")],
            "task.spec.collect[0].to",
        ),
        (vec![], vec![collect("*", "/r"); 33], "task.spec.collect"),
    ];
    for (files, collect, field) in bad {
        let task = with_files(shell("true"), files, collect);
        expect_bad_field(client.try_create(&session, task).await, field);
    }
    let absolute = with_command(shell("true"), |command| command.cwd = "/tmp".to_owned());
    let task = with_files(absolute.clone(), vec![input("/a", "")], vec![]);
    expect_bad_field(client.try_create(&session, task).await, "task.spec.files");
    let task = with_files(absolute, vec![], vec![collect("*", "/r")]);
    expect_bad_field(client.try_create(&session, task).await, "task.spec.collect");
}

#[tokio::test]
async fn the_command_line_gives_and_takes_files() {
    let deployment = Deployment::shared().await;
    let client = deployment.client().await;
    let session = new_session("cli-inputs");
    let mut files = SessionFiles::new(&client, &session);
    files.write("/in/a", b"one\n").await.expect("written");
    let cli = deployment.command_line();
    let ran = cli
        .run(&[
            "run",
            "--session",
            &session,
            "--file",
            "/in:data",
            "--collect",
            "out/*:/r",
            "--",
            "sh",
            "-c",
            "mkdir out; cat data/a; cp data/a out/b",
        ])
        .await
        .expect_code(0);
    assert_eq!(ran.text(), "one\n");
    assert_eq!(files.read("/r/out/b").await.expect("read"), b"one\n");
    let task = "command: {argv: [sh, -c, './t >o']}\nfiles: [{path: /r/out/b, to: t, mode: '700'}]\ncollect: [{glob: o, to: /s}]\n";
    files
        .write("/r/out/b", b"#!/bin/sh\necho two\n")
        .await
        .expect("written");
    cli.run_with_input(
        &["submit", "--session", &session, "-f", "-", "--wait"],
        task.as_bytes(),
    )
    .await
    .expect_code(0);
    assert_eq!(files.read("/s/o").await.expect("read"), b"two\n");
    cli.run(&[
        "run",
        "--session",
        &session,
        "--collect",
        "out",
        "--",
        "true",
    ])
    .await
    .expect_code(2);
}
