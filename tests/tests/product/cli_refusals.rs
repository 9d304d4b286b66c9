//! What the command line says when something cannot be: in its own words, with what to do, and with the right exit code.

use taskyard_proto::v1::TaskDefinition;
use taskyard_tests::client::{command, new_session, probe, shell};
use taskyard_tests::deployment::Deployment;
use taskyard_tests::inside::agent;

#[tokio::test]
async fn a_bad_task_of_a_file_is_told_beside_those_that_the_server_refuses() {
    let deployment = Deployment::shared().await;
    let cli = deployment.command_line();
    let session = new_session("mixed");
    let flag = format!("--session={session}");
    let documents = "name: a\ncommand: {argv: ['true']}\n---\nnmae: b\ncommand: {argv: ['true']}\n---\n\
                     name: 'c c'\ncommand: {argv: ['true']}\n---\nname: d\n---\nname: e\ncommand: {argv: ['true']}\n";
    let submit = ["submit", "-f", "-", &flag, "--hold", "-o", "name"];
    let mixed = cli.run_with_input(&submit, documents.as_bytes()).await;
    let mixed = mixed.expect_code(1);
    assert_eq!(mixed.text().lines().count(), 2, "a and e: {mixed:?}");
    let told: Vec<&str> = mixed.stderr.lines().collect();
    assert_eq!(told.len(), 3, "{mixed:?}");
    for (line, start, part) in [
        (told[0], "taskyard: task 2: line 4", "`nmae`"),
        (told[1], "taskyard: task 3: name: ", "(INVALID_FIELD)"),
        (told[2], "taskyard: task 4: command: is missing", ""),
    ] {
        assert!(line.starts_with(start) && line.contains(part), "{line}");
    }

    let atomic: Vec<&str> = submit.iter().copied().chain(["--atomic"]).collect();
    let refused = cli.run_with_input(&atomic, documents.as_bytes()).await;
    let refused = refused.expect_code(2);
    assert_eq!(refused.text(), "");
    for part in ["task 2: ", "; task 4: "] {
        assert!(refused.stderr.contains(part), "{refused:?}");
    }
    let all_bad = "name: d\n---\nname: e\n";
    let refused = cli.run_with_input(&submit, all_bad.as_bytes()).await;
    refused.expect_code(1);
}

#[tokio::test]
async fn an_empty_key_is_not_taken_for_none() {
    let deployment = Deployment::shared().await;
    let cli = deployment.command_line();
    for arguments in [
        &["run", "--detach", "--key", "", "--", "true"][..],
        &["list", "--key", "", "--session", "s"],
        &["self", "spawn", "--key", "", "--", "true"],
        &["self", "ask", "--key", "", "How?"],
        &["clone", "t1", "--name", ""],
    ] {
        let refused = cli.run(arguments).await.expect_code(2);
        assert!(
            refused.stderr.contains(
                arguments
                    .iter()
                    .rev()
                    .find(|word| word.starts_with("--k") || word.starts_with("--n"))
                    .unwrap_or(&"")
            ),
            "{refused:?}"
        );
    }
}

#[tokio::test]
async fn a_group_of_which_nothing_is_live_is_not_found() {
    let deployment = Deployment::shared().await;
    let mut client = deployment.client().await;
    let session = new_session("group");
    let task = TaskDefinition {
        group: "builds".to_owned(),
        hold: true,
        ..command(&["true"])
    };
    client.create(&session, task).await;
    let cli = deployment.command_line().env("TASKYARD_SESSION", &session);
    let unknown = cli.run(&["cancel", "--group", "tests"]).await;
    let unknown = unknown.expect_code(1);
    assert!(
        unknown
            .stderr
            .contains("no live task of the group \"tests\""),
        "{unknown:?}"
    );
    let canceled = cli.run(&["cancel", "--group", "builds"]).await;
    assert!(canceled.expect_code(0).text().starts_with("1 canceled"));
    cli.run(&["cancel", "--group", "builds"])
        .await
        .expect_code(1);
    let empty = cli.run(&["cancel", "--all", "--session", &session]).await;
    let empty = empty.expect_code(0);
    assert!(empty.stderr.contains("nothing was left"), "{empty:?}");
}

