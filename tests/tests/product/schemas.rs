//! Schemas of results: refused when they are none, held against every result, and a mismatch can be tried again.

use taskyard_proto::v1::message_part::Part;
use taskyard_proto::v1::{
    MessagePart, PostMessageRequest, ResultSource, RetryPolicy, SessionTask, TaskDefinition,
    TaskState,
};
use taskyard_tests::client::{error_kind, milliseconds, new_session, shell};
use taskyard_tests::deployment::Deployment;
use taskyard_tests::refusal::expect_bad_field;

const SCHEMA: &str =
    r#"{"type": "object", "required": ["ok"], "properties": {"ok": {"type": "boolean"}}}"#;

#[tokio::test]
async fn what_is_no_schema_is_refused_at_the_create() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("schema");
    for bad in [
        "{",
        "[]",
        r#"{"type": "thing"}"#,
        r#"{"$ref": "file:///etc/passwd"}"#,
    ] {
        let refused = client.try_create(&session, with_schema("true", bad)).await;
        expect_bad_field(refused, "task.spec.result_schema_json");
        let mut task = shell("true");
        task.spec.get_or_insert_default().message_schema_json = bad.to_owned();
        let refused = client.try_create(&session, task).await;
        expect_bad_field(refused, "task.spec.message_schema_json");
    }
}

#[tokio::test]
async fn a_result_is_held_against_its_schema_wherever_it_comes_from() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("schema");
    for (result, state, kind) in [
        (r#"{"ok": true}"#, TaskState::Succeeded, ""),
        (r#"{"ok": "yes"}"#, TaskState::Failed, "schema_mismatch"),
        ("", TaskState::Failed, "no_result"),
    ] {
        let by_file = format!("printf '%s' '{result}' >\"$TASKYARD_RESULT\"");
        let by_file = with_schema(if result.is_empty() { "true" } else { &by_file }, SCHEMA);
        let mut by_stdout = with_schema(&format!("printf '%s' '{result}'"), SCHEMA);
        by_stdout.spec.get_or_insert_default().result_source = ResultSource::Stdout.into();
        for (way, task) in [("file", by_file), ("stdout", by_stdout)] {
            let ended = client.run(&session, task).await;
            let context = format!("{result:?} by {way}: {ended:?}");
            assert_eq!(ended.state(), state, "{context}");
            assert_eq!(error_kind(&ended), kind, "{context}");
        }
    }
}

#[tokio::test]
async fn a_large_result_is_held_against_its_schema_too() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("large");
    let write = "{ printf '{\"ok\": true, \"pad\": \"'; head -c 400000 /dev/zero | tr '\\0' x; printf '\"}'; } >$TASKYARD_RESULT";
    let good = client.run(&session, with_schema(write, SCHEMA)).await;
    assert_eq!(good.state(), TaskState::Succeeded, "{good:?}");
    let bad = write.replace("true", "1");
    let bad = client.run(&session, with_schema(&bad, SCHEMA)).await;
    assert_eq!(error_kind(&bad), "schema_mismatch", "{bad:?}");
}

#[tokio::test]
async fn a_mismatch_is_tried_again_where_the_policy_allows_it() {
    let deployment = Deployment::shared().await;
    let mut client = deployment.client().await;
    let session = new_session("again");
    for (script, kind) in [
        ("echo 3 >\"$TASKYARD_RESULT\"", "schema_mismatch"),
        ("true", "no_result"),
    ] {
        let good = "echo '{\"ok\": true}' >\"$TASKYARD_RESULT\"";
        let by_attempt = format!("if [ $TASKYARD_ATTEMPT = 1 ]; then {script}; else {good}; fi");
        let ended = client.run(&session, retried(&by_attempt)).await;
        assert_eq!(ended.state(), TaskState::Succeeded, "{ended:?}");
        assert_eq!(ended.run, 2, "{ended:?}");

        let spent = client.run(&session, retried(script)).await;
        assert_eq!((spent.run, error_kind(&spent)), (2, kind), "{spent:?}");
        let error = spent.error.unwrap_or_default();
        assert!(error.retryable, "{error:?}");
        assert!(!error.message.is_empty(), "{error:?}");
    }
}

#[tokio::test]
async fn work_that_fails_anyway_is_not_blamed_for_its_result() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("exit");
    let failed = client.run(&session, with_schema("exit 3", SCHEMA)).await;
    assert_eq!(error_kind(&failed), "exit", "{failed:?}");
}

#[tokio::test]
async fn a_task_file_names_its_schemas() {
    let deployment = Deployment::shared().await;
    let cli = deployment.command_line();
    let session = new_session("file");
    let file = r#"
command: {argv: [sh, -c, "echo '{\"ok\": 1}' > $TASKYARD_RESULT"]}
result_schema: {type: object, properties: {ok: {type: boolean}}}
message_schema: {type: string}
group: g
group_wake: all_done
wake_policy: on_terminal
"#;
    let flag = format!("--session={session}");
    let ended = cli
        .run_with_input(
            &["submit", "-f", "-", &flag, "--wait", "-o", "json"],
            file.as_bytes(),
        )
        .await
        .expect_code(1)
        .json();
    assert_eq!(ended["error"]["kind"], "schema_mismatch", "{ended}");
    let help = cli.run(&["submit", "--help"]).await.expect_code(0).text();
    for field in ["result_schema", "message_schema", "group_wake"] {
        assert!(help.contains(field), "{help}");
    }
}

#[tokio::test]
async fn a_held_task_takes_messages() {
    let mut client = Deployment::shared().await.client().await;
    let held = TaskDefinition {
        hold: true,
        ..shell("true")
    };
    let held: SessionTask = client.create(&new_session("held"), held).await;
    let post = PostMessageRequest {
        task: held.id.clone(),
        parts: vec![MessagePart {
            part: Some(Part::Text("for later".to_owned())),
        }],
        ..PostMessageRequest::default()
    };
    client.tasks.post_message(post).await.expect("posted");
    assert!(client.get(&held.id).await.hold);
}

fn with_schema(script: &str, schema: &str) -> TaskDefinition {
    let mut task = shell(script);
    task.spec.get_or_insert_default().result_schema_json = schema.to_owned();
    task
}

fn retried(script: &str) -> TaskDefinition {
    TaskDefinition {
        retry: Some(RetryPolicy {
            max_runs: 2,
            initial_backoff: Some(milliseconds(20)),
            ..RetryPolicy::default()
        }),
        ..with_schema(script, SCHEMA)
    }
}
