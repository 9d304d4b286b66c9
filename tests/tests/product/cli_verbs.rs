//! The other verbs of the command line, as a person and a script use them.

use rustix::process::Signal;
use serde_json::Value;
use taskyard_proto::v1::TaskDefinition;
use taskyard_tests::client::{command, new_session, probe, shell};
use taskyard_tests::command_line::CommandLine;
use taskyard_tests::deployment::Deployment;

#[tokio::test]
async fn submit_takes_json_and_yaml_from_a_file_or_standard_input() {
    let deployment = Deployment::shared().await;
    let cli = deployment
        .command_line()
        .env("TASKYARD_SESSION", new_session("submit"));
    let yaml = "command:\n  argv: [sh, -c, 'cat $TASKYARD_INPUT; exit 3']\n  success_exit_codes: [3]\n\
                input: {n: 1}\ntimeout: 1m\nlabels: {team: search}\ntags: [team.search]\n";
    let file = deployment.folder().join(new_session("task.yaml"));
    std::fs::write(&file, yaml).expect("written");
    let file = file.display().to_string();
    let waited = cli
        .run(&["submit", "-f", &file, "--wait", "-o", "json"])
        .await
        .expect_code(0);
    let record = one_of(waited.json());
    assert_eq!(
        (&record["state"], &record["exit"]["exit_code"]),
        (&"succeeded".into(), &3.into())
    );
    let json = br#"{"command": {"argv": ["true"]}, "name": "from-json", "key": "k"}"#;
    let submitted = cli
        .run_with_input(&["submit", "-f", "-", "-o", "name"], json)
        .await;
    let id = submitted.expect_code(0).text();
    assert!(id.starts_with("task_"), "{id}");
    let again = cli
        .run_with_input(&["submit", "-f", "-", "-o", "name"], json)
        .await
        .expect_code(0);
    assert_eq!(again.text(), id);
    assert!(
        again.stderr.contains("was there before"),
        "{}",
        again.stderr
    );
    for (bad, word) in [
        (&b"{"[..], "standard input"),
        (b"command: {argv: [true]}\ntimout: 1m\n", "timout"),
        (b"command: {argv: [\"a\\u0000b\"]}", "NUL"),
        (b"\xff\xfe", "UTF-8"),
        (b"", ""),
    ] {
        let refused = cli.run_with_input(&["submit", "-f", "-"], bad).await;
        assert!(matches!(refused.code(), Some(1 | 2)), "{refused:?}");
        assert!(refused.stderr.contains(word), "{refused:?}");
    }
    let missing = cli
        .run(&["submit", "-f", "/no/such/file"])
        .await
        .expect_code(1);
    assert!(
        missing.stderr.contains("/no/such/file"),
        "{}",
        missing.stderr
    );
}

#[tokio::test]
async fn logs_show_both_streams_where_they_belong() {
    let deployment = Deployment::shared().await;
    let mut client = deployment.client().await;
    let task = client
        .run(&new_session("logs"), shell("echo out; echo err >&2"))
        .await;
    let cli = deployment.command_line();
    let both = cli.run(&["logs", &task.id]).await.expect_code(0);
    assert_eq!(
        (both.text().as_str(), both.stderr.as_str()),
        ("out\n", "err\n")
    );
    let one = cli
        .run(&["logs", &task.id, "--stream", "stdout", "--offset", "1"])
        .await
        .expect_code(0);
    assert_eq!((one.text().as_str(), one.stderr.as_str()), ("ut\n", ""));
    let binary = client.run(&new_session("logs"), probe("binary")).await;
    let bytes = cli.run(&["logs", &binary.id]).await.expect_code(0).stdout;
    assert_eq!(bytes, (0..16).flat_map(|_| 0..=255).collect::<Vec<u8>>());
}

