//! Questions of a script to its owner, and the thread between them.

use std::time::Duration;

use serde_json::json;
use taskyard_proto::v1::{SessionTask, TaskState, WakePolicy};
use taskyard_tests::client::{Client, error_kind, milliseconds, new_session};
use taskyard_tests::deployment::{Deployment, WorkerPlan};
use taskyard_tests::inside::{agent, retried};
use taskyard_tests::skip::skipped;

#[tokio::test]
async fn a_question_with_a_schema_is_answered_by_one_that_fits() {
    let deployment = Deployment::shared().await;
    let mut client = deployment.client().await;
    let cli = deployment.command_line();
    let session = new_session("ask");
    let script = r#"A=$(self ask --schema '{"type": "integer"}' 'How many?'); self result "$A""#;
    let task = client.create(&session, agent(script)).await;
    let asking = asking(&mut client, &task.id).await;
    let question = asking.input_request.expect("it asks");
    assert_eq!(question.prompt, "How many?");
    let shown = cli
        .run(&["list", "--session", &session, "--state", "awaiting_input"])
        .await
        .expect_code(0);
    assert!(shown.text().contains("How many?"), "{shown:?}");
    let refused = cli.run(&["answer", &task.id, "many"]).await.expect_code(2);
    assert!(refused.stderr.contains("a whole number"), "{refused:?}");
    cli.run(&["answer", &task.id, "--json", "\"many\""])
        .await
        .expect_code(1);
    let unattended = cli.run(&["answer", &task.id]).await.expect_code(2);
    assert!(unattended.stderr.contains("How many?"), "{unattended:?}");
    cli.run(&["answer", &task.id, "--question", &question.id, "3"])
        .await
        .expect_code(0);
    let ended = client.ended(&task.id).await;
    assert_eq!(ended.state(), TaskState::Succeeded, "{ended:?}");
    assert_eq!(client.result(&task.id).await["output"], json!(3));
    cli.run(&["answer", &task.id, "4"]).await.expect_code(1);
}

#[tokio::test]
async fn one_of_the_choices_is_printed_as_it_is_and_an_expired_question_has_its_code() {
    let deployment = Deployment::shared().await;
    let mut client = deployment.client().await;
    let script = "code=0; self ask --expires 1s 'Anybody?' || code=$?; echo expired $code\n\
                  echo chose $(self ask --choice 'to the left' --choice right 'Where?')\n";
    let task = client.create(&new_session("ask"), agent(script)).await;
    client
        .reached(&task.id, |task| {
            let prompt = task
                .input_request
                .as_ref()
                .map(|asked| asked.prompt.clone());
            prompt.as_deref() == Some("Where?")
        })
        .await;
    let cli = deployment.command_line();
    cli.run(&["answer", &task.id, "elsewhere"])
        .await
        .expect_code(2);
    cli.run(&["answer", &task.id, "to the left"])
        .await
        .expect_code(0);
    let ended = client.ended(&task.id).await;
    assert_eq!(ended.state(), TaskState::Succeeded, "{ended:?}");
    let printed = cli.run(&["logs", &task.id]).await.expect_code(0).text();
    assert_eq!(printed, "expired 3\nchose to the left\n");
}

#[tokio::test]
async fn a_question_that_is_repeated_is_asked_again_and_a_later_run_finds_each_answer() {
    let deployment = Deployment::shared().await;
    let mut client = deployment.client().await;
    let cli = deployment.command_line();
    let script = "for file in a b; do echo $file: $(self ask 'Delete the next file?'); done\n\
                  [ $TASKYARD_RUN = 2 ]\n";
    let task = client
        .create(&new_session("ask"), retried(agent(script), 2))
        .await;
    let mut answered = String::new();
    for answer in ["yes", "no"] {
        let asking = client
            .reached(&task.id, |task| {
                let asked = task.input_request.as_ref();
                asked.is_some_and(|asked| asked.id != answered)
            })
            .await;
        answered = asking.input_request.expect("it asks").id;
        cli.run(&["answer", &task.id, answer]).await.expect_code(0);
    }
    let ended = client.ended(&task.id).await;
    assert_eq!((ended.state(), ended.run), (TaskState::Succeeded, 2));
    for run in ["1", "2"] {
        let logs = ["logs", &task.id, "--run", run, "--stream", "stdout"];
        let printed = cli.run(&logs).await.expect_code(0);
        assert_eq!(printed.text(), "a: yes\nb: no\n", "run {run}");
    }
}

