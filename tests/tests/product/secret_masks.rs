//! Masking: a secret that the work gives away by accident becomes `***`, wherever it says it and however it is cut.

use taskyard_proto::v1::{ListMessagesRequest, ReadOutputRequest, TaskState, message_part::Part};
use taskyard_tests::client::{command, error_kind, exit_code, new_session, shell};
use taskyard_tests::inside::agent;
use taskyard_tests::secrets::{
    GIVEN_VALUE, dump, expect_hidden, keyed, new_value, secret, value, with_secrets,
};

#[tokio::test]
async fn output_is_masked_across_every_cut_and_in_common_forms() {
    let deployment = keyed().await;
    let (mut client, token) = (deployment.client().await, new_value());
    // one byte at a time: each is a read of its own, or several are, as the machine pleases
    let script = "say() { for ((i = 0; i < ${#1}; i++)); do printf %s \"${1:i:1}\"; done; }\n\
                  LC_ALL=C\n\
                  say \"begin $TOKEN end\"; echo\n\
                  say \"err $TOKEN\" >&2; echo >&2\n\
                  printf 'user:%s' \"$TOKEN\" | base64 -w0; echo\n\
                  printf %s \"$TOKEN\" | od -An -v -tx1 | tr -d ' \\n'; echo\n\
                  printf '%s' \"${TOKEN:0:9}\"; sleep 0.3; printf '%s\\n' \"${TOKEN:9}\"\n\
                  printf 'a beginning of it: %s' \"${TOKEN:0:5}\"\n\
                  exit 3\n";
    let task = with_secrets(
        command(&["bash", "-c", script]),
        vec![value("TOKEN", &token)],
    );
    let task = client.run(&new_session("masks"), task).await;
    assert_eq!(exit_code(&task), Some(3), "{task:?}");
    let request = ReadOutputRequest {
        task: task.id.clone(),
        ..ReadOutputRequest::default()
    };
    let output = client
        .tasks
        .read_output(request)
        .await
        .expect("read")
        .into_inner();
    let text = String::from_utf8_lossy(&output.data).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "begin *** end", "{text}");
    // `user:` and two bits of what follows it
    assert_eq!(lines[1], "dXNlcjp***", "{text}");
    assert_eq!(&lines[2..4], ["***", "***"], "{text}");
    assert_eq!(lines[4], format!("a beginning of it: {}", &token[..5]));
    assert_eq!(output.total_bytes, i64::try_from(text.len()).expect("few"));
    let result = client.result(&task.id).await;
    assert_eq!(result["stderr"]["tail"], "err ***\n", "{result}");
    assert!(task.summary.contains("err ***"), "{task:?}");
    expect_hidden("the database", &dump(deployment.database()).await, &token);
}

#[tokio::test]
async fn what_the_work_says_of_itself_is_masked() {
    let deployment = keyed().await;
    let (mut client, token) = (deployment.client().await, new_value());
    let script = "self progress --label \"at $TOKEN\" --unit files --step \"use $TOKEN=done\"\n\
                  self status \"with $TOKEN\"\n\
                  self post \"it is $TOKEN\" --data \"[\\\"${TOKEN//\\\"/\\\\\\\"}\\\"]\"\n\
                  self usage note=\"$TOKEN\"\n\
                  self artifact --url \"https://x.example/$TOKEN\" --name link\n\
                  printf '{\"token\": \"%s\", \"n\": 1.50}' \"${TOKEN//\\\"/\\\\\\\"}\" > \"$TASKYARD_RESULT\"\n\
                  until [ -e GATE ]; do sleep 0.02; done\n";
    let gate = deployment.folder().join(new_session("gate"));
    let script = script.replace("GATE", &gate.display().to_string());
    let session = new_session("masks");
    let task = with_secrets(agent(&script), vec![value("TOKEN", &token)]);
    let task = client.create(&session, task).await;
    let running = client
        .reached(&task.id, |task| !task.artifacts.is_empty())
        .await;
    let progress = running.progress.clone().expect("it was reported");
    assert_eq!(progress.label, "at ***");
    assert_eq!(progress.steps[0].title, "use ***");
    assert_eq!(running.state_detail, "with ***");
    assert_eq!(running.artifacts[0].url, "https://x.example/***");
    std::fs::write(&gate, "").expect("written");
    let ended = client.ended(&task.id).await;
    assert_eq!(ended.state(), TaskState::Succeeded, "{ended:?}");
    let result = client.result(&task.id).await;
    assert_eq!(result["output"]["token"], "***", "{result}");
    assert!(result.to_string().contains("1.5"), "{result}");
    assert_eq!(result["usage"]["note"], "***", "{result}");
    let thread = ListMessagesRequest {
        task: task.id.clone(),
        ..ListMessagesRequest::default()
    };
    let thread = client.tasks.list_messages(thread).await.expect("listed");
    let parts = &thread.into_inner().messages[0].parts;
    let said: Vec<String> = parts
        .iter()
        .map(|part| match &part.part {
            Some(Part::Text(text)) => text.clone(),
            Some(Part::DataJson(json)) => json.clone(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert!(said.contains(&"it is ***".to_owned()), "{said:?}");
    assert!(said.contains(&"[\"***\"]".to_owned()), "{said:?}");
    expect_hidden("the record", &format!("{ended:?}"), &token);
    expect_hidden("the database", &dump(deployment.database()).await, &token);
}

#[tokio::test]
async fn a_result_on_standard_output_and_the_error_of_a_bad_one_are_masked() {
    let deployment = keyed().await;
    let (mut client, session) = (deployment.client().await, new_session("masks"));
    let given = || {
        let source = taskyard_proto::v1::task_secret::Source::WorkerEnv;
        vec![secret("TOKEN", source("YARD_GIVEN_TOKEN".to_owned()))]
    };
    let mut good = with_secrets(shell("printf '{\"t\": \"%s\"}' \"$TOKEN\""), given());
    let spec = good.spec.get_or_insert_default();
    spec.set_result_source(taskyard_proto::v1::ResultSource::Stdout);
    let good = client.run(&session, good).await;
    let result = client.result(&good.id).await;
    assert_eq!(result["output"]["t"], "***", "{result}");

    let script = "printf '{\"count\": \"%s\"}' \"$TOKEN\" > \"$TASKYARD_RESULT\"";
    let mut bad = with_secrets(shell(script), given());
    bad.spec.get_or_insert_default().result_schema_json =
        r#"{"properties": {"count": {"type": "number"}}}"#.to_owned();
    let bad = client.run(&session, bad).await;
    assert_eq!(error_kind(&bad), "schema_mismatch", "{bad:?}");
    expect_hidden("the record", &format!("{bad:?}"), GIVEN_VALUE);
}

#[tokio::test]
async fn a_child_gets_a_secret_as_a_secret_only() {
    let mut client = keyed().await.client().await;
    let token = new_value();
    let script = "if self spawn --env LEAK=\"$TOKEN\" -- true 2> why; then exit 9; fi\n\
                  grep -q 'as a secret' why\n\
                  self spawn --wait --secret TOKEN -- sh -c 'test -n \"$TOKEN\"'\n";
    let task = with_secrets(agent(script), vec![value("TOKEN", &token)]);
    let task = client.run(&new_session("masks"), task).await;
    assert_eq!(task.state(), TaskState::Succeeded, "{task:?}");
}