#[tokio::test]
async fn logs_follow_to_the_end() {
    let deployment = Deployment::shared().await;
    let mut client = deployment.client().await;
    let gate = deployment.folder().join(new_session("gate"));
    let script = format!(
        "echo first; until [ -e {} ]; do sleep 0.02; done; printf last",
        gate.display()
    );
    let task = client.create(&new_session("follow"), shell(&script)).await;
    let mut running = deployment.command_line().start(&["logs", "-f", &task.id]);
    running.stdout_has("first\n").await;
    assert!(running.is_running());
    std::fs::write(&gate, "").expect("written");
    let finished = running.finish().await.expect_code(0);
    assert_eq!(finished.text(), "first\nlast");
}

#[tokio::test]
async fn wait_tells_by_its_exit_code() {
    let deployment = Deployment::shared().await;
    let mut client = deployment.client().await;
    let session = new_session("wait");
    let good = client.create(&session, shell("true")).await.id;
    let bad = client.create(&session, shell("exit 9")).await.id;
    let never = client.create(&session, held("")).await.id;
    let cli = deployment.command_line();
    cli.run(&["wait", &good]).await.expect_code(0);
    cli.run(&["wait", &good, &bad]).await.expect_code(1);
    cli.run(&["wait", &good, &never, "--any"])
        .await
        .expect_code(0);
    let expired = cli
        .run(&["wait", &never, "--timeout", "200ms"])
        .await
        .expect_code(4);
    assert!(
        expired.stderr.contains("the work goes on"),
        "{}",
        expired.stderr
    );
    cli.run(&["wait", "t99", "--session", &session])
        .await
        .expect_code(1);
    cli.run(&["wait", "t99"]).await.expect_code(1);
}

#[tokio::test]
async fn watch_is_killed_and_resumed_without_a_gap() {
    let deployment = Deployment::shared().await;
    let mut client = deployment.client().await;
    let session = new_session("watch");
    let cli = deployment.command_line();
    let first = cli.start(&["watch", &session, "-o", "json"]);
    first.stdout_has("\n").await;
    client.run(&session, shell("true")).await;
    first.stdout_has("\"state\":\"succeeded\"").await;
    first.signal(Signal::KILL);
    let seen = lines(&first.finish().await.text());
    let cursor = seen
        .iter()
        .rev()
        .find_map(|line| line["cursor"].as_str())
        .expect("a cursor");
    client.run(&session, shell("exit 1")).await;
    let second = cli.start(&["watch", &session, "--cursor", cursor, "-o", "json"]);
    second.stdout_has("\"state\":\"failed\"").await;
    second.signal(Signal::INT);
    let ended = second.finish().await.expect_code(130);
    assert!(ended.stderr.contains("resume with"), "{}", ended.stderr);
    let rest = lines(&ended.text());
    let numbers: Vec<i64> = seen
        .iter()
        .chain(&rest)
        .filter_map(|line| line["seq"].as_i64())
        .collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5, 6], "{seen:?} {rest:?}");
    let table = cli.start(&["watch", &session]);
    table.stdout_has("t2").await;
    table.signal(Signal::INT);
    let table = table.finish().await.expect_code(130);
    assert!(!table.text().contains('\u{1b}'), "no colour into a pipe");
}

