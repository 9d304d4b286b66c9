//! Every way in which a task can end, and the result.json of each.

use serde_json::Value;
use taskyard_proto::v1::{
    CancelTaskRequest, ReadRequest, ResultSource, SessionTask, TaskDefinition, TaskState,
};
use taskyard_tests::client::{
    Client, command, milliseconds, new_session, probe, shell, with_command,
};
use taskyard_tests::deployment::Deployment;

const KEYS: [&str; 20] = [
    "format",
    "task_id",
    "session_id",
    "kind",
    "state",
    "attempt",
    "run",
    "exit",
    "duration_ms",
    "started_at",
    "finished_at",
    "output",
    "output_path",
    "summary",
    "error",
    "artifacts",
    "usage",
    "isolation",
    "stdout",
    "stderr",
];
const EXIT_KEYS: [&str; 5] = [
    "exit_code",
    "signal",
    "signal_name",
    "timed_out",
    "oom_killed",
];
const STREAM_KEYS: [&str; 6] = [
    "path",
    "total_bytes",
    "stored_bytes",
    "truncated",
    "capture",
    "tail",
];

#[tokio::test]
async fn success() {
    let mut client = Deployment::shared().await.client().await;
    let task = client
        .run(&new_session("end"), shell("echo out; echo err >&2"))
        .await;
    let result = checked_result(&mut client, &task, "succeeded", None).await;
    assert_eq!(result["exit"]["exit_code"], 0);
    assert_eq!(result["stdout"]["tail"], "out\n");
    assert_eq!(result["stderr"]["tail"], "err\n");
    assert_eq!(result["stdout"]["total_bytes"], 4);
    assert_eq!(result["stdout"]["capture"], "drained");
    assert_eq!(result["stdout"]["truncated"], false);
    assert!(
        result["duration_ms"].is_i64() && result["usage"]["max_rss_bytes"].is_i64(),
        "{result}"
    );
    assert_eq!(result["output"], Value::Null);
}

#[tokio::test]
async fn an_exit_code() {
    let mut client = Deployment::shared().await.client().await;
    let task = client
        .run(&new_session("end"), shell("echo oops >&2; exit 3"))
        .await;
    let result = checked_result(&mut client, &task, "failed", Some("exit")).await;
    assert_eq!(result["exit"]["exit_code"], 3);
    let summary = result["summary"].as_str().unwrap_or_default();
    assert!(
        summary.starts_with("exit 3 in ") && summary.ends_with("stderr: oops"),
        "{summary}"
    );
    assert!(summary.len() <= 200);
}

#[tokio::test]
async fn an_exit_code_that_counts_as_success() {
    let mut client = Deployment::shared().await.client().await;
    let task = with_command(shell("exit 10"), |command| {
        command.success_exit_codes = vec![0, 10];
    });
    let task = client.run(&new_session("end"), task).await;
    let result = checked_result(&mut client, &task, "succeeded", None).await;
    assert_eq!(result["exit"]["exit_code"], 10);
}

#[tokio::test]
async fn a_signal() {
    let mut client = Deployment::shared().await.client().await;
    let task = client.run(&new_session("end"), probe("raise 11")).await;
    let result = checked_result(&mut client, &task, "failed", Some("signal")).await;
    assert_eq!(result["exit"]["exit_code"], Value::Null);
    assert_eq!(result["exit"]["signal"], 11);
    assert_eq!(result["exit"]["signal_name"], "SIGSEGV");
}

#[tokio::test]
async fn a_timeout() {
    let mut client = Deployment::shared().await.client().await;
    let task = TaskDefinition {
        timeout: Some(milliseconds(200)),
        ..probe("hang")
    };
    let task = client.run(&new_session("end"), task).await;
    let result = checked_result(&mut client, &task, "failed", Some("timeout")).await;
    assert_eq!(result["exit"]["timed_out"], true);
}

