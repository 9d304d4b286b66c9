//! Options of the command line that reach what the protocol offers.

use serde_json::json;
use taskyard_proto::v1::{GroupWake, TaskDefinition, WakePolicy};
use taskyard_tests::client::{command, new_session, shell};
use taskyard_tests::deployment::Deployment;

#[tokio::test]
async fn run_says_all_that_a_task_file_can() {
    let deployment = Deployment::shared().await;
    let mut client = deployment.client().await;
    let session = new_session("options");
    let cli = deployment.command_line().env("TASKYARD_SESSION", &session);
    let words = "run --detach -o name --key k --group g --group-wake all_done --wake on_terminal --label team=core \
                 --label tier=1 --tag team.core --display-name Shown --kind build --priority -3 --hold --grace 2s \
                 --success-exit-code 4 --result-source stdout --output-limit 1MiB --worker-label os=linux \
                 --inherit-env TERM --not-before 1h --start-deadline 2h --input {\"n\":1} --result-schema {} -- make";
    let arguments: Vec<&str> = words.split_whitespace().collect();
    let id = cli.run(&arguments).await.expect_code(0).text();
    let task = client.get(id.trim()).await;
    assert_eq!(
        (
            task.key.as_str(),
            task.group.as_str(),
            task.kind.as_str(),
            task.display_name.as_str()
        ),
        ("k", "g", "build", "Shown")
    );
    assert_eq!(task.group_wake(), GroupWake::AllDone);
    assert_eq!(task.wake_policy(), WakePolicy::OnTerminal);
    assert_eq!(task.labels.len(), 2, "{task:?}");
    assert_eq!(
        (task.tags.as_slice(), task.priority),
        (&["team.core".to_owned()][..], -3)
    );
    assert!(task.hold && task.start_deadline.is_some(), "{task:?}");
    let spec = task.spec.expect("a spec");
    assert_eq!(
        (spec.input_json.as_str(), spec.result_schema_json.as_str()),
        ("{\"n\":1}", "{}")
    );
    assert_eq!(
        spec.worker_labels.get("os").map(String::as_str),
        Some("linux")
    );
    let run = spec.command.expect("a command");
    assert_eq!(
        (run.success_exit_codes, run.inherit_env),
        (vec![4], vec!["TERM".to_owned()])
    );
    assert_eq!(run.argv, ["make"]);

    let once = ["run", "--key", "once", "--", "sh", "-c", "echo once"];
    assert_eq!(cli.run(&once).await.expect_code(0).text(), "once\n");
    let again = cli.run(&once).await.expect_code(0);
    assert!(
        again.stderr.contains("was there before, by its key"),
        "{again:?}"
    );
    let other = cli.run(&["run", "--key", "once", "--", "false"]).await;
    other.expect_code(1);
    let below = cli
        .run(&[
            "run", "--detach", "-o", "name", "--parent", "t1", "--hold", "--", "true",
        ])
        .await;
    let below = below.expect_code(0).text();
    assert_eq!(client.get(below.trim()).await.parent_task_id, id.trim());
    let alone = cli
        .run(&["run", "--group-wake", "each", "--", "true"])
        .await;
    alone.expect_code(2);
}

#[tokio::test]
async fn a_listing_goes_on_where_it_stopped_and_names_stay_in_their_column() {
    let deployment = Deployment::shared().await;
    let mut client = deployment.client().await;
    let session = new_session("pages");
    for _ in 0..5 {
        client.create(&session, held()).await;
    }
    let cli = deployment.command_line().env("TASKYARD_SESSION", &session);
    let mut token: Option<String> = None;
    let mut seen = Vec::new();
    loop {
        let mut arguments = vec!["list", "--limit", "2", "-o", "name"];
        if let Some(token) = &token {
            arguments.extend(["--page-token", token]);
        }
        let page = cli.run(&arguments).await.expect_code(0);
        seen.extend(page.text().lines().map(str::to_owned));
        token = page
            .stderr
            .split_once("--page-token ")
            .map(|(_, token)| token.trim().to_owned());
        if token.is_none() {
            break;
        }
        assert!(seen.len() <= 5, "{seen:?}");
    }
    let whole = cli.run(&["list", "--all-pages", "-o", "name"]).await;
    assert_eq!(
        seen,
        whole.expect_code(0).text().lines().collect::<Vec<_>>()
    );
    cli.run(&["list", "--page-token", "garbage"])
        .await
        .expect_code(1);

    let long = format!("echo {}", "long ".repeat(30));
    client
        .create(
            &session,
            TaskDefinition {
                hold: true,
                ..shell(&long)
            },
        )
        .await;
    let table = cli
        .run(&["list", "--limit", "1"])
        .await
        .expect_code(0)
        .text();
    assert!(
        table.contains('…') && !table.contains(long.trim()),
        "{table}"
    );
    let wide = cli
        .run(&["list", "--limit", "1", "-o", "wide"])
        .await
        .expect_code(0)
        .text();
    assert!(wide.contains(&long), "{wide}");
}