#[tokio::test]
async fn tables_are_for_people_and_json_for_programs() {
    let deployment = Deployment::shared().await;
    let mut client = deployment.client().await;
    let session = new_session("tables");
    let task = client.run(&session, shell("exit 3")).await;
    client.create(&session, held("waiting")).await;
    let cli = deployment.command_line().env("TASKYARD_SESSION", &session);
    let table = cli.run(&["list"]).await.expect_code(0).text();
    assert!(
        table.lines().count() == 3 && table.contains("t1") && table.contains("failed"),
        "{table}"
    );
    assert!(
        table.contains("waiting") && !table.contains('\u{1b}'),
        "{table}"
    );
    let json = cli.run(&["list", "-o", "json"]).await.expect_code(0).json();
    assert_eq!(json.as_array().map(Vec::len), Some(2));
    assert_eq!(json[1]["id"], task.id);
    let names = cli
        .run(&["list", "--state", "failed", "-o", "name"])
        .await
        .expect_code(0)
        .text();
    assert_eq!(names, format!("{}\n", task.id));
    let one = cli
        .run(&["get", "t1", "-o", "json", "--full"])
        .await
        .expect_code(0)
        .json();
    let one = one_of(one);
    for key in [
        "id",
        "session_id",
        "spec",
        "progress",
        "cancel_requested_at",
        "labels",
        "generation",
        "usage",
    ] {
        assert!(one.get(key).is_some(), "{key}: {one}");
    }
    let shown = cli.run(&["get", "t1"]).await.expect_code(0).text();
    assert!(
        shown.contains(&task.id) && shown.contains("failed"),
        "{shown}"
    );
    let result = cli
        .run(&["get", "t1", "--result"])
        .await
        .expect_code(0)
        .json();
    assert_eq!(result["exit"]["exit_code"], 3);
    let early = cli
        .run(&["get", "waiting", "--result"])
        .await
        .expect_code(1);
    assert!(early.stderr.contains("has not ended"), "{}", early.stderr);
    let sessions = cli
        .run(&["sessions", "-o", "json"])
        .await
        .expect_code(0)
        .json();
    assert!(sessions.to_string().contains(&session));
    let workers = cli.run(&["workers"]).await.expect_code(0).text();
    assert!(
        workers.contains("shared") && workers.contains("active"),
        "{workers}"
    );
    let retried = cli
        .run(&["retry", "t1", "-o", "name"])
        .await
        .expect_code(0)
        .text();
    assert!(retried.starts_with("task_"), "{retried}");
    cli.run(&["retry", "waiting"]).await.expect_code(1);
    let unknown = cli.run(&["get", "nobody"]).await.expect_code(1);
    assert!(unknown.stderr.contains("nobody"), "{}", unknown.stderr);
}

#[tokio::test]
async fn files_come_and_go() {
    let deployment = Deployment::shared().await;
    let session = new_session("files");
    let cli = deployment.command_line().folder(deployment.folder());
    let bytes: Vec<u8> = (0..=255).cycle().take(700_000).collect();
    let put = cli
        .run_with_input(&["files", "put", &session, "/data/a.bin", "-"], &bytes)
        .await;
    put.expect_code(0);
    let cat = cli
        .run(&["files", "cat", &session, "/data/a.bin"])
        .await
        .expect_code(0);
    assert_eq!(cat.stdout, bytes);
    let local = new_session("local.bin");
    cli.run(&["files", "get", &session, "/data/a.bin", &local])
        .await
        .expect_code(0);
    assert_eq!(
        std::fs::read(deployment.folder().join(&local)).expect("read"),
        bytes
    );
    let listed = cli
        .run(&["files", "ls", &session, "/data"])
        .await
        .expect_code(0)
        .text();
    assert!(listed.contains("a.bin"), "{listed}");
    let tricks = cli
        .run(&["files", "cat", &session, "/data/../etc"])
        .await
        .expect_code(1);
    assert!(tricks.stderr.contains(".."), "{}", tricks.stderr);
    let system = cli
        .run_with_input(&["files", "put", &session, "/.tasks/x", "-"], b"x")
        .await;
    assert!(system.expect_code(1).stderr.contains("read, not written"));
    let missing = cli
        .run(&["files", "get", &session, "/nothing", "never.bin"])
        .await
        .expect_code(1);
    assert!(missing.stderr.contains("/nothing"), "{}", missing.stderr);
    assert!(
        !deployment.folder().join("never.bin").exists(),
        "nothing half written"
    );
    cli.run(&["files", "rm", &session, "/data", "--recursive"])
        .await
        .expect_code(0);
    cli.run(&["files", "cat", &session, "/data/a.bin"])
        .await
        .expect_code(1);
}