#[tokio::test]
async fn hints_are_about_what_went_wrong() {
    let deployment = Deployment::shared().await;
    let mut client = deployment.client().await;
    let session = new_session("hints");
    let cli = deployment.command_line().env("TASKYARD_SESSION", &session);
    let missing = cli
        .run(&["run", "--file", "/no/plan.md", "--", "true"])
        .await;
    let missing = missing.expect_code(125);
    assert!(
        missing
            .stderr
            .contains("cannot fetch the input file /no/plan.md")
            && missing.stderr.contains("input files"),
        "{missing:?}"
    );
    for short in ["task_0193a5", "0193a"] {
        let refused = cli.run(&["get", short]).await.expect_code(1);
        assert!(refused.stderr.contains("at least 8"), "{refused:?}");
    }
    let schema = r#"{"$ref": "https://schemas.example/x"}"#;
    let refused = cli
        .run(&["run", "--result-schema", schema, "--", "true"])
        .await
        .expect_code(1);
    assert!(
        refused
            .stderr
            .contains("result_schema_json: refers to something that is not in it")
            && !refused.stderr.contains("task.spec"),
        "{refused:?}"
    );
    let large = "head -c 300000 /dev/zero | tr '\\0' 1 | self result - || true";
    let task = client.run(&session, agent(large)).await;
    let logs = cli.run(&["logs", &task.id]).await.expect_code(0);
    assert!(
        logs.stderr.contains("has more than 262144 bytes") && !logs.stderr.contains("try again"),
        "{logs:?}"
    );
    let zone = cli
        .run(&[
            "monitor", "create", "--every", "10s", "--tz", "UTC", "--", "true",
        ])
        .await
        .expect_code(2);
    assert!(
        zone.stderr.contains("--tz goes with --cron only"),
        "{zone:?}"
    );
}

#[tokio::test]
async fn who_follows_what_is_deleted_is_told_so() {
    let deployment = Deployment::shared().await;
    let mut client = deployment.client().await;
    let cli = deployment.command_line();
    let (running, queued) = (new_session("gone"), new_session("gone"));
    let hanging = client
        .create(&running, shell("echo first; exec sleep 600"))
        .await;
    let held = TaskDefinition {
        hold: true,
        ..probe("exit 0")
    };
    let held = client.create(&queued, held).await;
    let followed = cli.start(&["logs", "-f", &hanging.id]);
    followed.stdout_has("first\n").await;
    let waiting = cli.start(&["logs", "-f", &held.id]);
    for session in [&running, &queued] {
        cli.run(&["sessions", "delete", session])
            .await
            .expect_code(0);
    }
    let followed = followed.finish().await.expect_code(1);
    assert_eq!(followed.text(), "first\n");
    let waiting = waiting.finish().await.expect_code(1);
    assert!(followed.stderr.contains("was deleted"), "{followed:?}");
    // Deleted before its first look, it may be unknown by then.
    let told = ["was deleted", "there is no task"];
    assert!(
        told.iter().any(|told| waiting.stderr.contains(told)),
        "{waiting:?}"
    );
}

#[tokio::test]
async fn a_second_question_is_refused_with_what_to_do() {
    let deployment = Deployment::shared().await;
    let mut client = deployment.client().await;
    let session = new_session("second");
    let script = "self ask --key one One? & first=$!\n\
                  until self info -o json | grep -q awaiting_input; do sleep 0.05; done\n\
                  code=0; self ask --key two Two? || code=$?; echo second $code\n\
                  wait $first";
    let task = client.create(&session, agent(script)).await;
    let cli = deployment.command_line();
    let follower = cli.start(&["logs", "-f", &task.id]);
    follower.stdout_has("second 1\n").await;
    cli.run(&["answer", &task.id, "yes"]).await.expect_code(0);
    let told = follower.finish().await.expect_code(0);
    assert!(
        told.stderr.contains("another question of it is pending")
            && told.stderr.contains("below this one"),
        "{told:?}"
    );
    assert!(told.text().ends_with("yes\n"), "{told:?}");
}