#[tokio::test]
async fn a_reader_goes_on_after_what_it_saw_last() {
    let deployment = Deployment::shared().await;
    let mut client = deployment.client().await;
    let session = new_session("since");
    let gate = deployment.folder().join(new_session("gate"));
    let script = format!(
        "echo one; until [ -e {} ]; do sleep 0.02; done; echo two",
        gate.display()
    );
    let task = client.create(&session, shell(&script)).await;
    let cli = deployment.command_line();
    let following = cli.start(&["logs", "-f", &task.id]);
    following.stdout_has("one\n").await;
    let view = [
        "logs",
        &task.id,
        "--stream",
        "stdout",
        "--view",
        "since-last",
    ];
    let first = cli.run(&view).await.expect_code(0);
    assert_eq!(first.text(), "one\n");
    let (_, cursor) = first.stderr.split_once("--cursor ").expect("a cursor");
    std::fs::write(&gate, "").expect("written");
    following.finish().await.expect_code(0);
    let on: Vec<&str> = view
        .iter()
        .copied()
        .chain(["--cursor", cursor.trim()])
        .collect();
    assert_eq!(cli.run(&on).await.expect_code(0).text(), "two\n");
    cli.run(&["logs", &task.id, "--view", "since-last"])
        .await
        .expect_code(2);
    cli.run(&["logs", &task.id, "--cursor", "x"])
        .await
        .expect_code(2);
}

#[tokio::test]
async fn update_changes_what_is_known_of_a_task_and_clears_it() {
    let deployment = Deployment::shared().await;
    let mut client = deployment.client().await;
    let session = new_session("update");
    let task = client.create(&session, held()).await;
    let cli = deployment.command_line().env("TASKYARD_SESSION", &session);
    let words = "update t1 -o json --summary so-far --detail waiting --progress 3/10 --unit files --doing reading \
                 --step plan=done --artifact build=https://ci.example/7 --artifact notes=/notes.md --resource r1 \
                 --remote-task job-9";
    let updated = cli.run(&words.split_whitespace().collect::<Vec<_>>()).await;
    let updated = updated.expect_code(0).json();
    assert_eq!(updated["summary"], "so-far", "{updated}");
    assert_eq!(updated["state_detail"], "waiting");
    assert_eq!(updated["progress"]["total"], json!(10.0));
    assert_eq!(updated["artifacts"][1]["path"], "/notes.md");
    assert_eq!(updated["links"]["remote_task_id"], "job-9");
    let words = "update t1 --clear summary --clear progress --clear artifacts --artifact one=/one";
    cli.run(&words.split_whitespace().collect::<Vec<_>>())
        .await
        .expect_code(0);
    let known = client.get(&task.id).await;
    assert_eq!((known.summary.as_str(), known.progress), ("", None));
    assert_eq!(known.artifacts.len(), 1, "{:?}", known.artifacts);
    assert_eq!(known.state_detail, "waiting", "what is not named stays");
    cli.run(&["update", "t1", "--release"]).await.expect_code(0);
    client.ended(&task.id).await;
    let late = cli.run(&["update", "t1", "--hold"]).await;
    late.expect_code(1);
    let stale = cli
        .run(&["update", "t1", "--summary", "x", "--if-generation", "1"])
        .await;
    stale.expect_code(1);
    cli.run(&["update", "t1"]).await.expect_code(2);
    cli.run(&["update", "t1", "--hold", "--summary", "x"])
        .await
        .expect_code(2);
}

fn held() -> TaskDefinition {
    TaskDefinition {
        hold: true,
        ..command(&["true"])
    }
}