#[tokio::test]
async fn a_cancel_in_the_queue() {
    let mut client = Deployment::shared().await.client().await;
    let held = TaskDefinition {
        hold: true,
        ..command(&["true"])
    };
    let task = client.create(&new_session("end"), held).await;
    cancel(&mut client, &task.id).await;
    let task = client.get(&task.id).await;
    let result = checked_result(&mut client, &task, "canceled", None).await;
    assert_eq!(
        (&result["run"], &result["attempt"]),
        (&Value::from(0), &Value::from(0))
    );
    assert_eq!(result["started_at"], Value::Null);
    assert!(
        result["finished_at"].is_string() && result["summary"].is_string(),
        "{result}"
    );
}

#[tokio::test]
async fn a_cancel_of_a_run() {
    let mut client = Deployment::shared().await.client().await;
    let task = client.create(&new_session("end"), probe("hang")).await;
    client
        .reached(&task.id, |task| task.state() == TaskState::Running)
        .await;
    cancel(&mut client, &task.id).await;
    let task = client.ended(&task.id).await;
    let result = checked_result(&mut client, &task, "canceled", None).await;
    assert_eq!(result["run"], 1);
}

#[tokio::test]
async fn a_program_that_does_not_exist() {
    let mut client = Deployment::shared().await.client().await;
    let task = client
        .run(&new_session("end"), command(&["no-such-program"]))
        .await;
    let result = checked_result(&mut client, &task, "failed", Some("start_failed")).await;
    let message = result["error"]["message"].as_str().unwrap_or_default();
    assert!(message.contains("no-such-program"), "{message}");
    assert_eq!(result["exit"]["exit_code"], Value::Null);
}

#[tokio::test]
async fn a_directory_that_does_not_exist() {
    let mut client = Deployment::shared().await.client().await;
    let task = with_command(command(&["true"]), |command| {
        command.cwd = "/no/such/folder".to_owned();
    });
    let task = client.run(&new_session("end"), task).await;
    let result = checked_result(&mut client, &task, "failed", Some("start_failed")).await;
    let message = result["error"]["message"].as_str().unwrap_or_default();
    assert!(message.contains("/no/such/folder"), "{message}");
}

#[tokio::test]
async fn a_program_that_is_none() {
    let deployment = Deployment::shared().await;
    let mut client = deployment.client().await;
    let folder = deployment.folder().display().to_string();
    let task = client.run(&new_session("end"), command(&[&folder])).await;
    checked_result(&mut client, &task, "failed", Some("start_failed")).await;
}

#[tokio::test]
async fn a_result_that_is_no_json() {
    let mut client = Deployment::shared().await.client().await;
    let task = shell("printf '{\"a\": ' >\"$TASKYARD_RESULT\"");
    let task = client.run(&new_session("end"), task).await;
    let result = checked_result(&mut client, &task, "failed", Some("bad_output")).await;
    assert_eq!(result["exit"]["exit_code"], 0);
    assert_eq!(result["output"], Value::Null);
}

#[tokio::test]
async fn a_structured_result() {
    let mut client = Deployment::shared().await.client().await;
    let task = shell("printf '{\"found\": [1, 2.50]}' >\"$TASKYARD_RESULT\"");
    let task = client.run(&new_session("end"), task).await;
    let result = checked_result(&mut client, &task, "succeeded", None).await;
    assert_eq!(result["output"], serde_json::json!({"found": [1, 2.5]}));
}

#[tokio::test]
async fn a_structured_result_on_standard_output() {
    let mut client = Deployment::shared().await.client().await;
    let mut task = shell("echo '[true]'");
    let spec = task.spec.get_or_insert_default();
    spec.result_source = ResultSource::Stdout.into();
    let task = client.run(&new_session("end"), task).await;
    let result = checked_result(&mut client, &task, "succeeded", None).await;
    assert_eq!(result["output"], serde_json::json!([true]));
}