#[tokio::test]
async fn every_verb_explains_itself_without_a_server() {
    let cli = CommandLine::new("http://127.0.0.1:1");
    let help = cli.run(&["--help"]).await.expect_code(0).text();
    for verb in [
        "dev", "server", "worker", "migrate", "run", "submit", "list", "get", "watch", "logs",
        "wait", "cancel", "retry", "restart", "clone", "message", "answer", "wakes", "monitor",
        "self", "files", "sessions", "webhooks", "workers",
    ] {
        assert!(help.contains(&format!("  {verb} ")), "{verb}: {help}");
        let help = cli.run(&[verb, "--help"]).await.expect_code(0).text();
        assert!(
            help.contains("Examples:") && help.lines().count() <= 40,
            "{verb}: {help}"
        );
    }
    let agent = cli.run(&["help", "agent"]).await.expect_code(0).text();
    assert!(
        agent.contains("taskyard run") && agent.len() < 7_500,
        "{} bytes",
        agent.len()
    );
    cli.run(&["--version"]).await.expect_code(0);
}

fn held(name: &str) -> TaskDefinition {
    TaskDefinition {
        name: name.to_owned(),
        hold: true,
        ..command(&["true"])
    }
}

/// A record, whether it comes alone or as the only one of a list.
fn one_of(value: Value) -> Value {
    match value {
        Value::Array(mut records) if records.len() == 1 => records.remove(0),
        other => other,
    }
}

fn lines(text: &str) -> Vec<Value> {
    // The last line may have been cut by the kill.
    text.lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

#[tokio::test]
async fn what_is_said_is_true_and_said_once() {
    let deployment = Deployment::shared().await;
    let cli = deployment.command_line();
    let session = new_session("words");
    let refused = cli
        .run(&["watch", &session, "--cursor", "garbage"])
        .await
        .expect_code(1);
    assert!(
        !refused.stderr.contains("resume with"),
        "only what the server gave: {}",
        refused.stderr
    );
    let refused = cli
        .run(&["run", "--timeout", "31d", "--", "true"])
        .await
        .expect_code(1);
    assert!(
        refused.stderr.contains("must be 1 ms to 30 days"),
        "{}",
        refused.stderr
    );
    for path in ["/d/one", "/d/two", "/three"] {
        cli.run_with_input(&["files", "put", &session, path], b"x")
            .await
            .expect_code(0);
    }
    let refused = cli
        .run(&["files", "rm", &session, "/d"])
        .await
        .expect_code(1);
    assert!(
        refused.stderr.contains("-r deletes it"),
        "{}",
        refused.stderr
    );
    let deleted = cli
        .run(&["files", "rm", &session, "/d", "-r"])
        .await
        .expect_code(0);
    assert!(
        deleted.stderr.contains("deleted 2 files\n"),
        "{}",
        deleted.stderr
    );
    let deleted = cli
        .run(&["files", "rm", &session, "/three"])
        .await
        .expect_code(0);
    assert!(
        deleted.stderr.contains("deleted 1 file\n"),
        "{}",
        deleted.stderr
    );
    cli.run(&[
        "run",
        "--session",
        &session,
        "--",
        "sh",
        "-c",
        "echo no >&2; exit 3",
    ])
    .await
    .expect_code(3);
    let failed = cli
        .run(&["get", "t1", "--session", &session, "-o", "json"])
        .await
        .expect_code(0)
        .json();
    let id = failed["id"].as_str().unwrap_or_default();
    let command = format!("`taskyard logs --stream stderr {id}`");
    let hint = failed["error"]["hint"].as_str().unwrap_or_default();
    assert!(!id.is_empty() && hint.contains(&command), "{failed}");
    let shown = cli
        .run(&["get", "t1", "--session", &session])
        .await
        .expect_code(0);
    assert!(shown.text().contains(&command), "{}", shown.text());
    let result = cli
        .run(&["get", "t1", "--session", &session, "--result"])
        .await
        .expect_code(0);
    assert!(result.text().contains(&command), "{}", result.text());
}