#[tokio::test]
async fn on_a_terminal_a_person_is_asked_field_by_field() {
    let Ok(python) = std::process::Command::new("python3").arg("-V").output() else {
        return skipped("there is no python3 to make a terminal");
    };
    assert!(python.status.success(), "{python:?}");
    let deployment = Deployment::shared().await;
    let mut client = deployment.client().await;
    let script = r#"A=$(self ask --schema '{"type": "object", "required": ["count", "where"], "properties": {
        "count": {"type": "integer"}, "fast": {"type": "boolean"}, "where": {"enum": ["here", "there"]}}}' 'How?')
        self result "$A""#;
    let task = client.create(&new_session("ask"), agent(script)).await;
    asking(&mut client, &task.id).await;
    let terminal = "import pty, sys; sys.exit(pty.spawn(sys.argv[1:]) >> 8)";
    let cli = deployment
        .command_line()
        .through(&["python3", "-c", terminal]);
    let typed = b"many\n3\n\n2\n";
    let answered = cli.run_with_input(&["answer", &task.id], typed).await;
    let shown = answered.expect_code(0).text();
    assert!(
        shown.contains("How?") && shown.contains("2) there"),
        "{shown}"
    );
    assert!(shown.contains("`many` is not a whole number"), "{shown}");
    client.ended(&task.id).await;
    let expected = json!({"count": 3, "where": "there"});
    assert_eq!(client.result(&task.id).await["output"], expected);
}

#[tokio::test]
async fn a_later_run_finds_the_answer_by_the_questions_key() {
    let deployment = Deployment::shared().await;
    let mut client = deployment.client().await;
    // Once with a key of its own, once with the one that is made from the question.
    let script = "A=$(self ask --key budget 'How much?'); B=$(self ask 'Sure?')\n\
                  [ $TASKYARD_RUN = 2 ] || exit 1\n\
                  self result \"[\\\"$A\\\", \\\"$B\\\"]\"\n";
    let task = retried(agent(script), 2);
    let task = client.create(&new_session("ask"), task).await;
    let cli = deployment.command_line();
    for (prompt, answer) in [("How much?", "ten"), ("Sure?", "yes")] {
        client
            .reached(&task.id, |task| {
                task.input_request
                    .as_ref()
                    .is_some_and(|asked| asked.prompt == prompt)
            })
            .await;
        cli.run(&["answer", &task.id, answer]).await.expect_code(0);
    }
    let ended = client.ended(&task.id).await;
    assert_eq!(
        (ended.state(), ended.run),
        (TaskState::Succeeded, 2),
        "{ended:?}"
    );
    assert_eq!(
        client.result(&task.id).await["output"],
        json!(["ten", "yes"])
    );
}

#[tokio::test]
async fn the_timeout_stands_still_while_it_asks_and_goes_on_afterwards() {
    const TIMEOUT: Duration = Duration::from_secs(8);
    let deployment = Deployment::shared().await;
    let mut client = deployment.client().await;
    let session = new_session("ask");
    let mut tasks = Vec::new();
    for afterwards in ["true", "sleep 100"] {
        let mut task = agent(&format!("self ask 'Go on?'; {afterwards}"));
        task.timeout = Some(milliseconds(8_000));
        tasks.push(client.create(&session, task).await.id);
    }
    for id in &tasks {
        asking(&mut client, id).await;
    }
    // Not a wait for something: the time that the timeout must not count.
    tokio::time::sleep(TIMEOUT + Duration::from_secs(1)).await;
    for id in &tasks {
        deployment
            .command_line()
            .run(&["answer", id, "yes"])
            .await
            .expect_code(0);
    }
    let quick = client.ended(&tasks[0]).await;
    assert_eq!(quick.state(), TaskState::Succeeded, "{quick:?}");
    let slow = client.ended(&tasks[1]).await;
    assert_eq!(error_kind(&slow), "timeout", "{slow:?}");
}

