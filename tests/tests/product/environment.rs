//! What the work finds around it: variables, files, standard input, directory and umask.

use std::collections::BTreeMap;

use taskyard_proto::v1::{ReadOutputRequest, TaskDefinition};
use taskyard_tests::binaries;
use taskyard_tests::client::{Client, new_session, pairs, probe, shell, with_command};
use taskyard_tests::command_line::CommandLine;
use taskyard_tests::deployment::{Deployment, WorkerPlan};

#[tokio::test]
async fn only_what_is_asked_for_is_inherited() {
    let mut client = Deployment::shared().await.client().await;
    let task = with_command(probe("env"), |command| {
        command.env = pairs(&[("GREETING", "hello=world\nagain"), ("HOME", "/elsewhere")]);
        command.inherit_env = vec!["YARD_INHERITED".to_owned(), "NOT_THERE".to_owned()];
    });
    let output = stdout_of(&mut client, task).await;
    assert!(output.contains("GREETING=hello=world\nagain\n"), "{output}");
    let names: BTreeMap<&str, &str> = output
        .lines()
        .filter_map(|line| line.split_once('='))
        .collect();
    assert_eq!(names.get("HOME"), Some(&"/elsewhere"));
    assert_eq!(names.get("YARD_INHERITED"), Some(&"from the worker"));
    assert!(names.contains_key("PATH") && names.contains_key("LANG"));
    assert!(
        !output.contains("never seen") && !output.contains("NOT_THERE"),
        "{output}"
    );
    for name in [
        "TASK_ID",
        "SESSION_ID",
        "ATTEMPT",
        "LEASE_EPOCH",
        "RESULT",
        "ARTIFACTS",
        "SOCKET",
    ] {
        assert!(
            names.contains_key(format!("TASKYARD_{name}").as_str()),
            "{name}: {output}"
        );
    }
    assert_eq!(names.get("TASKYARD_ATTEMPT"), Some(&"1"));
    assert!(!names.contains_key("TASKYARD_INPUT"), "there is none");
    assert!(
        !names.contains_key("TASKYARD_ENDPOINT"),
        "the socket is the way"
    );
}

#[tokio::test]
async fn what_looks_like_a_secret_is_inherited_only_where_the_operator_allows_it() {
    let deployment = Deployment::shared().await;
    let mut client = deployment.client().await;
    let queue = new_session("inheriting");
    let plan = WorkerPlan::new(&queue)
        .flags(&["--queues", &queue, "--inherit-env", "YARD_*_TOKEN,PLAIN"])
        .env("YARD_OPEN_TOKEN", "known to all")
        .env("YARD_API_KEY", "never seen");
    let worker = deployment.add_worker(0, plan).await;
    let inheriting = |name: &str| {
        let task = with_command(probe("env"), |command| {
            command.inherit_env = vec![name.to_owned()];
        });
        TaskDefinition {
            queue: queue.clone(),
            ..task
        }
    };
    let output = stdout_of(&mut client, inheriting("YARD_OPEN_TOKEN")).await;
    assert!(
        output.contains("YARD_OPEN_TOKEN=known to all\n"),
        "{output}"
    );
    // With a list of its own, a worker gives what is on it and nothing else.
    for name in ["YARD_API_KEY", "HTTP_PROXY"] {
        let task = client.run(&new_session("env"), inheriting(name)).await;
        let error = task.error.unwrap_or_default();
        assert_eq!(
            (error.kind.as_str(), error.reason.as_str()),
            ("start_failed", "BAD_ENV")
        );
        assert!(error.message.contains(name), "{}", error.message);
    }
    deployment.with_worker(worker, |worker| worker.kill());
    let line = CommandLine::bare();
    let bad = line.run(&["worker", "--inherit-env", "["]).await;
    assert!(bad.expect_code(2).stderr.contains("--inherit-env"));
}

#[tokio::test]
async fn input_is_a_file() {
    let mut client = Deployment::shared().await.client().await;
    let mut task = shell("cat \"$TASKYARD_INPUT\"");
    task.spec.get_or_insert_default().input_json = "{ \"n\" : 1.0 }".to_owned();
    let output = stdout_of(&mut client, task).await;
    assert_eq!(output, "{ \"n\" : 1.0 }", "as it came");
}

#[tokio::test]
async fn standard_input_is_what_was_given_or_nothing() {
    let mut client = Deployment::shared().await.client().await;
    let nothing = stdout_of(&mut client, probe("stdin-echo")).await;
    assert_eq!(nothing, "");
    let task = with_command(shell("wc -c; "), |command| {
        command.stdin = Some(vec![0xff; 200_000].into());
    });
    assert_eq!(stdout_of(&mut client, task).await.trim(), "200000");
}

#[tokio::test]
async fn each_task_has_a_directory_of_its_own() {
    let mut client = Deployment::shared().await.client().await;
    let first = stdout_of(&mut client, probe("cwd")).await;
    let second = stdout_of(&mut client, probe("cwd")).await;
    assert_ne!(first, second);
    let below = with_command(probe("cwd"), |command| command.cwd = "a/b".to_owned());
    assert!(stdout_of(&mut client, below).await.ends_with("/a/b\n"));
    let absolute = with_command(probe("cwd"), |command| command.cwd = "/usr".to_owned());
    assert_eq!(stdout_of(&mut client, absolute).await, "/usr\n");
    let masked = with_command(probe("umask"), |command| command.umask = Some(0o027));
    assert_eq!(stdout_of(&mut client, masked).await, "027\n");
}

#[tokio::test]
async fn a_task_finds_taskyard_in_its_path() {
    let mut client = Deployment::shared().await.client().await;
    let script = "taskyard self info -o name >&2 && printf %s \"$PATH\"";
    let task = with_command(shell(script), |command| {
        command.env = pairs(&[("PATH", "/usr/bin:/bin")]);
    });
    let path = stdout_of(&mut client, task).await;
    let added = path.strip_prefix("/usr/bin:/bin");
    let added = added.unwrap_or_else(|| panic!("what was set comes first: {path:?}"));
    let folder = binaries::taskyard();
    let folder = folder.parent().expect("a folder").display().to_string();
    // A machine may have another one installed, which is found then.
    assert!(
        ["".to_owned(), format!(":{folder}")].contains(&added.to_owned()),
        "{path}"
    );
    let emptied = with_command(probe("env"), |command| {
        command.env = pairs(&[("PATH", "")]);
    });
    let variables = stdout_of(&mut client, emptied).await;
    assert!(variables.lines().any(|line| line == "PATH="), "{variables}");
}

async fn stdout_of(client: &mut Client, task: TaskDefinition) -> String {
    let task = client.run(&new_session("around"), task).await;
    let request = ReadOutputRequest {
        task: task.id.clone(),
        ..ReadOutputRequest::default()
    };
    let output = client
        .tasks
        .read_output(request)
        .await
        .expect("readable")
        .into_inner();
    assert!(output.end_of_stream);
    String::from_utf8_lossy(&output.data).into_owned()
}