#[tokio::test]
async fn a_large_structured_result_is_a_file_beside() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("end");
    let script =
        "{ printf '\"'; head -c 400000 /dev/zero | tr '\\0' x; printf '\"'; } >$TASKYARD_RESULT";
    let task = client.run(&session, shell(script)).await;
    let result = checked_result(&mut client, &task, "succeeded", None).await;
    assert_eq!(result["output"], Value::Null);
    let path = format!("/.tasks/{}/output.json", task.id);
    assert_eq!(result["output_path"], path);
    let bytes = client
        .read_file(read(&session, &path))
        .await
        .expect("readable");
    assert_eq!(bytes.len(), 400_002);
}

#[tokio::test]
async fn artifacts_come_along() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("end");
    let script = "mkdir \"$TASKYARD_ARTIFACTS/sub\"; printf chart >\"$TASKYARD_ARTIFACTS/sub/c.txt\"; \
                  ln -s /etc/passwd \"$TASKYARD_ARTIFACTS/link\"";
    let task = client.run(&session, shell(script)).await;
    let result = checked_result(&mut client, &task, "succeeded", None).await;
    let path = format!("/.tasks/{}/artifacts/sub/c.txt", task.id);
    assert_eq!(result["artifacts"][0]["path"], path, "{result}");
    assert_eq!(
        result["artifacts"].as_array().map(Vec::len),
        Some(1),
        "links are not followed"
    );
    let bytes = client
        .read_file(read(&session, &path))
        .await
        .expect("readable");
    assert_eq!(bytes, b"chart");
}

#[tokio::test]
async fn as_many_artifacts_as_a_run_may_leave_are_all_on_the_record() {
    let mut client = Deployment::shared().await.client().await;
    let session = new_session("end");
    let script = "for i in $(seq 200); do echo $i >\"$TASKYARD_ARTIFACTS/f$i\"; done";
    let task = client.run(&session, shell(script)).await;
    let result = checked_result(&mut client, &task, "succeeded", None).await;
    let told = result["artifacts"].as_array().map(Vec::len);
    assert_eq!(told, Some(200), "{result}");
    let mut names: Vec<&str> = task.artifacts.iter().map(|one| one.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 200, "{names:?}");
}

/// Checks what every result.json has, and that the file, the call and the record agree.
async fn checked_result(
    client: &mut Client,
    task: &SessionTask,
    state: &str,
    error: Option<&str>,
) -> Value {
    let result = client.result(&task.id).await;
    let keys_of = |value: &Value| -> Vec<String> {
        let mut keys: Vec<String> = value
            .as_object()
            .into_iter()
            .flatten()
            .map(|(key, _)| key.clone())
            .collect();
        keys.sort();
        keys
    };
    let sorted = |keys: &[&str]| -> Vec<String> {
        let mut keys: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
        keys.sort();
        keys
    };
    assert_eq!(keys_of(&result), sorted(&KEYS), "{result}");
    assert_eq!(keys_of(&result["exit"]), sorted(&EXIT_KEYS));
    assert_eq!(keys_of(&result["stdout"]), sorted(&STREAM_KEYS));
    assert_eq!(keys_of(&result["stderr"]), sorted(&STREAM_KEYS));
    assert_eq!(result["format"], 1);
    assert_eq!(result["task_id"], task.id);
    assert_eq!(result["session_id"], task.session_id);
    assert_eq!(result["state"], state, "{result}");
    let kind = result["error"].get("kind").and_then(Value::as_str);
    assert_eq!(kind, error, "{result}");
    assert_eq!(task.error.as_ref().map(|error| error.kind.as_str()), error);
    assert_eq!(result["summary"], task.summary);
    assert!(task.summary.len() <= 200);
    let bytes = client
        .read_file(read(&task.session_id, &task.result_path))
        .await;
    let from_file: Value = serde_json::from_slice(&bytes.expect("readable")).expect("JSON");
    assert_eq!(from_file, result);
    result
}

async fn cancel(client: &mut Client, task: &str) {
    let request = CancelTaskRequest {
        task: task.to_owned(),
        ..CancelTaskRequest::default()
    };
    client.tasks.cancel_task(request).await.expect("canceled");
}

fn read(session: &str, path: &str) -> ReadRequest {
    ReadRequest {
        session_id: session.to_owned(),
        path: path.to_owned(),
        ..ReadRequest::default()
    }
}