#[tokio::test]
async fn a_question_outlasts_a_server_that_is_replaced() {
    let deployment = Deployment::builder()
        .lease(Duration::from_secs(60))
        .workers(vec![WorkerPlan::new("w1")])
        .start()
        .await;
    let mut client = deployment.client().await;
    let script = "A=$(self ask 'Still there?'); self result \"\\\"$A\\\"\"";
    let task = client.create(&new_session("ask"), agent(script)).await;
    asking(&mut client, &task.id).await;
    deployment.with_server(0, |server| server.kill());
    deployment.restart_server(0).await;
    let mut client = deployment.client().await;
    deployment
        .command_line()
        .run(&["answer", &task.id, "yes"])
        .await
        .expect_code(0);
    let ended = client.ended(&task.id).await;
    assert_eq!(
        (ended.state(), ended.run),
        (TaskState::Succeeded, 1),
        "{ended:?}"
    );
    assert_eq!(client.result(&task.id).await["output"], json!("yes"));
    deployment.remove().await;
}

#[tokio::test]
async fn messages_go_both_ways_each_once() {
    let deployment = Deployment::shared().await;
    let mut client = deployment.client().await;
    let cli = deployment.command_line();
    let session = new_session("thread");
    let script = "self post --data '{\"n\": 1}' 'hello owner' >/dev/null\n\
                  self inbox --wait 60s; code=0; self inbox --wait 100ms || code=$?; echo empty $code\n\
                  self inbox --after 0 -o name | wc -l\n";
    let task = client.create(&session, agent(script)).await;
    client
        .reached(&task.id, |task| task.state() == TaskState::Running)
        .await;
    let sent = cli
        .run(&["message", &task.id, "hello task"])
        .await
        .expect_code(0);
    assert!(sent.text().starts_with("tmsg_"), "{sent:?}");
    let followed = cli
        .run(&["messages", "--follow", &task.id, "-o", "json"])
        .await
        .expect_code(0)
        .text();
    assert!(
        followed.contains("hello owner") && followed.contains("hello task"),
        "{followed}"
    );
    assert_eq!(followed.lines().count(), 2, "{followed}");
    let ended = client.ended(&task.id).await;
    assert_eq!(ended.state(), TaskState::Succeeded, "{ended:?}");
    let printed = cli.run(&["logs", &task.id]).await.expect_code(0).text();
    assert_eq!(printed, "hello task\nempty 4\n1\n");
    cli.run(&["message", &task.id, "too late"])
        .await
        .expect_code(1);
}

#[tokio::test]
async fn a_wake_is_waited_for_taken_and_gone_once_acknowledged() {
    let deployment = Deployment::shared().await;
    let mut client = deployment.client().await;
    let session = new_session("wakes");
    let cli = deployment.command_line().env("TASKYARD_SESSION", &session);
    cli.run(&["wakes", "--consumer", &session, "--wait", "50ms"])
        .await
        .expect_code(4);
    let mut task = agent("exit 3");
    task.wake_policy = WakePolicy::OnTerminal.into();
    let task = client.create(&session, task).await;
    let take = [
        "wakes",
        "--consumer",
        &session,
        "--wait",
        "60s",
        "--ack",
        "-o",
        "json",
    ];
    let wake = cli.run(&take).await.expect_code(0).json();
    assert_eq!(
        (&wake["task_id"], &wake["reason"], &wake["state"]),
        (
            &task.id.clone().into(),
            &"terminal".into(),
            &"failed".into()
        )
    );
    cli.run(&["wakes", "--consumer", "another", "--wait", "50ms"])
        .await
        .expect_code(4);
}

async fn asking(client: &mut Client, id: &str) -> SessionTask {
    client
        .reached(id, |task| task.state() == TaskState::AwaitingInput)
        .await
}
